//! Nodes and how they join.

use super::schemas;
use serde::{Deserialize, Serialize};
use spawnery_model::{Name, NodeId, NodeStatus};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A machine on which an agent runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its id. Paths take it, its first four characters or more, or its name.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// What people call it.
    #[schema(value_type = String)]
    pub name: Name,
    /// Whether it is there.
    #[schema(schema_with = schemas::node_status)]
    pub status: NodeStatus,
    /// Whether it takes nothing new and gives up what it has.
    pub draining: bool,
    /// What constraints are compared with.
    pub labels: BTreeMap<String, String>,
    /// The memory that it has for instances.
    pub memory_bytes: u64,
    /// The memory that is reserved for instances on it.
    pub memory_reserved_bytes: u64,
    /// The processor share that it has for instances, in thousandths of a core.
    pub cpu_millis: u32,
    /// The processor share that is reserved for instances on it.
    pub cpu_reserved_millis: u32,
    /// How many instances on it are not ended.
    pub instances_live: u64,
    /// When it joined.
    pub joined_at_ms: u64,
    /// When its status last changed.
    pub changed_at_ms: u64,
    /// The version of Spawnery that its agent runs.
    pub version: String,
}

/// Start or stop to empty a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Start or stop.
    pub draining: bool,
    /// How long sessions may stay; ten minutes when it is left out. They are warned, and end
    /// earlier when nobody uses them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// Make a token by which one machine can join.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// For how long it can be used; an hour when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life_ms: Option<u64>,
}

/// A token by which one machine can join. Has no `Debug`, because it holds the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenReply {
    /// The token; shown this once.
    pub token: String,
    /// Until when it can be used.
    pub expires_at_ms: u64,
}
