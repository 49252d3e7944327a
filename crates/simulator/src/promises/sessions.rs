//! Limits, warnings, turns and epochs of sessions, by the records alone.

use super::{Broken, ensure};
use crate::generate::allowed;
use spawnery_cluster::terms::{idle_rule, process_of};
use spawnery_cluster::{Change, Record, State};
use spawnery_model::{
    Capacity, DurationMs, Instance, InstanceId, Name, Origin, Phase, StopCause, Timestamp,
    WarningCause,
};
use std::collections::BTreeMap;

const LIMITS: &str = "no owner has more than its token allows";
const WARNED: &str = "a session is warned of each end by a limit, once";
const TURNS: &str = "owners of sessions that wait take turns";

/// The minute in which creations are counted.
const MINUTE: DurationMs = DurationMs::from_secs(60);

/// What is known of all sessions.
#[derive(Debug, Default)]
pub(super) struct SessionModels {
    /// The minute in which each owner creates sessions, and how many it did.
    creates: BTreeMap<String, (Timestamp, u32)>,
    warned: BTreeMap<InstanceId, Warned>,
    waiting: BTreeMap<InstanceId, Waiting>,
    /// The newest epoch of each key.
    epochs: BTreeMap<(Name, Name), u64>,
}

/// Of which ends a session was warned.
#[derive(Debug, Default)]
struct Warned {
    duration: Option<Timestamp>,
    idle: Option<Timestamp>,
    /// When it was used last, as far as records say.
    active_at: Timestamp,
}

/// A session that waits for room.
#[derive(Debug)]
struct Waiting {
    owner: String,
    /// What it is made from and what it needs: of two that have the same, the first one fits if
    /// the second one does.
    shape: (u64, Capacity),
    turn: u64,
    /// Turns before its own when it came.
    turns_before: u64,
    /// How many of the same shape were placed since it waits, by their owners.
    overtaken_by: BTreeMap<String, u64>,
}

fn owner_of(origin: &Origin) -> Option<&String> {
    match origin {
        Origin::Session { owner, .. } => Some(owner),
        _ => None,
    }
}

fn shape_of(state: &State, instance: &Instance) -> (u64, Capacity) {
    let process = process_of(state.definition_of(instance), instance);
    (instance.definition, Capacity { memory: process.memory, cpu: process.cpu_reserved })
}

impl SessionModels {
    /// What must hold of a record in the state that it changes.
    pub(super) fn before(&mut self, record: &Record, state: &State) -> Result<(), Broken> {
        match &record.change {
            Change::InstanceCreated {
                origin: Origin::Session { owner, after: None, .. }, ..
            } => self.created(owner, record.at),
            Change::InstanceAssigned { instance, epoch, .. } => {
                self.assigned(state, *instance, *epoch)
            }
            Change::SessionWarned { instance, cause, ends_at } => {
                self.is_warned(*instance, *cause, *ends_at)
            }
            Change::SessionExtended { instance, .. } => {
                self.warned.entry(*instance).or_default().duration = None;
                Ok(())
            }
            Change::SessionSeen { instance, active_at } => {
                let warned = self.warned.entry(*instance).or_default();
                let ready_at = state.instance(*instance).and_then(|found| found.ready_at);
                if *active_at > warned.active_at.max(ready_at.unwrap_or_default()) {
                    (warned.active_at, warned.idle) = (*active_at, None);
                }
                Ok(())
            }
            Change::InstanceStopRequested { instance, cause } => {
                self.stops(state, *instance, cause, record.at)
            }
            _ => Ok(()),
        }
    }

    /// What a record has changed.
    pub(super) fn after(&mut self, record: &Record, state: &State) -> Result<(), Broken> {
        if let Change::InstanceWaits { instance, .. } = &record.change
            && let Some(found) = state.instance(*instance)
            && let Some(turn) = found.session.as_ref().and_then(|session| session.turn)
            && !self.waiting.contains_key(instance)
        {
            self.waiting.retain(|id, _| {
                state.instance(*id).is_some_and(|instance| instance.phase == Phase::Pending)
            });
            let first = self.waiting.values().map(|waiting| waiting.turn).min().unwrap_or(turn);
            let waiting = Waiting {
                owner: owner_of(&found.origin).cloned().unwrap_or_default(),
                shape: shape_of(state, found),
                turn,
                turns_before: turn.saturating_sub(first),
                overtaken_by: BTreeMap::new(),
            };
            self.waiting.insert(*instance, waiting);
        }
        Ok(())
    }

