//! What to simulate, and what comes of it.

use crate::coverage::Coverage;
use std::fmt;

/// Trace lines that a failure shows: enough to see what led to it, few enough to read.
const TRACE_LINES_DEFAULT: usize = 60;

/// How to run a seed. The default lets the seed decide everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many machines there are.
    pub machines: Option<u32>,
    /// For how long faults happen and requests come, before everything heals.
    pub faults_ms: Option<u64>,
    /// How many trace lines a failure shows.
    pub trace_lines: usize,
    /// A promise that is broken on purpose, to see that it is found.
    pub sabotage: Option<Sabotage>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            machines: None,
            faults_ms: None,
            trace_lines: TRACE_LINES_DEFAULT,
            sabotage: None,
        }
    }
}

/// A promise that the simulated shell breaks on purpose. Tests see to it that each is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Replies and orders go out before the append that they rest on is done.
    ReleaseBeforeDurable,
    /// The journal forgets records at a crash that it said were durable.
    LoseAcknowledged,
    /// The launcher forgets what it started, and starts it again when it is told to.
    StartTwice,
    /// Reports of an agent that show an old epoch are let in as if they showed the newest.
    RewriteEpochs,
    /// A request that is repeated goes through as if it were new.
    DropIdempotencyKeys,
    /// The controller hears of a process that has ended as if it still ran.
    HideEnds,
    /// Launchers let sessions go on whose leases are over.
    IgnoreLeases,
    /// The controller's shell says that sessions are idle without looking who uses them.
    CallIdle,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Sabotage; 8] = [
        Sabotage::ReleaseBeforeDurable,
        Sabotage::LoseAcknowledged,
        Sabotage::StartTwice,
        Sabotage::RewriteEpochs,
        Sabotage::DropIdempotencyKeys,
        Sabotage::HideEnds,
        Sabotage::IgnoreLeases,
        Sabotage::CallIdle,
    ];
}

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The same for two runs that went the same way, byte for byte.
    pub trace_hash: u64,
    /// How many things happened.
    pub steps: u64,
    /// How much simulated time passed.
    pub simulated_ms: u64,
    /// How many records the journal holds at the end.
    pub records: u64,
    /// What was reached.
    pub coverage: Coverage,
    /// The promise that was broken, if one was.
    pub error: Option<Failure>,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed that shows it.
    pub seed: u64,
    /// The promise.
    pub promise: &'static str,
    /// What was seen instead.
    pub message: String,
    /// In which step.
    pub step: u64,
    /// At which simulated time, in milliseconds since the beginning.
    pub at_ms: u64,
    /// The last lines of the trace.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        let Failure { seed, promise, message, step, at_ms, .. } = self;
        writeln!(f, "seed {seed} broke a promise: {promise}")?;
        writeln!(f, "  {message}")?;
        let (seconds, ms) = (at_ms / 1000, at_ms % 1000);
        writeln!(f, "  at step {step}, {seconds}.{ms:03} simulated seconds in")?;
        write!(f, "  to see it again: cargo xtask simulate --seed {seed}")
    }
}

impl std::error::Error for Failure {}
