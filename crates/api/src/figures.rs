//! How long sessions take to start, to be ready and to end, and why they end: counted as it happens.

use crate::app::Shared;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use spawnery_cluster::Event;
use spawnery_controller::{EventItem, EventStart};
use spawnery_model::{Instance, InstanceId, Origin, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Events that are looked at together.
const EVENTS_AT_ONCE_MAX: usize = 1000;

type Reasons = Family<[(&'static str, String); 1], Counter>;

/// What is counted of sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SessionFigures {
    started: Histogram,
    ready: Histogram,
    stopped: Histogram,
    created: Counter,
    restarted: Counter,
    ended: Reasons,
    refused: Reasons,
}

impl Default for SessionFigures {
    fn default() -> SessionFigures {
        // From a millisecond to two minutes.
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 18));
        SessionFigures {
            started: seconds(),
            ready: seconds(),
            stopped: seconds(),
            created: Counter::default(),
            restarted: Counter::default(),
            ended: Family::default(),
            refused: Family::default(),
        }
    }
}

impl SessionFigures {
    /// Counts a session that was not created.
    pub(crate) fn count_refused(&self, reason: &str) {
        self.refused.get_or_create_owned(&[("reason", reason.to_owned())]).inc();
    }

    /// Adds all figures to what is told.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Time from a session's creation to its process";
        registry.register("session_start_seconds", help, self.started.clone());
        let help = "Time from a session's creation to its being ready";
        registry.register("session_ready_seconds", help, self.ready.clone());
        let help = "Time from telling a session to stop to its end";
        registry.register("session_end_seconds", help, self.stopped.clone());
        registry.register("sessions_created", "Sessions that were created", self.created.clone());
        let help = "Sessions that took the place of one that ended by itself";
        registry.register("sessions_restarted", help, self.restarted.clone());
        let help = "Sessions that ended, by the kind of their end";
        registry.register("sessions_ended", help, self.ended.clone());
        let help = "Sessions that were not created, by the reason";
        registry.register("sessions_refused", help, self.refused.clone());
    }

    /// Follows what happens until the API or the controller is gone.
    async fn follow(self, shared: Weak<Shared>) {
        let Some(first) = shared.upgrade() else { return };
        let mut events = first.controller.events(EventStart::Now);
        drop(first);
        let mut stopping = BTreeMap::new();
        while let Some(item) = events.next().await {
            // Many events, one look.
            let more = std::iter::from_fn(|| events.ready()).take(EVENTS_AT_ONCE_MAX);
            let told: Vec<Arc<Event>> =
                std::iter::once(item).chain(more).filter_map(told).collect();
            let ids: Vec<_> = told.iter().filter_map(|event| event.instance).collect();
            let Some(shared) = shared.upgrade() else { return };
            let found = shared.controller.query(move |state| {
                let found = ids.into_iter().map(|id| session(state.instance(id)));
                found.collect::<Vec<_>>()
            });
            for (event, found) in told.iter().zip(found.await.unwrap_or_default()) {
                if let (Some(id), Some(found)) = (event.instance, found) {
                    self.count(event, id, &found, &mut stopping);
                }
            }
        }
    }

    fn count(
        &self,
        event: &Event,
        id: InstanceId,
        found: &Told,
        stopping: &mut BTreeMap<InstanceId, Timestamp>,
    ) {
        let seconds = |from: Timestamp| event.at.since(from).0 as f64 / 1000.0;
        match event.kind {
            "instance.created" => {
                self.created.inc();
                if found.is_successor {
                    self.restarted.inc();
                }
            }
            "instance.running" => self.started.observe(seconds(found.created_at)),
            "instance.ready" => self.ready.observe(seconds(found.created_at)),
            "instance.stopping" => drop(stopping.insert(id, event.at)),
            _ => {
                if let Some(told_at) = stopping.remove(&id) {
                    self.stopped.observe(seconds(told_at));
                }
                let reason = found.end.clone().unwrap_or_default();
                self.ended.get_or_create_owned(&[("reason", reason)]).inc();
            }
        }
    }
}

/// An event that is counted.
fn told(item: EventItem) -> Option<Arc<Event>> {
    const KINDS: [&str; 5] = [
        "instance.created",
        "instance.running",
        "instance.ready",
        "instance.stopping",
        "instance.ended",
    ];
    match item {
        EventItem::Event(_, event) if event.instance.is_some() && KINDS.contains(&event.kind) => {
            Some(event)
        }
        EventItem::Event(..) | EventItem::Gap { .. } => None,
    }
}

struct Told {
    created_at: Timestamp,
    is_successor: bool,
    end: Option<String>,
}

fn session(instance: Option<&Instance>) -> Option<Told> {
    let instance = instance?;
    let Origin::Session { after, .. } = &instance.origin else {
        return None;
    };
    Some(Told {
        created_at: instance.created_at,
        is_successor: after.is_some(),
        end: instance.end.as_ref().map(|end| crate::views::end(end).code),
    })
}

/// Begins to count what happens to sessions, where a runtime is there to do so.
pub(crate) fn start(figures: &SessionFigures, shared: Weak<Shared>) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(figures.clone().follow(shared));
    }
}
