//! PID 1 of a sandbox: a fork of the launcher that never runs another program.
//!
//! It sets the sandbox up, waits for the launcher to say what to run, runs it, reaps what
//! ends, and connects sockets inside the network namespace. When the main process ends it ends
//! all others. It ends when the launcher says so, or with it; whatever then still lives in the
//! PID namespace is killed by the kernel.

pub(crate) mod control;
mod dial;
mod files;
mod identity;
mod inside;
mod personal;
mod process;
mod root;
mod setup;
pub(crate) mod terminal;
mod tool;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions, WaitStatus};
use seccompiler::BpfProgram;

use self::control::{Container, FromInit, Run, ToInit};
use self::dial::Dials;
use self::files::Where;
use self::identity::Identity;
use self::process::Streams;
use self::tool::{Running, Tool};
use crate::kind::Kind;
use crate::limits::FILE_REQUESTS_MAX;
use crate::network::device::{self, Framing};
use crate::protections::Protection;
use crate::protocol::DialError;
use crate::rootfs::Rootfs;
use crate::spec::WindowSize;
use crate::{sys, tree};

/// What the launcher decided before the fork.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) rootfs: &'a Rootfs,
    pub(crate) filter: &'a BpfProgram,
    /// Folder with the private layers, relative to the data folder.
    pub(crate) layer_dir: PathBuf,
    /// Files that bring this process into its control groups.
    pub(crate) join_files: Vec<OwnedFd>,
    /// What is set up.
    pub(crate) kind: &'a Kind,
    /// Whether it is a sandbox; else it is for a tool that isolates by itself.
    pub(crate) isolated: bool,
    /// Device nodes that the launcher has made for it, by their paths.
    pub(crate) devices: Vec<(String, OwnedFd)>,
    /// Where the private layer comes from, if it is in an image.
    pub(crate) disk: Option<OwnedFd>,
    pub(crate) control: OwnedFd,
}

/// A step that failed.
#[derive(Debug)]
pub(crate) struct StepError {
    pub(crate) step: String,
    pub(crate) reason: String,
}

/// Names the step of a failing call.
pub(crate) trait AtStep<T> {
    fn at(self, step: &str) -> Result<T, StepError>;
}

impl<T, E: Into<io::Error>> AtStep<T> for Result<T, E> {
    fn at(self, step: &str) -> Result<T, StepError> {
        self.map_err(|error| StepError { step: step.to_owned(), reason: error.into().to_string() })
    }
}

/// Runs as the init of a new sandbox, until the end of the process.
pub(crate) fn run(mut plan: Plan<'_>) -> ! {
    let set_up = if plan.isolated { setup::set_up(&plan) } else { tool::set_up(&plan) };
    let (identity, tun) = match set_up {
        Ok(done) => done,
        Err(error) => {
            let _ = control::send(&plan.control, &failed(0, error), &[]);
            sys::exit_now(1)
        }
    };
    // What was needed to get in here leads out.
    plan.join_files.clear();
    plan.devices.clear();
    plan.disk = None;
    if control::send(&plan.control, &FromInit::Ready, &[]).is_ok() {
        let init = Init {
            plan: &plan,
            identity,
            processes: BTreeMap::new(),
            dials: Dials::default(),
            file_servers: BTreeSet::new(),
            tun,
            tool: None,
        };
        let _ = init.serve();
    }
    sys::exit_now(0)
}

fn failed(process: u32, error: StepError) -> FromInit {
    FromInit::Failed { process, step: error.step, reason: error.reason }
}

struct Init<'a> {
    plan: &'a Plan<'a>,
    identity: Identity,
    /// The processes that were asked for, by their id in this PID namespace.
    processes: BTreeMap<i32, Known>,
    dials: Dials,
    /// The processes that serve files.
    file_servers: BTreeSet<i32>,
    /// The file of the TUN devices, until it is known whether the instance needs one.
    tun: Option<OwnedFd>,
    /// Once the main process was asked for, if it is a tool's.
    tool: Option<Tool>,
}

/// A process that was asked for.
#[derive(Clone, Copy)]
struct Known {
    number: u32,
    /// The process that a tool has started for it in this PID namespace.
    inner: Option<i32>,
}

