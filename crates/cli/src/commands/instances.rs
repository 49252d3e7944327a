//! `spawnery instances`: what runs, what ran, and what it uses.

use super::Outcome;
use crate::context::Context;
use crate::exit::ExitCode;
use crate::table::{Cell, Table};
use crate::words::{age, bytes, phase_style, processor_time};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use spawnery_client::api::{InstanceView, UsageView};
use spawnery_client::{Client, ClientError, InstanceQuery};
use spawnery_model::Phase;

/// Requests for what instances use that are under way at once: enough to hide the way to the
/// nodes, and few beside what a server takes.
const USAGE_REQUESTS_MAX: usize = 8;

/// List instances: those that live and, with --all, those that ended lately
#[derive(Debug, clap::Args)]
pub(crate) struct Instances {
    /// Only those of this workload
    #[arg(value_name = "WORKLOAD")]
    workload: Option<String>,
    /// Those that have ended too
    #[arg(short, long)]
    all: bool,
    /// Only those on this node
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only those in this phase
    #[arg(long, value_name = "PHASE", value_parser = crate::args::word_of(PHASES))]
    phase: Option<String>,
    /// Show what each uses now, in the place of PID, age and note: memory, processor time since
    /// its start, processes, and the bytes in and out of a private network
    #[arg(long)]
    usage: bool,
}

const PHASES: &[&str] =
    &["pending", "assigned", "starting", "running", "ready", "stopping", "ended"];

impl Instances {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let live = (!self.all).then(|| "live".to_owned());
        let query = InstanceQuery {
            workload: self.workload,
            state: self.phase.or(live),
            node: self.node,
            ..InstanceQuery::default()
        };
        let client = context.client()?;
        let mut instances = client.instances(&query).await?;
        instances.sort_by_key(|instance| instance.created_at_ms);
        let none = "There are no instances.";
        if self.usage {
            let used = with_usage(&client, instances).await?;
            context.output.data(&used, || usage_table(&used), none)?;
            return Ok(ExitCode::OK);
        }
        context.output.data(&instances, || table(&instances), none)?;
        Ok(ExitCode::OK)
    }
}

/// An instance with what it uses.
#[derive(Debug, Serialize)]
struct Used {
    #[serde(flatten)]
    instance: InstanceView,
    usage: UsageView,
}

/// Asks what each instance uses that may run.
async fn with_usage(
    client: &Client,
    instances: Vec<InstanceView>,
) -> Result<Vec<Used>, ClientError> {
    let used = instances.into_iter().map(|instance| async move {
        let usage = match instance.phase {
            Phase::Pending | Phase::Ended => UsageView::default(),
            _ => usage_of(client, &instance).await?,
        };
        Ok(Used { instance, usage })
    });
    stream::iter(used).buffered(USAGE_REQUESTS_MAX).try_collect().await
}

/// Nothing is known of one that has not started, has just ended, or whose node is away.
async fn usage_of(client: &Client, instance: &InstanceView) -> Result<UsageView, ClientError> {
    match client.usage(&instance.id.to_string()).await {
        Err(ClientError::Problem(_)) => Ok(UsageView::default()),
        answer => answer,
    }
}

/// Instances with what they use as a table, narrow enough for 80 columns.
fn usage_table(used: &[Used]) -> Table {
    let head = ["INSTANCE", "WORKLOAD", "PHASE", "NODE", "MEMORY", "CPU", "PIDS", "IN", "OUT"];
    let mut table = Table::new(&head);
    for Used { instance, usage } in used {
        let figure = |figure: Option<u64>, words: fn(u64) -> String| {
            Cell::from(figure.map_or_else(|| "-".to_owned(), words))
        };
        table.row([
            instance.id.short().into(),
            instance.workload.as_str().into(),
            Cell::styled(instance.phase.word(), phase_style(instance.phase)),
            node_name(instance).into(),
            figure(usage.memory_bytes, bytes),
            figure(usage.cpu_us, processor_time),
            figure(usage.pids, |pids| pids.to_string()),
            figure(usage.network_bytes_in, bytes),
            figure(usage.network_bytes_out, bytes),
        ]);
    }
    table
}

/// Instances as a table.
pub(crate) fn table(instances: &[InstanceView]) -> Table {
    let mut table = Table::new(&["INSTANCE", "WORKLOAD", "PHASE", "NODE", "PID", "AGE", "NOTE"]);
    for instance in instances {
        table.row([
            instance.id.short().into(),
            instance.workload.as_str().into(),
            Cell::styled(instance.phase.word(), phase_style(instance.phase)),
            node_name(instance).into(),
            instance.pid.map(|pid| pid.to_string()).unwrap_or_default().into(),
            age(instance.created_at_ms).into(),
            note(instance).into(),
        ]);
    }
    table
}

fn node_name(instance: &InstanceView) -> String {
    let node = instance.node.as_ref().and_then(|node| node.name.as_ref());
    node.map(ToString::to_string).unwrap_or_default()
}

/// Why an instance is where it is.
pub(crate) fn note(instance: &InstanceView) -> String {
    if let Some(end) = &instance.end {
        return end.reason.clone();
    }
    let waits_for = instance.waits_for.clone();
    waits_for.or_else(|| instance.stop_cause.clone()).unwrap_or_default()
}
