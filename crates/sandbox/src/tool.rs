//! What a tool finds that is started with `SandboxSpec::unisolated`: an OCI runtime's or a
//! container engine's stand-in, which isolates by itself.
//!
//! It runs in a PID namespace and a mount namespace of its own, in the launcher's data folder, with
//! the standard streams of the instance. Everything in the namespace ends with it. It is asked to
//! end by signals: those of the instance, which it passes on, and [`KILL`] and [`SUSPEND`] in the
//! place of the two that no process can catch. A further process of the instance is another run of
//! the same tool, in the same namespaces.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::limits::{HOST_ID_BASE, HOST_ID_COUNT};
use crate::protections::Protections;
use crate::rootfs::{self, Hidden};
use crate::spec::ExecSpec;
use crate::sys::{self, Cloned};

/// Arrives in the place of SIGKILL: end the process at once, and all that is outside of the
/// namespaces with it. The tool has [`crate::limits::TOOL_END_MS_MAX`] for it.
pub const KILL: i32 = 64;
/// Arrives in the place of SIGSTOP.
pub const SUSPEND: i32 = 63;
/// Path in `SandboxSpec::files` of the bytes that the tool gets as [`Job::spec`].
pub const JOB_PATH: &str = "/job";
/// Content of `/etc/resolv.conf` with a private network, which answers names itself.
pub const PRIVATE_RESOLV_CONF: &str = crate::launcher::PRIVATE_RESOLV_CONF;
/// File in the instance's folder by which the tool tells that memory was used up.
pub const OUT_OF_MEMORY_FILE: &str = "out-of-memory";

/// Descriptor on which the tool tells how its start went.
pub(crate) const REPORT_FD: i32 = 3;
/// Descriptor with the job.
pub(crate) const JOB_FD: i32 = 4;

/// What a tool is to do.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub struct Job {
    /// The instance.
    #[n(0)]
    pub instance: String,
    /// What the caller wants the tool to know, for the main process and for all further ones.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub spec: Vec<u8>,
    /// Which process this run is for; 0 is the main one.
    #[n(2)]
    pub process: u32,
    /// The further process, if it is not the main one.
    #[n(3)]
    pub exec: Option<ExecSpec>,
}

impl Job {
    /// The instance's folder, relative to the data folder, in which the tool runs.
    pub fn dir(&self) -> PathBuf {
        crate::launcher::store::instance_dir(&self.instance)
    }
}

/// Tells the launcher how the start went. Dropped without a word, the start has failed.
#[derive(Debug)]
pub struct Reporter(File);

/// The process that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartedProcess {
    /// Its id in the tool's PID namespace.
    Here(u32),
    /// Its id in the launcher's PID namespace, because another program's child it is.
    OfHost(u32),
}

impl Reporter {
    /// The process runs.
    pub fn started(mut self, process: StartedProcess) {
        let text = match process {
            StartedProcess::Here(pid) => format!("here {pid}"),
            StartedProcess::OfHost(pid) => format!("host {pid}"),
        };
        // Nobody listens any more when the launcher is gone, and then this ends anyway.
        let _ = self.0.write_all(text.as_bytes());
    }

    /// Nothing runs, for this reason.
    pub fn failed(mut self, step: &str, reason: &str) {
        let _ = self.0.write_all(format!("failed\n{step}\n{reason}").as_bytes());
    }
}

/// How often a path is tried that others disturb: each try takes microseconds.
const OPEN_TRIES_MAX: u32 = 10_000;

/// Opens a path below `folder`, as `resolve` says (`openat2(2)`). While anything on the machine is
/// renamed or mounted, the kernel cannot tell for sure that a `..` on the way does not lead out, and
/// says EAGAIN: that is tried again.
///
/// # Errors
///
/// When the path leads out, or cannot be opened.
pub fn open_within(
    folder: &OwnedFd,
    path: &str,
    flags: OFlags,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < OPEN_TRIES_MAX => {
                tries += 1;
                std::thread::yield_now();
            }
            result => return Ok(result?),
        }
    }
}

/// Takes the job that this process was started with. To be called once, at the start.
pub fn take_job() -> io::Result<(Job, Reporter)> {
    let mut bytes = Vec::new();
    File::from(sys::take_inherited(JOB_FD)?).read_to_end(&mut bytes)?;
    let job = minicbor::decode(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    Ok((job, Reporter(sys::take_inherited(REPORT_FD)?.into())))
}

/// Signals that came, without waiting for any by itself; poll its descriptor.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks all signals and keeps them. The process must have one thread, or call this before
    /// it has more.
    pub fn block() -> io::Result<Self> {
        let all: Vec<i32> = (1..=64).collect();
        sys::signal_fd(&all).map(Self)
    }

    /// The next signal that came; `None` if there is none for now.
    pub fn next(&self) -> Option<i32> {
        let mut info = [0; 128];
        let read = rustix::io::read(&self.0, &mut info).ok()?;
        // struct signalfd_siginfo begins with the signal's number.
        let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
        (read == info.len()).then(|| i32::try_from(number).ok()).flatten()
    }
}

impl std::os::fd::AsFd for Signals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a signal to a process, real-time signals too.
pub fn send_signal(pid: u32, signal: i32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    if pid < 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sys::kill(pid, signal)
}

/// Ends this process at once with an exit code, as the process did that it stands for.
pub fn end_with(code: i32) -> ! {
    sys::exit_now(code)
}

