//! What every runtime can do.

use crate::log::Log;
use crate::prepared::{Prepared, Warm};
use spawnery_model::{DurationMs, Exit, InstanceId, StartOrder, Stop, Timestamp};
use spawnery_node::{Found, Noted};
use spawnery_sandbox::protocol::ListeningSocket;
use spawnery_sandbox::spec::WindowSize;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

/// The answer of a runtime, once it is there.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The events of a runtime. Unbounded, because nothing may be lost; what bounds it is the number
/// of instances, each of which ends once.
pub type Events = mpsc::UnboundedReceiver<Event>;

/// A way to isolate instances.
///
/// Process 0 of an instance is its main one; with it the instance ends. Dropping a future leaves
/// open whether the operation was carried out. Instances outlive the value that implements this.
pub trait Runtime: Send + Sync {
    /// Starts an instance, whose id was never used. Its end comes as [`Event::Ended`], unless the
    /// start itself failed. Its log can be asked for from this call on. `prepared` is what was made
    /// ready for it on the node.
    fn start<'a>(
        &'a self,
        instance: InstanceId,
        order: &'a StartOrder,
        prepared: Prepared,
    ) -> Pending<'a, Result<Started, StartError>>;

    /// Keeps these sandboxes ready, and no others beside the runtime's own. A start takes one that
    /// fits; one that finds none is not slower for it.
    fn warm(&self, pools: Vec<Warm>) -> Pending<'_, Result<(), OperationError>>;

    /// Waits for the start of an instance that was found being started.
    fn resume(&self, instance: InstanceId) -> Pending<'_, Result<Started, StartError>>;

    /// Starts a further process in an instance and gives its number.
    fn exec(
        &self,
        instance: InstanceId,
        order: ExecOrder,
    ) -> Pending<'_, Result<u32, OperationError>>;

    /// Changes the size of a process's terminal.
    fn resize(
        &self,
        instance: InstanceId,
        process: u32,
        size: WindowSize,
    ) -> Pending<'_, Result<(), OperationError>>;

    /// The processes that an instance has and had, by number; the latest, if they are very many.
    fn processes(
        &self,
        instance: InstanceId,
    ) -> Pending<'_, Result<Vec<ProcessState>, OperationError>>;

    /// The TCP ports on which something in the instance listens, by number.
    fn sockets(
        &self,
        instance: InstanceId,
    ) -> Pending<'_, Result<Vec<ListeningSocket>, OperationError>>;

    /// Sends a signal (`signal(7)`) to one process.
    fn signal(
        &self,
        instance: InstanceId,
        process: u32,
        signal: i32,
    ) -> Pending<'_, Result<(), OperationError>>;

    /// Begins to end an instance: the signal to its main process, after the grace an end of
    /// everything in it. Does not wait for the end.
    fn stop(&self, instance: InstanceId, stop: Stop) -> Pending<'_, Result<(), OperationError>>;

    /// Removes all that is left of an instance that has ended. Done already: no error.
    fn forget(&self, instance: InstanceId) -> Pending<'_, Result<(), OperationError>>;

    /// Notes since when the controller has heard of this node: a time on `CLOCK_BOOTTIME`
    /// (`clock_gettime(2)`) in milliseconds. Leases of instances that are started from now on are
    /// counted from then. An older time than before changes nothing.
    fn heard(&self, heard_ms: u64);

    /// Lets all instances with a lease go on, counted from when the controller has heard.
    fn renew(&self) -> Pending<'_, Result<(), OperationError>>;

    /// Writes a line into a file inside an instance, as its user, in the place of what is there.
    /// The folder must exist.
    fn write_line<'a>(
        &'a self,
        instance: InstanceId,
        path: &'a str,
        line: &'a str,
    ) -> Pending<'a, Result<(), OperationError>>;

    /// Remembers something of a living instance, in the place of what was remembered before, for
    /// [`Runtime::found`]. It lasts as long as the instance does.
    fn note(&self, instance: InstanceId, noted: Noted) -> Pending<'_, Result<(), OperationError>>;

    /// All instances that the runtime has, ended ones too.
    fn found(&self) -> Pending<'_, Result<Vec<Found>, OperationError>>;

    /// For each of the TCP `ports`, whether something in the instance listens on it.
    fn listening(
        &self,
        instance: InstanceId,
        ports: Vec<u16>,
    ) -> Pending<'_, Result<Vec<bool>, OperationError>>;

    /// Connects to a TCP port inside an instance.
    fn dial(&self, instance: InstanceId, port: u16) -> Pending<'_, Result<TcpStream, DialError>>;

    /// A socket over which one request for files of an instance is served: see
    /// [`spawnery_sandbox::files`].
    fn files(&self, instance: InstanceId) -> Pending<'_, Result<UnixStream, OperationError>>;

    /// Writes to the standard input of a process, as much as there is space for, and closes it
    /// after all was taken if `close` says so.
    fn write_stdin(
        &self,
        instance: InstanceId,
        process: u32,
        bytes: Vec<u8>,
        close: bool,
    ) -> Pending<'_, Result<StdinTaken, OperationError>>;

    /// The output of a process, also of one that has ended.
    fn log(&self, instance: InstanceId, process: u32) -> Result<Log, OperationError>;

    /// How many further processes of an instance have not ended. Known without asking, so that it
    /// may be looked at often.
    fn execs_running(&self, instance: InstanceId) -> Result<u32, OperationError>;

    /// What an instance uses now.
    fn usage(&self, instance: InstanceId) -> Pending<'_, Result<Usage, OperationError>>;
}

