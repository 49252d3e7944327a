//! Sessions: what is asked for one, and what only a session has.

use serde::{Deserialize, Serialize};
use spawnery_model::{Bytes, CpuMillis, DurationMs, InstanceId, Name, SessionLimits};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// Start a session: from a template, or from a definition of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionRequest {
    /// The name of a session template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "shell")]
    pub template: Option<Name>,
    /// A definition, with the fields that a session has in a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, example = json!({"run": ["echo", "hi"], "memory": "64M"}))]
    pub session: Option<serde_json::Value>,
    /// With a definition: what to call it. Need not be unique; `session` when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub name: Option<Name>,
    /// The rest.
    #[serde(flatten)]
    pub terms: SessionTermsRequest,
}

/// What is asked for one session, beside what it runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionTermsRequest {
    /// With a template: names exactly one live session of it. If there is one already it is the
    /// answer, and nothing is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "ada")]
    pub key: Option<Name>,
    /// For people and their tools. A session that is found by its key must have the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Others who may see and use it: the subjects of their tokens.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub shared_with: BTreeSet<String>,
    /// What is wanted of each limit; at most what the token and the template allow is given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: LimitsView,
    /// Refuse the request if there is no room right now, instead of waiting for it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub at_once: bool,
    /// How long it may wait for room; without, as the template says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_deadline_ms: Option<u64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The limits of a session. What is left out is not limited, or is as the template says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsView {
    /// Memory: reserved, and the most that it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 268_435_456)]
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core: reserved, and the most that it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 500)]
    pub cpu_millis: Option<u32>,
    /// The most that its own files may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// The most processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// The most clients that are attached at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<u32>,
    /// How long it lives, from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 3_600_000)]
    pub duration_ms: Option<u64>,
    /// How long nobody may use it, from when it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// Bytes that it may send and receive over its private network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer_bytes: Option<u64>,
}

impl From<&LimitsView> for SessionLimits {
    fn from(view: &LimitsView) -> SessionLimits {
        SessionLimits {
            memory: view.memory_bytes.map(Bytes),
            cpu: view.cpu_millis.map(CpuMillis),
            disk: view.disk_bytes.map(Bytes),
            pids: view.pids,
            clients: view.clients,
            duration: view.duration_ms.map(DurationMs),
            idle_timeout: view.idle_timeout_ms.map(DurationMs),
            transfer: view.transfer_bytes.map(Bytes),
        }
    }
}

impl From<&SessionLimits> for LimitsView {
    fn from(limits: &SessionLimits) -> LimitsView {
        LimitsView {
            memory_bytes: limits.memory.map(|bytes| bytes.0),
            cpu_millis: limits.cpu.map(|cpu| cpu.0),
            disk_bytes: limits.disk.map(|bytes| bytes.0),
            pids: limits.pids,
            clients: limits.clients,
            duration_ms: limits.duration.map(|time| time.0),
            idle_timeout_ms: limits.idle_timeout.map(|time| time.0),
            transfer_bytes: limits.transfer.map(|bytes| bytes.0),
        }
    }
}

/// A session was created; its process may not have started yet. Or the key named one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionCreated {
    /// Its id.
    #[schema(value_type = String)]
    pub id: InstanceId,
    /// Whether it is new; else the key named a session that was there.
    pub created: bool,
}

/// What only a session has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// The key that names it.
    #[schema(value_type = Option<String>)]
    pub key: Option<Name>,
    /// With a key: grows with each session that the key names. It is given to the program inside
    /// as `SPAWNERY_EPOCH`; whoever shows an older one is from before.
    pub epoch: Option<u64>,
    /// For people and their tools.
    pub tags: BTreeMap<String, String>,
    /// Others who may see and use it.
    pub shared_with: BTreeSet<String>,
    /// Its limits.
    pub limits: LimitsView,
    /// When it will have lived as long as it may.
    pub ends_at_ms: Option<u64>,
    /// When it is ended because nobody uses it, if it was warned of that.
    pub idle_ends_at_ms: Option<u64>,
    /// When it must leave its node, which is drained.
    pub drain_ends_at_ms: Option<u64>,
    /// While it waits for room: how many are tried before it; only when one session is asked for.
    pub queue_place: Option<u64>,
    /// While it waits for room: until when.
    pub queue_until_ms: Option<u64>,
}

/// Let a session live longer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendRequest {
    /// By how long.
    #[schema(example = 1_800_000)]
    pub by_ms: u64,
}

/// A session lives longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExtendReply {
    /// When it ends: as asked, or as late as is allowed.
    pub ends_at_ms: u64,
}

/// The clients that are attached to a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClientsView {
    /// By the names that they gave themselves.
    pub clients: Vec<String>,
    /// How many there may be.
    pub clients_max: Option<u32>,
}
