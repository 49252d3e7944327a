//! A simulated machine: its agent, its launcher, and its link to the controller.

use crate::launcher::Launcher;
use spawnery_cluster::SecretHash;
use spawnery_model::{Capacity, Introduction, Name, NodeId, Timestamp};
use spawnery_node::Node;
use std::collections::BTreeMap;

/// One machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: Name,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) capacity: Capacity,
    /// How far its clock is ahead of the simulation's.
    pub(crate) clock_ahead_ms: u64,
    /// Its node's id, once it has joined; on disk.
    pub(crate) node: Option<NodeId>,
    /// The secret of the token that it joins by.
    pub(crate) token: SecretHash,
    pub(crate) powered: bool,
    /// Its node was told to stop, and somebody will start it again.
    pub(crate) restarts_soon: bool,
    /// It never comes back.
    pub(crate) destroyed: bool,
    pub(crate) launcher: Launcher,
    pub(crate) agent: Option<Agent>,
    /// Grows with each agent process.
    pub(crate) agent_generation: u64,
    pub(crate) link: Link,
}

/// An agent process.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) node: Node,
    pub(crate) incarnation: u64,
    /// When it will be woken, in simulated time.
    pub(crate) wake_at: Option<u64>,
}

/// The link between an agent and the controller, as the agent sees it.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) up: bool,
    /// Grows each time that it comes up or goes down.
    pub(crate) serial: u64,
    /// Until when nothing arrives at the controller.
    pub(crate) to_controller_blocked_until: u64,
    /// Until when nothing arrives at the agent.
    pub(crate) to_agent_blocked_until: u64,
}

impl Link {
    pub(crate) fn is_blocked(&self, now: u64) -> bool {
        now < self.to_controller_blocked_until || now < self.to_agent_blocked_until
    }
}

impl Machine {
    pub(crate) fn clock(&self, now: u64) -> Timestamp {
        Timestamp(now + self.clock_ahead_ms)
    }

    /// What a new agent process says of itself.
    pub(crate) fn introduction(&self, incarnation: u64) -> Introduction {
        Introduction {
            name: self.name.clone(),
            labels: self.labels.clone(),
            capacity: self.capacity,
            version: "0.0.0".to_owned(),
            incarnation,
            allowances: None,
        }
    }
}
