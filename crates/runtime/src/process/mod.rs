//! The runtime of a node: instances are started by a launcher that outlives this program, as
//! processes in sandboxes, or as what stands in for them when something else isolates.

mod connection;
mod index;
mod line;
mod spec;
mod supervisor;

use crate::log::Log;
use crate::prepared::{Prepared, Warm};
use crate::runtime::{
    DialError, Event, Events, ExecOrder, OperationError, Pending, ProcessState, Runtime,
    StartError, Started, StdinTaken, Usage,
};
use crate::runtimes::Runtimes;
use connection::{Answer, Call};
use index::Index;
use spawnery_model::{Exit, InstanceId, StartOrder, Stop};
use spawnery_node::{Found, Noted};
use spawnery_sandbox::clock::boottime_ms;
use spawnery_sandbox::launcher::SpawnDetachedError;
use spawnery_sandbox::limits::PROTOCOL_VERSION;
use spawnery_sandbox::protocol::{DialError as DialRefusal, ListeningSocket, Reply, Request};
use spawnery_sandbox::spec::WindowSize;
use spawnery_sandbox::{launcher, spec as sandbox_spec};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use supervisor::{Link, Supervisor};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// How long a request waits for a launcher that cannot be reached: longer than a new one needs.
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(25);

/// How long the launcher may take to answer: its own longest operation takes a third of it. When
/// it is over, the launcher counts as unavailable for this request.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

/// Time before the second look at an instance that is being started; doubled each time.
const SETTLE_DELAY: Duration = Duration::from_millis(5);

/// What a terminal is that nobody describes: what most are compatible with (`terminfo(5)`).
const TERM_DEFAULT: &str = "xterm-256color";

/// The longest time between two looks.
const SETTLE_DELAY_MAX: Duration = Duration::from_millis(250);

/// Where the launcher is and how one is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// Its data folder.
    pub data: PathBuf,
    /// The program that is run as `program launcher --data ...` when no launcher answers, and as
    /// `program shim ...` by the launcher.
    pub program: PathBuf,
    /// The runtimes beside the process runtime.
    pub runtimes: Runtimes,
}

/// No connection to a launcher.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// None runs, and none could be started.
    #[error(transparent)]
    Spawn(#[from] SpawnDetachedError),
    /// Its socket failed.
    #[error("the launcher's socket failed: {0}")]
    Socket(#[source] io::Error),
    /// It is of a version with another protocol.
    #[error(
        "the running launcher speaks version {launcher} of its protocol, this program speaks \
         {PROTOCOL_VERSION}; end the launcher when no instances run, or go back to its version"
    )]
    Version {
        /// Its version.
        launcher: u32,
    },
    /// It did not list its instances.
    #[error("the launcher does not list its instances: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// It did not answer in time.
    #[error("the launcher does not answer; see launcher.log in its data folder")]
    Silent,
}

/// The runtime of a node, which runs each instance by the runtime that its order names.
pub struct ProcessRuntime {
    launcher: Launcher,
    index: Arc<Mutex<Index>>,
    link: watch::Receiver<Link>,
    keep_alive: watch::Sender<bool>,
    supervisor: JoinHandle<()>,
    /// Since when the controller has heard of this node, on `CLOCK_BOOTTIME` in milliseconds.
    heard_ms: AtomicU64,
}

impl ProcessRuntime {
    /// Connects to the launcher, starting one if none runs, and keeps connected.
    pub async fn connect(launcher: Launcher) -> Result<(Self, Events), ConnectError> {
        let index = Arc::new(Mutex::new(Index::default()));
        let (events_in, events) = mpsc::unbounded_channel();
        let (keep_alive, keep_alive_out) = watch::channel(true);
        let supervisor =
            Supervisor::new(launcher.clone(), index.clone(), events_in, keep_alive_out);
        let (connection, infos) = supervisor.reach().await?;
        // Their ends are told by `found`.
        lock(&index).reconcile(&infos);
        let (link_in, link) = watch::channel(Link::Down { reason: String::new() });
        let supervisor = tokio::spawn(supervisor.run(connection, link_in));
        // Whatever this program is told to start, it is told after this.
        let heard_ms = AtomicU64::new(boottime_ms());
        Ok((Self { launcher, index, link, keep_alive, supervisor, heard_ms }, events))
    }

