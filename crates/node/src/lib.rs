//! The agent's state machine: desired and observed in, actions out.
//!
//! Invariant: pure, and nothing that it holds is lost with it: what it must know after a restart
//! it learns from the launcher ([`Input::Found`]) and from the controller.
//!
//! The shell calls [`Node::handle`] for each thing that happens, then [`Node::poll_action`] until
//! it is empty, then waits for the next thing or until [`Node::poll_timeout`].

mod check;
mod exchange;
mod heard;
mod instances;
mod notices;

pub use check::Check;
pub use instances::{Found, Noted};

use heard::Heard;
use instances::Held;
use spawnery_model::{
    DurationMs, Exit, InstanceId, Introduction, NodeId, Notice, Orders, Report, StartOrder, Stop,
    Timestamp, WarmPool,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Something that happened on the node or came over the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A link to the controller is there.
    LinkUp,
    /// The link is gone.
    LinkDown,
    /// The controller says something.
    Orders(Box<Orders>),
    /// What the launcher has, when the agent starts. Comes once, before anything else.
    Found(Vec<Found>),
    /// Preparing an instance takes long; or no more, without a text.
    Progress {
        /// Which one.
        instance: InstanceId,
        /// What is being done: `building environment, step 3 of 5`.
        text: Option<String>,
    },
    /// An instance's process runs.
    Started {
        /// Which one.
        instance: InstanceId,
        /// Its process id on this node.
        pid: u32,
    },
    /// What was to be checked of an instance is as it has to be.
    Ready {
        /// Which one.
        instance: InstanceId,
    },
    /// An instance is over, or could not be started.
    Ended {
        /// Which one.
        instance: InstanceId,
        /// How.
        exit: Exit,
    },
}

/// Something that the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start an instance, and say how it goes.
    Start {
        /// Which one.
        instance: InstanceId,
        /// What to start.
        order: Box<StartOrder>,
    },
    /// Check this until it holds, and then say so.
    Probe {
        /// Of which instance.
        instance: InstanceId,
        /// What.
        check: Check,
    },
    /// The controller has heard of this node: let instances with a lease go on, counted from when
    /// what it heard was sent.
    Renew {
        /// When that was.
        sent_at: Timestamp,
    },
    /// Remember this of an instance for the agent after this one.
    Note {
        /// Of which instance.
        instance: InstanceId,
        /// What, in the place of what was remembered before.
        noted: Noted,
    },
    /// Warn the program inside, after what it was warned of before. What is to be remembered is
    /// remembered first, so that no signal is given twice.
    Notify {
        /// Which one.
        instance: InstanceId,
        /// Of what. Without a signal, if that was given before.
        notices: Vec<Notice>,
        /// What to remember of the instance.
        noted: Noted,
    },
    /// Keep these sandboxes ready, and no others.
    Warm {
        /// All of them.
        pools: Vec<WarmPool>,
    },
    /// End an instance.
    Stop {
        /// Which one.
        instance: InstanceId,
        /// By which signal, and when to kill it.
        stop: Stop,
    },
    /// Give up preparing an instance, and say that it ended; if it has started meanwhile, nothing.
    Abandon {
        /// Which one.
        instance: InstanceId,
    },
    /// Remove what is left of an instance that has ended.
    Forget {
        /// Which one.
        instance: InstanceId,
    },
    /// Send this to the controller.
    Send(Box<Report>),
}

/// What an agent knows.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    introduction: Introduction,
    link: bool,
    /// The controller answered this link's introduction with all that it wants.
    introduced: bool,
    epoch: u64,
    reign: u64,
    /// The number of the last report.
    sequence: u64,
    /// When the last report was sent.
    sent_at: Option<Timestamp>,
    /// Which reports were sent when, as far as they are not confirmed.
    heard: Heard,
    /// Messages with orders that came since the last report.
    received: Vec<u64>,
    /// The number of the newest message of this reign and epoch.
    orders_sequence: u64,
    /// The reign and epoch of the last full orders: a copy of them must not be taken for new.
    full_orders_of: (u64, u64),
    instances: BTreeMap<InstanceId, Held>,
    /// Those of which the controller has not confirmed the observation: few of many, so that what
    /// happens to one does not cost a look at all.
    unconfirmed: BTreeSet<InstanceId>,
    actions: VecDeque<Action>,
    refused: u64,
}

impl Node {
    /// A node with the id that it was given when it joined.
    ///
    /// `introduction.incarnation` must be higher than that of every agent process before it on
    /// this node, by more than the number of changes that it saw; milliseconds since 1970 do.
    pub fn new(id: NodeId, introduction: Introduction) -> Node {
        Node {
            id,
            introduction,
            link: false,
            introduced: false,
            epoch: 0,
            reign: 0,
            sequence: 0,
            sent_at: None,
            heard: Heard::default(),
            received: Vec::new(),
            orders_sequence: 0,
            full_orders_of: (0, 0),
            instances: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            actions: VecDeque::new(),
            refused: 0,
        }
    }

    /// Takes in one thing that happened.
    pub fn handle(&mut self, input: Input, now: Timestamp) {
        match input {
            Input::LinkUp => {
                self.link = true;
                self.introduce_again();
            }
            Input::LinkDown => {
                self.link = false;
                self.introduced = false;
            }
            Input::Orders(orders) => self.handle_orders(*orders, now),
            Input::Found(found) => self.found(found),
            Input::Progress { instance, text } => self.progress(instance, text),
            Input::Started { instance, pid } => self.started(instance, pid),
            Input::Ready { instance } => self.ready(instance),
            Input::Ended { instance, exit } => self.ended(instance, exit),
        }
        self.report_if_due(now);
    }

    /// Says that the time is `now`; call it when [`Node::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.report_if_due(now);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Node::handle_timeout`], if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.next_report_at()
    }

    /// The instances that the node has and what each was started with.
    pub fn instances(&self) -> impl Iterator<Item = (InstanceId, Option<&StartOrder>)> {
        self.instances.iter().map(|(id, held)| (*id, held.order.as_deref()))
    }

    /// Whether the controller has answered on the present link.
    pub fn is_introduced(&self) -> bool {
        self.introduced
    }

    /// Instances of which the controller has not confirmed the last observation.
    pub fn observations_unconfirmed(&self) -> usize {
        self.unconfirmed.len()
    }

    /// Messages of the controller that were refused because they were older than what is known.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The revision that comes after `revision`, also over restarts of the agent.
    fn revision_after(&self, revision: u64) -> u64 {
        (revision + 1).max(self.introduction.incarnation)
    }
}

/// `a` after `b`, by a duration.
fn due(last: Option<Timestamp>, after: DurationMs) -> Timestamp {
    last.map_or(Timestamp(0), |last| last.plus(after))
}
