//! What the runs have reached: each kind of record, of end, of rejection and of fault, counted.

use spawnery_cluster::{Change, Rejection};
use spawnery_model::{EndReason, StopCause};
use std::collections::BTreeMap;
use std::fmt;

/// How often each thing happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

impl Coverage {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// How often `what` happened.
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// All that happened, by name, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(what, count)| (*what, *count))
    }

    /// Adds what another run reached.
    pub fn merge(&mut self, other: &Coverage) {
        for (what, count) in other.iter() {
            *self.counts.entry(what).or_default() += count;
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in self.iter() {
            writeln!(f, "{count:>12}  {what}")?;
        }
        Ok(())
    }
}

/// The kinds of records.
pub const CHANGES: [&str; 28] = [
    "record: reign began",
    "record: workloads applied",
    "record: workloads removed",
    "record: node joined",
    "record: node introduced",
    "record: observed",
    "record: node lost",
    "record: node draining",
    "record: node stopping",
    "record: node removed",
    "record: join token created",
    "record: instance created",
    "record: instance assigned",
    "record: instance waits",
    "record: instance stop requested",
    "record: run created",
    "record: occurrences missed",
    "record: secret set",
    "record: secret removed",
    "record: volume removed",
    "record: session asked",
    "record: session seen",
    "record: session warned",
    "record: session extended",
    "record: owner revoked",
    "record: key released",
    "record: session forgotten",
    "record: drain ended",
];

pub(crate) fn change(change: &Change) -> &'static str {
    CHANGES[match change {
        Change::ReignBegan { .. } => 0,
        Change::WorkloadsApplied { .. } => 1,
        Change::WorkloadsRemoved { .. } => 2,
        Change::NodeJoined { .. } => 3,
        Change::NodeIntroduced { .. } => 4,
        Change::Observed { .. } => 5,
        Change::NodeLost { .. } => 6,
        Change::NodeDraining { .. } => 7,
        Change::NodeStopping { .. } => 8,
        Change::NodeRemoved { .. } => 9,
        Change::JoinTokenCreated { .. } => 10,
        Change::InstanceCreated { .. } => 11,
        Change::InstanceAssigned { .. } => 12,
        Change::InstanceWaits { .. } => 13,
        Change::InstanceStopRequested { .. } => 14,
        Change::RunCreated { .. } => 15,
        Change::OccurrencesMissed { .. } => 16,
        Change::SecretSet { .. } => 17,
        Change::SecretRemoved { .. } => 18,
        Change::VolumeRemoved { .. } => 19,
        Change::SessionAsked { .. } => 20,
        Change::SessionSeen { .. } => 21,
        Change::SessionWarned { .. } => 22,
        Change::SessionExtended { .. } => 23,
        Change::OwnerRevoked { .. } => 24,
        Change::KeyReleased { .. } => 25,
        Change::SessionForgotten { .. } => 26,
        Change::DrainEnded { .. } => 27,
        Change::TokenCreated { .. } => return "record: token created",
        Change::TokensRevoked { .. } => return "record: tokens revoked",
    }]
}

/// The reasons for which instances end.
pub const ENDS: [&str; 20] = [
    "end: finished",
    "end: failed",
    "end: signalled",
    "end: out of memory",
    "end: start failed",
    "end: node lost",
    "end: lost by node",
    "end: stopped on request",
    "end: stopped, replaced",
    "end: stopped, removed",
    "end: stopped, drained",
    "end: stopped with its node",
    "end: stopped, duration reached",
    "end: stopped, timed out",
    "end: disk full",
    "end: transfer limit",
    "end: stopped, idle",
    "end: stopped, queued too long",
    "end: stopped, owner revoked",
    "end: key lease",
];

pub(crate) fn end(reason: &EndReason) -> &'static str {
    ENDS[match reason {
        EndReason::Finished => 0,
        EndReason::Failed { .. } => 1,
        EndReason::Signalled { .. } => 2,
        EndReason::OutOfMemory => 3,
        EndReason::StartFailed { .. } => 4,
        EndReason::NodeLost => 5,
        EndReason::LostByNode { .. } => 6,
        EndReason::Stopped { cause } => match cause {
            StopCause::Requested { .. } => 7,
            StopCause::Replaced => 8,
            StopCause::Removed => 9,
            StopCause::Drained => 10,
            StopCause::NodeStopped => 11,
            StopCause::DurationReached => 12,
            StopCause::TimedOut => 13,
            StopCause::Idle => 16,
            StopCause::QueuedTooLong => 17,
            StopCause::OwnerRevoked { .. } => 18,
        },
        EndReason::DiskFull => 14,
        EndReason::TransferReached => 15,
        EndReason::KeyLeaseEnded => 19,
    }]
}

/// The rejections.
pub const REJECTIONS: [&str; 21] = [
    "rejection: workload-unknown",
    "rejection: workload-kind",
    "rejection: name-twice",
    "rejection: instance-unknown",
    "rejection: node-unknown",
    "rejection: node-not-lost",
    "rejection: node-name-taken",
    "rejection: join-token-invalid",
    "rejection: idempotency-conflict",
    "rejection: limit",
    "rejection: journal-full",
    "rejection: secret-unknown",
    "rejection: secret-in-use",
    "rejection: volume-unknown",
    "rejection: volume-in-use",
    "rejection: tags-differ",
    "rejection: key-of-other",
    "rejection: no-room",
    "rejection: sessions-of-owner",
    "rejection: creates-too-fast",
    "rejection: not-extended",
];

pub(crate) fn rejection(rejection: &Rejection) -> &'static str {
    REJECTIONS[match rejection {
        Rejection::WorkloadUnknown { .. } => 0,
        Rejection::WorkloadKind { .. } => 1,
        Rejection::NameTwice { .. } => 2,
        Rejection::InstanceUnknown { .. } => 3,
        Rejection::NodeUnknown { .. } => 4,
        Rejection::NodeNotLost { .. } => 5,
        Rejection::NodeNameTaken { .. } => 6,
        Rejection::JoinTokenInvalid => 7,
        Rejection::IdempotencyConflict => 8,
        Rejection::Limit { .. } => 9,
        Rejection::JournalFull { .. } => 10,
        Rejection::SecretUnknown { .. } => 11,
        Rejection::SecretInUse { .. } => 12,
        Rejection::VolumeUnknown { .. } => 13,
        Rejection::VolumeInUse { .. } => 14,
        Rejection::TagsDiffer { .. } => 15,
        Rejection::KeyOfOther { .. } => 16,
        Rejection::NoRoom { .. } => 17,
        Rejection::SessionsOfOwner { .. } => 18,
        Rejection::CreatesTooFast { .. } => 19,
        Rejection::NotExtended { .. } => 20,
        Rejection::TokenUnknown { .. } => return "rejection: token-unknown",
    }]
}
