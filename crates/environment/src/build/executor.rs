//! Where the commands of a step run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use spawnery_sandbox::client::{Client, ClientError};
use spawnery_sandbox::launcher::log_dir;
use spawnery_sandbox::log::LogReader;
use spawnery_sandbox::protocol::{Event, Reply, Request};
use spawnery_sandbox::spec::{Exit, SandboxSpec};

use super::limits::LOOK_INTERVAL;
use super::progress::Cancel;

/// What the ids of the sandboxes of steps begin with: no instance's id does.
pub const INSTANCE_PREFIX: &str = "build-";

/// Output that is read at once, in bytes.
const READ_BYTES: usize = 256 << 10;

/// How long a sandbox that was killed may take to end: large ones free much memory.
const END_WITHIN: Duration = Duration::from_secs(30);

/// Runs one command in a sandbox to its end. Blocks.
pub trait Executor: Send + Sync {
    /// Runs it for at most this long, and passes its output on while it is written.
    ///
    /// # Errors
    ///
    /// When it could not be run to its end. A command that fails is no error.
    fn run(
        &self,
        spec: SandboxSpec,
        duration: Duration,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Ended, ExecuteError>;

    /// The folder that is below everything over the view of the host.
    fn host_base(&self) -> PathBuf;
}

/// How a command ended. Dropped, it removes all that is left of its sandbox.
pub struct Ended {
    /// Its exit.
    pub exit: Exit,
    /// Its private layer, if the sandbox was to keep it.
    pub layer: Option<Kept>,
    pub(super) forget: Option<Box<dyn FnOnce() + Send>>,
}

/// The private writable layer that a sandbox has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What was written below `/`.
    pub root: PathBuf,
    /// What was written below `/usr`, over the view of the host.
    pub usr: Option<PathBuf>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(forget) = self.forget.take() {
            forget();
        }
    }
}

/// Why a command was not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The launcher cannot be asked.
    #[error("{0}")]
    Launcher(#[from] ClientError),
    /// The sandbox did not come to run.
    #[error("the sandbox could not be started: {0}")]
    Start(String),
    /// It took too long.
    #[error("it took longer than {} seconds and was ended", .0.as_secs())]
    TooLong(Duration),
    /// Nobody waits for it any more.
    #[error("it was cancelled")]
    Cancelled,
}

/// Runs commands by the launcher of the node.
#[derive(Debug, Clone)]
pub struct LauncherExecutor {
    data: PathBuf,
}

impl LauncherExecutor {
    /// With the launcher that serves this data folder. The store must be on the same file system.
    pub fn new(data: impl Into<PathBuf>) -> LauncherExecutor {
        LauncherExecutor { data: data.into() }
    }

    /// Ends and removes what builds of an earlier process left. To be called before the first one.
    ///
    /// # Errors
    ///
    /// When the launcher cannot be asked.
    pub fn clean(&self) -> Result<(), ExecuteError> {
        let mut client = Client::connect(&self.data)?;
        let Reply::Instances { instances } = client.request(Request::List)? else {
            return Ok(());
        };
        for info in instances {
            if info.instance.starts_with(INSTANCE_PREFIX) {
                end(&mut client, &info.instance);
            }
        }
        Ok(())
    }

    fn follow(
        &self,
        client: &mut Client,
        instance: &str,
        duration: Duration,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Exit, ExecuteError> {
        let until = Instant::now() + duration;
        let mut next_seq = 1;
        let log = log_dir(&self.data, instance, 0);
        loop {
            let exit = match client.next_event(LOOK_INTERVAL) {
                Ok(Event::Output { instance: of, process: 0, .. }) if of == instance => None,
                Ok(Event::Exited { instance: of, process: 0, exit }) if of == instance => {
                    Some(exit)
                }
                Ok(_) => continue,
                Err(ClientError::TimedOut) => None,
                Err(error) => return Err(error.into()),
            };
            read_on(&log, &mut next_seq, output);
            if let Some(exit) = exit {
                return Ok(exit);
            }
            if cancel.is_cancelled() {
                return Err(ExecuteError::Cancelled);
            }
            if Instant::now() > until {
                return Err(ExecuteError::TooLong(duration));
            }
        }
    }
}

impl Executor for LauncherExecutor {
    fn run(
        &self,
        spec: SandboxSpec,
        duration: Duration,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Ended, ExecuteError> {
        let mut client = Client::connect(&self.data)?;
        let instance = new_id()?;
        let keeps_layer = spec.keeps_layer == Some(true);
        let over_host = spec.root.as_ref().is_none_or(|root| root.host);
        let start = Request::Start { instance: instance.clone(), spec: Box::new(spec) };
        let (data, id) = (self.data.clone(), instance.clone());
        let forget = move || {
            if let Ok(mut client) = Client::connect(&data) {
                end(&mut client, &id);
            }
        };
        match client.request(start)? {
            Reply::Started { .. } => {}
            Reply::StartFailed { step, reason } => {
                forget();
                return Err(ExecuteError::Start(format!("{step}: {reason}")));
            }
            Reply::Refused { reason } => return Err(ExecuteError::Start(reason)),
            other => return Err(ExecuteError::Start(format!("unexpected answer {other:?}"))),
        }
        match self.follow(&mut client, &instance, duration, output, cancel) {
            Ok(exit) => {
                let layer = keeps_layer.then(|| kept(&self.data, &instance, over_host));
                Ok(Ended { exit, layer, forget: Some(Box::new(forget)) })
            }
            Err(error) => {
                forget();
                Err(error)
            }
        }
    }

    fn host_base(&self) -> PathBuf {
        self.data.join("base")
    }
}

fn kept(data: &Path, instance: &str, over_host: bool) -> Kept {
    let paths = spawnery_sandbox::client::layer_of(data, instance);
    Kept { root: paths.upper, usr: over_host.then_some(paths.usr_upper) }
}

/// Ends an instance, if it still runs, and removes it.
fn end(client: &mut Client, instance: &str) {
    let of = || instance.to_owned();
    let kill = Request::Stop { instance: of(), signal: 9, grace_ms: 0 };
    let _ = client.request(kill);
    let until = Instant::now() + END_WITHIN;
    // A living one cannot be forgotten, and its end takes a moment.
    while Instant::now() < until {
        match client.request(Request::Forget { instance: of() }) {
            Ok(Reply::Refused { .. }) => std::thread::sleep(LOOK_INTERVAL / 4),
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, instance, "the sandbox of a build could not be removed");
                return;
            }
        }
    }
    tracing::warn!(instance, "the sandbox of a build does not end");
}

fn read_on(log: &Path, next_seq: &mut u64, output: &mut dyn FnMut(&[u8])) {
    let Ok(reader) = LogReader::open(log) else { return };
    while let Ok(page) = reader.read_from(*next_seq, READ_BYTES) {
        if page.records.is_empty() {
            break;
        }
        for gap in &page.gaps {
            let lost = gap.to - gap.from + 1;
            output(format!("[{lost} pieces of output are lost]\n").as_bytes());
        }
        page.records.iter().for_each(|record| output(&record.bytes));
        *next_seq = page.next_seq;
    }
}

fn new_id() -> Result<String, ExecuteError> {
    let mut bytes = [0_u8; 12];
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        let count = rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| ClientError::Io(error.into()))?;
        filled += count;
    }
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{INSTANCE_PREFIX}{digits}"))
}
