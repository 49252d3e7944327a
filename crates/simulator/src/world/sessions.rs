//! People use sessions, and the controller's shell answers whether one is idle.

use super::{Happening, World, trace};
use crate::activity::Standing;
use crate::controller::Inbound;
use crate::options::Sabotage;
use crate::promises::broken;
use spawnery_model::{InstanceId, Notice, Phase, limits};
use spawnery_node::Noted;

/// The longest that somebody uses a session.
const USE_MS_MAX: u64 = 20_000;

/// How far back a step of the controller's clock may have to do with a key that was free too
/// early: longer than the fences of these simulations.
const FENCE_MS_MAX: u64 = 60_000;

impl World {
    /// Somebody comes to a session that is ready.
    pub(super) fn use_session(&mut self) {
        let ready = self.promises.durable.instances();
        let ready = ready.filter(|it| it.session.is_some() && it.phase == Phase::Ready);
        let ready: Vec<InstanceId> = ready.map(|instance| instance.id).collect();
        let Some(process) = &mut self.controller.process else {
            return;
        };
        if ready.is_empty() {
            return;
        }
        let session = *self.random.pick(&ready);
        match process.activity.begin(session) {
            Standing::Open => {
                self.promises.coverage.count("use: begun");
                trace!(self, "somebody uses {session}");
                let generation = self.controller.generation;
                let delay = self.random.between(50, USE_MS_MAX);
                self.after(delay, Happening::UseEnds { generation, session });
            }
            Standing::Closed => self.promises.coverage.count("use: waits"),
            Standing::Ending => self.promises.coverage.count("use: refused"),
        }
    }

    pub(super) fn use_ends(&mut self, generation: u64, session: InstanceId) {
        let now = self.controller.clock(self.now);
        if generation == self.controller.generation
            && let Some(process) = &mut self.controller.process
        {
            process.activity.end(session, now);
        }
    }

    pub(super) fn asked_idle(&mut self, session: InstanceId) {
        let (generation, slow) = (self.controller.generation, self.swarm.slow_answers);
        let process = self.controller.process.as_mut().expect("it just spoke");
        if let Some(delay) = process.activity.asked(session, slow, &mut self.random) {
            self.after(delay, Happening::IdleAnswered { generation, session });
        }
    }

    pub(super) fn idle_answered(&mut self, generation: u64, session: InstanceId) {
        if generation != self.controller.generation {
            return;
        }
        let Some(process) = &mut self.controller.process else {
            return;
        };
        let active_at = match self.sabotage {
            Some(Sabotage::CallIdle) => process.activity.used_at(session),
            _ => process.activity.answer(session),
        };
        self.controller_receives(Inbound::Seen { session, active_at });
    }

    /// The core has decided what follows from an answer.
    pub(super) fn idle_decided(&mut self, session: InstanceId) {
        let process = self.controller.process.as_mut().expect("it just spoke");
        let found = process.sequencer.state().instance(session);
        let ending = found.is_none_or(|instance| instance.stop_cause.is_some());
        process.activity.decided(session, ending);
    }

    /// A session is ended because nobody uses it.
    pub(super) fn check_idle(&mut self, session: InstanceId) {
        let Some(process) = &mut self.controller.process else {
            return;
        };
        let uses = process.activity.in_flight(session);
        if uses > 0 {
            let what = format!("{session} has {uses} uses");
            self.check(broken("a session in use is never ended for being idle", what));
        }
    }

    /// An instance with a key is about to start: no other of its key may run anywhere.
    pub(super) fn check_key(&mut self, machine: usize, instance: InstanceId) {
        let key_of = |process: &crate::launcher::Process| {
            let key = process.order.session.as_ref()?.key.clone()?;
            Some((process.order.workload.clone(), key))
        };
        let launched = &self.machines[machine].launcher.instances;
        let Some(key) = launched.get(&instance).and_then(key_of) else {
            return;
        };
        let all = self.machines.iter().flat_map(|machine| &machine.launcher.instances);
        let mut others = all.filter(|(id, process)| {
            **id != instance && process.runs() && key_of(process).as_ref() == Some(&key)
        });
        let Some((other, _)) = others.next() else {
            return;
        };
        // Nobody can tell a clock that was set forward from time that has passed.
        let lately = self.now.saturating_sub(FENCE_MS_MAX);
        let steps = self.controller.steps_forward.iter().filter(|(at, _)| *at >= lately);
        if steps.map(|(_, step)| step).sum::<u64>() > limits::KEY_LEASE_MARGIN.0 {
            return self.promises.coverage.count("key: free early by a step of the clock");
        }
        let what = format!("{instance} starts while {other} runs: {key:?}");
        self.check(broken("a key names one live session", what));
    }

    /// The controller was heard of: the leases of a machine begin anew.
    pub(super) fn renew(&mut self, machine: usize, sent_at: u64) {
        let found = &mut self.machines[machine];
        let heard = sent_at - found.clock_ahead_ms;
        found.launcher.heard = found.launcher.heard.max(heard);
    }

    /// Looks whether the lease of an instance is over, when it may be.
    pub(super) fn watch_lease(&mut self, machine: usize, instance: InstanceId) {
        let generation = self.machines[machine].launcher.generation;
        if let Some(until) = self.machines[machine].launcher.lease_until(instance) {
            let delay = until.saturating_sub(self.now);
            self.after(delay, Happening::LeaseMayEnd { machine, generation, instance });
        }
    }

    pub(super) fn lease_may_end(&mut self, machine: usize, generation: u64, instance: InstanceId) {
        let launcher = &mut self.machines[machine].launcher;
        let until = launcher.lease_until(instance).filter(|_| launcher.generation == generation);
        let Some(until) = until else {
            return;
        };
        if until > self.now {
            return self.watch_lease(machine, instance);
        }
        self.promises.coverage.count("lease: over");
        if self.sabotage == Some(Sabotage::IgnoreLeases) {
            return;
        }
        trace!(self, "the lease of {instance} on {} is over", self.machines[machine].name);
        let trouble = &self.swarm.runtime;
        let launcher = &mut self.machines[machine].launcher;
        if let Some((delay, fate)) =
            launcher.end_lease(instance, self.now, trouble, &mut self.random)
        {
            let process = Happening::Process { machine, generation, instance, fate };
            self.after(delay, process);
        }
    }

    /// An agent warns the program inside, and has that remembered.
    pub(super) fn notify(
        &mut self,
        machine: usize,
        instance: InstanceId,
        notices: &[Notice],
        noted: Noted,
    ) {
        self.machines[machine].launcher.note(instance, noted);
        for notice in notices.iter().filter(|notice| notice.signal.is_some()) {
            self.promises.coverage.count("notice: signal");
            trace!(self, "{instance} is told: {:?}", notice.cause);
            if !self.notices.insert((instance, notice.cause, notice.ends_at)) {
                let what = format!("{instance} a second time: {notice:?}");
                self.check(broken("each warning is given once", what));
            }
        }
    }
}
