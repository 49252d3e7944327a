//! `spawnery services`: what is kept running.

use super::Outcome;
use crate::context::Context;
use crate::exit::ExitCode;
use crate::table::{Cell, Table};
use crate::words::age;
use owo_colors::Style;
use spawnery_client::api::{PhaseCounts, ServiceView};
use spawnery_client::{Client, ClientError, InstanceQuery};
use spawnery_model::Name;
use std::collections::BTreeMap;

/// List services
#[derive(Debug, clap::Args)]
pub(crate) struct Services {
    /// Only this one
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Services {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let services = match &self.name {
            Some(name) => vec![client.service(name).await?],
            None => client.services().await?,
        };
        let reasons = reasons(&client).await?;
        let none = "There are no services: declare some with `spawnery apply FILE`.";
        context.output.data(&services, || table(&services, &reasons), none)?;
        Ok(ExitCode::OK)
    }
}

/// What instances of services wait for: `pending: building environment, step 3 of 5`.
pub(crate) async fn reasons(client: &Client) -> Result<BTreeMap<Name, String>, ClientError> {
    let query = InstanceQuery {
        kind: Some("service".to_owned()),
        state: Some("live".to_owned()),
        ..InstanceQuery::default()
    };
    let instances = client.instances(&query).await?.into_iter();
    let reasons = instances.filter_map(|instance| {
        let reason = instance.waits_for?;
        Some((instance.workload, format!("{}: {reason}", instance.phase.word())))
    });
    Ok(reasons.collect())
}

/// Services as a table, with what they wait for.
pub(crate) fn table(services: &[ServiceView], reasons: &BTreeMap<Name, String>) -> Table {
    let mut table = Table::new(&["SERVICE", "READY", "AGE", "URL", "STATE"]);
    for service in services {
        let ready = service.phases.ready;
        let wanted = match service.replicas {
            Some(count) => count.to_string(),
            None => "every node".to_owned(),
        };
        let is_whole = service.replicas.is_none_or(|count| ready >= u64::from(count));
        let style = if is_whole { Style::new().green() } else { Style::new().yellow() };
        let state = match reasons.get(&service.name) {
            Some(reason) if !is_whole => reason.clone(),
            _ => state(service),
        };
        table.row([
            service.name.as_str().into(),
            Cell::styled(format!("{ready}/{wanted}"), style),
            age(service.changed_at_ms).into(),
            service.urls.first().cloned().unwrap_or_default().into(),
            state.into(),
        ]);
    }
    table
}

/// What a service does beside being ready, in words.
fn state(service: &ServiceView) -> String {
    let PhaseCounts { pending, starting, running, stopping, .. } = service.phases;
    let phases = [
        (pending, "pending"),
        (starting, "starting"),
        (running, "running"),
        (stopping, "stopping"),
    ];
    let present = phases.iter().filter(|(count, _)| *count > 0);
    let mut words: Vec<String> = present.map(|(count, word)| format!("{count} {word}")).collect();
    let waiting = service.slots.iter().filter(|slot| slot.restarts_at_ms.is_some()).count();
    if waiting > 0 {
        words.push(format!("{waiting} waiting to restart"));
    }
    let finished = service.slots.iter().filter(|slot| slot.finished).count();
    if finished > 0 {
        words.push(format!("{finished} finished"));
    }
    words.join(", ")
}
