//! One sandbox as the launcher sees it, and how it is made.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use seccompiler::BpfProgram;

use super::disk;
use super::network::PrivateNetwork;
use super::quota::Projects;
use super::store::Failure;
use super::tool::ToolState;
use crate::cgroup::{Cgroups, Group};
use crate::init::control::{self, ToInit};
use crate::init::{self, Plan};
use crate::kind::{Kind, Means};
use crate::limits::{HOST_ID_COUNT, LOG_BYTES_MAX_DEFAULT, SETUP_MS_MAX};
use crate::log::{LogWriter, Stream};
use crate::protections::{Protection, Protections};
use crate::rootfs::{self, Rootfs};
use crate::spec::{LimitReached, SandboxSpec};
use crate::sys::{self, Cloned};

/// Who waits for an answer: a connection and the id of its request.
pub(crate) type Asker = (u64, u64);

/// A sandbox with a living init.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// Its folder: that of a spare until the main process is asked for.
    pub(crate) dir: PathBuf,
    /// The instance that it belongs to; `None` while it is a spare.
    pub(crate) instance: Option<String>,
    /// What it was set up as.
    pub(crate) kind: Kind,
    pub(crate) init_pid: u32,
    pub(crate) init: OwnedFd,
    pub(crate) control: OwnedFd,
    pub(crate) group: Option<Group>,
    pub(crate) phase: Phase,
    /// Who waits for the start of the main process.
    pub(crate) starter: Option<Asker>,
    /// Why the main process cannot be started.
    pub(crate) failure: Option<Failure>,
    pub(crate) tag: Vec<u8>,
    pub(crate) started_ms: u64,
    pub(crate) processes: BTreeMap<u32, Process>,
    /// Dials under way, by their id.
    pub(crate) dials: BTreeMap<u64, Asker>,
    /// When everything is killed: the end of a grace, or of the time for the setup.
    pub(crate) kill_at: Option<Instant>,
    /// Memory limit that has to be watched, because no control group does it.
    pub(crate) watched_memory_bytes: Option<u64>,
    /// Project of the private layer, if the file system limits it.
    pub(crate) project: Option<u32>,
    /// Limit of the private layer that has to be watched, because nothing else holds it.
    pub(crate) watched_disk_bytes: Option<u64>,
    /// Secret variables, for the processes that are started later.
    pub(crate) secret_env: SecretEnv,
    /// Whether the watching ended it.
    pub(crate) over_memory: bool,
    /// Whether the end is reported only when nothing of the sandbox is left.
    pub(crate) ends_first: bool,
    /// Tokens of the control socket and of the init.
    pub(crate) tokens: [u64; 2],
    /// The process that makes its disk, until it is watched.
    pub(crate) maker: Option<OwnedFd>,
    /// Log of the main process, made ahead.
    pub(crate) main_log: Option<LogWriter>,
    /// Its private network, if it has one.
    pub(crate) network: Option<PrivateNetwork>,
    /// The limit for which it is being ended.
    pub(crate) limit: Option<LimitReached>,
    /// If it is not a sandbox but for a tool that isolates by itself.
    pub(crate) tool: Option<ToolState>,
}

/// Variables whose values are never shown.
#[derive(Default)]
pub(crate) struct SecretEnv(pub(crate) Vec<(String, String)>);

impl std::fmt::Debug for SecretEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// How far a sandbox is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Setting up; what to start then, if it is for an instance.
    SettingUp(Option<Box<SandboxSpec>>),
    /// Set up, for nobody yet.
    Spare,
    /// The main process was asked for, or runs.
    Assigned,
    /// A spare too many, on its way out.
    Ending,
    /// All that ran in it has ended and is reported; only the init is still there.
    Husk,
}

/// One process of the workload.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) log: LogWriter,
    /// Tokens of the pipes that are still open.
    pub(crate) pipes: BTreeMap<u64, (Stream, OwnedFd)>,
    pub(crate) stdin: Option<OwnedFd>,
    /// Our side of its terminal, if it has one.
    pub(crate) terminal: Option<OwnedFd>,
    /// Whether it was ended because it ran too long.
    pub(crate) timed_out: bool,
    /// Who waits for the start, if it is not the main process.
    pub(crate) asker: Option<Asker>,
    /// Process id on the host, once it runs; 0 if it had ended before it could be seen.
    pub(crate) pid: Option<u32>,
    /// If it is no descendant of the init: to send it signals.
    pub(crate) of_host: Option<OwnedFd>,
    /// How the init says it ended.
    pub(crate) status: Option<(Option<i32>, Option<i32>)>,
    /// Whether it ended when the private layer was full.
    pub(crate) disk_full: bool,
    /// Whether its exit has been reported.
    pub(crate) reported: bool,
}