/// Ends this process by `signal`, as the process did that it stands for.
pub fn end_by(signal: i32) -> ! {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    sys::reset_signals();
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    if own > 0 {
        let _ = sys::kill(own, signal);
    }
    // A signal that ends nothing by default.
    sys::exit_now(128 + signal)
}

/// A process that only keeps a user and a PID namespace alive and reaps what is left in it; first
/// in its PID namespace, so that what runs beside it takes signals as any process does.
#[derive(Debug)]
pub struct Holder {
    /// Its id in the caller's PID namespace.
    pub pid: u32,
    pidfd: OwnedFd,
}

impl Holder {
    /// Starts it. The ids inside are mapped to the range of rootful sandboxes, which needs root.
    /// The caller must have one thread only.
    pub fn start() -> io::Result<Self> {
        let namespaces = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS;
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        match sys::clone_process(namespaces, None)? {
            Cloned::Child => {
                drop(theirs);
                let mut mapped = [0];
                let _ = rustix::io::read(&ours, &mut mapped);
                if mapped == [1] {
                    let _ = hold();
                }
                sys::exit_now(0)
            }
            Cloned::Parent { pid, pidfd } => {
                let holder = Self { pid, pidfd };
                let map = format!("0 {HOST_ID_BASE} {HOST_ID_COUNT}\n");
                let mapped = std::fs::write(format!("/proc/{pid}/uid_map"), &map)
                    .and_then(|()| std::fs::write(format!("/proc/{pid}/gid_map"), &map))
                    .and_then(|()| Ok(rustix::io::write(&theirs, &[1])?));
                match mapped {
                    Ok(_) => Ok(holder),
                    Err(error) => {
                        let _ = holder.end();
                        Err(error)
                    }
                }
            }
        }
    }

    /// Ends it, and with it everything in its PID namespace; returns when all is gone. Reaps every
    /// other child of the caller that ends meanwhile: one that is in the namespace, and that
    /// nobody waited for, would keep it from ending (`pid_namespaces(7)`).
    pub fn end(&self) -> io::Result<()> {
        rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL)?;
        let own = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        loop {
            match rustix::process::wait(rustix::process::WaitOptions::empty()) {
                Ok(Some((pid, _))) if Some(pid) == own => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// In the holder: gives everything up, then reaps for ever.
fn hold() -> io::Result<()> {
    // The standard streams too, which are the instance's.
    sys::close_from(0);
    sys::reset_signals();
    sys::set_ids(0, 0, &[])?;
    sys::set_name(c"init");
    sys::overwrite_command_line(b"init");
    // Without it, what runs inside could look into this process, whose root is the host's.
    sys::prctl(libc::PR_SET_DUMPABLE, 0)?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    sys::set_capabilities(0)?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let signals = sys::signal_fd(&[libc::SIGCHLD])?;
    loop {
        use rustix::event::{PollFd, PollFlags, poll};
        let _ = poll(&mut [PollFd::new(&signals, PollFlags::IN)], None);
        let _ = rustix::io::read(&signals, &mut [0; 128]);
        while matches!(
            rustix::process::wait(rustix::process::WaitOptions::NOHANG),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR)
        ) {}
    }
}

/// The control groups of a process, which may be gone before this is.
#[derive(Debug)]
pub struct Groups(crate::cgroup::Group);

impl Groups {
    /// Those that the process is in now.
    pub fn of(pid: u32) -> Self {
        Self(crate::cgroup::groups_of(pid))
    }

    /// How many processes in them were killed because the memory was used up.
    pub fn oom_kills(&self) -> u64 {
        self.0.oom_kills()
    }
}

/// Makes `source` seen at `target`, without set-user-id and devices; with `recursive` with all
/// that is mounted in it.
pub fn bind(source: &Path, target: &Path, recursive: bool, read_only: bool) -> io::Result<()> {
    use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    let tree = open_tree(rustix::fs::CWD, source, flags)?;
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    sys::mount_setattr(std::os::fd::AsFd::as_fd(&tree), recursive, attributes, None)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    Ok(move_mount(&tree, "", rustix::fs::CWD, target, flags)?)
}

/// Names of the system calls that a workload may use whatever their arguments are.
pub fn allowed_system_calls() -> impl Iterator<Item = &'static str> {
    crate::seccomp::always_allowed()
}

/// Absolute paths below `/proc` that this kernel has and that are hidden from workloads, and
/// those that they may only read.
pub fn hidden_of_proc() -> (Vec<String>, Vec<String>) {
    let (mut hidden, mut read_only) = (Vec::new(), Vec::new());
    for (path, how) in rootfs::proc_hidden(Protections::all()) {
        let list = if matches!(how, Hidden::ReadOnly) { &mut read_only } else { &mut hidden };
        list.push(format!("/{path}"));
    }
    (hidden, read_only)
}

/// Where the launcher keeps the shared parts of roots, relative to its data folder: the lowest
/// layer of a root over the view of the host, and, if it could be made, a view of `/usr` in which
/// what root owns appears to be the workload's user's.
pub fn shared_folders() -> (PathBuf, Option<PathBuf>) {
    let usr = PathBuf::from(rootfs::STAGE_USR);
    // It is a mount of the launcher's; without it, the folder is empty or missing.
    let mounted = usr.join("bin").exists();
    (crate::base::BASE_DIR.into(), mounted.then_some(usr))
}