    /// Ends the launcher, which refuses while instances run, and does not start another one.
    pub async fn shut_down(&self) -> Result<(), OperationError> {
        self.keep_alive.send_replace(false);
        let request = Request::Shutdown { stop_all: false };
        let result = match self.call(request).await {
            Ok((reply, _)) => done(reply, || OperationError::Unknown),
            // It may end before it answers.
            Err(Interrupted { sent: true, .. }) => Ok(()),
            Err(interrupted) => Err(interrupted.into()),
        };
        if result.is_err() {
            self.keep_alive.send_replace(true);
        }
        result
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    /// Asks the launcher once it can be reached.
    async fn call(&self, request: Request) -> Result<Answer, Interrupted> {
        let (answer, answered) = oneshot::channel();
        let mut call = Call { request, answer };
        // A connection that ended before it took the call is no obstacle.
        while let Err(mpsc::error::SendError(unsent)) = self.reached().await?.send(call).await {
            call = unsent;
        }
        match tokio::time::timeout(ANSWER_WAIT_MAX, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => {
                Err(Interrupted { sent: true, reason: "the connection ended".to_owned() })
            }
            Err(_) => Err(Interrupted { sent: false, reason: "no answer in time".to_owned() }),
        }
    }

    /// Asks the launcher, again if the connection ends before the answer. For requests that may
    /// be carried out twice.
    async fn call_again(&self, request: Request) -> Result<Answer, Interrupted> {
        loop {
            match self.call(request.clone()).await {
                Err(Interrupted { sent: true, .. }) => {}
                result => return result,
            }
        }
    }

    async fn reached(&self) -> Result<mpsc::Sender<Call>, Interrupted> {
        let mut link = self.link.clone();
        let up = link.wait_for(|link| matches!(link, Link::Up { calls } if !calls.is_closed()));
        let failure = match tokio::time::timeout(RECONNECT_WAIT_MAX, up).await {
            Ok(Ok(link)) => match &*link {
                Link::Up { calls } => return Ok(calls.clone()),
                Link::Down { reason } => reason.clone(),
            },
            Ok(Err(_)) => "this agent is ending".to_owned(),
            Err(_) => match &*self.link.borrow() {
                Link::Down { reason } => reason.clone(),
                Link::Up { .. } => "the connection ended".to_owned(),
            },
        };
        Err(Interrupted { sent: false, reason: failure })
    }

    async fn start_instance(
        &self,
        instance: InstanceId,
        order: &StartOrder,
        prepared: &Prepared,
    ) -> Result<Started, StartError> {
        let kind = order.surroundings.as_ref().map(|it| it.runtime).unwrap_or_default();
        loop {
            let mut spec = spec::sandbox(instance, order, prepared);
            // Preparing may have taken long.
            spec.lease = spec::lease(order, self.heard_ms.load(Ordering::Relaxed));
            let spec = self.launcher.runtimes.wrap(kind, spec, &self.launcher.program);
            let request = Request::Start { instance: instance.to_string(), spec: Box::new(spec) };
            let message = match self.call(request).await {
                Ok((Reply::Started { pid, .. }, _)) => {
                    self.index().started(instance);
                    return Ok(Started { pid });
                }
                Ok((Reply::StartFailed { step, reason }, _)) => spec::start_failure(&step, &reason),
                Ok((Reply::Refused { reason }, _)) => reason,
                Ok((Reply::AlreadyExists, _)) => {
                    "the launcher has an instance with this id already".to_owned()
                }
                Ok((reply, _)) => format!("the launcher answers {reply:?}"),
                // The launcher may have heard of it.
                Err(Interrupted { sent: true, .. }) => match self.settled(instance).await {
                    Ok(None) => continue,
                    Ok(Some(outcome)) => return outcome,
                    Err(error) => error.to_string(),
                },
                Err(interrupted) => interrupted.reason,
            };
            return self.failed(instance, message);
        }
    }

    async fn resume_start(&self, instance: InstanceId) -> Result<Started, StartError> {
        match self.settled(instance).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => self.failed(instance, "its launcher has not heard of it".to_owned()),
            Err(error) => self.failed(instance, error.to_string()),
        }
    }

    fn failed(&self, instance: InstanceId, message: String) -> Result<Started, StartError> {
        self.index().failed(instance, &message);
        Err(StartError { message })
    }

