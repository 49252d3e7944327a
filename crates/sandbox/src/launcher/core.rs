//! The launcher's event loop: who is ready, and what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::Mode;
use rustix::net::sockopt;

use super::connection::Connection;
use super::sandbox::{Asker, Phase, Process, Sandbox, Workshop, kill, reap};
use super::store::{self, INSTANCES_DIR, SPARES_DIR};
use super::{Config, SOCKET_NAME, ServeError, lock, make_data_dir, watch};
use crate::cgroup::{self, Cgroups, Controller};
use crate::init::control::{self, FromInit};
use crate::limits::{CONNECTIONS_MAX, MEMORY_POLL_MS, OUTPUT_BYTES_PER_TURN, PROTOCOL_VERSION};
use crate::protocol::{DialError, Event, FrameError, Hello, Message, Reply};
use crate::spec::Exit;
use crate::{rootfs, seccomp, sys};

/// File that names the control groups of the launcher, for its successor to clean up.
const CGROUPS_FILE: &str = "cgroups";
/// Folder of what is being deleted.
const TRASH_DIR: &str = "trash";
/// Pause after the last activity before a spare is prepared, so that it delays no output.
const SPARE_AFTER: Duration = Duration::from_millis(1);
/// A start that has not written anything yet delays new spares by no more than this.
const SPARE_AFTER_START: Duration = Duration::from_millis(10);
/// When activity never pauses, a spare is prepared nevertheless after this.
const SPARE_AFTER_MAX: Duration = Duration::from_millis(20);
/// Pause before the trash is emptied, so that one process empties it for many.
const SWEEP_AFTER: Duration = Duration::from_millis(100);
/// Spares that may fail in a row before no more are tried until a start succeeds.
const SPARE_FAILURES_MAX: u32 = 3;

/// Serves until a `Shutdown` or SIGTERM. The process must have one thread, because it forks
/// without running another program; it changes its working directory, umask, mount namespace
/// and signal mask, so nothing else should happen in it.
pub fn serve(config: Config) -> Result<(), ServeError> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(ServeError::Threads(threads));
    }
    let at = |step: &'static str| {
        let place = config.data.clone();
        move |error: io::Error| ServeError::Io { step, place, error }
    };
    rustix::process::umask(Mode::from_raw_mode(0o077));
    make_data_dir(&config.data).map_err(at("make the data folder"))?;
    let place = fs::canonicalize(&config.data).map_err(at("find the data folder"))?;
    std::env::set_current_dir(&place).map_err(at("enter the data folder"))?;
    let Some(lock) = lock().map_err(at("lock the data folder"))? else {
        return Err(ServeError::Busy(place));
    };
    let signals = sys::signal_fd(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
        .map_err(at("watch for signals"))?;
    sys::set_name(c"launcher");
    let name = format!(
        "spawnery-{:08x}",
        crc32c::crc32c(place.as_os_str().as_encoded_bytes())
    );
    remove_old_groups();
    make_folders().map_err(at("make the folders of the instances"))?;
    let cgroups = Cgroups::detect(&name);
    save_groups(&cgroups).map_err(at("write down the control groups"))?;
    let workshop = Workshop {
        rootfs: rootfs::prepare(is_rootful())?,
        filter: seccomp::compile().map_err(|error| ServeError::Filter(error.to_string()))?,
        cgroups,
        run_name: format!("{}-{}", now_ms(), std::process::id()),
    };
    let listener = listen().map_err(at("listen on the socket"))?;
    let mut launcher = Launcher::new(config.spares, workshop, listener, signals)
        .map_err(at("watch the socket"))?;
    let result = launcher.serve();
    let _ = fs::remove_file(SOCKET_NAME);
    for dir in launcher.workshop.cgroups.dirs() {
        cgroup::remove_leftovers(dir);
    }
    drop(lock);
    result.map_err(at("wait for events"))
}

