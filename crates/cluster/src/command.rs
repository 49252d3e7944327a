//! What can be asked of the cluster, and how it answers.

use crate::access::Revoked;
use crate::diff::Difference;
use crate::record::SecretHash;
use minicbor::{Decode, Encode};
use spawnery_model::{
    DurationMs, Id, InstanceId, Name, NodeId, Report, RunId, SessionTerms, Timestamp, Workload,
    limits,
};

/// Where new ids come from: the system's randomness, or a simulation's seed.
pub trait Ids {
    /// An id that has never been given before.
    fn fresh(&mut self) -> Id;
}

/// Something that is asked of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A controller starts to rule. The first command of each process.
    BeginReign,
    /// Declare workloads: new ones are added, changed ones replaced, equal ones left alone.
    Apply {
        /// The workloads.
        workloads: Vec<Workload>,
        /// Who asks.
        by: String,
    },
    /// Remove workloads and end their instances.
    Remove {
        /// Their names.
        names: Vec<Name>,
        /// Who asks.
        by: String,
    },
    /// Start a session.
    CreateSession {
        /// From a template, or described in full.
        source: SessionSource,
        /// Whose it is.
        owner: String,
        /// Its key, its limits and whether it may wait.
        terms: Box<SessionTerms>,
    },
    /// Let a session live longer.
    ExtendSession {
        /// Which one.
        instance: InstanceId,
        /// By how long.
        by_time: DurationMs,
        /// Who asks.
        by: String,
    },
    /// What was found about the use of a session. Of one that is used now, a time that no clock
    /// has reached: clocks may be set back.
    SessionSeen {
        /// Which one.
        instance: InstanceId,
        /// When it was used last.
        active_at: Timestamp,
    },
    /// End all sessions of an owner whose rights are revoked.
    EndSessionsOf {
        /// The owner.
        owner: String,
        /// Who asks.
        by: String,
    },
    /// End a session, or one instance of a service or a job.
    EndInstance {
        /// Which one.
        instance: InstanceId,
        /// Who asks.
        by: String,
    },
    /// Run a job now.
    RunJob {
        /// Its name.
        job: Name,
        /// Who asks.
        by: String,
    },
    /// Let a machine join once, within a time.
    CreateJoinToken {
        /// The hash of the token's secret.
        hash: SecretHash,
        /// For how long.
        life: DurationMs,
        /// Who asks.
        by: String,
    },
    /// A machine joins by a token.
    Join {
        /// The hash of the token's secret.
        token: SecretHash,
        /// What the node wants to be called.
        name: Name,
        /// The hash of the secret that the node will show from now on.
        credential: SecretHash,
    },
    /// Something came from an agent that showed its node's secret.
    Report(Box<Report>),
    /// A node's lease ran out.
    LeaseExpired {
        /// Which one.
        node: NodeId,
    },
    /// Start or stop to empty a node.
    SetDraining {
        /// Which one.
        node: NodeId,
        /// Start or stop.
        draining: bool,
        /// How long sessions may stay; without, ten minutes.
        deadline: Option<DurationMs>,
        /// Who asks.
        by: String,
    },
    /// End all that runs on a node, because it is about to be shut down.
    StopNode {
        /// Which one.
        node: NodeId,
    },
    /// Keep a secret, or another value of it.
    SetSecret {
        /// Its name.
        name: Name,
        /// Its value, encrypted by the shell: the core never sees it in clear.
        sealed: Vec<u8>,
        /// Who asks.
        by: String,
    },
    /// Forget a secret that no workload uses.
    RemoveSecret {
        /// Its name.
        name: Name,
        /// Who asks.
        by: String,
    },
    /// Forget a volume that no live instance uses.
    RemoveVolume {
        /// Its name.
        name: Name,
        /// Who asks.
        by: String,
    },
    /// Forget a node that is lost.
    RemoveNode {
        /// Which one.
        node: NodeId,
        /// Who asks.
        by: String,
    },
    /// Record a token that is about to be made.
    CreateToken(Box<TokenRequest>),
    /// Revoke tokens, at once.
    RevokeTokens {
        /// Which ones.
        revoked: Revoked,
        /// Whether the id may be of a token that was not made here.
        foreign: bool,
        /// Whether the sessions of their subject end too.
        end_sessions: bool,
        /// Who asks.
        by: String,
    },
}

