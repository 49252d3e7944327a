//! Warnings for the programs inside.

use crate::instances::{Held, Noted};
use crate::{Action, Node};
use spawnery_model::{InstanceId, Notice, StartOrder};

/// The warnings of one instance.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    /// All that the controller names, oldest first.
    wanted: Vec<Notice>,
    /// Those that this agent has given.
    given: Vec<Notice>,
    /// Those of which an agent before this one has given the signal. Whether it came to write the
    /// file is not known.
    given_before: Vec<Notice>,
}

impl Notices {
    pub(crate) fn new(order: Option<&StartOrder>, given_before: Vec<Notice>) -> Notices {
        let wanted = order.map(named_by).unwrap_or_default();
        Notices { wanted, given: Vec::new(), given_before }
    }

    /// Takes in what a new order names.
    pub(crate) fn want(&mut self, order: &StartOrder) {
        self.wanted = named_by(order);
        // What the controller names no more, it does not name again.
        self.given.retain(|given| is_in(&self.wanted, given));
        self.given_before.retain(|given| is_in(&self.wanted, given));
    }

    /// Those to give now, which are given by this.
    fn take_due(&mut self) -> Vec<Notice> {
        let mut due = Vec::new();
        for notice in &self.wanted {
            if is_in(&self.given, notice) {
                continue;
            }
            self.given.push(notice.clone());
            let signalled = is_in(&self.given_before, notice);
            let signal = notice.signal.filter(|_| !signalled);
            if signal.is_some() || notice.file.is_some() {
                due.push(Notice { signal, ..notice.clone() });
            }
        }
        due
    }

    /// What an agent after this one has to know.
    pub(crate) fn given(&self) -> Vec<Notice> {
        let before = self.given_before.iter().filter(|before| !is_in(&self.given, before));
        before.chain(&self.given).cloned().collect()
    }
}

fn named_by(order: &StartOrder) -> Vec<Notice> {
    order.session.as_ref().map(|session| session.notices.clone()).unwrap_or_default()
}

/// A notice is known by what it says; how it is said does not make it another one.
fn is_in(notices: &[Notice], one: &Notice) -> bool {
    notices.iter().any(|other| (other.cause, other.ends_at) == (one.cause, one.ends_at))
}

impl Held {
    fn noted(&self) -> Noted {
        Noted { ready: self.is_ready(), notices: self.notices.given() }
    }
}

impl Node {
    /// Gives the warnings that are due to an instance that is ready: before, its program has not
    /// begun to expect the signal, and would end by it.
    pub(crate) fn notify(&mut self, instance: InstanceId) {
        let Some(held) = self.instances.get_mut(&instance).filter(|held| held.is_ready()) else {
            return;
        };
        let notices = held.notices.take_due();
        if !notices.is_empty() {
            let noted = held.noted();
            self.actions.push_back(Action::Notify { instance, notices, noted });
        }
    }

    /// Has it remembered that an instance is ready.
    pub(crate) fn note(&mut self, instance: InstanceId) {
        if let Some(held) = self.instances.get(&instance) {
            let noted = held.noted();
            self.actions.push_back(Action::Note { instance, noted });
        }
    }
}