    fn created(&mut self, owner: &String, at: Timestamp) -> Result<(), Broken> {
        let (began, count) = self.creates.entry(owner.clone()).or_insert((at, 0));
        if began.plus(MINUTE) <= at {
            (*began, *count) = (at, 0);
        }
        *count += 1;
        let most = allowed(owner).creates_per_minute;
        ensure!(most.is_none_or(|most| *count <= most), LIMITS, "{owner} created {count}");
        Ok(())
    }

    fn assigned(&mut self, state: &State, id: InstanceId, epoch: u64) -> Result<(), Broken> {
        self.waiting.remove(&id);
        let Some(instance) = state.instance(id) else {
            return Ok(());
        };
        let (Some(session), Some(owner)) = (&instance.session, owner_of(&instance.origin)) else {
            return Ok(());
        };
        if let Some(key) = &session.key {
            let newest = self.epochs.entry((instance.workload.clone(), key.clone())).or_default();
            ensure!(
                epoch > *newest,
                "each session of a key has a higher epoch than those before it",
                "{id} of key {key}: {epoch} after {newest}"
            );
            *newest = epoch;
        }
        let shape = shape_of(state, instance);
        for (other, waiting) in &mut self.waiting {
            let waits = state.instance(*other).is_some_and(|it| it.phase == Phase::Pending);
            if !waits || waiting.owner == *owner || waiting.shape != shape {
                continue;
            }
            let count = waiting.overtaken_by.entry(owner.clone()).or_default();
            *count += 1;
            ensure!(
                *count <= waiting.turns_before + 1,
                TURNS,
                "{other} of {} waits while {owner} got {count} places, {} turns before it",
                waiting.owner,
                waiting.turns_before
            );
        }
        Ok(())
    }

    fn is_warned(
        &mut self,
        id: InstanceId,
        cause: WarningCause,
        ends_at: Timestamp,
    ) -> Result<(), Broken> {
        let warned = self.warned.entry(id).or_default();
        let before = match cause {
            WarningCause::Duration => warned.duration.replace(ends_at),
            WarningCause::Idle => warned.idle.replace(ends_at),
            WarningCause::Drain => None,
        };
        ensure!(before.is_none(), WARNED, "{id} of {cause:?} at {ends_at:?}, before {before:?}");
        Ok(())
    }

    fn stops(
        &mut self,
        state: &State,
        id: InstanceId,
        cause: &StopCause,
        at: Timestamp,
    ) -> Result<(), Broken> {
        let Some(instance) = state.instance(id).filter(|it| it.session.is_some()) else {
            return Ok(());
        };
        let warned = self.warned.entry(id).or_default();
        let ends_at = match cause {
            StopCause::DurationReached => warned.duration,
            // One that is not warned at all says so by its rule: its node is drained.
            StopCause::Idle if idle_rule(state, instance).is_some_and(|it| it.warning.0 == 0) => {
                return Ok(());
            }
            StopCause::Idle => warned.idle,
            _ => return Ok(()),
        };
        ensure!(
            ends_at.is_some_and(|ends_at| ends_at <= at),
            WARNED,
            "{id} ends at {at:?} for {cause:?}, it was warned of {ends_at:?}"
        );
        Ok(())
    }

    /// What must hold after each batch.
    pub(super) fn check(&self, state: &State) -> Result<(), Broken> {
        let mut live: BTreeMap<&String, u32> = BTreeMap::new();
        for instance in state.instances().filter(|it| it.phase != Phase::Ended) {
            if let Some(owner) = owner_of(&instance.origin) {
                *live.entry(owner).or_default() += 1;
            }
        }
        for (owner, count) in live {
            let most = allowed(owner).sessions;
            ensure!(most.is_none_or(|most| count <= most), LIMITS, "{owner} has {count}");
        }
        Ok(())
    }
}
