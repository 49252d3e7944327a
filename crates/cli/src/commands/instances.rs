//! `spawnery instances`: what runs, and what ran.

use super::Outcome;
use crate::context::Context;
use crate::exit::ExitCode;
use crate::table::{Cell, Table};
use crate::words::{age, phase_style};
use spawnery_client::InstanceQuery;
use spawnery_client::api::InstanceView;

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
        let mut instances = context.client()?.instances(&query).await?;
        instances.sort_by_key(|instance| instance.created_at_ms);
        let none = "There are no instances.";
        context.output.data(&instances, || table(&instances), none)?;
        Ok(ExitCode::OK)
    }
}

/// Instances as a table.
pub(crate) fn table(instances: &[InstanceView]) -> Table {
    let mut table = Table::new(&["INSTANCE", "WORKLOAD", "PHASE", "NODE", "PID", "AGE", "NOTE"]);
    for instance in instances {
        let node = instance.node.as_ref();
        let node = node.and_then(|node| node.name.as_ref().map(ToString::to_string));
        table.row([
            instance.id.short().into(),
            instance.workload.as_str().into(),
            Cell::styled(instance.phase.word(), phase_style(instance.phase)),
            node.unwrap_or_default().into(),
            instance.pid.map(|pid| pid.to_string()).unwrap_or_default().into(),
            age(instance.created_at_ms).into(),
            note(instance).into(),
        ]);
    }
    table
}

/// Why an instance is where it is.
fn note(instance: &InstanceView) -> String {
    if let Some(end) = &instance.end {
        return end.reason.clone();
    }
    let waits_for = instance.waits_for.clone();
    waits_for.or_else(|| instance.stop_cause.clone()).unwrap_or_default()
}