/// The token that is to be made. Its id and its times are the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// For whom it speaks.
    pub subject: String,
    /// Its roles, in words; what they mean is for the shell.
    pub roles: Vec<String>,
    /// The templates that it is for; without, all.
    pub templates: Option<Vec<Name>>,
    /// For how long it can be used.
    pub life: DurationMs,
    /// Who asks.
    pub by: String,
}

/// What a session is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionSource {
    /// A template that was applied.
    Template(Name),
    /// A definition of its own.
    Inline(Box<Workload>),
}

/// Makes a repeated request harmless: the second one gets the first one's answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct IdempotencyKey {
    /// The subject of the token and the key that it chose.
    #[n(0)]
    pub key: String,
    /// A hash of the request; another request under the same key is refused.
    #[n(1)]
    pub fingerprint: u64,
}

/// The answer to a command that was taken in.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// It is done, and there is nothing to tell.
    #[n(0)]
    Done,
    /// What applying changed.
    #[n(1)]
    Applied(#[n(0)] Vec<Difference>),
    /// A session was created.
    #[n(2)]
    Session(#[n(0)] InstanceId),
    /// The session that the key names is there already.
    #[n(7)]
    SessionFound(#[n(0)] InstanceId),
    /// A session lives longer.
    #[n(8)]
    Extended {
        /// When it ends.
        #[n(0)]
        ends_at: Timestamp,
    },
    /// A run was created.
    #[n(3)]
    Run(#[n(0)] RunId),
    /// A node joined.
    #[n(4)]
    Joined(#[n(0)] NodeId),
    /// The reign began.
    #[n(5)]
    Reign(#[n(0)] u64),
    /// A join token was created.
    #[n(6)]
    JoinToken {
        /// Until when it can be used.
        #[n(0)]
        expires_at: Timestamp,
    },
    /// A token was recorded.
    #[n(40)]
    Token {
        /// Its id.
        #[n(0)]
        id: String,
        /// When it was made.
        #[n(1)]
        created_at: Timestamp,
        /// Until when it can be used.
        #[n(2)]
        expires_at: Timestamp,
    },
    /// Tokens were revoked.
    #[n(41)]
    Revoked {
        /// Those that were made here, had not expired and were not revoked before.
        #[n(0)]
        tokens: Vec<String>,
        /// How many sessions are being ended.
        #[n(1)]
        sessions: u64,
    },
}

/// Why a command was refused. It changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No such workload.
    #[error("there is no {kind} called {name}")]
    WorkloadUnknown {
        /// What was looked for.
        kind: &'static str,
        /// Its name.
        name: Name,
    },
    /// The workload is of another kind.
    #[error("{name} is a {found}, not a {wanted}")]
    WorkloadKind {
        /// Its name.
        name: Name,
        /// What it is.
        found: &'static str,
        /// What was looked for.
        wanted: &'static str,
    },
    /// A name twice in one request.
    #[error("{name} is named twice in one request")]
    NameTwice {
        /// The name.
        name: Name,
    },
    /// No such instance.
    #[error("there is no instance {instance}")]
    InstanceUnknown {
        /// Its id.
        instance: InstanceId,
    },
    /// No such node.
    #[error("there is no node {node}")]
    NodeUnknown {
        /// Its id.
        node: NodeId,
    },
    /// Only a lost node can be forgotten.
    #[error(
        "node {node} is {status}: only a lost node can be removed; drain it and stop its agent"
    )]
    NodeNotLost {
        /// Its name.
        node: Name,
        /// What it is.
        status: &'static str,
    },
    /// Two nodes cannot share a name.
    #[error("there is already a node called {name}: choose another with --name")]
    NodeNameTaken {
        /// The name.
        name: Name,
    },
    /// A join token that is unknown, used or too old.
    #[error(
        "this join token is unknown, used or expired: make a new one with `spawnery nodes invite`"
    )]
    JoinTokenInvalid,
    /// No such secret.
    #[error("there is no secret called {name}: set it with `spawnery secret set {name}`")]
    SecretUnknown {
        /// Its name.
        name: Name,
        /// The workload that names it, if one does.
        workload: Option<Name>,
    },
    /// A workload needs the secret.
    #[error("secret {name} is used by {workload}: change or remove that first")]
    SecretInUse {
        /// Its name.
        name: Name,
        /// Who uses it.
        workload: Name,
    },
    /// No such volume.
    #[error("there is no volume called {name}")]
    VolumeUnknown {
        /// Its name.
        name: Name,
    },
    /// A live instance uses the volume.
    #[error("volume {name} is in use by instance {instance}: end that first")]
    VolumeInUse {
        /// Its name.
        name: Name,
        /// Who uses it.
        instance: InstanceId,
    },
    /// The key names a session with other tags.
    #[error(
        "session {instance} of key {key} has other tags: {found}; end it first, or ask with the \
         same tags"
    )]
    TagsDiffer {
        /// The key.
        key: Name,
        /// The session.
        instance: InstanceId,
        /// Its tags, in words.
        found: String,
    },
    /// The key names a session of somebody else.
    #[error("key {key} names a session of another owner, who has not shared it with you")]
    KeyOfOther {
        /// The key.
        key: Name,
    },
    /// There is no room, and the request does not want to wait.
    #[error("there is no room: {reason}")]
    NoRoom {
        /// Why.
        reason: String,
    },
    /// The owner has as many sessions as its token allows.
    #[error("{owner} has {limit} sessions, which is what its token allows: end one first")]
    SessionsOfOwner {
        /// The owner.
        owner: String,
        /// The limit.
        limit: u32,
    },
    /// The owner creates sessions faster than its token allows.
    #[error(
        "{owner} may create {limit} sessions in a minute: try again in {} seconds",
        retry_after.0.div_ceil(1000)
    )]
    CreatesTooFast {
        /// The owner.
        owner: String,
        /// The limit.
        limit: u32,
        /// When one more may be created.
        retry_after: DurationMs,
    },
    /// The session cannot be extended.
    #[error("session {instance} cannot live longer: {reason}")]
    NotExtended {
        /// Which one.
        instance: InstanceId,
        /// Why.
        reason: String,
    },
    /// No such token.
    #[error("there is no token {id} that was made here and has not expired")]
    TokenUnknown {
        /// Its id.
        id: String,
    },
    /// The same idempotency key came with another request.
    #[error("this idempotency key was used for another request: choose a new key")]
    IdempotencyConflict,
    /// A limit was reached.
    #[error("{what}: the limit is {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The journal cannot take more.
    #[error("the journal cannot be written: {reason}; nothing was changed, free some space")]
    JournalFull {
        /// What the system said.
        reason: String,
    },
}

