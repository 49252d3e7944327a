//! Instances and sessions.

use super::attach::TerminalSize;
use super::schemas;
use super::session::SessionView;
use super::workload::ProcessView;
use serde::{Deserialize, Serialize};
use spawnery_model::{InstanceId, Name, NodeId, Phase, RunId};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// One execution of a workload. A session is an instance too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// Never recurs. Paths take its first four characters or more, if no other begins so.
    #[schema(value_type = String, example = "06bq3vj7m2k9x4tz")]
    pub id: InstanceId,
    /// The workload; of a session that brought its definition, the name that it was given.
    #[schema(value_type = String)]
    pub workload: Name,
    /// `service`, `job` or `session`.
    #[schema(example = "service")]
    pub kind: String,
    /// What it is an execution for, in words.
    #[schema(example = "replica 0")]
    pub origin: String,
    /// Of a job: the run that it is an attempt at.
    #[schema(value_type = Option<String>)]
    pub run: Option<RunId>,
    /// Of a job: which attempt, from 1.
    pub attempt: Option<u32>,
    /// Of a session: whose it is.
    pub owner: Option<String>,
    /// Whether it brought its own definition, instead of being made from an applied workload.
    pub inline: bool,
    /// Where it is in its life.
    #[schema(schema_with = schemas::phase)]
    pub phase: Phase,
    /// While it is pending: why it is not placed.
    pub waits_for: Option<String>,
    /// Where it was placed.
    pub node: Option<NodeReference>,
    /// The process id on its node.
    pub pid: Option<u32>,
    /// When it was asked for.
    pub created_at_ms: u64,
    /// When its process started.
    pub started_at_ms: Option<u64>,
    /// When it became ready.
    pub ready_at_ms: Option<u64>,
    /// Why it was told to stop, if it was.
    pub stop_cause: Option<String>,
    /// How it ended.
    pub end: Option<EndView>,
    /// Of a session that ended by itself: when it is started anew, if it will be.
    pub restarts_at_ms: Option<u64>,
    /// Of a session that was started anew: the instance that took its place.
    #[schema(value_type = Option<String>)]
    pub restarted_as: Option<InstanceId>,
    /// Where its ports are reached.
    pub urls: Vec<String>,
    /// Of a session: what only a session has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Box<SessionView>>,
    /// What it runs; only when one instance is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessView>,
}

/// An instance that has ended, as history has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PastInstanceView {
    /// Its id.
    #[schema(example = "06bq3vj7m2k9x4tz")]
    pub id: String,
    /// The workload.
    pub workload: String,
    /// `service`, `job` or `session`.
    #[schema(example = "session")]
    pub kind: String,
    /// Of a session: whose it was.
    pub owner: Option<String>,
    /// Of a session: the key that named it.
    pub key: Option<String>,
    /// The name of its node.
    pub node: Option<String>,
    /// When it was asked for.
    pub created_at_ms: u64,
    /// When its process started.
    pub started_at_ms: Option<u64>,
    /// When it ended.
    pub ended_at_ms: u64,
    /// Why, in words.
    #[schema(example = "finished")]
    pub reason: String,
    /// The exit code, if it exited.
    pub exit_code: Option<i32>,
    /// The end of its output.
    pub last_output: Option<String>,
}

/// What an instance uses now. What its node cannot tell is left null.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// Memory.
    #[schema(example = 52_428_800)]
    pub memory_bytes: Option<u64>,
    /// Processor time since its start, in microseconds.
    #[schema(example = 250_000)]
    pub cpu_us: Option<u64>,
    /// Processes and threads.
    #[schema(example = 3)]
    pub pids: Option<u64>,
    /// Bytes of IP packets that a private network has brought in since the start; null with any
    /// other network.
    #[schema(example = 3_145_728)]
    pub network_bytes_in: Option<u64>,
    /// Bytes of IP packets that it has taken out.
    #[schema(example = 16_384)]
    pub network_bytes_out: Option<u64>,
}

/// A node, by both of its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeReference {
    /// Its id.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// Its name; none if it was forgotten since.
    #[schema(value_type = Option<String>)]
    pub name: Option<Name>,
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndView {
    /// Why, as one word that stays the same over releases: `finished`, `failed`, `signalled`,
    /// `out-of-memory`, `start-failed`, `stopped`, `node-lost` or `lost-by-node`.
    #[schema(example = "out-of-memory")]
    pub code: String,
    /// Why, in words.
    #[schema(example = "out of memory: it used more than its limit")]
    pub reason: String,
    /// When the controller knew.
    pub at_ms: u64,
    /// The exit code, if its process exited.
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether the kernel killed it because its memory limit was reached.
    pub out_of_memory: bool,
    /// The end of its output.
    pub last_output: Option<String>,
}

/// How a process ended, as its node saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExitView {
    /// The exit code, if it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether the kernel killed it because its memory limit was reached.
    pub out_of_memory: bool,
    /// Whether it was ended because it ran for as long as it might.
    #[serde(default)]
    pub timed_out: bool,
    /// Why it could not be started or followed to its end, if so.
    pub failure: Option<String>,
    /// When, by the node's clock.
    pub at_ms: u64,
}

/// Start a further process in an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The program and its arguments.
    #[schema(example = json!(["ls", "-l"]))]
    pub run: Vec<String>,
    /// Environment variables beside those of the instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// Whether its standard input is kept open.
    #[serde(default)]
    pub stdin: bool,
    /// As whom it runs: `USER` or `USER:GROUP`, names or numbers; as the instance's own user when
    /// it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "root")]
    pub user: Option<String>,
    /// With it, its three streams are a terminal of this size, and its output is one stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
    /// How long it may run: then it is ended, with all that it has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 60_000)]
    pub timeout_ms: Option<u64>,
}

/// A further process was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecReply {
    /// Its number in the instance: give it as `process`.
    pub process: u32,
}

/// Send a signal to a process of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// Which process: 0 is the main one.
    #[serde(default)]
    pub process: u32,
    /// The signal's number (`signal(7)`).
    #[schema(example = 15, minimum = 1, maximum = 64)]
    pub signal: i32,
}
