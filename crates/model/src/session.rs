//! Sessions: what their templates say, what is asked for one, and what is kept of a live one.

use crate::id::{InstanceId, Name};
use crate::quantity::{Bytes, CpuMillis, DurationMs, Timestamp};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What only a session template has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionSettings {
    /// When a session is ended because it has lived long enough, counted from its start.
    #[n(0)]
    pub duration_max: Option<DurationMs>,
    /// When a session is ended because nobody uses it, counted from when it is ready.
    #[n(1)]
    pub idle_timeout: Option<DurationMs>,
    /// The longest duration that may be asked for, at creation or by extending; without,
    /// `duration_max`.
    #[n(2)]
    pub duration_limit: Option<DurationMs>,
    /// The longest idle timeout that may be asked for; without, `idle_timeout`.
    #[n(3)]
    pub idle_timeout_limit: Option<DurationMs>,
    /// The most clients that are attached at once; without, any number.
    #[n(4)]
    pub clients_max: Option<u32>,
    /// How long a client that lost its connection keeps its place.
    #[n(5)]
    pub client_grace: Option<DurationMs>,
    /// Warnings before an end.
    #[n(6)]
    pub warnings: Option<Box<Warnings>>,
    /// Who may come through the gateway; without, who shows a token that may see the session.
    #[n(7)]
    pub access: Option<Box<Access>>,
    /// The port to which the gateway leads; without, the first one.
    #[n(8)]
    pub port: Option<Name>,
    /// How long a session may wait for room.
    #[n(9)]
    pub queue_deadline: Option<DurationMs>,
    /// How long an ended session stays listed.
    #[n(10)]
    pub stale_period: Option<DurationMs>,
    /// How long a session with a key goes on while its node hears nothing of the controller. Then
    /// the node ends it, and the key is free for another node.
    #[n(11)]
    pub key_lease: Option<DurationMs>,
}

/// Warnings before a session ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Warnings {
    /// How long before the longest duration is reached.
    #[n(0)]
    pub before_duration: Option<DurationMs>,
    /// How long before it is ended for being idle.
    #[n(1)]
    pub before_idle: Option<DurationMs>,
    /// The signal that tells its main process (`signal(7)`).
    #[n(2)]
    pub signal: Option<i32>,
    /// The file, an absolute path inside, into which the warning is written.
    #[n(3)]
    pub file: Option<String>,
}

/// Who may come to a session through the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Everybody.
    #[n(0)]
    Public,
    /// Who shows a token of somebody that may see the session.
    #[n(1)]
    Token,
    /// Whom an HTTP server lets through.
    #[n(2)]
    Forward {
        /// The server's URL; any answer but 2xx refuses.
        #[n(0)]
        url: String,
    },
}

/// When an instance counts as ready.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// When this port is listened on; without this check, all of its ports are.
    #[n(0)]
    Port {
        /// The port's name.
        #[n(0)]
        port: Name,
    },
    /// When an HTTP GET of this path is answered by a status below 400.
    #[n(1)]
    Http {
        /// The path, with its query.
        #[n(0)]
        path: String,
        /// The port's name; without, the first one.
        #[n(1)]
        port: Option<Name>,
    },
    /// When a line of its output has this text in it.
    #[n(2)]
    Output {
        /// The text.
        #[n(0)]
        text: String,
    },
}

/// What a token lets its owner have. What is not named is not limited by the token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OwnerLimits {
    /// Memory of one session.
    #[n(0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Processor share of one session.
    #[n(1)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuMillis>,
    /// Private writable layer of one session.
    #[n(2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Bytes>,
    /// Processes and threads of one session.
    #[n(3)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Attached clients of one session.
    #[n(4)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<u32>,
    /// How long a session lives.
    #[n(5)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<DurationMs>,
    /// How long a session may be idle.
    #[n(6)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<DurationMs>,
    /// Bytes that a session sends and receives.
    #[n(7)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Bytes>,
    /// Sessions of the owner that live or wait at once.
    #[n(8)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
    /// Sessions that the owner creates within a minute.
    #[n(9)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creates_per_minute: Option<u32>,
}

