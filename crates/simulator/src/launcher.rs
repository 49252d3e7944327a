//! The launcher of a simulated machine: it outlives its agent, and its notes outlive itself.

use crate::generate::MUTE;
use crate::random::Random;
use crate::swarm::RuntimeTrouble;
use spawnery_model::{Exit, InstanceId, LimitReached, StartOrder, Stop, Timestamp};
use spawnery_node::{Found, Noted};
use std::collections::{BTreeMap, BTreeSet};

/// How long a process may take to heed its stop signal.
const STOP_MS_MAX: u64 = 1500;

/// How long a start or a port may take when it is slow.
const SLOW_MS_MAX: u64 = 8000;

/// The launcher of one machine, with its processes and its notes on disk.
#[derive(Debug, Default)]
pub(crate) struct Launcher {
    pub(crate) alive: bool,
    /// Grows with each restart: processes of an earlier one are gone.
    pub(crate) generation: u64,
    pub(crate) instances: BTreeMap<InstanceId, Process>,
    /// All that it ever started; on disk.
    started: BTreeSet<InstanceId>,
    /// Up to when the controller is known to have heard of this machine.
    pub(crate) heard: u64,
    pid_last: u32,
}

/// One instance, as its launcher knows it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) order: Box<StartOrder>,
    pub(crate) state: ProcessState,
    /// When its ports begin to listen, if they ever do.
    pub(crate) listens_at: Option<u64>,
    /// What agents had remembered of it.
    noted: Noted,
    stopping: bool,
}

#[derive(Debug)]
pub(crate) enum ProcessState {
    Starting,
    Running { pid: u32 },
    Ended { exit: Exit },
}

/// Something that happens to a process.
#[derive(Debug)]
pub(crate) enum Fate {
    Starts,
    Ends {
        exit: Exit,
        /// Whether it ends because it is ill: in a healed world it does not.
        ill: bool,
    },
}

impl Process {
    pub(crate) fn runs(&self) -> bool {
        !matches!(self.state, ProcessState::Ended { .. })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match self.state {
            ProcessState::Running { pid } => Some(pid),
            _ => None,
        }
    }
}

impl Launcher {
    pub(crate) fn new() -> Launcher {
        Launcher { alive: true, ..Launcher::default() }
    }

    pub(crate) fn has_started(&self, instance: InstanceId) -> bool {
        self.started.contains(&instance)
    }

    /// Forgets what it started; only sabotage does this.
    pub(crate) fn lose_notes(&mut self) {
        self.started.clear();
        self.instances.retain(|_, process| !process.runs());
    }

    /// Everything on its disk is removed, and all that it started is gone.
    pub(crate) fn wipe(&mut self) {
        *self = Launcher { generation: self.generation + 1, ..Launcher::new() };
    }

    /// Begins to start an instance. Returns what will happen to it, and after how long.
    pub(crate) fn start(
        &mut self,
        instance: InstanceId,
        order: Box<StartOrder>,
        now: u64,
        trouble: &RuntimeTrouble,
        random: &mut Random,
    ) -> Vec<(u64, Fate)> {
        self.started.insert(instance);
        let mut delay = random.between(1, trouble.start_ms_max.max(1));
        if random.chance(trouble.slow_start) {
            delay += random.below(SLOW_MS_MAX);
        }
        let mut listens_at = now + delay + random.below(300);
        if random.chance(trouble.slow_start) {
            listens_at += random.below(SLOW_MS_MAX);
        }
        let mute = order.process.run[0] == MUTE;
        let listens_at = (!mute).then_some(listens_at);
        let fates = if random.chance(trouble.start_fails) {
            let exit = failure("the program was not found", false, now + delay);
            vec![(delay, Fate::Ends { exit, ill: true })]
        } else {
            let mut fates = vec![(delay, Fate::Starts)];
            fates.extend(end_of(&order, now + delay, trouble, random).map(|(at, f)| (at - now, f)));
            fates
        };
        let process = Process {
            order,
            state: ProcessState::Starting,
            listens_at,
            noted: Noted::default(),
            stopping: false,
        };
        self.instances.insert(instance, process);
        fates
    }

    /// The process of an instance runs now.
    pub(crate) fn started(&mut self, instance: InstanceId) -> Option<u32> {
        let process = self.instances.get_mut(&instance)?;
        if !matches!(process.state, ProcessState::Starting) {
            return None;
        }
        self.pid_last += 1;
        let pid = self.pid_last;
        process.state = ProcessState::Running { pid };
        Some(pid)
    }

    /// The process of an instance is over, unless it was before.
    pub(crate) fn ended(&mut self, instance: InstanceId, exit: Exit) -> Option<Exit> {
        let process = self.instances.get_mut(&instance).filter(|p| p.runs())?;
        process.state = ProcessState::Ended { exit: exit.clone() };
        Some(exit)
    }