/// An instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Process id of its main process on the node; 0 if it ended too soon to be seen.
    pub pid: u32,
}

/// A further process of an instance.
#[derive(Clone, PartialEq, Eq)]
pub struct ExecOrder {
    /// The program and its arguments.
    pub run: Vec<String>,
    /// Environment variables beside those of the instance.
    pub env: BTreeMap<String, String>,
    /// Where it starts; without, where the instance started.
    pub working_directory: Option<String>,
    /// Whether its standard input is kept open.
    pub stdin: bool,
    /// As whom it runs: `USER` or `USER:GROUP`, names or numbers; without, as the main process.
    pub user: Option<String>,
    /// The size of its terminal, if it is to have one.
    pub terminal: Option<WindowSize>,
    /// How long it may run before it is ended, with all that it has started.
    pub timeout: Option<DurationMs>,
}

/// One process of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessState {
    /// 0 is the main one.
    pub process: u32,
    /// The program and its arguments; a very long list is cut off.
    pub run: Vec<String>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// When it was started.
    pub started_at: Timestamp,
    /// How it ended, if it did.
    pub exit: Option<Exit>,
}

/// How much of what was written to a standard input was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StdinTaken {
    /// Bytes; the rest found no space and can be tried again.
    pub bytes: usize,
}

/// What an instance uses now; nothing where the machine cannot tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Processor time since its start, in microseconds.
    pub cpu_us: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Bytes of IP packets that a private network has brought in since the start.
    pub network_bytes_in: Option<u64>,
    /// Bytes of IP packets that it has taken out.
    pub network_bytes_out: Option<u64>,
}

/// Something happened without being asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An instance is over. Comes once for each that was started and not reported as ended by
    /// [`Runtime::found`] before.
    Ended {
        /// Which one.
        instance: InstanceId,
        /// How its main process ended.
        exit: Exit,
    },
    /// The runtime cannot be reached; it tries again by itself.
    Disconnected {
        /// What happened.
        reason: String,
    },
    /// The runtime can be reached again.
    Reconnected,
}

/// An instance could not be started; nothing of it runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    /// The step and the reason.
    pub message: String,
}

/// An operation on an instance could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// The runtime does not have the instance or the process.
    #[error("the node does not have this instance or process")]
    Unknown,
    /// It has, but it does not run.
    #[error("the instance or process does not run")]
    NotRunning,
    /// The runtime tried or refused.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// The runtime cannot be reached now.
    #[error("the node's launcher cannot be reached: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// No connection to a port of an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The instance cannot be reached.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// Nothing listens on the port.
    #[error("nothing listens on the port")]
    Refused,
    /// No answer came in time.
    #[error("no answer in time")]
    TimedOut,
}
