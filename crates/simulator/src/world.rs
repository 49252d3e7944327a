//! One simulated world: everything that happens, in the order in which it happens.

mod agents;
mod clients;
mod controllers;
mod converge;
mod sessions;
mod trouble;

use crate::controller::{Controller, Inbound};
use crate::launcher::Fate;
use crate::machine::Machine;
use crate::options::{Failure, Options, Outcome, Sabotage};
use crate::promises::{Broken, Promises, broken};
use crate::queue::Queue;
use crate::random::Random;
use crate::requests::Request;
use crate::storage::Storage;
use crate::swarm::{Fault, Swarm};
use crate::trace::Trace;
use spawnery_model::{Bytes, Capacity, CpuMillis, InstanceId, Orders, Timestamp, WarningCause};
use std::collections::BTreeSet;

/// How long after the faults everything may take to be as it should be. The longest way there is
/// a lease that runs out twice, and a service of several replicas that are replaced one by one.
const CONVERGENCE_MS_MAX: u64 = 400_000;

/// How long it takes at least until what happened before has no consequence any more: longer than
/// a lease, which may have been about to run out.
const CONVERGENCE_MS_MIN: u64 = 20_000;

/// How often it is looked whether everything is as it should be.
const CONVERGENCE_CHECK_MS: u64 = 500;

/// Things that may happen in one millisecond. More mean that somebody goes round in circles.
const STEPS_PER_MS_MAX: u64 = 200_000;

/// What a machine of a large cluster has.
const LARGE_MACHINE: Capacity = Capacity { memory: Bytes::mib(16 << 10), cpu: CpuMillis(16_000) };

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Happening {
    ControllerStarts,
    ControllerWakes {
        generation: u64,
    },
    Appended {
        generation: u64,
    },
    Arrives(Inbound),
    /// A report on its way, with the agent process and the link that it left by.
    ReportArrives {
        machine: usize,
        incarnation: u64,
        serial: u64,
        bytes: Vec<u8>,
    },
    OrdersArrive {
        machine: usize,
        serial: u64,
        orders: Box<Orders>,
    },
    MachineJoins {
        machine: usize,
    },
    AgentStarts {
        machine: usize,
    },
    AgentWakes {
        machine: usize,
        generation: u64,
    },
    LinkTried {
        machine: usize,
        generation: u64,
    },
    LinkLost {
        machine: usize,
        serial: u64,
    },
    PartitionNoticed {
        machine: usize,
        serial: u64,
    },
    Probed {
        machine: usize,
        generation: u64,
        instance: InstanceId,
    },
    LauncherStarts {
        machine: usize,
    },
    MachineStarts {
        machine: usize,
    },
    /// Somebody restarts the agent of a node that was told to stop.
    MachineRestarts {
        machine: usize,
    },
    Process {
        machine: usize,
        generation: u64,
        instance: InstanceId,
        fate: Fate,
    },
    Wish,
    RequestTimesOut {
        request: usize,
        attempt: u32,
    },
    AnswerArrives {
        request: usize,
    },
    /// Somebody has used a session, until now.
    UseEnds {
        generation: u64,
        session: InstanceId,
    },
    /// The controller's shell has found out whether a session is idle.
    IdleAnswered {
        generation: u64,
        session: InstanceId,
    },
    /// A launcher looks whether a lease is over.
    LeaseMayEnd {
        machine: usize,
        generation: u64,
        instance: InstanceId,
    },
    Fault(Fault, u64),
    Heal,
    CheckConvergence,
    CheckPeace,
}

