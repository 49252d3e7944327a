//! What happens in a sandbox: it gets ready, runs, writes, and ends.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::core::{Launcher, Source, epoll_add, now_ms};
use super::sandbox::{Asker, Phase, Process, Sandbox, SpawnError, kill, reap};
use super::store::{self, SPARES_DIR};
use super::tool;
use crate::cgroup;
use crate::init::control::{self, FromInit, ToInit};
use crate::kind::Kind;
use crate::limits::{HUSKS_MAX, START_POLL_MS};
use crate::log::Stream;
use crate::protocol::{DialError, Event, Reply};
use crate::spec::{Exit, LimitReached};
use crate::{sys, tree};

impl Launcher {
    /// Makes a new sandbox and returns its number.
    pub(super) fn spawn(&mut self, kind: Kind) -> Result<u64, SpawnError> {
        let number = self.token();
        let dir = Path::new(SPARES_DIR).join(number.to_string());
        let sandbox = self.workshop.spawn(number, &dir, kind)?;
        self.watch_sandbox(number, sandbox)
    }

    /// Takes in a new sandbox and returns its number.
    pub(super) fn watch_sandbox(
        &mut self,
        number: u64,
        mut sandbox: Sandbox,
    ) -> Result<u64, SpawnError> {
        let (control, init) = (self.token(), self.token());
        sandbox.tokens = [control, init];
        if let Some(maker) = sandbox.maker.take() {
            let token = self.token();
            let _ = epoll_add(&self.epoll, maker.as_fd(), token);
            self.sources.insert(token, Source::Maker);
            self.makers.insert(token, maker);
        }
        let watched = epoll_add(&self.epoll, sandbox.control.as_fd(), control)
            .and_then(|()| epoll_add(&self.epoll, sandbox.init.as_fd(), init));
        self.sources.insert(control, Source::Control(number));
        self.sources.insert(init, Source::Init(number));
        self.sandboxes.insert(number, sandbox);
        self.spares.insert(number);
        watched.map_err(|error| SpawnError { step: "watch the sandbox", error })?;
        Ok(number)
    }

    pub(super) fn serve_control(&mut self, token: u64, number: u64) {
        let Some(sandbox) = self.sandboxes.get(&number) else {
            return;
        };
        match control::recv_from_init(&sandbox.control) {
            Ok(Some((message, fds))) => self.handle_init(number, message, fds),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The init has ended, which its pidfd tells too.
            _ => {
                self.sources.remove(&token);
                let _ = epoll::delete(&self.epoll, &sandbox.control);
            }
        }
    }

    pub(super) fn handle_init(&mut self, number: u64, message: FromInit, fds: Vec<OwnedFd>) {
        match message {
            FromInit::Ready => self.ready(number),
            FromInit::Failed { process: 0, step, reason } => {
                self.main_failed(number, step, reason);
            }
            FromInit::Failed { process, step, reason } => {
                self.exec_failed(number, process, step, reason);
            }
            FromInit::Started { process, of_host } => {
                self.started(number, process, of_host, fds.first());
            }
            FromInit::Exited { process, code, signal, disk_full } => {
                let Some(sandbox) = self.sandboxes.get_mut(&number) else {
                    return;
                };
                if let Some(found) = sandbox.processes.get_mut(&process) {
                    found.status = Some((code, signal));
                    found.disk_full = disk_full;
                }
                if process == 0 {
                    // All the others have ended too.
                    self.empty(number);
                } else {
                    self.drain(number, process);
                    self.report_exit(number, process);
                    self.drop_if_done(number, process);
                }
            }
            FromInit::Terminal { process } => self.take_terminal(number, process, fds),
            FromInit::Device { ethernet } => self.take_device(number, ethernet, fds),
            FromInit::Dialed { id } => {
                if let Some(asker) = self.take_dial(number, id) {
                    self.reply_with_fd(asker, Reply::Dialed, fds.into_iter().next());
                }
            }
            FromInit::DialFailed { id, error, reason } => {
                if let Some(asker) = self.take_dial(number, id) {
                    self.reply(asker, Reply::DialFailed { error, reason });
                }
            }
        }
    }

    pub(super) fn take_dial(&mut self, number: u64, id: u64) -> Option<Asker> {
        self.sandboxes.get_mut(&number)?.dials.remove(&id)
    }

    pub(super) fn ready(&mut self, number: u64) {
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let phase = std::mem::replace(&mut sandbox.phase, Phase::Spare);
        let kind = sandbox.kind.clone();
        match phase {
            Phase::SettingUp(Some(spec)) => self.begin_main(number, *spec),
            Phase::SettingUp(None) => sandbox.kill_at = None,
            other => sandbox.phase = other,
        }
        self.note_spare(&kind, true);
    }

