//! What clients ask for, and how often they ask again.

use spawnery_cluster::{Command, IdempotencyKey, Rejection, Reply};

/// A request of a client.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) key: Option<IdempotencyKey>,
    /// How often it was sent.
    pub(crate) attempts: u32,
    /// The answer, once it has come.
    pub(crate) answer: Option<Result<Reply, Rejection>>,
    /// The client waits no longer.
    pub(crate) given_up: bool,
    /// The machine that asks for itself, to join.
    pub(crate) machine: Option<usize>,
}

impl Request {
    pub(crate) fn is_open(&self) -> bool {
        self.answer.is_none() && !self.given_up
    }
}

/// A word for a command.
pub(crate) fn word(command: &Command) -> &'static str {
    match command {
        Command::BeginReign => "begin-reign",
        Command::Apply { .. } => "apply",
        Command::Remove { .. } => "remove",
        Command::CreateSession { .. } => "create-session",
        Command::ExtendSession { .. } => "extend-session",
        Command::SessionSeen { .. } => "session-seen",
        Command::EndSessionsOf { .. } => "end-sessions-of",
        Command::EndInstance { .. } => "end-instance",
        Command::RunJob { .. } => "run-job",
        Command::CreateJoinToken { .. } => "create-token",
        Command::Join { .. } => "join",
        Command::Report(_) => "report",
        Command::LeaseExpired { .. } => "lease-expired",
        Command::SetDraining { .. } => "set-draining",
        Command::StopNode { .. } => "stop-node",
        Command::RemoveNode { .. } => "remove-node",
        Command::SetSecret { .. } => "set-secret",
        Command::RemoveSecret { .. } => "remove-secret",
        Command::RemoveVolume { .. } => "remove-volume",
        Command::CreateToken(_) => "create-user-token",
        Command::RevokeTokens { .. } => "revoke-tokens",
    }
}
