//! What a controller and an agent tell each other.
//!
//! Both directions survive loss, repetition and reordering: each message is numbered and names the
//! other side's messages that were received, each order and each observation has a revision, and
//! an older revision changes nothing. What was not named in time is sent again. On every (re)connect both sides send all that they have.

use crate::id::{InstanceId, Name, NodeId};
use crate::instance::Exit;
use crate::node::Capacity;
use crate::quantity::DurationMs;
use crate::session::Notice;
use crate::surroundings::{Allowances, Surroundings};
use crate::workload::{Process, Stop};
use minicbor::{Decode, Encode};
use std::collections::BTreeMap;

/// From an agent to its controller. It renews the node's lease.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Report {
    /// Who speaks.
    #[n(0)]
    pub node: NodeId,
    /// The epoch that the controller gave at the last introduction; 0 before the first.
    #[n(1)]
    pub epoch: u64,
    /// The reign of the controller that the agent last heard; 0 before the first.
    #[n(2)]
    pub reign: u64,
    /// Grows with each report of this agent process.
    #[n(3)]
    pub sequence: u64,
    /// The `Orders::sequence` of each message that came since the last report.
    #[n(4)]
    pub received: Vec<u64>,
    /// Given when the link is new, or when the controller asked for it. Then `observed` holds all
    /// that the agent has, and what is missing from it is gone.
    #[n(5)]
    pub introduction: Option<Introduction>,
    /// What changed and was not received by the controller yet, or everything.
    #[n(6)]
    pub observed: Vec<Observed>,
}

/// Who an agent is and what its machine has.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Introduction {
    /// The node's name.
    #[n(0)]
    pub name: Name,
    /// The labels of the node.
    #[n(1)]
    pub labels: BTreeMap<String, String>,
    /// What the node has for instances.
    #[n(2)]
    pub capacity: Capacity,
    /// The version of Spawnery that the agent runs.
    #[n(3)]
    pub version: String,
    /// Drawn anew by each agent process, so that its numbers are not confused with those of the
    /// process before.
    #[n(4)]
    pub incarnation: u64,
    /// What its configuration lets instances use.
    #[n(5)]
    pub allowances: Option<Box<Allowances>>,
}

/// What an agent knows of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Observed {
    /// Which one.
    #[n(0)]
    pub instance: InstanceId,
    /// Grows with each change of this instance on this node, over restarts of the agent.
    #[n(1)]
    pub revision: u64,
    /// What it is doing.
    #[n(2)]
    pub observation: Observation,
}

/// What an instance is doing on its node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Observation {
    /// Being prepared.
    #[n(0)]
    Starting {
        /// What is being done, if it takes long: `building environment, step 3 of 5`.
        #[n(0)]
        progress: Option<String>,
    },
    /// Its process runs.
    #[n(1)]
    Running {
        /// Its process id on the node.
        #[n(0)]
        pid: u32,
    },
    /// Its ports listen.
    #[n(2)]
    Ready {
        /// Its process id on the node.
        #[n(0)]
        pid: u32,
    },
    /// It was told to end.
    #[n(3)]
    Stopping {
        /// Its process id on the node.
        #[n(0)]
        pid: u32,
    },
    /// It is over.
    #[n(4)]
    Ended {
        /// How.
        #[n(0)]
        exit: Exit,
    },
}

/// From the controller to an agent. It says what the agent's report was worth.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Orders {
    /// The reign of the controller. An agent that heard a higher one ignores the message.
    #[n(0)]
    pub reign: u64,
    /// The node's epoch, to be shown in each report.
    #[n(1)]
    pub epoch: u64,
    /// Grows with each message to this node in this reign and epoch. One that is lower than that
    /// of a message which came before is ignored: what it says comes again.
    #[n(2)]
    pub sequence: u64,
    /// The `Report::sequence` of each report whose content became durable since the last message.
    #[n(3)]
    pub received: Vec<u64>,
    /// How long the lease lasts, from when the newest received report was sent.
    #[n(4)]
    pub lease: DurationMs,
    /// The agent must introduce itself again: the controller does not know it, or gave it up.
    #[n(5)]
    pub introduce: bool,
    /// `orders` holds all that is wanted of this node; anything else on it must end.
    #[n(6)]
    pub full: bool,
    /// What changed, or everything.
    #[n(7)]
    pub orders: Vec<Order>,
    /// The `Introduction::incarnation` of the agent process that is meant: another one on the same
    /// node must not take these orders for the answer to its own introduction. 0 while `introduce`
    /// is asked for, because a report does not say it.
    #[n(8)]
    pub incarnation: u64,
    /// The sandboxes that are to be kept ready, all of them, if that changed.
    #[n(9)]
    pub pools: Option<Vec<WarmPool>>,
}

/// Sandboxes that a node keeps ready for instances to come.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WarmPool {
    /// How an instance would be started; its epoch is 0.
    #[n(0)]
    pub order: Box<StartOrder>,
    /// How many are kept ready.
    #[n(1)]
    pub count: u32,
}

/// What the controller wants of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Order {
    /// Which one.
    #[n(0)]
    pub instance: InstanceId,
    /// The position of the record that caused it; an older one changes nothing.
    #[n(1)]
    pub revision: u64,
    /// What is wanted.
    #[n(2)]
    pub want: Want,
}

/// What is wanted of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Want {
    /// That it runs.
    #[n(0)]
    Run(#[n(0)] Box<StartOrder>),
    /// That it ends, by its own stop signal and grace.
    #[n(1)]
    Stop,
    /// That its end and its data may be forgotten: the end is durable, and its log too old.
    #[n(2)]
    Forget,
}

/// All that a node needs to start an instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct StartOrder {
    /// The workload's name.
    #[n(0)]
    pub workload: Name,
    /// The instance's epoch.
    #[n(1)]
    pub epoch: u64,
    /// The process to run, and within which limits.
    #[n(2)]
    pub process: Process,
    /// How to end it.
    #[n(3)]
    pub stop: Stop,
    /// What it finds around its process, if anything but the defaults.
    #[n(4)]
    pub surroundings: Option<Box<Surroundings>>,
    /// Of a session: what only a session has.
    #[n(5)]
    pub session: Option<Box<SessionOrder>>,
}

/// What a node needs to know of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct SessionOrder {
    /// The key that names it.
    #[n(0)]
    pub key: Option<Name>,
    /// When the node ends it if it hears nothing of the controller for so long.
    #[n(1)]
    pub lease: Option<DurationMs>,
    /// Warnings for the program inside, oldest first. A node gives each only once.
    #[n(2)]
    pub notices: Vec<Notice>,
}