    pub(super) fn started(
        &mut self,
        number: u64,
        process: u32,
        of_host: Option<u32>,
        pidfd: Option<&OwnedFd>,
    ) {
        if let (Some(pid), 0) = (of_host, process) {
            self.join_network_of(number, pid);
        }
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let init_pid = sandbox.init_pid;
        let pid = of_host.or_else(|| pidfd.and_then(sys::pid_of)).unwrap_or(0);
        let Some(found) = sandbox.processes.get_mut(&process) else {
            return;
        };
        found.pid = Some(pid);
        found.of_host = of_host.and_then(tool::open);
        let mut asker = found.asker.take();
        if process == 0 {
            sandbox.kill_at = None;
            asker = sandbox.starter.take();
            self.starting.remove(&number);
        }
        if let Some(asker) = asker {
            self.reply(asker, Reply::Started { init_pid, pid });
        }
    }

    /// Watches the pipes of a process.
    pub(super) fn watch_pipes(
        &mut self,
        number: u64,
        process: u32,
        pipes: impl IntoIterator<Item = (Stream, OwnedFd)>,
    ) -> io::Result<BTreeMap<u64, (Stream, OwnedFd)>> {
        let mut watched = BTreeMap::new();
        for (stream, fd) in pipes {
            let token = self.token();
            epoll_add(&self.epoll, fd.as_fd(), token)?;
            self.sources.insert(token, Source::Output(number, process));
            watched.insert(token, (stream, fd));
        }
        Ok(watched)
    }

    /// Watches our side of the terminal of a process. Without it the process has no output, which
    /// its start then tells.
    fn take_terminal(&mut self, number: u64, process: u32, fds: Vec<OwnedFd>) {
        let Some(terminal) = fds.into_iter().next() else {
            return;
        };
        let shared = rustix::io::ioctl_fionbio(&terminal, true)
            .and_then(|()| rustix::io::fcntl_dupfd_cloexec(&terminal, 0));
        let Ok(shared) = shared else {
            return;
        };
        let pipes = self.watch_pipes(number, process, [(Stream::Stdout, shared)]);
        let sandbox = self.sandboxes.get_mut(&number);
        if let (Some(found), Ok(pipes)) =
            (sandbox.and_then(|sandbox| sandbox.processes.get_mut(&process)), pipes)
        {
            found.pipes.extend(pipes);
            found.terminal = Some(terminal);
        }
    }