impl Rejection {
    /// A word that stays the same over releases, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Rejection::WorkloadUnknown { .. } => "workload-unknown",
            Rejection::WorkloadKind { .. } => "workload-kind",
            Rejection::NameTwice { .. } => "name-twice",
            Rejection::InstanceUnknown { .. } => "instance-unknown",
            Rejection::NodeUnknown { .. } => "node-unknown",
            Rejection::NodeNotLost { .. } => "node-not-lost",
            Rejection::NodeNameTaken { .. } => "node-name-taken",
            Rejection::JoinTokenInvalid => "join-token-invalid",
            Rejection::SecretUnknown { .. } => "secret-unknown",
            Rejection::SecretInUse { .. } => "secret-in-use",
            Rejection::VolumeUnknown { .. } => "volume-unknown",
            Rejection::VolumeInUse { .. } => "volume-in-use",
            Rejection::TagsDiffer { .. } => "tags-differ",
            Rejection::KeyOfOther { .. } => "key-of-other",
            Rejection::NoRoom { .. } => "no-room",
            Rejection::SessionsOfOwner { .. } => "sessions-of-owner",
            Rejection::CreatesTooFast { .. } => "creates-too-fast",
            Rejection::NotExtended { .. } => "not-extended",
            Rejection::TokenUnknown { .. } => "token-unknown",
            Rejection::IdempotencyConflict => "idempotency-conflict",
            Rejection::Limit { .. } => "limit",
            Rejection::JournalFull { .. } => "journal-full",
        }
    }

    pub(crate) fn workloads_max() -> Rejection {
        Rejection::Limit { what: "too many workloads", limit: limits::WORKLOADS_MAX }
    }

    pub(crate) fn instances_max() -> Rejection {
        Rejection::Limit { what: "too many live instances", limit: limits::INSTANCES_LIVE_MAX }
    }
}
