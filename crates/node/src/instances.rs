//! What the node has, and what is wanted of it.

use crate::notices::Notices;
use crate::{Action, Check, Node};
use spawnery_model::{
    Exit, InstanceId, Notice, Observation, Observed, Order, StartOrder, Stop, Timestamp, Want,
};
use std::collections::BTreeSet;

/// An instance that the launcher has when the agent starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which one.
    pub instance: InstanceId,
    /// What it was started with.
    pub order: Box<StartOrder>,
    /// The process id of its process, while that runs.
    pub pid: Option<u32>,
    /// How it ended, once it has.
    pub exit: Option<Exit>,
    /// What an agent before this one had remembered of it.
    pub noted: Noted,
}

/// What is remembered of a living instance for the next agent ([`Action::Note`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noted {
    /// It was ready, and stays so.
    pub ready: bool,
    /// The warnings that were given to it.
    pub notices: Vec<Notice>,
}

/// What is known of one instance.
#[derive(Debug)]
pub(crate) struct Held {
    /// What it was started with; nothing, for one that never came to be.
    pub(crate) order: Option<Box<StartOrder>>,
    /// The position of the newest order.
    order_revision: u64,
    wanted: Wanted,
    revision: u64,
    observation: Observation,
    /// The last report that told the observation, and when.
    pub(crate) told: Option<(u64, Timestamp)>,
    pub(crate) notices: Notices,
}

/// What is wanted of an instance, from the beginning of its life to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Run,
    Stop,
    Forget,
}

impl Held {
    pub(crate) fn observed(&self, instance: InstanceId) -> Observed {
        Observed { instance, revision: self.revision, observation: self.observation.clone() }
    }

    fn has_ended(&self) -> bool {
        matches!(self.observation, Observation::Ended { .. })
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.observation, Observation::Ready { .. })
    }

    fn pid(&self) -> Option<u32> {
        match self.observation {
            Observation::Running { pid }
            | Observation::Ready { pid }
            | Observation::Stopping { pid } => Some(pid),
            Observation::Starting { .. } | Observation::Ended { .. } => None,
        }
    }
}

impl Node {
    pub(crate) fn found(&mut self, found: Vec<Found>) {
        for Found { instance, order, pid, exit, noted } in found {
            let observation = match (exit, pid) {
                (Some(exit), _) => Observation::Ended { exit },
                (None, Some(pid)) if noted.ready => Observation::Ready { pid },
                (None, Some(pid)) => self.observe_running(instance, &order, pid),
                (None, None) => Observation::Starting { progress: None },
            };
            self.hold(instance, Some(order), observation, 0);
            self.with_notices(instance, noted.notices);
        }
    }

    fn hold(
        &mut self,
        instance: InstanceId,
        order: Option<Box<StartOrder>>,
        observation: Observation,
        order_revision: u64,
    ) {
        let notices = Notices::new(order.as_deref(), Vec::new());
        let held = Held {
            notices,
            order,
            order_revision,
            wanted: Wanted::Run,
            revision: self.revision_after(0),
            observation,
            told: None,
        };
        self.instances.insert(instance, held);
        self.unconfirmed.insert(instance);
    }

    fn with_notices(&mut self, instance: InstanceId, given_before: Vec<Notice>) {
        if let Some(held) = self.instances.get_mut(&instance) {
            held.notices = Notices::new(held.order.as_deref(), given_before);
        }
    }

    /// One of which nothing is to be checked is ready as soon as it runs.
    fn observe_running(
        &mut self,
        instance: InstanceId,
        order: &StartOrder,
        pid: u32,
    ) -> Observation {
        match Check::of(&order.process) {
            None => Observation::Ready { pid },
            Some(check) => {
                self.actions.push_back(Action::Probe { instance, check });
                Observation::Running { pid }
            }
        }
    }

    pub(crate) fn progress(&mut self, instance: InstanceId, text: Option<String>) {
        let starting = Observation::Starting { progress: text };
        let Some(held) = self.instances.get_mut(&instance) else {
            return;
        };
        if matches!(held.observation, Observation::Starting { .. }) && held.observation != starting
        {
            let stopped = held.wanted != Wanted::Run;
            if stopped && matches!(starting, Observation::Starting { progress: Some(_) }) {
                self.actions.push_back(Action::Abandon { instance });
            }
            self.observe(instance, starting);
        }
    }