/// Standard streams of a new process: the launcher's ends and the process's ends.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) output: Vec<(Stream, OwnedFd)>,
    pub(crate) theirs: [OwnedFd; 3],
}

impl Streams {
    /// Makes the pipes. Only the launcher's ends do not block.
    pub(crate) fn new(stdin_pipe: bool, protections: Protections) -> io::Result<Self> {
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&stdout, true)?;
        rustix::io::ioctl_fionbio(&stderr, true)?;
        let (their_stdin, stdin) = if stdin_pipe {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&writer, true)?;
            (reader, Some(writer))
        } else if !protections.has(Protection::NullStdin) {
            (rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?, None)
        } else {
            (fs::File::open("/dev/null")?.into(), None)
        };
        let output = vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
        Ok(Self { stdin, output, theirs: [their_stdin, their_stdout, their_stderr] })
    }

    /// Those of a process whose terminal is made inside.
    pub(crate) fn none() -> io::Result<Self> {
        let null = || fs::File::open("/dev/null").map(OwnedFd::from);
        Ok(Self { stdin: None, output: Vec::new(), theirs: [null()?, null()?, null()?] })
    }
}

/// What all sandboxes of a launcher need.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) rootfs: Rootfs,
    pub(crate) filter: BpfProgram,
    pub(crate) cgroups: Cgroups,
    /// Whether private layers can be in images.
    pub(crate) images: bool,
    /// Projects for private layers, where the file system holds quotas of projects.
    pub(crate) projects: Option<Projects>,
    /// Makes names of groups differ between launchers.
    pub(crate) run_name: String,
}

/// A step of making a sandbox that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {error}")]
pub(crate) struct SpawnError {
    pub(crate) step: &'static str,
    pub(crate) error: io::Error,
}

pub(super) fn at<T, E: Into<io::Error>>(
    step: &'static str,
    result: Result<T, E>,
) -> Result<T, SpawnError> {
    result.map_err(|error| SpawnError { step, error: error.into() })
}

impl Workshop {
    /// What sandboxes can be made with.
    pub(crate) fn means(&self) -> Means {
        Means { rootful: self.rootfs.rootful, images: self.images && self.projects.is_none() }
    }

    /// Makes the folder `dir` and starts an init with namespaces in it.
    pub(crate) fn spawn(
        &mut self,
        number: u64,
        dir: &Path,
        kind: Kind,
    ) -> Result<Sandbox, SpawnError> {
        at("make the folder of the sandbox", make_dirs(dir, &self.rootfs))?;
        let project = self.projects.as_mut().map(|it| it.assign(&dir.join("layer"))).transpose();
        let project = at("give the private layer a project", project)?;
        let mut log = LogWriter::new(dir.join("log/0"), LOG_BYTES_MAX_DEFAULT);
        at("make the log", log.prepare())?;
        let group = self.cgroups.create(&format!("{}-{number}", self.run_name));
        let group = at("make the control group", group)?;
        let disk = kind.image_bytes.map(|bytes| disk::start_maker(bytes, dir)).transpose();
        let (maker, disk) =
            at("make the disk of the private layer", disk).inspect_err(|_| group.remove())?.unzip();
        let result = self.start_init(dir, &kind, &group, disk);
        let (init_pid, init, control) = match result {
            Ok(started) => started,
            Err(error) => {
                group.remove();
                return Err(error);
            }
        };
        Ok(Sandbox {
            dir: dir.to_owned(),
            instance: None,
            kind,
            init_pid,
            init,
            control,
            group: Some(group),
            phase: Phase::SettingUp(None),
            starter: None,
            failure: None,
            tag: Vec::new(),
            started_ms: 0,
            processes: BTreeMap::new(),
            dials: BTreeMap::new(),
            kill_at: Some(Instant::now() + Duration::from_millis(SETUP_MS_MAX)),
            watched_memory_bytes: None,
            project,
            watched_disk_bytes: None,
            secret_env: SecretEnv::default(),
            over_memory: false,
            ends_first: false,
            tokens: [0; 2],
            maker,
            main_log: Some(log),
            network: None,
            limit: None,
            tool: None,
        })
    }