    /// What became of a start whose answer did not come here, once that is known. Nothing, if the
    /// launcher never heard of it.
    async fn settled(
        &self,
        instance: InstanceId,
    ) -> Result<Option<Result<Started, StartError>>, OperationError> {
        let mut delay = SETTLE_DELAY;
        loop {
            let found = self.list().await?;
            let Some(found) = found.into_iter().find(|found| found.instance == instance) else {
                return Ok(None);
            };
            match (found.pid, found.exit) {
                (Some(pid), _) => {
                    self.index().started(instance);
                    return Ok(Some(Ok(Started { pid })));
                }
                (None, Some(Exit { failure: Some(message), lost: false, .. })) => {
                    return Ok(Some(self.failed(instance, message)));
                }
                // Its end is told as an event.
                (None, Some(_)) => return Ok(Some(Ok(Started { pid: 0 }))),
                (None, None) => {}
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(SETTLE_DELAY_MAX);
        }
    }

    async fn list(&self) -> Result<Vec<Found>, OperationError> {
        match self.call_again(Request::List).await? {
            (Reply::Instances { instances }, _) => {
                Ok(instances.iter().filter_map(spec::found).collect())
            }
            (reply, _) => Err(refused(reply, || OperationError::Unknown)),
        }
    }

    async fn exec_process(
        &self,
        instance: InstanceId,
        order: ExecOrder,
    ) -> Result<u32, OperationError> {
        let shared = self.index().surroundings(instance)?;
        let given = shared.env.into_iter().filter(|(name, _)| !order.env.contains_key(name));
        let mut env: Vec<(String, String)> = given.chain(order.env.clone()).collect();
        if order.terminal.is_some() && !env.iter().any(|(name, _)| name == "TERM") {
            env.push(("TERM".to_owned(), TERM_DEFAULT.to_owned()));
        }
        let spec = sandbox_spec::ExecSpec {
            argv: order.run,
            env,
            working_directory: order.working_directory.or(shared.working_directory),
            stdin_pipe: order.stdin,
            user: order.user,
            terminal: order.terminal,
            timeout_ms: order.timeout.map(|timeout| timeout.0),
        };
        let exec = self.index().add_process(instance)?;
        let request = Request::Exec { instance: instance.to_string(), exec, spec };
        let error = match self.call(request).await {
            Ok((Reply::Started { .. }, _)) => return Ok(exec),
            Ok((Reply::StartFailed { step, reason }, _)) => {
                OperationError::Failed { reason: spec::start_failure(&step, &reason) }
            }
            Ok((reply, _)) => {
                let not_found = || self.index().why_not_found(instance, None);
                refused(reply, not_found)
            }
            Err(interrupted) => interrupted.into(),
        };
        self.index().remove_process(instance, exec, &error.to_string());
        Err(error)
    }

    async fn dial_port(&self, instance: InstanceId, port: u16) -> Result<TcpStream, DialError> {
        let request = Request::Dial { instance: instance.to_string(), port };
        match self.call_again(request).await.map_err(OperationError::from)? {
            (Reply::Dialed, Some(fd)) => Ok(into_stream(fd.into()).map_err(|error| {
                OperationError::Failed { reason: format!("the connection is of no use: {error}") }
            })?),
            (Reply::Dialed, None) => Err(unexpected("Dialed without a connection").into()),
            (Reply::DialFailed { error: DialRefusal::Refused, .. }, _) => Err(DialError::Refused),
            (Reply::DialFailed { error: DialRefusal::TimedOut, .. }, _) => Err(DialError::TimedOut),
            (Reply::DialFailed { error: DialRefusal::Other, reason }, _) => {
                Err(OperationError::Failed { reason }.into())
            }
            (reply, _) => {
                let not_found = || self.index().why_not_found(instance, None);
                Err(refused(reply, not_found).into())
            }
        }
    }

    /// Asks for something whose answer is `Done`.
    async fn ask(
        &self,
        instance: InstanceId,
        process: Option<u32>,
        request: Request,
    ) -> Result<(), OperationError> {
        let (reply, _) = self.call_again(request).await?;
        done(reply, || self.index().why_not_found(instance, process))
    }
}

impl Drop for ProcessRuntime {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Runtime for ProcessRuntime {
    fn warm(&self, pools: Vec<Warm>) -> Pending<'_, Result<(), OperationError>> {
        Box::pin(async move {
            let pools = spec::pools(&pools);
            let (reply, _) = self.call(Request::Warm { pools }).await?;
            done(reply, || OperationError::Unknown)
        })
    }

