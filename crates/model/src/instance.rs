//! One execution of a workload on one node, from the wish to the end.

use crate::id::{InstanceId, Name, NodeId, RunId};
use crate::quantity::Timestamp;
use crate::session::Session;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// One execution of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Instance {
    /// Never recurs.
    #[n(0)]
    pub id: InstanceId,
    /// The workload's name; of a session that was made inline, the name it was given.
    #[n(1)]
    pub workload: Name,
    /// Which stored definition it runs.
    #[n(2)]
    pub definition: u64,
    /// What it is an execution for.
    #[n(3)]
    pub origin: Origin,
    /// Where it is in its life.
    #[n(4)]
    pub phase: Phase,
    /// Why it waits, while it is pending, or what its node does for long to prepare it.
    #[n(5)]
    pub waits_for: Option<String>,
    /// Where it was placed.
    #[n(6)]
    pub node: Option<NodeId>,
    /// Grows each time that the instance changes hands; an older one is refused.
    #[n(7)]
    pub epoch: u64,
    /// The revision of the last observation that was taken in.
    #[n(8)]
    pub revision_observed: u64,
    /// When it was asked for.
    #[n(9)]
    pub created_at: Timestamp,
    /// When its process started, by the controller's clock at the news.
    #[n(10)]
    pub started_at: Option<Timestamp>,
    /// When it became ready.
    #[n(11)]
    pub ready_at: Option<Timestamp>,
    /// The process id on its node.
    #[n(12)]
    pub pid: Option<u32>,
    /// Why it was told to stop, if it was.
    #[n(13)]
    pub stop_cause: Option<StopCause>,
    /// How it ended.
    #[n(14)]
    pub end: Option<End>,
    /// Whether it brought its own definition, instead of being made from an applied workload.
    #[n(15)]
    pub inline: bool,
    /// Of a session that ended by itself and is to be restarted: when, at the earliest.
    #[n(16)]
    pub restarts_at: Option<Timestamp>,
    /// Of a session that was restarted: the instance that took its place.
    #[n(17)]
    pub restarted_as: Option<InstanceId>,
    /// Of a session: what only a session has.
    #[n(18)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Box<Session>>,
}

/// What an instance is an execution for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// One replica of a service.
    #[n(0)]
    Replica {
        /// Which of its replicas, from 0.
        #[n(0)]
        slot: u32,
    },
    /// The replica of a service that runs on every node.
    #[n(1)]
    NodeReplica {
        /// The node that it is for.
        #[n(0)]
        node: NodeId,
    },
    /// One attempt at a run of a job.
    #[n(2)]
    Attempt {
        /// The run.
        #[n(0)]
        run: RunId,
        /// From 1.
        #[n(1)]
        attempt: u32,
    },
    /// A session.
    #[n(3)]
    Session {
        /// Whose it is: the subject of the token that made it.
        #[n(0)]
        owner: String,
        /// The instance whose place it takes, if its template restarts sessions.
        #[n(1)]
        after: Option<InstanceId>,
        /// How often in a row the instances before it ended by themselves too soon.
        #[n(2)]
        failures: u32,
    },
}

/// Where an instance is in its life. The order is the order of that life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum Phase {
    /// Wanted, and not placed yet.
    #[n(0)]
    Pending,
    /// Placed on a node that has not begun with it.
    #[n(1)]
    Assigned,
    /// Its node prepares it.
    #[n(2)]
    Starting,
    /// Its process runs.
    #[n(3)]
    Running,
    /// It can be used: its ports listen.
    #[n(4)]
    Ready,
    /// It was told to end.
    #[n(5)]
    Stopping,
    /// It is over; the reason is kept.
    #[n(6)]
    Ended,
}

impl Phase {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Pending => "pending",
            Phase::Assigned => "assigned",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Ready => "ready",
            Phase::Stopping => "stopping",
            Phase::Ended => "ended",
        }
    }

    /// Whether it holds its reservation on a node.
    pub fn holds_reservation(self) -> bool {
        !matches!(self, Phase::Pending | Phase::Ended)
    }
}

/// Why the controller told an instance to stop.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// Somebody asked for it.
    #[n(0)]
    Requested {
        /// Who: the subject of a token.
        #[n(0)]
        by: String,
    },
    /// Its workload was changed, and a new instance takes its place.
    #[n(1)]
    Replaced,
    /// Its workload was removed, or wants fewer replicas.
    #[n(2)]
    Removed,
    /// Its node is drained.
    #[n(3)]
    Drained,
    /// Its node is being shut down.
    #[n(4)]
    NodeStopped,
    /// It lived as long as its template allows.
    #[n(5)]
    DurationReached,
    /// It took longer than its job allows.
    #[n(6)]
    TimedOut,
    /// Nobody used it for as long as it may be idle.
    #[n(7)]
    Idle,
    /// There was no room for it for as long as it may wait.
    #[n(8)]
    QueuedTooLong,
    /// What its owner may do was revoked.
    #[n(9)]
    OwnerRevoked {
        /// Who revoked it.
        #[n(0)]
        by: String,
    },
}

