//! A machine on which an agent runs.

use crate::id::{Name, NodeId};
use crate::quantity::{Bytes, CpuMillis, Timestamp};
use crate::surroundings::Allowances;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A machine that joined the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Node {
    /// Kept for as long as the agent keeps its data.
    #[n(0)]
    pub id: NodeId,
    /// What people call it; unique in the cluster.
    #[n(1)]
    pub name: Name,
    /// What constraints are compared with.
    #[n(2)]
    pub labels: BTreeMap<String, String>,
    /// What it has for instances.
    #[n(3)]
    pub capacity: Capacity,
    /// What is reserved for the instances placed on it; never more than the capacity.
    #[n(4)]
    pub reserved: Capacity,
    /// Whether it is there.
    #[n(5)]
    pub status: NodeStatus,
    /// Whether it takes nothing new and gives up what it has.
    #[n(6)]
    pub draining: bool,
    /// Grows each time that the node comes back; reports with an older one are refused.
    #[n(7)]
    pub epoch: u64,
    /// When it joined.
    #[n(8)]
    pub joined_at: Timestamp,
    /// When its status last changed.
    #[n(9)]
    pub changed_at: Timestamp,
    /// The version of Spawnery that its agent runs.
    #[n(10)]
    pub version: String,
    /// What its configuration lets instances use.
    #[n(11)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowances: Option<Box<Allowances>>,
}

/// Amounts of what instances share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Capacity {
    /// Memory.
    #[n(0)]
    pub memory: Bytes,
    /// Processor share.
    #[n(1)]
    pub cpu: CpuMillis,
}

impl Capacity {
    /// What is left of it beside `used`; nothing, where `used` is more.
    pub fn minus(self, used: Capacity) -> Capacity {
        Capacity {
            memory: Bytes(self.memory.0.saturating_sub(used.memory.0)),
            cpu: CpuMillis(self.cpu.0.saturating_sub(used.cpu.0)),
        }
    }

    /// Both together.
    pub fn plus(self, other: Capacity) -> Capacity {
        Capacity {
            memory: Bytes(self.memory.0.saturating_add(other.memory.0)),
            cpu: CpuMillis(self.cpu.0.saturating_add(other.cpu.0)),
        }
    }

    /// Whether `wanted` fits into it.
    pub fn fits(self, wanted: Capacity) -> bool {
        wanted.memory <= self.memory && wanted.cpu <= self.cpu
    }
}

/// Whether a node is there.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum NodeStatus {
    /// It holds its lease.
    #[n(0)]
    Up,
    /// Its operator shuts it down: what it runs is being stopped, and nothing else starts.
    #[n(1)]
    Stopping,
    /// It was silent for longer than its lease.
    #[n(2)]
    Lost,
}

impl NodeStatus {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            NodeStatus::Up => "up",
            NodeStatus::Stopping => "stopping",
            NodeStatus::Lost => "lost",
        }
    }
}