    fn start_init(
        &self,
        dir: &Path,
        kind: &Kind,
        group: &Group,
        disk: Option<OwnedFd>,
    ) -> Result<(u32, OwnedFd, OwnedFd), SpawnError> {
        let family = AddressFamily::UNIX;
        let pair = socketpair(family, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = at("make a socket pair", pair)?;
        // The init makes the others, which takes a while, beside this process.
        let namespaces = [
            (Protection::UserNamespace, libc::CLONE_NEWUSER),
            (Protection::PidNamespace, libc::CLONE_NEWPID),
        ]
        .into_iter()
        .filter(|(protection, _)| self.rootfs.protections.has(*protection))
        .fold(0, |flags, (_, flag)| flags | flag);
        let devices = at("find the devices", self.make_devices(&kind.devices))?;
        let unified = at("open the control group", group.unified().transpose())?;
        let mut join_files = at("open the control group", group.join_files(false))?;
        let mut cloned = sys::clone_process(namespaces, unified.as_ref().map(AsRawFd::as_raw_fd));
        if cloned.is_err() && unified.is_some() {
            // Older kernels: join as a process does.
            join_files = at("open the control group", group.join_files(true))?;
            cloned = sys::clone_process(namespaces, None);
        }
        match at("make the namespaces", cloned)? {
            Cloned::Child => init::run(Plan {
                rootfs: &self.rootfs,
                filter: &self.filter,
                layer_dir: dir.join("layer"),
                join_files,
                kind,
                isolated: true,
                devices,
                disk,
                control: theirs,
            }),
            Cloned::Parent { pid, pidfd } => {
                let mapped = self.map_ids(pid, kind).and_then(|()| {
                    rustix::io::ioctl_fionbio(&ours, true)?;
                    control::send(&ours, &ToInit::Mapped, &[])
                });
                if let Err(error) = mapped {
                    let _ = kill_and_reap(&pidfd);
                    return Err(SpawnError { step: "map the user ids", error });
                }
                Ok((pid, pidfd, ours))
            }
        }
    }

    /// Nodes for further devices, if this launcher can make them.
    fn make_devices(&self, paths: &[String]) -> io::Result<Vec<(String, OwnedFd)>> {
        if !self.rootfs.dev_template {
            return Ok(Vec::new());
        }
        let make = |path: &String| {
            rootfs::make_device(Path::new(path))
                .map(|node| (path.clone(), node))
                .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
        };
        paths.iter().map(make).collect()
    }

    fn map_ids(&self, pid: u32, kind: &Kind) -> io::Result<()> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let protections = self.rootfs.protections;
        if !protections.has(Protection::UserNamespace) {
            return Ok(());
        }
        if self.rootfs.rootful {
            let base = rootfs::first_host_id(protections);
            let map = format!("0 {base} {HOST_ID_COUNT}\n");
            fs::write(proc.join("uid_map"), &map)?;
            return fs::write(proc.join("gid_map"), map);
        }
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        fs::write(proc.join("uid_map"), format!("{} {} 1\n", kind.user.uid, uid.as_raw()))?;
        fs::write(proc.join("setgroups"), "deny")?;
        fs::write(proc.join("gid_map"), format!("{} {} 1\n", kind.user.gid, gid.as_raw()))
    }
}

/// The folder of a sandbox. Only `layer` is open to the sandbox's ids; the init fills it.
pub(super) fn make_dirs(dir: &Path, rootfs: &Rootfs) -> io::Result<()> {
    let owner = rootfs.rootful.then(|| rootfs::first_host_id(rootfs.protections));
    rootfs::make_dir(dir, 0o700, None)?;
    // Filled at the start; a file that is there already is quicker than a new one.
    fs::write(dir.join("meta"), b"")?;
    rootfs::make_dir(&dir.join("log"), 0o700, None)?;
    rootfs::make_dir(&dir.join("log/0"), 0o700, None)?;
    rootfs::make_dir(&dir.join("layer"), 0o700, owner)
}

/// Kills an init, and with it everything in its PID namespace.
pub(crate) fn kill(init: &OwnedFd) -> io::Result<()> {
    match rustix::process::pidfd_send_signal(init, rustix::process::Signal::KILL) {
        Err(error) if error != rustix::io::Errno::SRCH => Err(error.into()),
        _ => Ok(()),
    }
}

/// Waits for an init that has ended, or is about to.
pub(crate) fn reap(init: &OwnedFd) -> io::Result<()> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(init)), WaitIdOptions::EXITED)?;
    Ok(())
}

pub(super) fn kill_and_reap(init: &OwnedFd) -> io::Result<()> {
    kill(init)?;
    reap(init)
}