impl StopCause {
    /// The cause in words.
    pub fn words(&self) -> String {
        match self {
            StopCause::Requested { by } => format!("ended by {by}"),
            StopCause::Replaced => "replaced: its workload was changed".to_owned(),
            StopCause::Removed => "removed with its workload".to_owned(),
            StopCause::Drained => "its node was drained".to_owned(),
            StopCause::NodeStopped => "its node was shut down".to_owned(),
            StopCause::DurationReached => "reached the longest duration allowed".to_owned(),
            StopCause::TimedOut => "took longer than its timeout".to_owned(),
            StopCause::Idle => "was idle for as long as it may be".to_owned(),
            StopCause::QueuedTooLong => "no room was found for it in time".to_owned(),
            StopCause::OwnerRevoked { by } => format!("its owner's token was revoked by {by}"),
        }
    }
}

/// How a process ended, as its node saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code, if it exited.
    #[n(0)]
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    #[n(1)]
    pub signal: Option<i32>,
    /// Whether the kernel killed it because its memory limit was reached.
    #[n(2)]
    pub out_of_memory: bool,
    /// Why it could not be started or followed to its end, if so.
    #[n(3)]
    pub failure: Option<String>,
    /// When, by the node's clock.
    #[n(4)]
    pub at: Timestamp,
    /// The end of its output.
    #[n(5)]
    pub last_output: String,
    /// Whether its node lost it after it was started: `failure` says how.
    #[n(6)]
    pub lost: bool,
    /// The limit for which its node ended it, besides memory.
    #[n(7)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitReached>,
}

/// A limit for which a node ends an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum LimitReached {
    /// Its private writable layer held more than it may.
    #[n(0)]
    Disk,
    /// It sent and received more than it may.
    #[n(1)]
    Transfer,
    /// Its node heard nothing of the controller for as long as its key's lease lasts.
    #[n(2)]
    KeyLease,
    /// A further process ran longer than it may.
    #[n(3)]
    Time,
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct End {
    /// Why.
    #[n(0)]
    pub reason: EndReason,
    /// When the controller knew.
    #[n(1)]
    pub at: Timestamp,
    /// How its process ended, if its node could tell.
    #[n(2)]
    pub exit: Option<Exit>,
}

/// Why an instance is over.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Its process exited with code 0.
    #[n(0)]
    Finished,
    /// Its process exited with another code.
    #[n(1)]
    Failed {
        /// The code.
        #[n(0)]
        code: i32,
    },
    /// A signal ended it that Spawnery did not send.
    #[n(2)]
    Signalled {
        /// The signal's number.
        #[n(0)]
        signal: i32,
    },
    /// It used more memory than its limit.
    #[n(3)]
    OutOfMemory,
    /// It could not be started.
    #[n(4)]
    StartFailed {
        /// The step and the reason.
        #[n(0)]
        message: String,
    },
    /// The controller told it to stop.
    #[n(5)]
    Stopped {
        /// Why.
        #[n(0)]
        cause: StopCause,
    },
    /// Its node was silent for longer than its lease.
    #[n(6)]
    NodeLost,
    /// Its node came back without it: it was restarted or its launcher died.
    #[n(7)]
    LostByNode {
        /// What the node says.
        #[n(0)]
        message: String,
    },
    /// It wrote more than its disk limit.
    #[n(8)]
    DiskFull,
    /// It sent and received more than its transfer limit.
    #[n(9)]
    TransferReached,
    /// Its node heard nothing of the controller for as long as its key's lease lasts.
    #[n(10)]
    KeyLeaseEnded,
}

impl EndReason {
    /// The reason in words that a person understands.
    pub fn words(&self) -> String {
        match self {
            EndReason::Finished => "finished".to_owned(),
            EndReason::Failed { code } => format!("failed with exit code {code}"),
            EndReason::Signalled { signal } => format!("ended by signal {signal}"),
            EndReason::OutOfMemory => "out of memory: it used more than its limit".to_owned(),
            EndReason::StartFailed { message } => format!("could not start: {message}"),
            EndReason::Stopped { cause } => cause.words(),
            EndReason::NodeLost => "its node was lost".to_owned(),
            EndReason::LostByNode { message } => format!("its node lost it: {message}"),
            EndReason::DiskFull => "disk full: it wrote more than its limit".to_owned(),
            EndReason::TransferReached => {
                "transfer limit: it sent and received more than its limit".to_owned()
            }
            EndReason::KeyLeaseEnded => {
                "its node heard nothing of the controller for longer than the lease of its key"
                    .to_owned()
            }
        }
    }

    /// Whether restarting "on failure" applies.
    pub fn is_failure(&self) -> bool {
        !matches!(self, EndReason::Finished | EndReason::Stopped { .. })
    }
}