/// A whole cluster, its users and its troubles.
pub(crate) struct World {
    seed: u64,
    pub(crate) swarm: Swarm,
    sabotage: Option<Sabotage>,
    pub(crate) random: Random,
    ids: Random,
    pub(crate) now: u64,
    steps: u64,
    steps_this_ms: u64,
    queue: Queue<Happening>,
    pub(crate) trace: Trace,
    pub(crate) controller: Controller,
    pub(crate) machines: Vec<Machine>,
    requests: Vec<Request>,
    sessions: Vec<InstanceId>,
    /// Warnings that programs were given by a signal.
    notices: BTreeSet<(InstanceId, WarningCause, Timestamp)>,
    pub(crate) promises: Promises,
    healed_at: Option<u64>,
    /// What was still missing when it was last looked.
    missing: String,
    /// How many introductions and losses there were when everything had converged.
    introductions_then: Option<u64>,
    converged: bool,
    broken: Option<Broken>,
    /// Whether the world ends when the faults do, without waiting for convergence.
    scale: bool,
}

/// Writes a line into the trace of a world.
macro_rules! trace {
    ($world:expr, $($what:tt)+) => {
        $world.trace.line($world.now, format_args!($($what)+))
    };
}
pub(crate) use trace;

impl World {
    pub(crate) fn new(seed: u64, options: &Options) -> World {
        let mut random = Random::new(seed);
        let mut swarm = Swarm::draw(&mut random);
        swarm.machines = options.machines.unwrap_or(swarm.machines);
        swarm.faults_ms = options.faults_ms.unwrap_or(swarm.faults_ms);
        World::from_swarm(seed, options, swarm, random)
    }

    /// A large cluster, for as long as `simulated_ms`.
    pub(crate) fn scale(seed: u64, simulated_ms: u64) -> World {
        let mut random = Random::new(seed);
        let swarm = Swarm::scale(&mut random, simulated_ms);
        let mut world = World::from_swarm(seed, &Options::default(), swarm, random);
        world.scale = true;
        world.promises.check_every = 1000;
        world
    }

    fn from_swarm(seed: u64, options: &Options, swarm: Swarm, mut random: Random) -> World {
        let ids = random.fork();
        let controller = Controller {
            generation: 0,
            process: None,
            storage: Storage::default(),
            epoch_ms: swarm.epoch_ms,
            forward_ms: 0,
            back_ms: 0,
            steps_forward: Vec::new(),
        };
        World {
            seed,
            swarm,
            sabotage: options.sabotage,
            random,
            ids,
            now: 0,
            steps: 0,
            steps_this_ms: 0,
            queue: Queue::new(),
            trace: Trace::new(options.trace_lines),
            controller,
            machines: Vec::new(),
            requests: Vec::new(),
            sessions: Vec::new(),
            notices: BTreeSet::new(),
            promises: Promises::default(),
            healed_at: None,
            missing: String::new(),
            introductions_then: None,
            converged: false,
            broken: None,
            scale: false,
        }
    }

    /// Lets everything happen, until all is well or a promise is broken.
    pub(crate) fn run(&mut self) {
        self.begin();
        while let Some((at, happening)) = self.queue.pop() {
            self.steps += 1;
            self.steps_this_ms = if at == self.now { self.steps_this_ms + 1 } else { 0 };
            self.now = at;
            self.happens(happening);
            if self.steps_this_ms > STEPS_PER_MS_MAX {
                let what = format!("{} things are still to come", self.queue.len());
                self.check(broken("nobody goes round in circles", what));
            }
            if self.broken.is_some() || self.converged {
                break;
            }
        }
        if self.broken.is_none() {
            self.check_whole_journal();
        }
    }

