//! Does a service have the replicas that it wants?

use crate::allowances::constraints_of;
use crate::command::Ids;
use crate::record::Change;
use crate::state::{Slot, SlotState, State, WorkloadEntry};
use spawnery_model::{
    InstanceId, Kind, Name, NodeStatus, Origin, Phase, Replicas, StopCause, Timestamp,
};
use spawnery_placement::eligible;
use std::collections::BTreeSet;

/// What a look at a service found.
pub(super) enum Outcome {
    /// This is to be done now; then look again.
    Change(Change),
    /// Nothing before this time.
    Wait(Timestamp),
    /// Nothing until something changes.
    Settled,
}

/// Finds the next thing to do for the service `name`.
pub(super) fn reconcile(state: &State, name: &Name, now: Timestamp, ids: &mut dyn Ids) -> Outcome {
    let Some(entry) = state.workload(name) else {
        return Outcome::Settled;
    };
    let Kind::Service(service) = &entry.workload.kind else {
        return Outcome::Settled;
    };
    let wanted = slots_wanted(state, entry, service.replicas);
    if let Some(change) = stop_surplus(state, entry, &wanted) {
        return Outcome::Change(change);
    }
    let mut wait = None;
    for slot in &wanted {
        let found = entry.slots.get(slot);
        if found.is_some_and(|slot| slot.instance.is_some() || slot.finished) {
            continue;
        }
        let not_before = found.map_or(Timestamp(0), |slot| slot.not_before);
        if not_before <= now {
            return Outcome::Change(create(entry, *slot, ids));
        }
        wait = Some(wait.map_or(not_before, |until: Timestamp| until.min(not_before)));
    }
    if let Some(change) = replace_one(state, entry, &wanted) {
        return Outcome::Change(change);
    }
    wait.map_or(Outcome::Settled, Outcome::Wait)
}

fn slots_wanted(state: &State, entry: &WorkloadEntry, replicas: Replicas) -> BTreeSet<Slot> {
    match replicas {
        Replicas::Count(count) => (0..count).map(Slot::Index).collect(),
        Replicas::EveryNode => {
            let constraints = constraints_of(&entry.workload);
            eligible(&state.pool, &constraints).map(Slot::Node).collect()
        }
    }
}

fn stop_surplus(state: &State, entry: &WorkloadEntry, wanted: &BTreeSet<Slot>) -> Option<Change> {
    let surplus = entry.slots.iter().filter(|(slot, _)| !wanted.contains(*slot));
    let (slot, instance) = surplus
        .filter_map(|(slot, state)| state.instance.map(|instance| (slot, instance)))
        .find(|(_, instance)| !is_stopping(state, *instance))?;
    let draining = match slot {
        Slot::Node(node) => state.node(*node).is_some_and(|entry| entry.node.draining),
        Slot::Index(_) => false,
    };
    let cause = if draining { StopCause::Drained } else { StopCause::Removed };
    Some(Change::InstanceStopRequested { instance, cause })
}

fn create(entry: &WorkloadEntry, slot: Slot, ids: &mut dyn Ids) -> Change {
    let origin = match slot {
        Slot::Index(slot) => Origin::Replica { slot },
        Slot::Node(node) => Origin::NodeReplica { node },
    };
    Change::InstanceCreated {
        instance: InstanceId(ids.fresh()),
        workload: entry.workload.name.clone(),
        definition: entry.definition,
        inline: None,
        origin,
        session: None,
    }
}

/// Replaces one replica that is outdated or sits on a node that is emptied, unless another one of
/// the same service is just coming or going: so a change walks through the replicas one by one.
fn replace_one(state: &State, entry: &WorkloadEntry, wanted: &BTreeSet<Slot>) -> Option<Change> {
    let replicas: Vec<_> = wanted.iter().filter_map(|slot| entry.slots.get(slot)).collect();
    let unsettled = |slot: &&SlotState| {
        let instance = slot.instance.and_then(|id| state.instance(id));
        !slot.finished && instance.is_none_or(|instance| instance.phase != Phase::Ready)
    };
    let outdated = || {
        replicas.iter().filter_map(|slot| {
            let instance = state.instance(slot.instance?)?;
            let cause = reason_to_replace(state, entry, instance)?;
            Some((instance, cause))
        })
    };
    // Those that do not work anyway are no reason to wait.
    let idle = outdated().find(|(instance, _)| instance.phase != Phase::Ready);
    let (instance, cause) = match idle {
        Some(idle) => idle,
        None if replicas.iter().any(unsettled) => return None,
        None => outdated().next()?,
    };
    Some(Change::InstanceStopRequested { instance: instance.id, cause })
}

fn reason_to_replace(
    state: &State,
    entry: &WorkloadEntry,
    instance: &spawnery_model::Instance,
) -> Option<StopCause> {
    if instance.stop_cause.is_some() {
        return None;
    }
    if !state.is_current(instance, entry) {
        return Some(StopCause::Replaced);
    }
    let node = state.node(instance.node?)?;
    let drained = node.node.draining && node.node.status == NodeStatus::Up;
    drained.then_some(StopCause::Drained)
}

fn is_stopping(state: &State, instance: InstanceId) -> bool {
    state.instance(instance).is_none_or(|instance| instance.stop_cause.is_some())
}