    fn start<'a>(
        &'a self,
        instance: InstanceId,
        order: &'a StartOrder,
        prepared: Prepared,
    ) -> Pending<'a, Result<Started, StartError>> {
        // At once, so that its log can be asked for.
        let is_new = self.index().begin(instance, order);
        Box::pin(async move {
            if !is_new {
                let message = "an instance with this id was started before".to_owned();
                return Err(StartError { message });
            }
            self.start_instance(instance, order, &prepared).await
        })
    }

    fn exec(
        &self,
        instance: InstanceId,
        order: ExecOrder,
    ) -> Pending<'_, Result<u32, OperationError>> {
        Box::pin(self.exec_process(instance, order))
    }

    fn resize(
        &self,
        instance: InstanceId,
        process: u32,
        size: WindowSize,
    ) -> Pending<'_, Result<(), OperationError>> {
        let request = Request::Resize { instance: instance.to_string(), process, size };
        Box::pin(self.ask(instance, Some(process), request))
    }

    fn processes(
        &self,
        instance: InstanceId,
    ) -> Pending<'_, Result<Vec<ProcessState>, OperationError>> {
        Box::pin(async move {
            let main = self.index().main(instance)?;
            let request = Request::Processes { instance: instance.to_string() };
            match self.call_again(request).await? {
                (Reply::Processes { processes }, _) => {
                    let all = processes.into_iter();
                    Ok(all.map(|process| spec::process_state(process, &main)).collect())
                }
                (reply, _) => Err(refused(reply, || self.index().why_not_found(instance, None))),
            }
        })
    }

    fn sockets(
        &self,
        instance: InstanceId,
    ) -> Pending<'_, Result<Vec<ListeningSocket>, OperationError>> {
        Box::pin(async move {
            let request = Request::Sockets { instance: instance.to_string() };
            match self.call_again(request).await? {
                (Reply::Sockets { sockets }, _) => Ok(sockets),
                (reply, _) => Err(refused(reply, || self.index().why_not_found(instance, None))),
            }
        })
    }

    fn signal(
        &self,
        instance: InstanceId,
        process: u32,
        signal: i32,
    ) -> Pending<'_, Result<(), OperationError>> {
        Box::pin(async move {
            let request = Request::Signal { instance: instance.to_string(), process, signal };
            // Not again: a signal that arrives twice is another message.
            let (reply, _) = self.call(request).await?;
            done(reply, || self.index().why_not_found(instance, Some(process)))
        })
    }

    fn stop(&self, instance: InstanceId, stop: Stop) -> Pending<'_, Result<(), OperationError>> {
        let Stop { signal, grace } = stop;
        let name = instance.to_string();
        let request = Request::Stop { instance: name, signal, grace_ms: grace.0 };
        Box::pin(self.ask(instance, None, request))
    }

    fn forget(&self, instance: InstanceId) -> Pending<'_, Result<(), OperationError>> {
        Box::pin(async move {
            let request = Request::Forget { instance: instance.to_string() };
            match self.call_again(request).await? {
                (Reply::Done | Reply::NotFound, _) => {
                    self.index().forget(instance);
                    Ok(())
                }
                (reply, _) => done(reply, || OperationError::Unknown),
            }
        })
    }

    fn resume(&self, instance: InstanceId) -> Pending<'_, Result<Started, StartError>> {
        Box::pin(self.resume_start(instance))
    }

    fn heard(&self, heard_ms: u64) {
        self.heard_ms.fetch_max(heard_ms, Ordering::Relaxed);
    }

    fn renew(&self) -> Pending<'_, Result<(), OperationError>> {
        Box::pin(async move {
            // The launcher is not woken for nothing.
            if !self.index().has_leases() {
                return Ok(());
            }
            let heard_ms = self.heard_ms.load(Ordering::Relaxed);
            let (reply, _) = self.call(Request::Renew { heard_ms }).await?;
            done(reply, || OperationError::Unknown)
        })
    }

    fn write_line<'a>(
        &'a self,
        instance: InstanceId,
        path: &'a str,
        line: &'a str,
    ) -> Pending<'a, Result<(), OperationError>> {
        Box::pin(self.write_line_inside(instance, path, line))
    }

    fn note(&self, instance: InstanceId, noted: Noted) -> Pending<'_, Result<(), OperationError>> {
        let note = spec::note(&noted);
        let request = Request::Note { instance: instance.to_string(), note };
        Box::pin(self.ask(instance, None, request))
    }

    fn found(&self) -> Pending<'_, Result<Vec<Found>, OperationError>> {
        Box::pin(self.list())
    }

    fn listening(
        &self,
        instance: InstanceId,
        ports: Vec<u16>,
    ) -> Pending<'_, Result<Vec<bool>, OperationError>> {
        Box::pin(async move {
            let name = instance.to_string();
            let request = Request::Listening { instance: name, ports: ports.clone() };
            match self.call_again(request).await? {
                (Reply::Listening { ports: open }, _) => {
                    Ok(ports.iter().map(|port| open.contains(port)).collect())
                }
                (reply, _) => Err(refused(reply, || self.index().why_not_found(instance, None))),
            }
        })
    }

    fn dial(&self, instance: InstanceId, port: u16) -> Pending<'_, Result<TcpStream, DialError>> {
        Box::pin(self.dial_port(instance, port))
    }

    fn files(&self, instance: InstanceId) -> Pending<'_, Result<UnixStream, OperationError>> {
        Box::pin(async move {
            let request = Request::Files { instance: instance.to_string() };
            let not_found = || self.index().why_not_found(instance, None);
            match self.call_again(request).await? {
                (Reply::Dialed, Some(fd)) => {
                    let socket = std::os::unix::net::UnixStream::from(fd);
                    let ready = socket.set_nonblocking(true);
                    let ready = ready.and_then(|()| UnixStream::from_std(socket));
                    ready.map_err(|error| unexpected(&format!("with a useless socket: {error}")))
                }
                (Reply::Dialed, None) => Err(unexpected("Dialed without a socket")),
                (Reply::DialFailed { error: DialRefusal::Other, reason }, _) => {
                    Err(OperationError::Failed { reason })
                }
                // It ended meanwhile.
                (Reply::DialFailed { .. }, _) => Err(OperationError::NotRunning),
                (reply, _) => Err(refused(reply, not_found)),
            }
        })
    }

    fn write_stdin(
        &self,
        instance: InstanceId,
        process: u32,
        bytes: Vec<u8>,
        close: bool,
    ) -> Pending<'_, Result<StdinTaken, OperationError>> {
        Box::pin(async move {
            let name = instance.to_string();
            let request = Request::WriteStdin { instance: name, process, bytes, eof: close };
            // Not again: what is written twice is not what was said.
            let not_found = || self.index().why_not_found(instance, Some(process));
            match self.call(request).await? {
                (Reply::Accepted { bytes }, _) => {
                    Ok(StdinTaken { bytes: usize::try_from(bytes).unwrap_or(usize::MAX) })
                }
                (reply, _) => Err(refused(reply, not_found)),
            }
        })
    }

    fn log(&self, instance: InstanceId, process: u32) -> Result<Log, OperationError> {
        let progress = self.index().watch(instance, process)?;
        let dir = launcher::log_dir(&self.launcher.data, &instance.to_string(), process);
        Ok(Log::new(dir, progress))
    }

    fn execs_running(&self, instance: InstanceId) -> Result<u32, OperationError> {
        self.index().execs_running(instance)
    }

    fn usage(&self, instance: InstanceId) -> Pending<'_, Result<Usage, OperationError>> {
        Box::pin(async move {
            let request = Request::Usage { instance: instance.to_string() };
            match self.call_again(request).await? {
                (Reply::Usage { usage }, _) => Ok(Usage {
                    memory_bytes: usage.memory_bytes,
                    cpu_us: usage.cpu_usec,
                    pids: usage.pids,
                    network_bytes_in: usage.network_bytes_in,
                    network_bytes_out: usage.network_bytes_out,
                }),
                (reply, _) => Err(refused(reply, || self.index().why_not_found(instance, None))),
            }
        })
    }
}