/// What is asked for one session, beside its template. What is not named is as the template says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionTerms {
    /// Names exactly one live session of its template. Asking again gives the same one.
    pub key: Option<Name>,
    /// For people and their tools; a session that is found by its key must have the same.
    pub tags: BTreeMap<String, String>,
    /// Others who may see and use it: subjects of tokens.
    pub shared_with: BTreeSet<String>,
    /// What is wanted of each limit.
    pub wanted: SessionLimits,
    /// What the owner's token allows.
    pub allowed: OwnerLimits,
    /// Whether the owner may ask for more than the template says.
    pub beyond_template: bool,
    /// Whether it is refused if there is no room for it right now.
    pub at_once: bool,
    /// How long it may wait for room; without, as the template says.
    pub queue_deadline: Option<DurationMs>,
}

/// The limits of one session, as far as they are not those of its template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionLimits {
    /// Memory: reserved, and the most that it may use.
    #[n(0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Processor share: reserved, and the most that it may use.
    #[n(1)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuMillis>,
    /// The most that its private writable layer may hold.
    #[n(2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Bytes>,
    /// The most processes and threads.
    #[n(3)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// The most attached clients.
    #[n(4)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<u32>,
    /// How long it lives.
    #[n(5)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<DurationMs>,
    /// How long it may be idle.
    #[n(6)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<DurationMs>,
    /// Bytes that it may send and receive over its private network.
    #[n(7)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Bytes>,
}

/// What is kept of one session beside its instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Session {
    /// The key that names it.
    #[n(0)]
    pub key: Option<Name>,
    /// For people and their tools.
    #[n(1)]
    pub tags: BTreeMap<String, String>,
    /// Others who may see and use it: subjects of tokens.
    #[n(2)]
    pub shared_with: BTreeSet<String>,
    /// Its limits, as decided when it was created, and changed by extending it.
    #[n(3)]
    pub limits: SessionLimits,
    /// The longest duration that it may be extended to.
    #[n(4)]
    pub duration_limit: Option<DurationMs>,
    /// Until when it may wait for room.
    #[n(5)]
    pub queue_until: Option<Timestamp>,
    /// While it waits for room: its turn. Lower ones come first.
    #[n(6)]
    pub turn: Option<u64>,
    /// When it was used last, as far as the controller has asked.
    #[n(7)]
    pub active_at: Option<Timestamp>,
    /// The end that it was warned of, if it was.
    #[n(8)]
    pub warned: Option<Warned>,
    /// The session of the same key before it, as long as that may still run.
    #[n(9)]
    pub follows: Option<InstanceId>,
    /// When it was last asked whether it is idle, until that is answered.
    #[n(10)]
    pub asked_at: Option<Timestamp>,
    /// Its own reservation of the processor, if that is not its template's.
    #[n(11)]
    pub cpu_reserved: Option<CpuMillis>,
}

/// An end that a session was warned of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Warned {
    /// When it will have lived long enough, if it was warned of that.
    #[n(0)]
    pub duration: Option<Timestamp>,
    /// When it will have been idle for too long, if it was warned of that.
    #[n(1)]
    pub idle: Option<Timestamp>,
    /// When its node must be empty, if it was warned of that.
    #[n(2)]
    pub drain: Option<Timestamp>,
}

/// What a session is warned of.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum WarningCause {
    /// It will have lived as long as it may.
    #[n(0)]
    Duration,
    /// Nobody uses it.
    #[n(1)]
    Idle,
    /// Its node is drained.
    #[n(2)]
    Drain,
}

impl WarningCause {
    /// The warning in words; how long it takes until then comes after them.
    pub fn words(self) -> &'static str {
        match self {
            WarningCause::Duration => "will have reached its longest duration",
            WarningCause::Idle => "will be ended because nobody uses it",
            WarningCause::Drain => "will be ended because its node is drained",
        }
    }
}

/// A warning on its way to the program inside.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Notice {
    /// Of what.
    #[n(0)]
    pub cause: WarningCause,
    /// When it ends.
    #[n(1)]
    pub ends_at: Timestamp,
    /// The signal that tells its main process.
    #[n(2)]
    pub signal: Option<i32>,
    /// The file into which the warning is written.
    #[n(3)]
    pub file: Option<String>,
}