    pub(crate) fn started(&mut self, instance: InstanceId, pid: u32) {
        let Some(held) = self.instances.get(&instance) else {
            return;
        };
        let Some(order) = held.order.clone() else {
            return;
        };
        if !matches!(held.observation, Observation::Starting { .. }) {
            return;
        }
        let wanted = held.wanted;
        let observation = if wanted == Wanted::Run {
            self.observe_running(instance, &order, pid)
        } else {
            self.actions.push_back(Action::Stop { instance, stop: order.stop });
            Observation::Stopping { pid }
        };
        self.observe(instance, observation);
        self.notify(instance);
    }

    pub(crate) fn ready(&mut self, instance: InstanceId) {
        let Some(held) = self.instances.get(&instance) else {
            return;
        };
        if let Observation::Running { pid } = held.observation {
            self.observe(instance, Observation::Ready { pid });
            self.note(instance);
            self.notify(instance);
        }
    }

    pub(crate) fn ended(&mut self, instance: InstanceId, exit: Exit) {
        let Some(held) = self.instances.get(&instance) else {
            return;
        };
        if held.has_ended() {
            return;
        }
        let forget = held.wanted == Wanted::Forget;
        self.observe(instance, Observation::Ended { exit });
        if forget {
            self.forget(instance);
        }
    }

    fn observe(&mut self, instance: InstanceId, observation: Observation) {
        let held = self.instances.get(&instance).expect("the caller has looked it up");
        let revision = self.revision_after(held.revision);
        let held = self.instances.get_mut(&instance).expect("it was just looked up");
        held.revision = revision;
        held.observation = observation;
        held.told = None;
        self.unconfirmed.insert(instance);
    }

    fn forget(&mut self, instance: InstanceId) {
        self.instances.remove(&instance);
        self.unconfirmed.remove(&instance);
        self.actions.push_back(Action::Forget { instance });
    }

    /// Carries out what is wanted of one instance.
    pub(crate) fn carry_out(&mut self, order: Order, now: Timestamp) {
        let Order { instance, revision, want } = order;
        let Some(held) = self.instances.get_mut(&instance) else {
            return self.carry_out_unknown(instance, revision, want, now);
        };
        if revision < held.order_revision {
            self.refused += 1;
            return;
        }
        held.order_revision = revision;
        match want {
            Want::Run(order) => {
                // The controller does not know how far it is.
                held.told = None;
                held.notices.want(&order);
                self.unconfirmed.insert(instance);
                self.notify(instance);
            }
            Want::Stop => self.want_stop(instance, Wanted::Stop),
            Want::Forget => self.want_stop(instance, Wanted::Forget),
        }
    }

    fn carry_out_unknown(
        &mut self,
        instance: InstanceId,
        revision: u64,
        want: Want,
        now: Timestamp,
    ) {
        match want {
            Want::Run(order) => {
                let starting = Observation::Starting { progress: None };
                self.hold(instance, Some(order.clone()), starting, revision);
                self.actions.push_back(Action::Start { instance, order });
            }
            Want::Stop => {
                let failure = Some("it was stopped before it started".to_owned());
                let exit = Exit { failure, at: now, ..Exit::default() };
                self.hold(instance, None, Observation::Ended { exit }, revision);
            }
            Want::Forget => {}
        }
    }

    /// Ends whatever the controller did not name among all that it wants.
    pub(crate) fn end_unwanted(&mut self, wanted: &[Order]) {
        let named: BTreeSet<InstanceId> = wanted.iter().map(|order| order.instance).collect();
        let held = self.instances.keys().copied();
        let unwanted: Vec<_> = held.filter(|instance| !named.contains(instance)).collect();
        for instance in unwanted {
            self.want_stop(instance, Wanted::Forget);
        }
    }

    fn want_stop(&mut self, instance: InstanceId, wanted: Wanted) {
        let held = self.instances.get_mut(&instance).expect("the caller has looked it up");
        let was = held.wanted;
        held.wanted = was.max(wanted);
        if held.has_ended() {
            if wanted == Wanted::Forget {
                self.forget(instance);
            }
            return;
        }
        // What is prepared for long need not be waited for; one that is about to start is stopped
        // when it has started.
        if was == Wanted::Run
            && matches!(held.observation, Observation::Starting { progress: Some(_) })
        {
            self.actions.push_back(Action::Abandon { instance });
            return;
        }
        let (Some(pid), Some(order)) = (held.pid(), &held.order) else {
            return;
        };
        let stop: Stop = order.stop;
        if was == Wanted::Run {
            self.observe(instance, Observation::Stopping { pid });
            self.actions.push_back(Action::Stop { instance, stop });
        }
    }
}
