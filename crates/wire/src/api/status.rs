//! How the controller is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the controller is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// The version of Spawnery that the controller runs.
    pub version: String,
    /// The number of this controller process: grows with each start.
    pub reign: u64,
    /// The position of the newest record in the journal.
    pub position: u64,
    /// How long the controller process has been running.
    pub uptime_ms: u64,
    /// How many instances are not ended.
    pub instances_live: u64,
    /// The nodes, counted.
    pub nodes: NodeCounts,
    /// The workloads, counted.
    pub workloads: WorkloadCounts,
    /// How the journal is.
    pub journal: JournalView,
}

/// Nodes, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeCounts {
    /// Those that hold their lease.
    pub up: u64,
    /// Those that are being shut down.
    pub stopping: u64,
    /// Those that were silent for longer than their lease.
    pub lost: u64,
    /// Those that are being emptied, whatever their status.
    pub draining: u64,
}

/// Workloads, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkloadCounts {
    /// Services.
    pub services: u64,
    /// Jobs.
    pub jobs: u64,
    /// Session templates.
    pub session_templates: u64,
}

/// How the journal is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalView {
    /// Why it takes nothing for now, if so; changes are refused until it does again.
    pub full: Option<String>,
}
