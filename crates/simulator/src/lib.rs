//! Whole clusters over simulated clock, network, storage and runtimes, with faults.
//!
//! Invariant: the same seed and commit give the same bytes. A run draws everything, its troubles
//! too, from its seed; nothing here reads a clock, the environment, or the system's randomness,
//! and the real core runs in it ([`spawnery_cluster`], [`spawnery_node`]) but no shell.
//!
//! A run has two parts. First faults happen: messages are lost, repeated, held up and reordered,
//! links break, controllers, agents, launchers and machines crash, disks are full, slow, or tear
//! the last write, clocks are set, processes crash and ignore signals, while users apply, change
//! and remove workloads. After every step it is checked that no promise is broken. Then all
//! faults stop, and everything must converge: what is wanted runs or says why not, and nothing
//! else runs.
//!
//! ```
//! let outcome = spawnery_simulator::run(1, &spawnery_simulator::Options::default());
//! assert!(outcome.error.is_none());
//! ```

mod activity;
mod controller;
pub mod coverage;
mod generate;
mod launcher;
mod machine;
mod options;
mod promises;
mod queue;
mod random;
mod requests;
mod runs;
mod storage;
mod swarm;
mod trace;
mod world;

pub use coverage::Coverage;
pub use options::{Failure, Options, Outcome, Sabotage};
pub use runs::{Summary, run, run_many, run_scale, run_twice};
