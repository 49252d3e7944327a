//! Which pending instance goes where?

use super::volumes::{self, Room};
use crate::allowances::constraints_of;
use crate::record::Change;
use crate::state::{Slot, State};
use crate::terms;
use spawnery_model::{
    Capacity, Constraint, Instance, InstanceId, NodeId, Origin, Phase, Session, Timestamp, Workload,
};
use spawnery_placement::{Request, choose, explain};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Reasons that are written anew in one pass over those that wait: with thousands of them, a
/// record for each would cost more than it tells.
const REASONS_REFRESHED_PER_PASS_MAX: usize = 64;

/// How far placing has come. Instances of the same shape are refused together until room appears.
#[derive(Debug, Default)]
pub(super) struct PlacementPass {
    /// The state's `room_at` that this pass began with.
    room_at: u64,
    /// The last instance in `waiting` that was looked at; `None` before the first.
    cursor: Option<(Timestamp, InstanceId)>,
    /// The last session in the queue that was looked at; `None` before the first.
    cursor_queue: Option<(u64, Timestamp, InstanceId)>,
    /// All that wait have been looked at.
    complete: bool,
    /// What was found not to fit anywhere, and why.
    refused: BTreeMap<Shape, String>,
    refreshed: usize,
}

impl PlacementPass {
    /// The next instance that waits: sessions take turns after all others.
    fn next(&mut self, state: &State) -> Option<InstanceId> {
        let agenda = &state.agenda;
        let from = self.cursor.map_or(Bound::Unbounded, Bound::Excluded);
        if let Some(next) = agenda.waiting.range((from, Bound::Unbounded)).next() {
            self.cursor = Some(*next);
            return Some(next.1);
        }
        let from = self.cursor_queue.map_or(Bound::Unbounded, Bound::Excluded);
        let next = agenda.queue.range((from, Bound::Unbounded)).next()?;
        self.cursor_queue = Some(*next);
        Some(next.2)
    }
}

/// What matters for the question whether an instance fits somewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    memory: u64,
    cpu: u32,
    constraints: Vec<Constraint>,
    node: Option<NodeId>,
}

/// The next placement, or the reason why a new instance has to wait.
pub(super) fn next_placement(state: &State, pass: &mut PlacementPass) -> Option<Change> {
    let agenda = &state.agenda;
    if pass.room_at != agenda.room_at {
        *pass = PlacementPass { room_at: agenda.room_at, ..PlacementPass::default() };
    }
    // Who waits comes before who has just come.
    while !pass.complete {
        let Some(next) = pass.next(state) else {
            pass.complete = true;
            break;
        };
        let found = state.instance(next).expect("what waits exists");
        match place(state, pass, found) {
            Ok(change) => return Some(change),
            Err(reason) => {
                let known = found.waits_for.as_deref() == Some(reason.as_str());
                if !known && pass.refreshed < REASONS_REFRESHED_PER_PASS_MAX {
                    pass.refreshed += 1;
                    return Some(Change::InstanceWaits { instance: found.id, reason });
                }
            }
        }
    }
    let (_, instance) = agenda.place.first()?;
    let found = state.instance(*instance).expect("what is to be placed exists");
    let placed = place(state, pass, found);
    Some(placed.unwrap_or_else(|reason| Change::InstanceWaits { instance: *instance, reason }))
}

/// Whether there is room right now for a session of `template`; the reason if not.
pub(crate) fn room_for(
    state: &State,
    template: &Workload,
    session: &Session,
) -> Result<(), String> {
    let amount = terms::amount(template, Some(session));
    let constraints = constraints_of(template);
    let avoid = BTreeSet::new();
    let fits = |node| {
        let request = Request { amount, constraints: &constraints, node, avoid: &avoid };
        match choose(&state.pool, &request) {
            Some(_) => Ok(()),
            None => Err(explain(&state.pool, &request).to_string()),
        }
    };
    match volumes::room(state, template, None) {
        Room::Anywhere => fits(None),
        Room::Nowhere(reason) => Err(reason),
        Room::Nodes(nodes) => {
            let results = nodes.into_iter().map(|node| fits(Some(node)));
            let gone = Err("the node of its volumes is gone".to_owned());
            results.reduce(Result::or).unwrap_or(gone)
        }
    }
}

fn place(state: &State, pass: &mut PlacementPass, instance: &Instance) -> Result<Change, String> {
    let workload = state.definition_of(instance);
    let node = match &instance.origin {
        Origin::NodeReplica { node } => Some(*node),
        _ => None,
    };
    match volumes::room(state, workload, node) {
        Room::Anywhere => place_on(state, pass, instance, workload, node),
        Room::Nowhere(reason) => Err(reason),
        Room::Nodes(nodes) => {
            let mut result = Err("the node of its volumes is gone".to_owned());
            for node in nodes {
                result = place_on(state, pass, instance, workload, Some(node));
                if result.is_ok() {
                    break;
                }
            }
            result
        }
    }
}

fn place_on(
    state: &State,
    pass: &mut PlacementPass,
    instance: &Instance,
    workload: &Workload,
    node: Option<NodeId>,
) -> Result<Change, String> {
    let amount = state.amount_of(instance);
    let constraints = constraints_of(workload);
    let shape = shape_of(amount, &constraints, node);
    if let Some(reason) = pass.refused.get(&shape) {
        return Err(reason.clone());
    }
    let avoid = nodes_of_siblings(state, instance);
    let request = Request { amount, constraints: &constraints, node, avoid: &avoid };
    if let Some(node) = choose(&state.pool, &request) {
        let epoch = instance.epoch + 1;
        return Ok(Change::InstanceAssigned { instance: instance.id, node, epoch });
    }
    let reason = explain(&state.pool, &request).to_string();
    pass.refused.insert(shape, reason.clone());
    Err(reason)
}

fn shape_of(amount: Capacity, constraints: &[Constraint], node: Option<NodeId>) -> Shape {
    Shape { memory: amount.memory.0, cpu: amount.cpu.0, constraints: constraints.to_vec(), node }
}

/// Where other replicas of the same service are: a new one goes elsewhere if it can.
fn nodes_of_siblings(state: &State, instance: &Instance) -> BTreeSet<NodeId> {
    let Origin::Replica { slot } = instance.origin else {
        return BTreeSet::new();
    };
    let Some(entry) = state.workload(&instance.workload) else {
        return BTreeSet::new();
    };
    let siblings = entry.slots.iter().filter(|(other, _)| **other != Slot::Index(slot));
    siblings
        .filter_map(|(_, sibling)| state.instance(sibling.instance?))
        .filter(|sibling| sibling.phase != Phase::Ended)
        .filter_map(|sibling| sibling.node)
        .collect()
}