    /// Sends the stop signal. Returns after how long the process is over, and how.
    pub(crate) fn stop(
        &mut self,
        instance: InstanceId,
        stop: Stop,
        now: u64,
        trouble: &RuntimeTrouble,
        random: &mut Random,
    ) -> Option<(u64, Fate)> {
        let process = self.instances.get_mut(&instance)?;
        if process.stopping || !process.runs() {
            return None;
        }
        process.stopping = true;
        let heeds = random.below(STOP_MS_MAX);
        let stuck = random.chance(trouble.stuck_stop) || heeds > stop.grace.0;
        let (delay, signal) = match stuck {
            true => (stop.grace.0, 9),
            false => (heeds, stop.signal),
        };
        let exit = Exit { signal: Some(signal), at: Timestamp(now + delay), ..Exit::default() };
        Some((delay, Fate::Ends { exit, ill: false }))
    }

    /// When the lease of an instance ends, if it has one and runs.
    pub(crate) fn lease_until(&self, instance: InstanceId) -> Option<u64> {
        let process = self.instances.get(&instance).filter(|process| process.runs())?;
        let lease = process.order.session.as_ref()?.lease?;
        Some(self.heard + lease.0)
    }

    /// Ends an instance whose lease is over, unless it is being stopped already.
    pub(crate) fn end_lease(
        &mut self,
        instance: InstanceId,
        now: u64,
        trouble: &RuntimeTrouble,
        random: &mut Random,
    ) -> Option<(u64, Fate)> {
        let stop = self.instances.get(&instance)?.order.stop;
        let (delay, mut fate) = self.stop(instance, stop, now, trouble, random)?;
        if let Fate::Ends { exit, .. } = &mut fate {
            exit.limit = Some(LimitReached::KeyLease);
        }
        Some((delay, fate))
    }

    /// Remembers something of an instance for the next agent.
    pub(crate) fn note(&mut self, instance: InstanceId, noted: Noted) {
        if let Some(process) = self.instances.get_mut(&instance) {
            process.noted = noted;
        }
    }

    /// Removes what is left of an instance. False if its process still runs.
    pub(crate) fn forget(&mut self, instance: InstanceId) -> bool {
        if self.instances.get(&instance).is_some_and(Process::runs) {
            return false;
        }
        self.instances.remove(&instance);
        true
    }

    /// The launcher dies, and its processes with it. It finds its notes when it is back.
    pub(crate) fn crash(&mut self, why: &str, now: u64) {
        self.alive = false;
        self.generation += 1;
        for process in self.instances.values_mut().filter(|p| p.runs()) {
            process.state = ProcessState::Ended { exit: failure(why, true, now) };
        }
    }

    /// What an agent finds when it starts.
    pub(crate) fn found(&self) -> Vec<Found> {
        let found = |(instance, process): (&InstanceId, &Process)| Found {
            instance: *instance,
            order: process.order.clone(),
            pid: process.pid(),
            exit: match &process.state {
                ProcessState::Ended { exit } => Some(exit.clone()),
                _ => None,
            },
            noted: process.noted.clone(),
        };
        self.instances.iter().map(found).collect()
    }
}

pub(crate) fn failure(message: &str, lost: bool, at: u64) -> Exit {
    Exit { failure: Some(message.to_owned()), lost, at: Timestamp(at), ..Exit::default() }
}

/// When and how a process that started at `from` ends by itself. Its words say what it does:
/// `serve` goes on for ever, `work MS` ends after so many milliseconds.
fn end_of(
    order: &StartOrder,
    from: u64,
    trouble: &RuntimeTrouble,
    random: &mut Random,
) -> Option<(u64, Fate)> {
    let works = order.process.run.get(1).and_then(|ms| ms.parse().ok());
    let (at, ill) = match works {
        Some(ms) => {
            let ms: u64 = ms;
            (from + random.between(ms / 2, ms), random.chance(trouble.run_fails))
        }
        None if random.chance(trouble.crashes) => (from + random.between(50, 30_000), true),
        None => return None,
    };
    let mut exit = Exit { at: Timestamp(at), last_output: "the end".to_owned(), ..Exit::default() };
    if !ill {
        exit.code = Some(0);
        return Some((at, Fate::Ends { exit, ill: false }));
    }
    match random.below(6) {
        0 => exit.code = Some(random.below(3) as i32),
        1 => exit.signal = Some(11),
        2 => {
            exit.signal = Some(9);
            exit.out_of_memory = true;
        }
        3 => exit.limit = Some(LimitReached::Disk),
        4 => exit.limit = Some(LimitReached::Transfer),
        _ => exit.code = Some(1),
    }
    // A piece of work ends in any case; something that serves need not.
    let ill = works.is_none();
    Some((at, Fate::Ends { exit, ill }))
}
