//! The facts that change the cluster, as they stand in the journal.
//!
//! A record holds the time, the ids and the choice that was made, so that replaying it needs no
//! clock, no randomness and no second decision. Field and variant numbers are never reused.

use crate::access::Revoked;
use crate::command::{IdempotencyKey, Reply};
use minicbor::{Decode, Encode};
use spawnery_model::{
    DurationMs, InstanceId, Introduction, Name, NodeId, Observed, Origin, RunId, Session,
    StopCause, Timestamp, WarningCause, Workload,
};
use std::fmt;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// When it was admitted. Never before the record ahead of it.
    #[n(0)]
    pub at: Timestamp,
    /// What it changes.
    #[n(1)]
    pub change: Change,
    /// The request that caused it, if that had an idempotency key, and its answer.
    #[n(2)]
    pub answered: Option<Answered>,
}

/// An answer that is given again when its request is repeated.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Answered {
    /// The key and the request's fingerprint.
    #[n(0)]
    pub key: IdempotencyKey,
    /// The answer.
    #[n(1)]
    pub reply: Reply,
}

/// What a record changes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Change {
    /// A controller process began to rule.
    #[n(0)]
    ReignBegan {
        /// Its number.
        #[n(0)]
        reign: u64,
    },
    /// Workloads were added or changed.
    #[n(1)]
    WorkloadsApplied {
        /// Those that are new or different.
        #[n(0)]
        workloads: Vec<AppliedWorkload>,
        /// Who asked.
        #[n(1)]
        by: String,
    },
    /// Workloads were removed.
    #[n(2)]
    WorkloadsRemoved {
        /// Their names.
        #[n(0)]
        names: Vec<Name>,
        /// Who asked.
        #[n(1)]
        by: String,
    },
    /// A machine joined.
    #[n(3)]
    NodeJoined {
        /// Its id from now on.
        #[n(0)]
        node: NodeId,
        /// Its name.
        #[n(1)]
        name: Name,
        /// The hash of its secret.
        #[n(2)]
        credential: SecretHash,
        /// The token that it used up.
        #[n(3)]
        token: SecretHash,
    },
    /// An agent introduced itself, with all that it has.
    #[n(4)]
    NodeIntroduced {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// Its epoch from now on.
        #[n(1)]
        epoch: u64,
        /// Who it is.
        #[n(2)]
        introduction: Introduction,
        /// The number of the report.
        #[n(3)]
        sequence: u64,
        /// All instances that it has.
        #[n(4)]
        observed: Vec<Observed>,
    },
    /// An agent saw something change.
    #[n(5)]
    Observed {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// The number of the report.
        #[n(1)]
        sequence: u64,
        /// What it saw.
        #[n(2)]
        observed: Vec<Observed>,
    },
    /// A node's lease ran out.
    #[n(6)]
    NodeLost {
        /// The node.
        #[n(0)]
        node: NodeId,
    },
    /// A node is emptied, or no longer.
    #[n(7)]
    NodeDraining {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// Whether it is.
        #[n(1)]
        draining: bool,
        /// Who asked.
        #[n(2)]
        by: String,
        /// Until when sessions may stay.
        #[n(3)]
        until: Option<Timestamp>,
    },
    /// A node is about to be shut down.
    #[n(8)]
    NodeStopping {
        /// The node.
        #[n(0)]
        node: NodeId,
    },
    /// A lost node was forgotten.
    #[n(9)]
    NodeRemoved {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// Who asked.
        #[n(1)]
        by: String,
    },
    /// A machine may join.
    #[n(10)]
    JoinTokenCreated {
        /// The hash of the token's secret.
        #[n(0)]
        hash: SecretHash,
        /// Until when.
        #[n(1)]
        expires_at: Timestamp,
        /// Who asked.
        #[n(2)]
        by: String,
    },
    /// An instance is wanted.
    #[n(11)]
    InstanceCreated {
        /// Its id.
        #[n(0)]
        instance: InstanceId,
        /// Its workload.
        #[n(1)]
        workload: Name,
        /// Which definition of it.
        #[n(2)]
        definition: u64,
        /// The definition itself, if this instance brought it.
        #[n(3)]
        inline: Option<Box<Workload>>,
        /// What it is for.
        #[n(4)]
        origin: Origin,
        /// Of a session: what was decided about it.
        #[n(5)]
        session: Option<Box<Session>>,
    },
    /// An instance was placed.
    #[n(12)]
    InstanceAssigned {
        /// Which one.
        #[n(0)]
        instance: InstanceId,
        /// Where.
        #[n(1)]
        node: NodeId,
        /// Its epoch from now on.
        #[n(2)]
        epoch: u64,
    },
    /// An instance could not be placed for now.
    #[n(13)]
    InstanceWaits {
        /// Which one.
        #[n(0)]
        instance: InstanceId,
        /// Why.
        #[n(1)]
        reason: String,
    },
    /// An instance is told to end.
    #[n(14)]
    InstanceStopRequested {
        /// Which one.
        #[n(0)]
        instance: InstanceId,
        /// Why.
        #[n(1)]
        cause: StopCause,
    },
    /// A run of a job is due.
    #[n(15)]
    RunCreated {
        /// Its id.
        #[n(0)]
        run: RunId,
        /// The job.
        #[n(1)]
        job: Name,
        /// Which definition of it.
        #[n(2)]
        definition: u64,
        /// The occurrence that it is, if the schedule asked for it.
        #[n(3)]
        occurrence: Option<Timestamp>,
        /// Who asked for it, if somebody did.
        #[n(4)]
        by: Option<String>,
        /// The next occurrence after it.
        #[n(5)]
        next: Option<Timestamp>,
    },
    /// Occurrences of a job passed without a run.
    #[n(16)]
    OccurrencesMissed {
        /// The job.
        #[n(0)]
        job: Name,
        /// The first of them.
        #[n(1)]
        first: Timestamp,
        /// The last of them.
        #[n(2)]
        last: Timestamp,
        /// How many there were.
        #[n(3)]
        count: u64,
        /// Why.
        #[n(4)]
        reason: String,
        /// The next occurrence after them.
        #[n(5)]
        next: Option<Timestamp>,
    },
    /// A secret got a value.
    #[n(17)]
    SecretSet {
        /// Its name.
        #[n(0)]
        name: Name,
        /// Its value, encrypted.
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        sealed: Vec<u8>,
        /// Who asked.
        #[n(2)]
        by: String,
    },
    /// A secret was forgotten.
    #[n(18)]
    SecretRemoved {
        /// Its name.
        #[n(0)]
        name: Name,
        /// Who asked.
        #[n(1)]
        by: String,
    },
    /// A volume was forgotten.
    #[n(19)]
    VolumeRemoved {
        /// Its name.
        #[n(0)]
        name: Name,
        /// Who asked.
        #[n(1)]
        by: String,
    },
    /// It is to be found out whether a session is idle.
    #[n(20)]
    SessionAsked {
        /// Which one.
        #[n(0)]
        instance: InstanceId,
    },
    /// A session was used.
    #[n(21)]
    SessionSeen {
        /// Which one.
        #[n(0)]
        instance: InstanceId,
        /// When it was used last.
        #[n(1)]
        active_at: Timestamp,
    },
    /// A session is warned of its end.
    #[n(22)]
    SessionWarned {
        /// Which one.
        #[n(0)]
        instance: InstanceId,
        /// Why it ends.
        #[n(1)]
        cause: WarningCause,
        /// When it ends.
        #[n(2)]
        ends_at: Timestamp,
    },
    /// A session lives longer.
    #[n(23)]
    SessionExtended {
        /// Which one.
        #[n(0)]
        instance: InstanceId,
        /// How long in all.
        #[n(1)]
        duration: DurationMs,
        /// Who asked.
        #[n(2)]
        by: String,
    },
    /// The sessions of an owner are to end, because its rights are revoked.
    #[n(24)]
    OwnerRevoked {
        /// The owner.
        #[n(0)]
        owner: String,
        /// Who asked.
        #[n(1)]
        by: String,
    },
    /// A key is free, because its holder on a lost node has ended by itself at the latest now.
    #[n(25)]
    KeyReleased {
        /// The template.
        #[n(0)]
        template: Name,
        /// The key.
        #[n(1)]
        key: Name,
    },
    /// An ended session is no longer listed.
    #[n(26)]
    SessionForgotten {
        /// Which one.
        #[n(0)]
        instance: InstanceId,
    },
    /// A drained node's sessions have stayed as long as they may.
    #[n(27)]
    DrainEnded {
        /// The node.
        #[n(0)]
        node: NodeId,
    },
    /// A token was made.
    #[n(40)]
    TokenCreated {
        /// Its id, the claim `jti`.
        #[n(0)]
        id: String,
        /// For whom it speaks.
        #[n(1)]
        subject: String,
        /// Its roles, in words.
        #[n(2)]
        roles: Vec<String>,
        /// The templates that it is for; without, all.
        #[n(3)]
        templates: Option<Vec<Name>>,
        /// Until when it can be used.
        #[n(4)]
        expires_at: Timestamp,
        /// Who asked.
        #[n(5)]
        by: String,
    },
    /// Tokens were revoked.
    #[n(41)]
    TokensRevoked {
        /// Which ones.
        #[n(0)]
        revoked: Revoked,
        /// From when on nobody could use them anyway.
        #[n(1)]
        until: Timestamp,
        /// Whether the sessions of their subject end.
        #[n(2)]
        end_sessions: bool,
        /// Who asked.
        #[n(3)]
        by: String,
    },
}

/// A workload with what was decided about it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AppliedWorkload {
    /// The number of this definition.
    #[n(0)]
    pub definition: u64,
    /// The workload.
    #[n(1)]
    pub workload: Workload,
    /// Of a job with a schedule: its first occurrence from now on.
    #[n(2)]
    pub next: Option<Timestamp>,
}

/// The hash of a secret; the secret itself is never in the state or the journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SecretHash(#[cbor(with = "minicbor::bytes")] pub [u8; 32]);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretHash({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}