/// No answer came.
struct Interrupted {
    /// The connection ended after the request was handed to it.
    sent: bool,
    reason: String,
}

impl From<Interrupted> for OperationError {
    fn from(interrupted: Interrupted) -> OperationError {
        OperationError::Unavailable { reason: interrupted.reason }
    }
}

/// Whether the answer is `Done`, and if not, what it means.
fn done(reply: Reply, not_found: impl FnOnce() -> OperationError) -> Result<(), OperationError> {
    match reply {
        Reply::Done => Ok(()),
        reply => Err(refused(reply, not_found)),
    }
}

/// What an answer means that is not the one that was hoped for.
fn refused(reply: Reply, not_found: impl FnOnce() -> OperationError) -> OperationError {
    match reply {
        Reply::NotFound => not_found(),
        Reply::Refused { reason } => OperationError::Failed { reason },
        Reply::AlreadyExists => OperationError::Failed {
            reason: "the launcher has used this number already".to_owned(),
        },
        reply => unexpected(&format!("{reply:?}")),
    }
}

fn unexpected(answer: &str) -> OperationError {
    OperationError::Failed { reason: format!("the launcher answers {answer}") }
}

fn into_stream(socket: std::net::TcpStream) -> io::Result<TcpStream> {
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}

/// A panic elsewhere leaves the index whole: no change of it is made in two steps that may panic.
fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl std::fmt::Debug for ProcessRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessRuntime").field("data", &self.launcher.data).finish_non_exhaustive()
    }
}

/// Sends an event; when nobody listens any more, nobody needs it.
fn tell(events: &mpsc::UnboundedSender<Event>, event: Event) {
    let _ = events.send(event);
}
