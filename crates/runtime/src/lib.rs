//! How instances are isolated: the [`Runtime`] trait and its implementations.
//!
//! Invariant: the only place that knows how an instance is run. Everything above speaks of
//! instances and processes; everything particular to a launcher, a container engine or a virtual
//! machine stays in the module of its implementation.

#[cfg(feature = "docker")]
mod docker;
mod log;
mod oci;
mod prepared;
mod process;
pub mod readiness;
mod runtime;
mod runtimes;
mod shim;

pub use log::{Log, LogFiles, LogProgress};
pub use prepared::{MountSpec, Prepared, RootSpec, SecretFile, UserSpec, Warm};
pub use process::{ConnectError, Launcher, ProcessRuntime};
pub use runtime::{
    DialError, Event, Events, ExecOrder, OperationError, Pending, ProcessState, Runtime,
    StartError, Started, StdinTaken, Usage,
};
pub use runtimes::{DockerEngine, OciCommand, Runtimes, Unavailable};
pub use shim::{NoJob, run_if_asked as run_shim_if_asked};
pub use spawnery_sandbox::limits::LOG_RECORD_BYTES_MAX;
pub use spawnery_sandbox::log::{Gap, LogError, LogPage, LogRecord};
pub use spawnery_sandbox::protocol::ListeningSocket;
pub use spawnery_sandbox::spec::WindowSize;