    /// Ends the processes that have run for as long as they may.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        while let Some(first) = self.deadlines.first().copied().filter(|(at, ..)| *at <= now) {
            self.deadlines.remove(&first);
            let (_, number, process) = first;
            let Some(sandbox) = self.sandboxes.get_mut(&number) else {
                continue;
            };
            let Some(found) = sandbox.processes.get_mut(&process) else {
                continue;
            };
            if found.pid.is_none() && found.asker.is_some() {
                // It is still being started.
                let later = now + Duration::from_millis(START_POLL_MS);
                self.deadlines.insert((later, number, process));
                continue;
            }
            if found.pid.is_none() || found.status.is_some() {
                continue;
            }
            found.timed_out = true;
            match (&found.of_host, found.pid) {
                (Some(of_host), Some(pid)) => tree::kill_elsewhere(of_host, pid),
                _ => {
                    let _ = control::send(&sandbox.control, &ToInit::KillTree { process }, &[]);
                }
            }
        }
    }

    /// Reads one turn of one pipe into the log; false when there is nothing more for now.
    pub(super) fn read_output(&mut self, token: u64, number: u64, process: u32) -> bool {
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return false;
        };
        let Some(found) = sandbox.processes.get_mut(&process) else {
            return false;
        };
        let Some((stream, fd)) = found.pipes.get(&token) else {
            return false;
        };
        match rustix::io::read(fd, &mut self.buffer[..]) {
            Ok(read) if read > 0 => {
                // Without space on disk the output is lost, but the process goes on.
                let _ = found.log.append(now_ms(), *stream, &self.buffer[..read]);
                self.fresh_output.insert((number, process));
                self.note_sign_of_life(number);
                true
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            _ => {
                let _ = epoll::delete(&self.epoll, fd);
                self.sources.remove(&token);
                found.pipes.remove(&token);
                self.drop_if_done(number, process);
                false
            }
        }
    }

    /// Reads what is in the pipes of a process: all of it if the writers have ended, and in
    /// any case no more than some pipes full.
    pub(super) fn drain(&mut self, number: u64, process: u32) {
        const TURNS_MAX: usize = 64;
        let Some(sandbox) = self.sandboxes.get(&number) else {
            return;
        };
        let Some(found) = sandbox.processes.get(&process) else {
            return;
        };
        for token in found.pipes.keys().copied().collect::<Vec<_>>() {
            for _ in 0..TURNS_MAX {
                if !self.read_output(token, number, process) {
                    break;
                }
            }
        }
    }

    /// Forgets a process that is reported and whose pipes are closed.
    pub(super) fn drop_if_done(&mut self, number: u64, process: u32) {
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let done = |found: &Process| found.reported && found.pipes.is_empty();
        if process != 0 && sandbox.processes.get(&process).is_some_and(done) {
            self.tell_output();
            if let Some(sandbox) = self.sandboxes.get_mut(&number) {
                sandbox.processes.remove(&process);
            }
        }
    }

    /// Writes down how a process ended, then tells it.
    pub(super) fn report_exit(&mut self, number: u64, process: u32) {
        self.tell_output();
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let oom_kills = sandbox.group.as_ref().map_or(0, cgroup::Group::oom_kills);
        let out_of_memory = sandbox.over_memory || oom_kills > 0 || tool::is_out_of_memory(sandbox);
        let (mut limit, project) = (sandbox.limit, sandbox.project);
        let Some(instance) = sandbox.instance.clone() else {
            return;
        };
        let Some(found) = sandbox.processes.get_mut(&process) else {
            return;
        };
        if found.reported {
            return;
        }
        found.reported = true;
        let (code, signal) = found.status.unwrap_or((None, Some(libc::SIGKILL)));
        let oom = out_of_memory && code != Some(0);
        if found.timed_out {
            limit.get_or_insert(LimitReached::Time);
        }
        let projects = self.workshop.projects.as_ref().zip(project);
        let full = || found.disk_full || projects.is_some_and(|(all, it)| all.is_full(it));
        let full = code != Some(0) && full();
        let limit = limit.or(full.then_some(LimitReached::Disk));
        let last_output = found.log.tail();
        let exit = Exit { code, signal, oom, at_ms: now_ms(), last_output, limit };
        // If the disk is full the status lives only in the event.
        let _ = store::save_exit(&sandbox.dir, process, &exit);
        self.tell(&Event::Exited { instance, process, exit });
    }

    /// Everything in the sandbox but the init has ended. What is reported of it must not wait for
    /// the rest, which takes longer than most starts.
    fn empty(&mut self, number: u64) {
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        if sandbox.ends_first || self.husks.len() >= HUSKS_MAX {
            let _ = kill(&sandbox.init);
            return;
        }
        self.conclude(number);
        if let Some(sandbox) = self.sandboxes.get_mut(&number) {
            sandbox.phase = Phase::Husk;
            self.husks.push_back(number);
            self.husks_since.get_or_insert_with(Instant::now);
        }
    }

    /// Reports the end of an instance: nothing of it runs any more.
    fn conclude(&mut self, number: u64) {
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        if sandbox.starter.is_some() {
            self.report_failure(number);
        }
        let processes: Vec<u32> = self
            .sandboxes
            .get(&number)
            .map(|sandbox| sandbox.processes.keys().rev().copied().collect())
            .unwrap_or_default();
        for process in processes {
            self.finish_process(number, process);
        }
        self.starting.remove(&number);
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        (sandbox.kill_at, sandbox.watched_memory_bytes) = (None, None);
        self.leases.remove(number);
        self.notes.remove(&number);
        sandbox.watched_disk_bytes = None;
        let processes = std::mem::take(&mut sandbox.processes);
        let dials = std::mem::take(&mut sandbox.dials);
        let network = sandbox.network.take();
        if let Some(instance) = &sandbox.instance {
            self.running.remove(instance);
        }
        if let Some(network) = network {
            // The last to close the device is the network process, which has a thread for that.
            drop(network);
            self.leave_network(number);
        }
        for token in processes.values().flat_map(|process| process.pipes.keys()) {
            self.sources.remove(token);
        }
        for asker in dials.into_values() {
            let reason = "the sandbox has ended".to_owned();
            self.reply(asker, Reply::DialFailed { error: DialError::Refused, reason });
        }
    }

    /// The init has ended, and with it everything in the sandbox.
    pub(super) fn finish(&mut self, number: u64) {
        self.take_last_messages(number);
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let _ = reap(&sandbox.init);
        if matches!(sandbox.phase, Phase::Husk) {
            self.husks.retain(|husk| *husk != number);
        } else {
            self.conclude(number);
        }
        let Some(sandbox) = self.sandboxes.remove(&number) else {
            return;
        };
        self.spares.remove(&number);
        for token in sandbox.tokens {
            self.sources.remove(&token);
        }
        if let Some(group) = sandbox.group {
            self.discard_group(group);
        }
        if sandbox.instance.is_none() {
            if matches!(sandbox.phase, Phase::SettingUp(_)) {
                self.note_spare(&sandbox.kind, false);
            }
            self.discard(&sandbox.dir);
        }
    }

    /// Reads what the init sent before it ended.
    pub(super) fn take_last_messages(&mut self, number: u64) {
        while let Some(sandbox) = self.sandboxes.get(&number) {
            match control::recv_from_init(&sandbox.control) {
                Ok(Some((message, fds))) => self.handle_init(number, message, fds),
                _ => return,
            }
        }
    }

    pub(super) fn finish_process(&mut self, number: u64, process: u32) {
        self.drain(number, process);
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let Some(found) = sandbox.processes.get_mut(&process) else {
            return;
        };
        match found.asker.take() {
            // It had been asked for, but the sandbox ended first.
            Some(asker) => {
                let (step, reason) = ("start the process".into(), "the sandbox ended".into());
                self.reply(asker, Reply::StartFailed { step, reason });
            }
            None if found.pid.is_some() => self.report_exit(number, process),
            None => {}
        }
    }
}
