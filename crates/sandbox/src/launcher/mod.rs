//! The launcher: a small process with one thread that starts sandboxes, keeps their output
//! and exit status, and outlives the agent that uses it.

mod callers;
mod connection;
mod core;
pub(crate) mod disk;
mod leases;
mod network;
mod quota;
mod requests;
mod sandbox;
mod serve;
mod spares;
mod starts;
pub(crate) mod store;
mod supervise;
mod tool;
mod trash;
mod watch;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

pub(crate) use self::network::RESOLV_CONF as PRIVATE_RESOLV_CONF;
pub(crate) use self::serve::is_rootful;
pub use self::serve::{serve, serve_weakened};
pub use self::store::log_dir;
use crate::client::Client;
use crate::limits::SPARES_DEFAULT;

/// Name of the socket in the data folder.
pub const SOCKET_NAME: &str = "launcher.sock";
/// Name of the launcher's own log in the data folder.
pub const LOG_NAME: &str = "launcher.log";

/// How a launcher works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The data folder, which no other launcher uses. It is made if it is not there.
    pub data: PathBuf,
    /// Prepared sandboxes to keep waiting; each costs well under a megabyte.
    pub spares: u32,
    /// The resolvers that the private networks of sandboxes ask; those of the host if empty.
    pub resolvers: Vec<SocketAddr>,
}

impl Config {
    /// The usual configuration with this data folder.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), spares: SPARES_DEFAULT, resolvers: Vec::new() }
    }

    /// The arguments that [`spawn_detached`] gives to the program.
    pub fn arguments(&self) -> Vec<OsString> {
        let spares = self.spares.to_string();
        let mut arguments: Vec<OsString> = vec![
            "launcher".into(),
            "--data".into(),
            self.data.clone().into(),
            "--spares".into(),
            spares.into(),
        ];
        for resolver in &self.resolvers {
            arguments.extend(["--resolver".into(), resolver.to_string().into()]);
        }
        arguments
    }
}

/// Why a launcher cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another launcher uses the data folder.
    #[error("another launcher already serves {0}; use that one, or end it first")]
    Busy(PathBuf),
    /// The data folder belongs to another user, who could change what sandboxes see.
    #[error("the data folder {0} belongs to another user; choose one of your own")]
    Owner(PathBuf),
    /// The process has more threads than one, so that it must not fork.
    #[error("the launcher must be a process with one thread, but this one has {0}")]
    Threads(usize),
    /// Something in the data folder or the system failed.
    #[error("cannot {step} ({place}): {error}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// Where.
        place: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The shared parts of the sandboxes could not be prepared.
    #[error("cannot prepare the root of the sandboxes: {0}")]
    Prepare(#[from] crate::rootfs::PrepareError),
    /// The system call filter could not be built.
    #[error("{0}")]
    Filter(String),
}

/// Why no launcher could be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnDetachedError {
    /// The program could not be run.
    #[error("cannot run {program} as the launcher: {error}")]
    Run {
        /// The program.
        program: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The data folder could not be made or written.
    #[error("cannot use {data} as the launcher's data folder: {error}")]
    Data {
        /// The folder.
        data: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It did not answer in time.
    #[error("the launcher for {data} does not answer; its log says: {log}")]
    Silent {
        /// The data folder.
        data: PathBuf,
        /// The end of its log.
        log: String,
    },
}

/// Time that a new launcher gets to answer: its first start copies a few hundred small files.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Makes sure that a launcher serves `config.data` and returns its process id: the one that
/// is there, or else a new one, by running `program` with [`Config::arguments`] in a session
/// of its own, with its output going to a log in the data folder.
pub fn spawn_detached(program: &Path, config: &Config) -> Result<u32, SpawnDetachedError> {
    if let Ok(client) = Client::connect(&config.data) {
        return Ok(client.launcher_pid());
    }
    let data = || config.data.clone();
    make_data_dir(&config.data)
        .map_err(|error| SpawnDetachedError::Data { data: data(), error })?;
    let log_path = config.data.join(LOG_NAME);
    let log = fs::File::options()
        .append(true)
        .create(true)
        .open(&log_path)
        .map_err(|error| SpawnDetachedError::Data { data: data(), error })?;
    let mut command = Command::new(program);
    command.args(config.arguments()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    crate::sys::detach(&mut command);
    command
        .spawn()
        .and_then(|mut middleman| middleman.wait())
        .map_err(|error| SpawnDetachedError::Run { program: program.to_owned(), error })?;
    let until = Instant::now() + ANSWER_WITHIN;
    while Instant::now() < until {
        if let Ok(client) = Client::connect(&config.data) {
            return Ok(client.launcher_pid());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let log = fs::read_to_string(&log_path).unwrap_or_default();
    let start = log.len().saturating_sub(1000);
    let log = log.get(start..).unwrap_or(&log).trim().to_owned();
    Err(SpawnDetachedError::Silent { data: data(), log })
}

/// Connects to the socket of the launcher that serves `data`. The path goes through the
/// folder's descriptor, because a socket's path may have 108 bytes only (`unix(7)`).
pub fn connect(data: &Path) -> io::Result<UnixStream> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(data, flags, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd()))
}

/// Makes the data folder, readable by its owner only.
fn make_data_dir(data: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data)?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700))
}

/// Takes the lock of the current folder; `None` if another launcher has it.
fn lock() -> io::Result<Option<OwnedFd>> {
    let file = fs::File::options().create(true).append(true).open("launcher.lock")?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file.into())),
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
