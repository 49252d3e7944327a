//! The simulated controller process: the shell round the sequencer.

use crate::activity::Activity;
use crate::storage::Storage;
use spawnery_cluster::Sequencer;
use spawnery_model::{InstanceId, Report, Timestamp};
use std::collections::VecDeque;

/// The controller's machine.
#[derive(Debug)]
pub(crate) struct Controller {
    /// Grows with each controller process.
    pub(crate) generation: u64,
    pub(crate) process: Option<Process>,
    pub(crate) storage: Storage,
    /// What its clock shows at the beginning of the simulation.
    pub(crate) epoch_ms: u64,
    /// How far its clock was set forward since, and back.
    pub(crate) forward_ms: u64,
    pub(crate) back_ms: u64,
    /// When it was set forward, and how far.
    pub(crate) steps_forward: Vec<(u64, u64)>,
}

/// A controller process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) sequencer: Sequencer<Ticket>,
    pub(crate) activity: Activity,
    /// What came while an append was under way.
    pub(crate) inbox: VecDeque<Inbound>,
    pub(crate) appending: bool,
    /// When it will be woken, in simulated time.
    pub(crate) wake_at: Option<u64>,
}

/// Whom an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// Nobody: the controller asked itself.
    Itself,
    /// A client's request.
    Request(usize),
    /// Its own shell, which was asked whether a session is idle.
    Idle(InstanceId),
}

/// Something that arrived at the controller.
#[derive(Debug)]
pub(crate) enum Inbound {
    Request(usize),
    Query(usize),
    Report(Box<Report>),
    /// Its own shell says when a session was used last.
    Seen {
        session: InstanceId,
        active_at: Timestamp,
    },
}

impl Controller {
    pub(crate) fn clock(&self, now: u64) -> Timestamp {
        Timestamp(self.epoch_ms + now + self.forward_ms - self.back_ms)
    }

    /// The simulated time at which its clock shows `at`.
    pub(crate) fn simulated(&self, at: Timestamp) -> u64 {
        (at.0 + self.back_ms).saturating_sub(self.epoch_ms + self.forward_ms)
    }
}