/// Whether the ids of sandboxes can be mapped to a range of their own.
pub(crate) fn is_rootful() -> bool {
    use rustix::thread::CapabilitySet;
    let needed = CapabilitySet::SYS_ADMIN
        | CapabilitySet::SETUID
        | CapabilitySet::SETGID
        | CapabilitySet::CHOWN;
    rustix::process::geteuid().is_root()
        && rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Removes the groups of an earlier launcher. Its sandboxes end when it ends, which may take
/// a moment; what is still busy after that is left to the next launcher.
fn remove_old_groups() {
    let dirs = fs::read_to_string(CGROUPS_FILE).unwrap_or_default();
    for _ in 0..50 {
        dirs.lines()
            .for_each(|dir| cgroup::remove_leftovers(Path::new(dir)));
        if !dirs.lines().any(|dir| Path::new(dir).exists()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn save_groups(cgroups: &Cgroups) -> io::Result<()> {
    let mut text = String::new();
    for dir in cgroups.dirs() {
        text.push_str(&dir.to_string_lossy());
        text.push('\n');
    }
    fs::write(CGROUPS_FILE, text)
}

fn make_folders() -> io::Result<()> {
    fs::create_dir_all(TRASH_DIR)?;
    if Path::new(SPARES_DIR).exists() {
        fs::rename(
            SPARES_DIR,
            Path::new(TRASH_DIR).join(format!("spares-{}", now_ms())),
        )?;
    }
    fs::create_dir_all(SPARES_DIR)?;
    fs::create_dir_all(INSTANCES_DIR)
}

fn listen() -> io::Result<UnixListener> {
    match fs::remove_file(SOCKET_NAME) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(SOCKET_NAME)?;
    fs::set_permissions(
        SOCKET_NAME,
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a token of the epoll set stands for.
#[derive(Debug, Clone, Copy)]
enum Source {
    Listener,
    Signals,
    Connection,
    Control(u64),
    Init(u64),
    Output(u64, u32),
    Sweeper,
}

/// How the launcher comes to its end.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) asker: Option<Asker>,
}

/// The launcher.
#[derive(Debug)]
pub(super) struct Launcher {
    pub(super) workshop: Workshop,
    epoll: OwnedFd,
    listener: UnixListener,
    signals: OwnedFd,
    sources: BTreeMap<u64, Source>,
    connections: BTreeMap<u64, Connection>,
    /// Living sandboxes, by number.
    pub(super) sandboxes: BTreeMap<u64, Sandbox>,
    /// Numbers of living instances.
    pub(super) running: BTreeMap<String, u64>,
    next_token: u64,
    /// Output that subscribers have not been told of.
    fresh_output: BTreeSet<(u64, u32)>,
    sweeper: Option<(u64, OwnedFd)>,
    /// When to empty the trash.
    sweep_at: Option<Instant>,
    spares_wanted: u32,
    spare_failures: u32,
    last_activity: Instant,
    /// Since when there has been a spare too few, or the last one was made.
    spares_lack_since: Instant,
    /// The last start, and when to wait no longer for its first output.
    last_start: Option<(u64, Instant)>,
    next_memory_poll: Option<Instant>,
    pub(super) ending: Option<Ending>,
    buffer: Vec<u8>,
}

impl Launcher {
    fn new(
        spares_wanted: u32,
        workshop: Workshop,
        listener: UnixListener,
        signals: OwnedFd,
    ) -> io::Result<Self> {
        let mut launcher = Self {
            workshop,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            listener,
            signals,
            sources: BTreeMap::new(),
            connections: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            running: BTreeMap::new(),
            next_token: 1,
            fresh_output: BTreeSet::new(),
            sweeper: None,
            sweep_at: Some(Instant::now()),
            spares_wanted,
            spare_failures: 0,
            last_activity: Instant::now(),
            spares_lack_since: Instant::now(),
            last_start: None,
            next_memory_poll: None,
            ending: None,
            buffer: vec![0; OUTPUT_BYTES_PER_TURN],
        };
        let (listener, signals) = (launcher.token(), launcher.token());
        epoll_add(&launcher.epoll, launcher.listener.as_fd(), listener)?;
        epoll_add(&launcher.epoll, launcher.signals.as_fd(), signals)?;
        launcher.sources.insert(listener, Source::Listener);
        launcher.sources.insert(signals, Source::Signals);
        Ok(launcher)
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        loop {
            let timeout = self.timeout();
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
                _ => {}
            }
            if !events.is_empty() {
                self.last_activity = Instant::now();
            }
            for event in &events {
                self.handle_event(event.data.u64());
            }
            self.run_timers();
            self.tell_output();
            self.flush_connections();
            if self.is_over() {
                return Ok(());
            }
            self.make_spare();
        }
    }

    /// A number that is never used again.
    pub(super) fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn handle_event(&mut self, token: u64) {
        match self.sources.get(&token).copied() {
            Some(Source::Listener) => self.accept(),
            Some(Source::Signals) => self.take_signal(),
            Some(Source::Connection) => self.serve_connection(token),
            Some(Source::Control(number)) => self.serve_control(token, number),
            Some(Source::Init(number)) => self.finish(number),
            Some(Source::Output(number, process)) => {
                self.read_output(token, number, process);
            }
            Some(Source::Sweeper) => self.swept(token),
            // Closed by an earlier event of the same round.
            None => {}
        }
    }

    // Connections.

    fn accept(&mut self) {
        let Ok((socket, _)) = self.listener.accept() else {
            return;
        };
        let allowed = sockopt::socket_peercred(&socket)
            .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid());
        if !allowed || self.connections.len() >= CONNECTIONS_MAX {
            return;
        }
        let token = self.token();
        if socket.set_nonblocking(true).is_err()
            || epoll_add(&self.epoll, socket.as_fd(), token).is_err()
        {
            return;
        }
        let mut connection = Connection::new(socket);
        let hello = Hello {
            version: PROTOCOL_VERSION,
            subscribe: false,
            pid: std::process::id(),
        };
        connection.push(&Message::Hello(hello), None);
        self.connections.insert(token, connection);
        self.sources.insert(token, Source::Connection);
    }

    fn serve_connection(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let open = connection.fill().unwrap_or(false);
        loop {
            let Some(connection) = self.connections.get_mut(&token) else {
                return;
            };
            match connection.next() {
                Ok(Some(message)) => self.handle_message(token, message),
                Ok(None) => break,
                Err(FrameError::NotUnderstood {
                    request_id: Some(id),
                    reason,
                    ..
                }) => {
                    let reason = format!("the launcher does not understand: {reason}");
                    self.reply((token, id), Reply::Refused { reason });
                }
                Err(FrameError::NotUnderstood { .. }) => {}
                Err(FrameError::TooLarge { .. }) => return self.disconnect(token),
            }
        }
        if !open {
            self.disconnect(token);
        }
    }

    fn handle_message(&mut self, token: u64, message: Message) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        match message {
            Message::Hello(hello) => {
                connection.greeted = true;
                connection.subscribed = hello.subscribe;
            }
            Message::Request { id, request } if connection.greeted => {
                if let Some(reply) = self.handle_request((token, id), request) {
                    self.reply((token, id), reply);
                }
            }
            _ => self.disconnect(token),
        }
    }

    fn disconnect(&mut self, token: u64) {
        self.sources.remove(&token);
        if let Some(connection) = self.connections.remove(&token) {
            let _ = epoll::delete(&self.epoll, &connection);
        }
    }

    /// Answers a request, if its caller is still there.
    pub(super) fn reply(&mut self, (token, id): Asker, reply: Reply) {
        self.reply_with_fd((token, id), reply, None);
    }

    fn reply_with_fd(&mut self, (token, id): Asker, reply: Reply, fd: Option<OwnedFd>) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.push(&Message::Reply { id, reply }, fd);
        }
    }

    fn tell(&mut self, event: &Event) {
        let message = Message::Event(event.clone());
        let mut too_slow = Vec::new();
        for (token, connection) in &mut self.connections {
            if connection.subscribed && connection.is_too_slow() {
                too_slow.push(*token);
            } else if connection.subscribed {
                connection.push(&message, None);
            }
        }
        // It connects again and lists, which costs less than a queue without a limit.
        too_slow
            .into_iter()
            .for_each(|token| self.disconnect(token));
    }

    fn tell_output(&mut self) {
        for (number, process) in std::mem::take(&mut self.fresh_output) {
            let Some(sandbox) = self.sandboxes.get(&number) else {
                continue;
            };
            let Some(instance) = sandbox.instance.clone() else {
                continue;
            };
            let Some(found) = sandbox.processes.get(&process) else {
                continue;
            };
            let next_seq = found.log.next_seq();
            self.tell(&Event::Output {
                instance,
                process,
                next_seq,
            });
        }
    }

    fn flush_connections(&mut self) {
        let mut closed = Vec::new();
        for (token, connection) in &mut self.connections {
            match connection.flush() {
                Ok(left) => {
                    if left != connection.wants_out {
                        connection.wants_out = left;
                        let out = if left {
                            EventFlags::OUT
                        } else {
                            EventFlags::empty()
                        };
                        let data = EventData::new_u64(*token);
                        let _ =
                            epoll::modify(&self.epoll, &*connection, data, EventFlags::IN | out);
                    }
                }
                Err(_) => closed.push(*token),
            }
        }
        closed.into_iter().for_each(|token| self.disconnect(token));
    }

    // Sandboxes.

    /// Makes a new sandbox and returns its number.
    pub(super) fn spawn(&mut self, own_network: bool) -> Result<u64, super::sandbox::SpawnError> {
        let number = self.token();
        let dir = Path::new(SPARES_DIR).join(number.to_string());
        let sandbox = self.workshop.spawn(number, &dir, own_network)?;
        let (control, init) = (self.token(), self.token());
        let watched = epoll_add(&self.epoll, sandbox.control.as_fd(), control)
            .and_then(|()| epoll_add(&self.epoll, sandbox.init.as_fd(), init));
        self.sources.insert(control, Source::Control(number));
        self.sources.insert(init, Source::Init(number));
        self.sandboxes.insert(number, sandbox);
        watched.map_err(|error| super::sandbox::SpawnError {
            step: "watch the sandbox",
            error,
        })?;
        Ok(number)
    }

    /// A spare that is set up, else one that is about to be.
    pub(super) fn take_spare(&mut self) -> Option<u64> {
        let ready = |sandbox: &Sandbox| matches!(sandbox.phase, Phase::Spare);
        let soon = |sandbox: &Sandbox| matches!(sandbox.phase, Phase::SettingUp(None));
        let free = || {
            self.sandboxes
                .iter()
                .filter(|(_, it)| it.instance.is_none())
        };
        free()
            .find(|(_, it)| ready(it))
            .or_else(|| free().find(|(_, it)| soon(it)))
            .map(|(number, _)| *number)
    }

    fn make_spare(&mut self) {
        if self.spare_due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        if self.spawn(true).is_err() {
            self.spare_failures += 1;
        }
        self.last_activity = Instant::now();
        self.spares_lack_since = self.last_activity;
    }

    /// When the next spare should be made, if one is wanted.
    fn spare_due(&self) -> Option<Instant> {
        let spares = self
            .sandboxes
            .values()
            .filter(|it| it.instance.is_none())
            .count();
        if self.ending.is_some()
            || self.spare_failures >= SPARE_FAILURES_MAX
            || spares as u64 >= u64::from(self.spares_wanted)
        {
            return None;
        }
        let calm = self.last_activity + SPARE_AFTER;
        let calm = calm.min(self.spares_lack_since + SPARE_AFTER_MAX);
        Some(self.last_start.map_or(calm, |(_, until)| calm.max(until)))
    }

    /// A main process has been asked for: nothing else shall disturb its first moments.
    pub(super) fn note_start(&mut self, number: u64) {
        let now = Instant::now();
        if self.spare_due().is_none() {
            self.spares_lack_since = now;
        }
        self.last_start = Some((number, now + SPARE_AFTER_START));
    }

    fn note_sign_of_life(&mut self, number: u64) {
        if self.last_start.is_some_and(|(last, _)| last == number) {
            self.last_start = None;
        }
    }

    fn serve_control(&mut self, token: u64, number: u64) {
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

    fn handle_init(&mut self, number: u64, message: FromInit, fds: Vec<OwnedFd>) {
        match message {
            FromInit::Ready => self.ready(number),
            FromInit::Failed {
                process,
                step,
                reason,
            } => {
                self.start_failed(number, process, step, reason);
            }
            FromInit::Started { process } => self.started(number, process, fds.first()),
            FromInit::Exited {
                process,
                code,
                signal,
            } => {
                let Some(sandbox) = self.sandboxes.get_mut(&number) else {
                    return;
                };
                if let Some(found) = sandbox.processes.get_mut(&process) {
                    found.status = Some((code, signal));
                }
                // The main process is reported when all the others have ended too.
                if process != 0 {
                    self.drain(number, process);
                    self.report_exit(number, process);
                    self.drop_if_done(number, process);
                }
            }
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

    fn take_dial(&mut self, number: u64, id: u64) -> Option<Asker> {
        self.sandboxes.get_mut(&number)?.dials.remove(&id)
    }

    fn ready(&mut self, number: u64) {
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let phase = std::mem::replace(&mut sandbox.phase, Phase::Spare);
        self.spare_failures = 0;
        match phase {
            Phase::SettingUp(Some(start)) => {
                let (spec, asker) = *start;
                self.begin_main(number, spec, asker);
            }
            Phase::SettingUp(None) => sandbox.kill_at = None,
            other => sandbox.phase = other,
        }
    }

    fn started(&mut self, number: u64, process: u32, pidfd: Option<&OwnedFd>) {
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let init_pid = sandbox.init_pid;
        if process == 0 {
            sandbox.kill_at = None;
        }
        let Some(found) = sandbox.processes.get_mut(&process) else {
            return;
        };
        let pid = pidfd.and_then(sys::pid_of).unwrap_or(0);
        found.pid = Some(pid);
        if let Some(asker) = found.asker.take() {
            self.reply(asker, Reply::Started { init_pid, pid });
        }
    }

    /// Watches the pipes of a process.
    pub(super) fn watch_pipes(
        &mut self,
        number: u64,
        process: u32,
        pipes: [(crate::log::Stream, OwnedFd); 2],
    ) -> io::Result<BTreeMap<u64, (crate::log::Stream, OwnedFd)>> {
        let mut watched = BTreeMap::new();
        for (stream, fd) in pipes {
            let token = self.token();
            epoll_add(&self.epoll, fd.as_fd(), token)?;
            self.sources.insert(token, Source::Output(number, process));
            watched.insert(token, (stream, fd));
        }
        Ok(watched)
    }

    /// Reads one turn of one pipe into the log; false when there is nothing more for now.
    fn read_output(&mut self, token: u64, number: u64, process: u32) -> bool {
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
    fn drain(&mut self, number: u64, process: u32) {
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
    fn drop_if_done(&mut self, number: u64, process: u32) {
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
    fn report_exit(&mut self, number: u64, process: u32) {
        self.tell_output();
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let oom_kills = sandbox.group.as_ref().map_or(0, cgroup::Group::oom_kills);
        let out_of_memory = sandbox.over_memory || oom_kills > 0;
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
        let exit = Exit {
            code,
            signal,
            oom,
            at_ms: now_ms(),
            last_output: found.log.tail(),
        };
        // If the disk is full the status lives only in the event.
        let _ = store::save_exit(&sandbox.dir, process, &exit);
        self.tell(&Event::Exited {
            instance,
            process,
            exit,
        });
    }

    /// The init has ended, and with it everything in the sandbox.
    fn finish(&mut self, number: u64) {
        self.take_last_messages(number);
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let _ = reap(&sandbox.init);
        if let Phase::SettingUp(Some(_)) = sandbox.phase {
            let late = sandbox.kill_at.is_none_or(|at| at <= Instant::now());
            let reason = if late {
                "it took too long, or was stopped"
            } else {
                "its init ended"
            };
            self.start_failed(number, 0, "set up the sandbox".into(), reason.into());
        }
        let processes: Vec<u32> = self
            .sandboxes
            .get(&number)
            .map(|sandbox| sandbox.processes.keys().rev().copied().collect())
            .unwrap_or_default();
        for process in processes {
            self.finish_process(number, process);
        }
        let Some(sandbox) = self.sandboxes.remove(&number) else {
            return;
        };
        self.sources.retain(|_, source| match source {
            Source::Control(it) | Source::Init(it) | Source::Output(it, _) => *it != number,
            _ => true,
        });
        for asker in sandbox.dials.into_values() {
            let reason = "the sandbox has ended".to_owned();
            self.reply(
                asker,
                Reply::DialFailed {
                    error: DialError::Refused,
                    reason,
                },
            );
        }
        if let Some(group) = sandbox.group {
            group.remove();
        }
        match sandbox.instance {
            Some(instance) => {
                self.running.remove(&instance);
            }
            None => {
                self.spare_failures += 1;
                self.discard(&sandbox.dir);
            }
        }
    }

    /// Reads what the init sent before it ended.
    fn take_last_messages(&mut self, number: u64) {
        while let Some(sandbox) = self.sandboxes.get(&number) {
            match control::recv_from_init(&sandbox.control) {
                Ok(Some((message, fds))) => self.handle_init(number, message, fds),
                _ => return,
            }
        }
    }

    fn finish_process(&mut self, number: u64, process: u32) {
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
                let (step, reason) = ("start the process", "the sandbox ended");
                if process == 0 {
                    found.asker = Some(asker);
                    self.start_failed(number, 0, step.into(), reason.into());
                } else {
                    let (step, reason) = (step.into(), reason.into());
                    self.reply(asker, Reply::StartFailed { step, reason });
                }
            }
            None if found.pid.is_some() => self.report_exit(number, process),
            None => {}
        }
    }

    // Ends.

    /// Moves a folder to the trash, which another process empties.
    pub(super) fn discard(&mut self, dir: &Path) {
        let name = format!("{}-{}", now_ms(), self.token());
        if fs::rename(dir, Path::new(TRASH_DIR).join(name)).is_ok() {
            self.sweep_at.get_or_insert(Instant::now() + SWEEP_AFTER);
        }
    }

    /// Empties the trash in a process of its own, because that can take long.
    fn sweep(&mut self) {
        let trash: Vec<PathBuf> = fs::read_dir(TRASH_DIR)
            .into_iter()
            .flatten()
            .flatten()
            .map(|it| it.path())
            .collect();
        if trash.is_empty() {
            return;
        }
        match sys::clone_process(0, None) {
            Ok(sys::Cloned::Child) => {
                sys::close_except(&[]);
                sys::reset_signals();
                for dir in trash {
                    let _ = store::remove(&dir);
                }
                sys::exit_now(0)
            }
            Ok(sys::Cloned::Parent { pidfd, .. }) => {
                let token = self.token();
                let _ = epoll_add(&self.epoll, pidfd.as_fd(), token);
                self.sources.insert(token, Source::Sweeper);
                self.sweeper = Some((token, pidfd));
            }
            // It is tried again with the next piece of trash, or by the next launcher.
            Err(_) => {}
        }
    }

    fn swept(&mut self, token: u64) {
        self.sources.remove(&token);
        if let Some((_, pidfd)) = self.sweeper.take() {
            let _ = epoll::delete(&self.epoll, &pidfd);
            let _ = reap(&pidfd);
        }
    }

    fn take_signal(&mut self) {
        let mut info = [0; 128];
        if rustix::io::read(&self.signals, &mut info).is_ok() {
            // struct signalfd_siginfo begins with the signal's number. A terminal that goes
            // away or an interrupted agent is no reason to end.
            let signal = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
            if signal == libc::SIGTERM as u32 {
                self.stop_all(None);
            }
        }
    }

    fn is_over(&mut self) -> bool {
        if self.ending.is_none() || !self.running.is_empty() {
            return false;
        }
        if let Some(asker) = self.ending.take().and_then(|ending| ending.asker) {
            self.reply(asker, Reply::Done);
            self.flush_connections();
        }
        for sandbox in self.sandboxes.values() {
            let _ = kill(&sandbox.init);
            let _ = reap(&sandbox.init);
            if let Some(group) = &sandbox.group {
                group.remove();
            }
        }
        true
    }

    // Time.

    fn timeout(&self) -> Option<Timespec> {
        let kills = self.sandboxes.values().filter_map(|it| it.kill_at);
        let sweep = self.sweep_at.filter(|_| self.sweeper.is_none());
        let once = [self.spare_due(), sweep, self.next_memory_poll];
        let next = kills.chain(once.into_iter().flatten()).min()?;
        let left = next.saturating_duration_since(Instant::now());
        left.try_into().ok()
    }

    fn run_timers(&mut self) {
        let now = Instant::now();
        for sandbox in self.sandboxes.values_mut() {
            if sandbox.kill_at.is_some_and(|at| at <= now) {
                let _ = kill(&sandbox.init);
                sandbox.kill_at = None;
            }
        }
        if self.sweeper.is_none() && self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep_at = None;
            self.sweep();
        }
        self.watch_memory(now);
    }

    fn watch_memory(&mut self, now: Instant) {
        if self.next_memory_poll.is_some_and(|at| now < at) {
            return;
        }
        let mut watching = false;
        for sandbox in self.sandboxes.values_mut() {
            let Some(limit) = sandbox.watched_memory_bytes else {
                continue;
            };
            watching = true;
            if watch::tree_memory_bytes(sandbox.init_pid) > limit {
                sandbox.over_memory = true;
                let _ = kill(&sandbox.init);
            }
        }
        self.next_memory_poll = watching.then(|| now + Duration::from_millis(MEMORY_POLL_MS));
    }

    /// Whether memory must be watched because nothing else limits it.
    pub(super) fn must_watch_memory(&self) -> bool {
        !self.workshop.cgroups.has(Controller::Memory)
    }
}

fn epoll_add(epoll: &OwnedFd, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    Ok(epoll::add(
        epoll,
        fd,
        EventData::new_u64(token),
        EventFlags::IN,
    )?)
}
