//! What follows when a session ends by itself.

use super::Applier;
use super::services::{delay, restarts};
use crate::state::Timer;
use spawnery_model::{DurationMs, EndReason, InstanceId, Name, Origin};

impl Applier<'_> {
    /// Sets the clock for a restart, if the session's definition asks for one. Until then the
    /// ended instance is kept, because the new one is made from it.
    pub(super) fn session_ended(&mut self, id: InstanceId, failures: u32) {
        let at = self.at;
        let instance = &self.state.instances[&id];
        let reason = &instance.end.as_ref().expect("it has ended").reason;
        let restart = self.state.definition_of(instance).restart.clone();
        let told = matches!(reason, EndReason::Stopped { .. });
        if told || !restarts(restart.policy, reason) {
            return;
        }
        let ran = instance.started_at.map_or(DurationMs(0), |started_at| at.since(started_at));
        let failures_now = match ran >= restart.reset_after {
            true => 1,
            false => failures.saturating_add(1),
        };
        let due = at.plus(delay(&restart, failures_now, id));
        let instance = self.instance_mut(id);
        instance.restarts_at = Some(due);
        if let Origin::Session { failures, .. } = &mut instance.origin {
            *failures = failures_now;
        }
        self.state.agenda.timers.insert((due, Timer::Restart(id)));
    }

    /// Another instance takes the place of one that has ended.
    pub(super) fn session_restarted(&mut self, before: InstanceId, after: InstanceId) {
        let inline = self.state.instances[&before].inline;
        self.instance_mut(after).inline = inline;
        self.instance_mut(before).restarted_as = Some(after);
        self.cancel_restart(before);
    }

    /// Leaves an ended session as it is.
    pub(super) fn cancel_restart(&mut self, id: InstanceId) {
        let due = self.instance_mut(id).restarts_at.take();
        let due = due.expect("only a restart that is due is cancelled");
        self.state.agenda.timers.remove(&(due, Timer::Restart(id)));
        self.remember_ended(id);
    }

    /// Leaves all ended sessions of a template that is removed as they are.
    pub(super) fn cancel_restarts(&mut self, template: &Name) {
        let instances = self.state.instances.values();
        let waiting: Vec<_> = instances
            .filter(|i| i.workload == *template && !i.inline && i.restarts_at.is_some())
            .map(|instance| instance.id)
            .collect();
        for id in waiting {
            self.cancel_restart(id);
        }
    }
}
