//! The launcher's event loop: who is ready, and what follows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

use super::connection::Connection;
use super::disk::Accountant;
use super::leases::Leases;
use super::network::Networks;
use super::sandbox::{Asker, Sandbox, Workshop, kill, reap};
use super::spares::Pool;
use super::tool;
use super::watch;
use crate::cgroup::{Controller, Group};
use crate::kind::Kind;
use crate::limits::{MEMORY_POLL_MS, OUTPUT_BYTES_PER_TURN};
use crate::protocol::Reply;

/// What a token of the epoll set stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Listener,
    Signals,
    Connection,
    Control(u64),
    Init(u64),
    Output(u64, u32),
    Sweeper,
    Accountant,
    Maker,
    Network,
    Leases,
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
    pub(super) epoll: OwnedFd,
    pub(super) listener: UnixListener,
    pub(super) signals: OwnedFd,
    pub(super) sources: BTreeMap<u64, Source>,
    pub(super) connections: BTreeMap<u64, Connection>,
    /// Living sandboxes, by number.
    pub(super) sandboxes: BTreeMap<u64, Sandbox>,
    /// Numbers of living instances.
    pub(super) running: BTreeMap<String, u64>,
    pub(super) next_token: u64,
    /// When which further process has run for as long as it may.
    pub(super) deadlines: BTreeSet<(Instant, u64, u32)>,
    /// Output that subscribers have not been told of.
    pub(super) fresh_output: BTreeSet<(u64, u32)>,
    pub(super) sweeper: Option<(u64, OwnedFd)>,
    /// When to look at private layers that nothing else limits, and who does.
    pub(super) disk_at: Option<Instant>,
    pub(super) accountant: Option<Accountant>,
    /// Processes that make disks, by token.
    pub(super) makers: BTreeMap<u64, OwnedFd>,
    /// Control groups that nothing is in any more.
    pub(super) old_groups: Vec<Group>,
    /// When to empty the trash.
    pub(super) sweep_at: Option<Instant>,
    /// How often that was put off.
    pub(super) sweeps_put_off: u32,
    pub(super) spares_configured: u32,
    /// What is kept ready.
    pub(super) pools: Vec<Pool>,
    /// Numbers of the sandboxes that are nobody's yet.
    pub(super) spares: BTreeSet<u64>,
    /// Numbers of those whose main process has been asked for and does not run yet.
    pub(super) starting: BTreeSet<u64>,
    /// Numbers of those in which nothing runs any more, the oldest first.
    pub(super) husks: VecDeque<u64>,
    /// Since when there have been some.
    pub(super) husks_since: Option<Instant>,
    pub(super) last_start_at: Instant,
    pub(super) last_activity: Instant,
    /// Since when there has been a spare too few, or the last one was made.
    pub(super) spares_lack_since: Instant,
    /// The last start, and when to wait no longer for its first output.
    pub(super) last_start: Option<(u64, Instant)>,
    pub(super) next_memory_poll: Option<Instant>,
    pub(super) ending: Option<Ending>,
    pub(super) buffer: Vec<u8>,
    pub(super) networks: Networks,
    pub(super) leases: Leases,
    /// What callers want to be reminded of, by the number of the sandbox.
    pub(super) notes: BTreeMap<u64, Vec<u8>>,
}

impl Launcher {
    pub(super) fn new(
        spares_configured: u32,
        resolvers: Vec<SocketAddr>,
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
            deadlines: BTreeSet::new(),
            fresh_output: BTreeSet::new(),
            sweeper: None,
            disk_at: None,
            accountant: None,
            makers: BTreeMap::new(),
            old_groups: Vec::new(),
            sweep_at: Some(Instant::now()),
            sweeps_put_off: 0,
            spares_configured,
            pools: vec![Pool::new(Kind::plain(), spares_configured)],
            spares: BTreeSet::new(),
            starting: BTreeSet::new(),
            husks: VecDeque::new(),
            husks_since: None,
            last_start_at: Instant::now(),
            last_activity: Instant::now(),
            spares_lack_since: Instant::now(),
            last_start: None,
            next_memory_poll: None,
            ending: None,
            buffer: vec![0; OUTPUT_BYTES_PER_TURN],
            networks: Networks::new(resolvers),
            leases: Leases::new()?,
            notes: BTreeMap::new(),
        };
        let (listener, signals) = (launcher.token(), launcher.token());
        let leases = launcher.token();
        epoll_add(&launcher.epoll, launcher.leases.timer.as_fd(), leases)?;
        launcher.sources.insert(leases, Source::Leases);
        epoll_add(&launcher.epoll, launcher.listener.as_fd(), listener)?;
        epoll_add(&launcher.epoll, launcher.signals.as_fd(), signals)?;
        launcher.sources.insert(listener, Source::Listener);
        launcher.sources.insert(signals, Source::Signals);
        Ok(launcher)
    }

    pub(super) fn serve(&mut self) -> io::Result<()> {
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
            self.end_husks();
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
            Some(Source::Accountant) => self.accounted(token),
            Some(Source::Maker) => self.made_disk(token),
            Some(Source::Network) => self.serve_network(token),
            Some(Source::Leases) => self.end_leases(),
            // Closed by an earlier event of the same round.
            None => {}
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

    fn timeout(&self) -> Option<Timespec> {
        let kills = self.sandboxes.values().filter_map(|it| it.kill_at);
        let sweep = self.sweep_at.filter(|_| self.sweeper.is_none());
        let once = [
            self.spare_due(),
            self.surplus_due(),
            self.husks_due(),
            self.disk_due(),
            sweep,
            self.next_memory_poll,
            self.networks.restart_at(),
            self.deadlines.first().map(|(at, ..)| *at),
        ];
        let next = kills.chain(once.into_iter().flatten()).min()?;
        let left = next.saturating_duration_since(Instant::now());
        left.try_into().ok()
    }

    fn run_timers(&mut self) {
        let now = Instant::now();
        for sandbox in self.sandboxes.values_mut() {
            if sandbox.kill_at.is_some_and(|at| at <= now) {
                tool::end(sandbox);
            }
        }
        if self.sweeper.is_none() && self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep_when_calm(now);
        }
        self.end_overdue(now);
        self.end_surplus(now);
        self.account(now);
        self.watch_memory(now);
        self.restart_network(now);
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

/// Watches for readability.
pub(super) fn epoll_add(epoll: &OwnedFd, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    Ok(epoll::add(epoll, fd, EventData::new_u64(token), EventFlags::IN)?)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
