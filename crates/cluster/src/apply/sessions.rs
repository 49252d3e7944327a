//! What only sessions have: their clocks, warnings, keys and restarts.

use super::services::{delay, restarts};
use super::{About, Applier, Effect};
use crate::state::Timer;
use crate::terms::{duration_of, duration_warning_due, idle_due, settings_of};
use spawnery_model::{
    DurationMs, InstanceId, Name, NodeId, Origin, Phase, Session, StopCause, Timestamp,
    WarningCause, limits,
};

impl Applier<'_> {
    /// A session was created, and has its place in `instances`.
    pub(super) fn session_created(
        &mut self,
        id: InstanceId,
        owner: &str,
        after: Option<InstanceId>,
    ) {
        let at = self.at;
        self.state.owners.created(owner, at, after.is_none());
        self.take_key(id);
        if let Some(before) = after {
            self.session_restarted(before, id);
        }
        // One that waits for its key does not wait for room yet.
        let session = self.state.instances[&id].session.as_ref();
        let session = session.filter(|session| session.follows.is_none());
        if let Some(until) = session.and_then(|session| session.queue_until) {
            self.state.agenda.timers.insert((until, Timer::Queue(id)));
        }
    }

    /// Stops all clocks of a session, before something changes that they depend on.
    pub(super) fn stop_session_clocks(&mut self, id: InstanceId) {
        for (due, timer) in self.session_clocks(id) {
            self.state.agenda.timers.remove(&(due, timer));
        }
    }

    /// Starts all clocks of a session that run now.
    pub(super) fn start_session_clocks(&mut self, id: InstanceId) {
        let clocks = self.session_clocks(id);
        self.state.agenda.timers.extend(clocks);
    }

    fn session_clocks(&self, id: InstanceId) -> Vec<(Timestamp, Timer)> {
        let instance = &self.state.instances[&id];
        if instance.stop_cause.is_some() || instance.phase == Phase::Ended {
            return Vec::new();
        }
        let duration = instance.session.as_deref().and_then(duration_of);
        let ends_at = duration.zip(instance.started_at).map(|(limit, at)| at.plus(limit));
        let clocks = [
            (ends_at, Timer::Duration(id)),
            (duration_warning_due(self.state, instance), Timer::DurationWarning(id)),
            (idle_due(self.state, instance), Timer::Idle(id)),
        ];
        clocks.into_iter().filter_map(|(due, timer)| Some((due?, timer))).collect()
    }

    /// Changes what is kept of a session, with its clocks stopped meanwhile.
    fn change_session(&mut self, id: InstanceId, change: impl FnOnce(&mut Session)) {
        self.stop_session_clocks(id);
        let session = self.instance_mut(id).session.as_deref_mut();
        change(session.expect("admit found a session"));
        self.start_session_clocks(id);
    }

    pub(super) fn session_asked(&mut self, id: InstanceId) {
        let at = self.at;
        self.change_session(id, |session| session.asked_at = Some(at));
        self.effects.push(Effect::AskIdle { instance: id });
    }

    pub(super) fn session_seen(&mut self, id: InstanceId, active_at: Timestamp) {
        let ready_at = self.state.instances[&id].ready_at;
        self.change_session(id, |session| {
            session.asked_at = None;
            if active_at > session.active_at.or(ready_at).unwrap_or_default() {
                session.active_at = Some(active_at);
                if let Some(warned) = &mut session.warned {
                    warned.idle = None;
                }
            }
        });
    }

    pub(super) fn session_warned(
        &mut self,
        id: InstanceId,
        cause: WarningCause,
        ends_at: Timestamp,
    ) {
        self.change_session(id, |session| {
            session.asked_at = None;
            let warned = session.warned.get_or_insert_default();
            match cause {
                WarningCause::Duration => warned.duration = Some(ends_at),
                WarningCause::Idle => warned.idle = Some(ends_at),
                WarningCause::Drain => warned.drain = Some(ends_at),
            }
        });
        let message = format!("{} in {}", cause.words(), ends_at.since(self.at));
        self.instance_event("session.warning", id, message);
        let instance = &self.state.instances[&id];
        let settings = settings_of(self.state.definition_of(instance));
        let tells = settings.and_then(|settings| settings.warnings.as_deref());
        let tells = tells.is_some_and(|it| it.signal.is_some() || it.file.is_some());
        if let Some(node) = instance.node.filter(|_| tells && instance.stop_cause.is_none()) {
            let want = self.want_run(id);
            self.order(node, id, want);
        }
    }

    pub(super) fn session_extended(&mut self, id: InstanceId, duration: DurationMs, by: &str) {
        self.change_session(id, |session| {
            session.limits.duration = Some(duration);
            if let Some(warned) = &mut session.warned {
                warned.duration = None;
            }
        });
        self.instance_event("session.extended", id, format!("may live for {duration}, says {by}"));
    }

    pub(super) fn owner_revoked(&mut self, owner: &str, by: &str) {
        let told: Vec<_> = self
            .state
            .instances
            .values()
            .filter(
                |it| matches!(&it.origin, Origin::Session { owner: whose, .. } if whose == owner),
            )
            .filter(|it| it.phase != Phase::Ended || it.restarts_at.is_some())
            .filter(|it| it.stop_cause.is_none())
            .map(|instance| instance.id)
            .collect();
        for instance in told {
            let cause = StopCause::OwnerRevoked { by: by.to_owned() };
            self.state.agenda.stops.insert(instance, cause);
        }
        let message = format!("the sessions of {owner} end, because {by} revoked its rights");
        self.event("owner.revoked", About::default(), message);
    }

    /// Sets the clock for a restart, if the session's definition asks for one. Until then the
    /// ended instance is kept, because the new one is made from it.
    pub(super) fn session_ended(&mut self, id: InstanceId, failures: u32) {
        let at = self.at;
        self.fence_key(id);
        let instance = &self.state.instances[&id];
        let reason = &instance.end.as_ref().expect("it has ended").reason;
        let restart = self.state.definition_of(instance).restart.clone();
        // Also if its node was lost before it had stopped.
        let told = instance.stop_cause.is_some();
        let ran = instance.started_at.map_or(DurationMs(0), |started_at| at.since(started_at));
        let failures_now = match ran >= restart.reset_after {
            true => 1,
            false => failures.saturating_add(1),
        };
        let is_last = restart.restarts_max.is_some_and(|most| failures_now > most);
        if told || is_last || !restarts(restart.policy, reason) {
            return self.session_over(id);
        }
        let due = at.plus(delay(&restart, failures_now, id));
        let instance = self.instance_mut(id);
        instance.restarts_at = Some(due);
        if let Origin::Session { failures, .. } = &mut instance.origin {
            *failures = failures_now;
        }
        self.state.agenda.timers.insert((due, Timer::Restart(id)));
    }

    /// A session has ended and does not come back, or another one has come in its place.
    fn session_over(&mut self, id: InstanceId) {
        if let Origin::Session { owner, .. } = &self.state.instances[&id].origin {
            self.state.owners.ended(owner);
        }
        self.leave_key(id);
        if let Some(due) = self.stale_at(id) {
            self.state.agenda.timers.insert((due, Timer::Stale(id)));
        }
    }

    /// An ended session is forgotten, for its age or because there are too many.
    pub(super) fn stop_stale_clock(&mut self, id: InstanceId) {
        if let Some(due) = self.stale_at(id) {
            self.state.agenda.timers.remove(&(due, Timer::Stale(id)));
        }
    }

    /// When a session that is over is no longer listed.
    fn stale_at(&self, id: InstanceId) -> Option<Timestamp> {
        let instance = &self.state.instances[&id];
        let settings = settings_of(self.state.definition_of(instance))?;
        let period = settings.stale_period.unwrap_or(limits::STALE_PERIOD_DEFAULT);
        Some(instance.end.as_ref()?.at.plus(period))
    }

    /// Another instance takes the place of one that has ended.
    fn session_restarted(&mut self, before: InstanceId, after: InstanceId) {
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
        self.session_over(id);
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

    /// The sessions of a node whose clocks depend on whether it is drained: those that are ready.
    fn sessions_on(&self, node: NodeId) -> Vec<InstanceId> {
        let instances = self.state.nodes[&node].instances.iter();
        let is_live = |id: &&InstanceId| {
            let instance = &self.state.instances[*id];
            instance.session.is_some() && instance.phase != Phase::Ended
        };
        instances.filter(is_live).copied().collect()
    }

    /// Lets sessions stay on a drained node until `until`, or as long as they like again.
    pub(super) fn drain_sessions(
        &mut self,
        node: NodeId,
        draining: bool,
        until: Option<Timestamp>,
    ) {
        let sessions = self.sessions_on(node);
        for id in &sessions {
            self.stop_session_clocks(*id);
        }
        let entry = self.node_mut(node);
        entry.node.draining = draining;
        let until_old = std::mem::replace(&mut entry.drain_until, until);
        if let Some(until) = until_old {
            self.state.agenda.timers.remove(&(until, Timer::Drain(node)));
        }
        for id in &sessions {
            let session = self.instance_mut(*id).session.as_deref_mut();
            let warned = session.and_then(|session| session.warned.as_mut());
            if let Some(warned) = warned.filter(|_| !draining) {
                warned.drain = None;
            }
            self.start_session_clocks(*id);
        }
        let Some(until) = until else { return };
        self.state.agenda.timers.insert((until, Timer::Drain(node)));
        for id in sessions {
            if self.state.instances[&id].stop_cause.is_none() {
                self.session_warned(id, WarningCause::Drain, until);
            }
        }
    }

    /// The sessions that are still on a drained node have stayed as long as they may.
    pub(super) fn drain_ended(&mut self, node: NodeId) {
        if let Some(until) = self.node_mut(node).drain_until.take() {
            self.state.agenda.timers.remove(&(until, Timer::Drain(node)));
        }
        for id in self.sessions_on(node) {
            if self.state.instances[&id].stop_cause.is_none() {
                self.state.agenda.stops.insert(id, StopCause::Drained);
            }
        }
    }
}
