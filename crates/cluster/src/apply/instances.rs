//! One instance, from the wish to the end.

use super::{About, Applier};
use crate::record::Change;
use crate::state::{Slot, Timer};
use spawnery_model::{
    End, EndReason, Exit, Instance, InstanceId, Kind, LimitReached, Name, NodeId, Observation,
    Observed, Origin, Phase, StopCause, Want, limits,
};

impl Applier<'_> {
    pub(super) fn instance_created(&mut self, change: &Change) {
        let Change::InstanceCreated { instance, workload, definition, inline, origin, session } =
            change
        else {
            unreachable!("the caller looked at it")
        };
        let (id, definition) = (*instance, *definition);
        match inline.as_deref() {
            Some(inline) => {
                self.state.definition_last = self.state.definition_last.max(definition);
                self.define(definition, inline);
            }
            None => {
                let found = self.state.definitions.get_mut(&definition);
                found.expect("the definition is in use by its workload").users += 1;
            }
        }
        let instance = Instance {
            id,
            workload: workload.clone(),
            definition,
            origin: origin.clone(),
            phase: Phase::Pending,
            waits_for: None,
            node: None,
            epoch: 0,
            revision_observed: 0,
            created_at: self.at,
            started_at: None,
            ready_at: None,
            pid: None,
            stop_cause: None,
            end: None,
            inline: inline.is_some(),
            restarts_at: None,
            restarted_as: None,
            session: session.clone(),
        };
        let old = self.state.instances.insert(id, instance);
        assert!(old.is_none(), "instance {id} is created twice");
        self.state.live += 1;
        self.state.agenda.place.insert((self.at, id));
        match origin {
            Origin::Replica { slot } => self.occupy(workload, Slot::Index(*slot), id),
            Origin::NodeReplica { node } => self.occupy(workload, Slot::Node(*node), id),
            Origin::Attempt { run, .. } => self.attempt_created(*run, id),
            Origin::Session { owner, after, .. } => self.session_created(id, owner, *after),
        }
        self.instance_event("instance.created", id, "is wanted".to_owned());
    }

    fn occupy(&mut self, workload: &Name, slot: Slot, id: InstanceId) {
        let entry = self.state.workloads.get_mut(workload).expect("a replica has its service");
        let state = entry.slots.entry(slot).or_default();
        assert!(state.instance.is_none(), "two live instances for {workload} {slot:?}");
        state.instance = Some(id);
    }

    pub(super) fn instance_assigned(&mut self, id: InstanceId, node: NodeId, epoch: u64) {
        let instance = self.instance_mut(id);
        assert_eq!(instance.phase, Phase::Pending, "only a pending instance is placed");
        instance.phase = Phase::Assigned;
        instance.node = Some(node);
        instance.epoch = epoch;
        instance.waits_for = None;
        let amount = self.state.amount_of(&self.state.instances[&id]);
        self.leave_agenda(id);
        self.state.pool.reserve(node, amount);
        let entry = self.node_mut(node);
        entry.node.reserved = entry.node.reserved.plus(amount);
        let fits = entry.node.capacity.fits(entry.node.reserved);
        assert!(fits, "node {node} has more reserved than it has");
        entry.instances.insert(id);
        self.bind_volumes(id, node);
        let entry = self.node_mut(node);
        let name = entry.node.name.clone();
        let want = self.want_run(id);
        self.order(node, id, want);
        self.instance_event("instance.assigned", id, format!("goes to node {name}"));
    }

    pub(super) fn instance_waits(&mut self, id: InstanceId, reason: &str) {
        let instance = self.instance_mut(id);
        let key = (instance.created_at, id);
        let changed = instance.waits_for.as_deref() != Some(reason);
        instance.waits_for = Some(reason.to_owned());
        self.state.agenda.place.remove(&key);
        self.join_waiting(id);
        if changed {
            self.instance_event("instance.waits", id, format!("waits: {reason}"));
        }
    }

    /// Lets an instance that could not be placed wait for room: a session in its owner's turn.
    fn join_waiting(&mut self, id: InstanceId) {
        let instance = self.state.instances.get_mut(&id).expect("admit found the instance");
        let created_at = instance.created_at;
        let (Origin::Session { owner, .. }, Some(session)) =
            (&instance.origin, instance.session.as_mut())
        else {
            self.state.agenda.waiting.insert((created_at, id));
            return;
        };
        if session.turn.is_none() {
            let queue = &mut self.state.agenda.queue;
            let first = queue.first().map_or(0, |(turn, ..)| *turn);
            let turn = self.state.owners.take_turn(owner, first);
            session.turn = Some(turn);
            queue.insert((turn, created_at, id));
        }
    }

    /// An instance is placed or ended: nothing waits for it any more.
    fn leave_agenda(&mut self, id: InstanceId) {
        let instance = self.state.instances.get_mut(&id).expect("admit found the instance");
        let created_at = instance.created_at;
        let agenda = &mut self.state.agenda;
        agenda.place.remove(&(created_at, id));
        agenda.waiting.remove(&(created_at, id));
        let Some(session) = instance.session.as_mut() else {
            return;
        };
        if let Some(until) = session.queue_until.take() {
            agenda.timers.remove(&(until, Timer::Queue(id)));
        }
        if let (Some(turn), Origin::Session { owner, .. }) = (session.turn.take(), &instance.origin)
        {
            agenda.queue.remove(&(turn, created_at, id));
            self.state.owners.leave_queue(owner);
        }
    }

    pub(super) fn stop_requested(&mut self, id: InstanceId, cause: StopCause) {
        self.state.agenda.stops.remove(&id);
        let instance = self.instance_mut(id);
        if instance.restarts_at.is_some() {
            return self.cancel_restart(id);
        }
        if instance.phase == Phase::Ended || instance.stop_cause.is_some() {
            return;
        }
        self.stop_clock(id);
        let instance = self.instance_mut(id);
        instance.stop_cause = Some(cause.clone());
        if instance.phase == Phase::Pending {
            return self.end_instance(id, EndReason::Stopped { cause }, None);
        }
        instance.phase = Phase::Stopping;
        let node = instance.node.expect("what is placed has a node");
        self.order(node, id, Want::Stop);
        self.instance_event("instance.stopping", id, format!("is stopping: {}", cause.words()));
    }

    /// Takes in what a node saw. The caller has checked that it is news.
    pub(super) fn observed(&mut self, observed: &Observed) {
        let id = observed.instance;
        let at = self.at;
        let Some(instance) = self.state.instances.get_mut(&id) else {
            return;
        };
        if instance.phase == Phase::Ended {
            // Its controller had given it up with its node.
            if matches!(observed.observation, Observation::Ended { .. }) {
                self.fenced_ended(id);
            }
            return;
        }
        instance.revision_observed = observed.revision;
        let (phase, pid) = match &observed.observation {
            Observation::Starting { progress } => {
                instance.waits_for = progress.clone();
                (Phase::Starting, None)
            }
            Observation::Running { pid } => (Phase::Running, Some(*pid)),
            Observation::Ready { pid } => (Phase::Ready, Some(*pid)),
            Observation::Stopping { pid } => (Phase::Stopping, Some(*pid)),
            Observation::Ended { exit } => return self.exited(id, exit),
        };
        instance.pid = pid.or(instance.pid);
        if pid.is_some() && instance.started_at.is_none() {
            instance.started_at = Some(at);
        }
        // A stop that is under way is not undone by older news.
        if phase <= instance.phase || instance.phase == Phase::Stopping {
            return;
        }
        self.stop_clock(id);
        let instance = self.instance_mut(id);
        instance.phase = phase;
        if phase > Phase::Starting {
            instance.waits_for = None;
        }
        match phase {
            Phase::Running => self.running(id),
            Phase::Ready => self.ready(id),
            _ => {}
        }
    }

    fn running(&mut self, id: InstanceId) {
        self.start_clock(id);
        self.instance_event("instance.running", id, "is running".to_owned());
    }

    fn ready(&mut self, id: InstanceId) {
        let at = self.at;
        let instance = self.instance_mut(id);
        instance.ready_at = Some(at);
        self.start_clock(id);
        let instance = &self.state.instances[&id];
        let name = instance.workload.clone();
        self.instance_event("instance.ready", id, "is ready".to_owned());
        if self.state.is_service(&name) {
            self.reconcile(&name);
        }
    }

    fn start_clock(&mut self, id: InstanceId) {
        let instance = &self.state.instances[&id];
        if let Some(limit) = self.duration_max(instance) {
            let due = instance.started_at.unwrap_or(self.at).plus(limit);
            self.state.agenda.timers.insert((due, Timer::Duration(id)));
        }
        self.start_session_clocks(id);
    }

    fn stop_clock(&mut self, id: InstanceId) {
        let instance = &self.state.instances[&id];
        if let Some((limit, started_at)) = self.duration_max(instance).zip(instance.started_at) {
            self.state.agenda.timers.remove(&(started_at.plus(limit), Timer::Duration(id)));
        }
        self.stop_session_clocks(id);
    }

    fn duration_max(&self, instance: &Instance) -> Option<spawnery_model::DurationMs> {
        match &self.state.definition_of(instance).kind {
            Kind::Service(_) | Kind::Session(_) => None,
            Kind::Job(job) => job.timeout,
        }
    }

    fn exited(&mut self, id: InstanceId, exit: &Exit) {
        let instance = &self.state.instances[&id];
        let reason = match (&instance.stop_cause, &exit.failure) {
            (Some(cause), _) => EndReason::Stopped { cause: cause.clone() },
            (None, Some(message)) if exit.lost => {
                EndReason::LostByNode { message: message.clone() }
            }
            (None, Some(message)) => EndReason::StartFailed { message: message.clone() },
            (None, None) if exit.out_of_memory => EndReason::OutOfMemory,
            (None, None) if exit.limit == Some(LimitReached::Disk) => EndReason::DiskFull,
            (None, None) if exit.limit == Some(LimitReached::KeyLease) => EndReason::KeyLeaseEnded,
            (None, None) if exit.limit.is_some() => EndReason::TransferReached,
            (None, None) => match (exit.code, exit.signal) {
                (Some(0), _) => EndReason::Finished,
                (Some(code), _) => EndReason::Failed { code },
                (None, Some(signal)) => EndReason::Signalled { signal },
                (None, None) => {
                    let message = "it ended without a status".to_owned();
                    EndReason::LostByNode { message }
                }
            },
        };
        self.end_instance(id, reason, Some(exit.clone()));
    }

    /// Ends an instance for good: gives back what it held and lets its origin decide what follows.
    pub(super) fn end_instance(&mut self, id: InstanceId, reason: EndReason, exit: Option<Exit>) {
        let at = self.at;
        let instance = &self.state.instances[&id];
        assert_ne!(instance.phase, Phase::Ended, "instance {id} ends twice");
        let (held, node) = (instance.phase.holds_reservation(), instance.node);
        let amount = self.state.amount_of(instance);
        self.stop_clock(id);
        if held {
            let node = node.expect("what holds a reservation is placed");
            self.state.pool.release(node, amount);
            let entry = self.node_mut(node);
            entry.node.reserved = entry.node.reserved.minus(amount);
            self.room_appeared();
        }
        self.leave_agenda(id);
        self.state.agenda.stops.remove(&id);
        self.state.live -= 1;
        let words = reason.words();
        let instance = self.instance_mut(id);
        instance.phase = Phase::Ended;
        instance.waits_for = None;
        instance.end = Some(End { reason, at, exit });
        self.instance_event("instance.ended", id, words);
        self.follow_end(id);
        self.remember_ended(id);
    }

    fn follow_end(&mut self, id: InstanceId) {
        let instance = &self.state.instances[&id];
        let name = instance.workload.clone();
        match instance.origin.clone() {
            Origin::Replica { slot } => self.replica_ended(&name, Slot::Index(slot), id),
            Origin::NodeReplica { node } => self.replica_ended(&name, Slot::Node(node), id),
            Origin::Attempt { run, .. } => self.attempt_ended(run, id),
            Origin::Session { failures, .. } => self.session_ended(id, failures),
        }
    }

    /// Keeps the end for those who ask, and forgets the oldest ends beyond the limit.
    pub(super) fn remember_ended(&mut self, id: InstanceId) {
        let instance = &self.state.instances[&id];
        if instance.restarts_at.is_some() {
            return;
        }
        let name = instance.workload.clone();
        if instance.inline || !self.state.workloads.contains_key(&name) {
            return self.remember_ended_other(id);
        }
        let ended = self.state.ended.entry(name.clone()).or_default();
        ended.push_back(id);
        let most = match self.state.workloads[&name].workload.kind {
            Kind::Session(_) => limits::SESSIONS_ENDED_KEPT_MAX,
            Kind::Service(_) | Kind::Job(_) => limits::ENDED_KEPT_PER_WORKLOAD_MAX,
        };
        let ended = self.state.ended.get_mut(&name).expect("it was just looked at");
        if ended.len() > most {
            let oldest = ended.pop_front().expect("there are more than none");
            self.forget(oldest);
        }
    }

    pub(super) fn remember_ended_other(&mut self, id: InstanceId) {
        self.state.ended_other.push_back(id);
        if self.state.ended_other.len() > limits::ENDED_INLINE_KEPT_MAX {
            let oldest = self.state.ended_other.pop_front().expect("there are more than none");
            self.forget(oldest);
        }
    }

    /// A session has been listed for its stale period.
    pub(super) fn session_forgotten(&mut self, id: InstanceId) {
        let name = &self.state.instances[&id].workload;
        if let Some(ended) = self.state.ended.get_mut(name) {
            ended.retain(|other| *other != id);
        }
        self.state.ended_other.retain(|other| *other != id);
        self.forget(id);
    }

    fn forget(&mut self, id: InstanceId) {
        self.stop_stale_clock(id);
        let instance = self.state.instances.remove(&id).expect("it was remembered");
        self.release_definition(instance.definition);
        if let Some(node) = instance.node {
            self.node_mut(node).instances.remove(&id);
            self.order(node, id, Want::Forget);
        }
    }

    pub(super) fn instance_mut(&mut self, id: InstanceId) -> &mut Instance {
        self.state.instances.get_mut(&id).expect("admit found the instance")
    }

    pub(super) fn instance_event(&mut self, kind: &'static str, id: InstanceId, message: String) {
        let instance = &self.state.instances[&id];
        let run = match instance.origin {
            Origin::Attempt { run, .. } => Some(run),
            _ => None,
        };
        let workload = Some(instance.workload.clone());
        let about = About { workload, instance: Some(id), run, node: instance.node };
        self.event(kind, about, message);
    }
}
