//! Workloads come, change and go.

use super::{About, Applier, Effect};
use crate::record::AppliedWorkload;
use crate::state::{Definition, JobState, RunOutcome, SlotState, Timer, WorkloadEntry};
use spawnery_model::{Name, Phase, StopCause, Workload};
use std::collections::BTreeMap;

impl Applier<'_> {
    pub(super) fn workload_applied(&mut self, applied: &AppliedWorkload, by: &str) {
        let name = &applied.workload.name;
        self.state.definition_last = self.state.definition_last.max(applied.definition);
        self.define(applied.definition, &applied.workload);
        let kind_changed = self
            .state
            .workloads
            .get(name)
            .is_some_and(|old| old.workload.kind.word() != applied.workload.kind.word());
        if kind_changed {
            self.workload_removed(name, by);
        }
        let known = self.state.workloads.contains_key(name);
        if known {
            self.change_workload(applied)
        } else {
            self.add_workload(applied)
        }
        if let Some(next) = applied.next {
            self.state.agenda.timers.insert((next, Timer::Occurrence(name.clone())));
        }
        if self.state.is_service(name) {
            self.reconcile(name);
        }
        if changes_pools(&applied.workload) {
            self.effects.push(Effect::PoolsChanged);
        }
        let (kind, verb) =
            if known { ("workload.changed", "changed") } else { ("workload.added", "added") };
        let message = format!("{} {name} was {verb} by {by}", applied.workload.kind.word());
        self.event(kind, About { workload: Some(name.clone()), ..About::default() }, message);
    }

    fn add_workload(&mut self, applied: &AppliedWorkload) {
        let entry = WorkloadEntry {
            definition: applied.definition,
            workload: applied.workload.clone(),
            created_at: self.at,
            changed_at: self.at,
            slots: BTreeMap::new(),
            job: JobState { considered_until: self.at, next: applied.next, ..JobState::default() },
        };
        self.state.workloads.insert(entry.workload.name.clone(), entry);
    }

    fn change_workload(&mut self, applied: &AppliedWorkload) {
        let name = &applied.workload.name;
        let entry = self.state.workloads.get_mut(name).expect("the workload is known");
        let definition_old = std::mem::replace(&mut entry.definition, applied.definition);
        let workload_old = std::mem::replace(&mut entry.workload, applied.workload.clone());
        entry.changed_at = self.at;
        entry.job.considered_until = self.at;
        if let Some(next) = std::mem::replace(&mut entry.job.next, applied.next) {
            self.state.agenda.timers.remove(&(next, Timer::Occurrence(name.clone())));
        }
        // A change is a reason to try again at once, whatever went wrong before.
        for slot in entry.slots.values_mut() {
            *slot = SlotState { instance: slot.instance, ..SlotState::default() };
        }
        self.release_definition(definition_old);
        if changes_pools(&workload_old) {
            self.effects.push(Effect::PoolsChanged);
        }
    }

    pub(super) fn workload_removed(&mut self, name: &Name, by: &str) {
        let entry = self.state.workloads.remove(name).expect("admit found the workload");
        if let Some(next) = entry.job.next {
            self.state.agenda.timers.remove(&(next, Timer::Occurrence(name.clone())));
        }
        self.release_definition(entry.definition);
        if changes_pools(&entry.workload) {
            self.effects.push(Effect::PoolsChanged);
        }
        let runs = entry.job.active.iter().chain(&entry.job.finished);
        for run in runs {
            self.state.agenda.attempts.remove(run);
            let removed = self.state.runs.remove(run);
            if let Some(retry_at) = removed.and_then(|run| run.retry_at) {
                self.state.agenda.timers.remove(&(retry_at, Timer::Attempt(*run)));
            }
        }
        let live: Vec<_> = self
            .state
            .instances
            .values()
            .filter(|i| i.workload == *name && !i.inline)
            .filter(|i| i.phase != Phase::Ended && i.stop_cause.is_none())
            .map(|instance| instance.id)
            .collect();
        for instance in live {
            self.state.agenda.stops.insert(instance, StopCause::Removed);
        }
        self.cancel_restarts(name);
        for ended in self.state.ended.remove(name).unwrap_or_default() {
            self.remember_ended_other(ended);
        }
        let message = format!("{} {name} was removed by {by}", entry.workload.kind.word());
        let about = About { workload: Some(name.clone()), ..About::default() };
        self.event("workload.removed", about, message);
    }

    /// Stores a definition with one user.
    pub(super) fn define(&mut self, number: u64, workload: &Workload) {
        let definition = Definition { workload: workload.clone(), users: 1 };
        let old = self.state.definitions.insert(number, definition);
        assert!(old.is_none(), "definition {number} is stored twice");
    }

    pub(super) fn release_definition(&mut self, number: u64) {
        let definition = self.state.definitions.get_mut(&number).expect("it is in use");
        definition.users -= 1;
        if definition.users == 0 {
            self.state.definitions.remove(&number);
        }
    }

    pub(super) fn outcome(&self, succeeded: bool, reason: String) -> RunOutcome {
        RunOutcome { succeeded, reason, at: self.at }
    }
}

/// Whether sandboxes are kept ready for a workload.
fn changes_pools(workload: &Workload) -> bool {
    workload.surroundings.as_ref().is_some_and(|surroundings| surroundings.warm > 0)
}