impl Init<'_> {
    /// Serves until the main process has ended, and then stays, empty, until the launcher has time
    /// for what it takes to end a sandbox. Ends with the launcher.
    fn serve(mut self) -> io::Result<()> {
        let signals = sys::signal_fd(&[libc::SIGCHLD])?;
        loop {
            let (control_ready, child_ready) = self.wait(&signals)?;
            if child_ready {
                let mut buffer = [0; 128];
                let _ = rustix::io::read(&signals, &mut buffer);
                if self.reap()? {
                    while control::recv_from_launcher(&self.plan.control)?.is_some() {}
                    return Ok(());
                }
            }
            self.dials.advance(&self.plan.control)?;
            if control_ready {
                let Some((message, fds)) = control::recv_from_launcher(&self.plan.control)? else {
                    if !self.plan.isolated {
                        tool::wind_down(self.processes.into_keys(), &signals);
                    }
                    return Ok(());
                };
                self.handle(message, fds)?;
            }
        }
    }

    /// Waits for something to do: whether there is a message, and whether a child ended.
    fn wait(&self, signals: &OwnedFd) -> io::Result<(bool, bool)> {
        let timeout = self.dials.timeout();
        let mut fds = vec![
            PollFd::new(&self.plan.control, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        fds.extend(self.dials.poll_fds());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => Ok((!fds[0].revents().is_empty(), !fds[1].revents().is_empty())),
            Err(rustix::io::Errno::INTR) => Ok((false, false)),
            Err(error) => Err(error.into()),
        }
    }

    fn handle(&mut self, message: ToInit, fds: Vec<OwnedFd>) -> io::Result<()> {
        match message {
            ToInit::Run(run) => self.run(*run, fds),
            ToInit::Signal { process, signal } => {
                self.signal(process, signal);
                Ok(())
            }
            ToInit::Files { id, container } => self.serve_files(id, container.as_ref(), &fds),
            ToInit::KillTree { process } => {
                self.kill_tree(process);
                Ok(())
            }
            ToInit::Dial { id, port } => self.dials.begin(&self.plan.control, id, port),
            ToInit::JoinNetwork => {
                if let Some(network) = fds.first() {
                    // Without it, no port of the instance is found.
                    let _ = sys::enter_network(network.as_fd());
                }
                Ok(())
            }
            ToInit::Mapped | ToInit::InMemoryFile => Ok(()),
        }
    }

    fn run(&mut self, run: Run, fds: Vec<OwnedFd>) -> io::Result<()> {
        let process = run.process;
        match self.try_run(run, &fds) {
            Ok(Running { pid, inner, of_host }) => {
                let inner_pid = inner.map(|inner| inner.as_raw_nonzero().get());
                let entry = Known { number: process, inner: inner_pid };
                self.processes.insert(pid.as_raw_nonzero().get(), entry);
                let seen = inner.unwrap_or(pid);
                let pidfd =
                    rustix::process::pidfd_open(seen, rustix::process::PidfdFlags::empty()).ok();
                let attached: Vec<_> = pidfd.iter().map(|fd| fd.as_fd()).collect();
                let started = FromInit::Started { process, of_host };
                control::send(&self.plan.control, &started, &attached)
            }
            Err(error) => {
                control::send(&self.plan.control, &failed(process, error), &[])?;
                // Without its main process a sandbox has no purpose.
                if process == 0 { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
            }
        }
    }

    fn try_run(&mut self, mut run: Run, fds: &[OwnedFd]) -> Result<Running, StepError> {
        let [stdin, stdout, stderr, mounts @ ..] = fds else {
            return Err(StepError {
                step: "take over the standard streams".into(),
                reason: format!("{} instead of 3 descriptors", fds.len()),
            });
        };
        let streams = [stdin, stdout, stderr].map(|fd| fd.as_raw_fd());
        if let Some(personal) = &run.personal {
            let tun = self.tun.take();
            if personal.private_network {
                self.make_network(tun)?;
            }
        }
        if !self.plan.isolated {
            let tool = self.tool.get_or_insert_with(|| Tool::new(&mut run));
            return tool.spawn(run, streams, &self.identity);
        }
        if let Some(personal) = &run.personal {
            setup::make_personal(personal, mounts, self.plan, &mut self.identity)?;
        }
        let identity = match &run.user {
            Some(user) => Cow::Owned(self.identity.of_another(user)?),
            None => Cow::Borrowed(&self.identity),
        };
        let terminal = match run.terminal {
            Some(size) => Some(self.make_terminal(run.process, size, &identity)?),
            None => None,
        };
        let streams = match &terminal {
            Some(terminal) => Streams::Terminal(terminal.as_fd()),
            None => Streams::Separate(streams),
        };
        let pid = process::spawn(&run, streams, &identity)?;
        Ok(Running { pid, inner: None, of_host: None })
    }

    /// Makes a terminal of the sandbox's own, hands its other side over, and gives the side of the
    /// process.
    fn make_terminal(
        &self,
        process: u32,
        size: WindowSize,
        identity: &Identity,
    ) -> Result<OwnedFd, StepError> {
        let (controller, terminal) = terminal::make(size, identity).at("make the terminal")?;
        let message = FromInit::Terminal { process };
        control::send(&self.plan.control, &message, &[controller.as_fd()])
            .at("hand the terminal over")?;
        Ok(terminal)
    }

    /// Makes the interface of a private network, while this process still may.
    fn make_network(&self, tun: Option<OwnedFd>) -> Result<(), StepError> {
        let (device, framing) =
            device::make(tun).at("make the interface of the private network")?;
        let message = FromInit::Device { ethernet: framing == Framing::Ethernet };
        control::send(&self.plan.control, &message, &[device.as_fd()])
            .at("hand the interface of the private network over")
    }

    fn signal(&self, process: u32, signal: i32) {
        if let Some((pid, _)) = self.find(process) {
            // It may have ended just now, but it is not reaped yet, so this hits nobody else.
            let _ = sys::kill(pid, signal);
        }
    }

    /// Starts a process that serves a request for files, and hands its socket over.
    fn serve_files(
        &mut self,
        id: u64,
        container: Option<&Container>,
        namespaces: &[OwnedFd],
    ) -> io::Result<()> {
        let place = match container {
            None => Where::Here(&self.identity),
            Some(container) => Where::Elsewhere(container, namespaces, self.plan.filter),
        };
        let started = match self.file_servers.len() < FILE_REQUESTS_MAX {
            true => {
                files::spawn(&place).map_err(|error| format!("{}: {}", error.step, error.reason))
            }
            false => Err(format!("{FILE_REQUESTS_MAX} requests for its files are served already")),
        };
        match started {
            Ok((pid, socket)) => {
                self.file_servers.insert(pid.as_raw_nonzero().get());
                let message = FromInit::Dialed { id };
                control::send(&self.plan.control, &message, &[socket.as_fd()])
            }
            Err(reason) => {
                let message = FromInit::DialFailed { id, error: DialError::Other, reason };
                control::send(&self.plan.control, &message, &[])
            }
        }
    }

    /// Kills what was asked for and all that it has started. Without a namespace of processes it is
    /// only the process itself.
    fn kill_tree(&self, process: u32) {
        match self.find(process) {
            Some((pid, known)) if self.plan.rootfs.protections.has(Protection::PidNamespace) => {
                tree::kill_tree(known.inner.unwrap_or(pid));
            }
            _ => self.signal(process, libc::SIGKILL),
        }
    }

    fn find(&self, process: u32) -> Option<(i32, Known)> {
        let mut all = self.processes.iter();
        all.find(|(_, known)| known.number == process).map(|(pid, known)| (*pid, *known))
    }

    /// Reaps all that ended, also orphans; true if the main process was among them, and with it
    /// all the others.
    fn reap(&mut self) -> io::Result<bool> {
        loop {
            let (pid, status) = match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(ended)) => ended,
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(false),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if let Some(main) = self.note_end(pid, status)? {
                self.end_others()?;
                control::send(&self.plan.control, &main, &[])?;
                return Ok(true);
            }
        }
    }

    /// Tells of a process that was asked for; what is to be told of the main one is returned.
    fn note_end(&mut self, pid: Pid, status: WaitStatus) -> io::Result<Option<FromInit>> {
        let Some(Known { number: process, .. }) =
            self.processes.remove(&pid.as_raw_nonzero().get())
        else {
            self.file_servers.remove(&pid.as_raw_nonzero().get());
            return Ok(None);
        };
        let (code, signal) = (status.exit_status(), status.terminating_signal());
        let disk_full = self.plan.kind.image_bytes.is_some() && setup::is_full();
        let end = FromInit::Exited { process, code, signal, disk_full };
        if process == 0 {
            return Ok(Some(end));
        }
        control::send(&self.plan.control, &end, &[])?;
        Ok(None)
    }

    /// Ends everything in the sandbox but this process. No fork escapes: it fails while the
    /// signal is pending.
    fn end_others(&mut self) -> io::Result<()> {
        const EVERYBODY: i32 = -1;
        // Without a namespace of processes it would hit all that this user has.
        if !self.plan.rootfs.protections.has(Protection::PidNamespace) {
            return Ok(());
        }
        let _ = sys::kill(EVERYBODY, libc::SIGKILL);
        loop {
            match rustix::process::wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) => {
                    self.note_end(pid, status)?;
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