    fn begin(&mut self) {
        let swarm = &self.swarm;
        trace!(self, "world {} of {} machines", self.seed, swarm.machines);
        let (machines, later) = (swarm.machines, swarm.machines_later);
        self.after(0, Happening::ControllerStarts);
        for _ in 0..machines {
            self.add_machine(20);
        }
        for _ in 0..later {
            self.add_machine(self.swarm.faults_ms);
        }
        for (fault, mean_ms) in self.swarm.faults.clone() {
            let delay = self.random.around(mean_ms);
            self.after(delay, Happening::Fault(fault, mean_ms));
        }
        if self.scale {
            for machine in &mut self.machines {
                machine.capacity = LARGE_MACHINE;
            }
            self.apply_many();
        }
        self.after(50, Happening::Wish);
        self.after(self.swarm.faults_ms, Happening::Heal);
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::ControllerStarts => self.controller_starts(),
            Happening::ControllerWakes { generation } => self.controller_wakes(generation),
            Happening::Appended { generation } => self.append_done(generation),
            Happening::Arrives(inbound) => self.controller_receives(inbound),
            Happening::ReportArrives { machine, incarnation, serial, bytes } => {
                self.report_arrives(machine, incarnation, serial, &bytes)
            }
            Happening::OrdersArrive { machine, serial, orders } => {
                self.orders_arrive(machine, serial, orders)
            }
            Happening::MachineJoins { machine } => self.machine_joins(machine),
            Happening::AgentStarts { machine } => self.agent_starts(machine),
            Happening::AgentWakes { machine, generation } => self.agent_wakes(machine, generation),
            Happening::LinkTried { machine, generation } => self.link_tried(machine, generation),
            Happening::LinkLost { machine, serial } => self.link_lost(machine, serial),
            Happening::PartitionNoticed { machine, serial } => {
                if self.machines[machine].link.is_blocked(self.now) {
                    self.link_lost(machine, serial);
                }
            }
            Happening::Probed { machine, generation, instance } => {
                self.probed(machine, generation, instance)
            }
            Happening::LauncherStarts { machine } => self.launcher_starts(machine),
            Happening::MachineStarts { machine } => self.machine_starts(machine),
            Happening::MachineRestarts { machine } => self.machine_restarts(machine),
            Happening::Process { machine, generation, instance, fate } => {
                self.process_happens(machine, generation, instance, fate)
            }
            Happening::Wish => self.wish(),
            Happening::RequestTimesOut { request, attempt } => {
                self.request_times_out(request, attempt);
            }
            Happening::AnswerArrives { request } => self.answer_arrives(request),
            Happening::UseEnds { generation, session } => self.use_ends(generation, session),
            Happening::IdleAnswered { generation, session } => {
                self.idle_answered(generation, session);
            }
            Happening::LeaseMayEnd { machine, generation, instance } => {
                self.lease_may_end(machine, generation, instance);
            }
            Happening::Fault(fault, mean_ms) => self.fault(fault, mean_ms),
            Happening::Heal => self.heal(),
            Happening::CheckConvergence => self.check_convergence(),
            Happening::CheckPeace => self.check_peace(),
        }
    }

    fn after(&mut self, delay_ms: u64, happening: Happening) {
        self.queue.push(self.now + delay_ms, happening);
    }

    /// Keeps the first promise that was broken.
    fn check(&mut self, result: Result<(), Broken>) {
        if let Err(error) = result
            && self.broken.is_none()
        {
            self.broken = Some(error);
        }
    }

    /// At the end, all records from the first on must give what is known to be durable.
    fn check_whole_journal(&mut self) {
        let replayed = self.controller.storage.replay(Default::default());
        let result = match replayed {
            Ok(state) if state == self.promises.durable => Ok(()),
            Ok(state) => {
                broken("a replay gives the same state", format!("at position {}", state.position()))
            }
            Err(error) => broken("a record can be read back", error),
        };
        self.check(result);
    }

    /// How it went. `panic` is what an assertion of the core said, if one did not hold.
    pub(crate) fn outcome(self, panic: Option<String>) -> Outcome {
        let assertion =
            panic.map(|message| Broken { promise: "the core's own assertions hold", message });
        let failure = self.broken.or(assertion).map(|broken| Failure {
            seed: self.seed,
            promise: broken.promise,
            message: broken.message,
            step: self.steps,
            at_ms: self.now,
            trace: self.trace.last_lines(),
        });
        Outcome {
            seed: self.seed,
            trace_hash: self.trace.hash() ^ self.promises.durable.hash(),
            steps: self.steps,
            simulated_ms: self.now,
            records: self.controller.storage.position(),
            coverage: self.promises.coverage,
            error: failure,
        }
    }
}
