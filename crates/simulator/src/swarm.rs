//! What may go wrong in one run, and what is asked for: drawn by its seed, so that each run is
//! one of few kinds of trouble in depth rather than a bit of everything (swarm testing, Groce and
//! others, 2012).

use crate::random::Random;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    ControllerCrash,
    JournalFull,
    JournalFails,
    JournalSlow,
    AgentCrash,
    LauncherCrash,
    MachineCrash,
    MachineDestroyed,
    MachineChanged,
    LinkFlap,
    PartitionBoth,
    PartitionToController,
    PartitionToAgent,
    ClockForward,
    ClockBack,
}

impl Fault {
    pub(crate) const ALL: [Fault; 15] = [
        Fault::ControllerCrash,
        Fault::JournalFull,
        Fault::JournalFails,
        Fault::JournalSlow,
        Fault::AgentCrash,
        Fault::LauncherCrash,
        Fault::MachineCrash,
        Fault::MachineDestroyed,
        Fault::MachineChanged,
        Fault::LinkFlap,
        Fault::PartitionBoth,
        Fault::PartitionToController,
        Fault::PartitionToAgent,
        Fault::ClockForward,
        Fault::ClockBack,
    ];

    /// Under which name it is counted.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::ControllerCrash => "fault: controller crash",
            Fault::JournalFull => "fault: journal full",
            Fault::JournalFails => "fault: journal fails",
            Fault::JournalSlow => "fault: journal slow",
            Fault::AgentCrash => "fault: agent crash",
            Fault::LauncherCrash => "fault: launcher crash",
            Fault::MachineCrash => "fault: machine crash",
            Fault::MachineDestroyed => "fault: machine destroyed",
            Fault::MachineChanged => "fault: machine changed",
            Fault::LinkFlap => "fault: link flap",
            Fault::PartitionBoth => "fault: partition",
            Fault::PartitionToController => "fault: partition to the controller",
            Fault::PartitionToAgent => "fault: partition to the agent",
            Fault::ClockForward => "fault: clock forward",
            Fault::ClockBack => "fault: clock back",
        }
    }
}

/// Something that clients ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    Service,
    EveryNode,
    Job,
    Template,
    Reapply,
    Remove,
    RunJob,
    Session,
    InlineSession,
    EndInstance,
    Drain,
    Undrain,
    StopNode,
    RemoveNode,
    JoinMore,
    Nonsense,
    Query,
    TokenFlood,
    SetSecret,
    RemoveSecret,
    RemoveVolume,
    Use,
    KeepAlive,
    Extend,
    Revoke,
}

impl Wish {
    pub(crate) const ALL: [Wish; 25] = [
        Wish::Service,
        Wish::EveryNode,
        Wish::Job,
        Wish::Template,
        Wish::Reapply,
        Wish::Remove,
        Wish::RunJob,
        Wish::Session,
        Wish::InlineSession,
        Wish::EndInstance,
        Wish::Drain,
        Wish::Undrain,
        Wish::StopNode,
        Wish::RemoveNode,
        Wish::JoinMore,
        Wish::Nonsense,
        Wish::Query,
        Wish::TokenFlood,
        Wish::SetSecret,
        Wish::RemoveSecret,
        Wish::RemoveVolume,
        Wish::Use,
        Wish::KeepAlive,
        Wish::Extend,
        Wish::Revoke,
    ];

    /// How much of all that is asked for it is, if it is asked for at all.
    fn weight(self) -> u32 {
        match self {
            Wish::Service | Wish::Session | Wish::Job => 12,
            Wish::Template | Wish::RunJob | Wish::EndInstance => 8,
            Wish::EveryNode | Wish::Reapply | Wish::InlineSession | Wish::Query => 6,
            Wish::Remove | Wish::Drain | Wish::Undrain | Wish::Nonsense => 4,
            Wish::StopNode | Wish::RemoveNode | Wish::JoinMore => 3,
            Wish::SetSecret | Wish::RemoveSecret | Wish::RemoveVolume => 3,
            Wish::Use => 10,
            Wish::KeepAlive | Wish::Extend => 3,
            Wish::TokenFlood | Wish::Revoke => 1,
        }
    }
}

/// How the network treats messages.
#[derive(Debug, Clone)]
pub(crate) struct NetworkTrouble {
    pub(crate) loss: u32,
    pub(crate) repetition: u32,
    pub(crate) delay_ms_max: u64,
    /// How many in a thousand are held up for seconds.
    pub(crate) held_up: u32,
    /// Whether messages of an old link, or to an agent that is gone, can still arrive.
    pub(crate) outlive_links: bool,
}

/// How the runtimes treat instances.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeTrouble {
    pub(crate) start_fails: u32,
    pub(crate) start_ms_max: u64,
    pub(crate) slow_start: u32,
    /// How many in a thousand end by themselves that should go on.
    pub(crate) crashes: u32,
    pub(crate) run_fails: u32,
    /// How many in a thousand ignore the stop signal.
    pub(crate) stuck_stop: u32,
}

/// All that is drawn for one run.
#[derive(Debug, Clone)]
pub(crate) struct Swarm {
    pub(crate) machines: u32,
    pub(crate) machines_later: u32,
    pub(crate) faults_ms: u64,
    /// When the simulated world begins, in milliseconds since 1970.
    pub(crate) epoch_ms: u64,
    pub(crate) faults: Vec<(Fault, u64)>,
    pub(crate) wishes: Vec<Wish>,
    pub(crate) wish_ms: u64,
    pub(crate) network: NetworkTrouble,
    pub(crate) runtime: RuntimeTrouble,
    pub(crate) append_ms_max: u64,
    /// Whether the controller takes in inputs while an append is under way.
    pub(crate) pipelined: bool,
    /// How many batches in a thousand are followed by a snapshot.
    pub(crate) snapshots: u32,
    /// How many actions of an agent in a thousand are its last.
    pub(crate) agent_dies_acting: u32,
    /// How many requests in a thousand, and as many answers, are lost.
    pub(crate) requests_lost: u32,
    /// How many in a thousand answers whether a session is idle come late; a quarter as many never
    /// come.
    pub(crate) slow_answers: u32,
}

/// Times at which worlds begin: an ordinary day, and minutes before clocks are changed in Zurich
/// (2026-03-29 and 2026-10-25, 01:00 UTC) and in New York (2026-11-01, 06:00 UTC).
const BEGINNINGS_MS: [u64; 4] =
    [1_780_000_000_000, 1_774_745_940_000, 1_792_889_940_000, 1_793_512_740_000];

impl Swarm {
    pub(crate) fn draw(random: &mut Random) -> Swarm {
        let calm = random.chance(60);
        let mut faults = Vec::new();
        for fault in Fault::ALL {
            let mean_ms = random.between(8_000, 60_000);
            if random.chance(350) && !calm {
                faults.push((fault, mean_ms));
            }
        }
        Swarm {
            machines: random.between(1, 4) as u32,
            machines_later: random.below(2) as u32,
            faults_ms: random.between(20_000, 120_000),
            epoch_ms: *random.pick(&BEGINNINGS_MS) + random.below(30_000),
            faults,
            wishes: draw_wishes(random),
            wish_ms: random.between(300, 3_000),
            network: NetworkTrouble {
                loss: draw_rate(random, 200),
                repetition: draw_rate(random, 150),
                delay_ms_max: *random.pick(&[2, 20, 200, 1500]),
                held_up: draw_rate(random, 40),
                outlive_links: random.chance(300),
            },
            runtime: RuntimeTrouble {
                start_fails: draw_rate(random, 200),
                start_ms_max: *random.pick(&[10, 200, 2000]),
                slow_start: draw_rate(random, 100),
                crashes: draw_rate(random, 400),
                run_fails: draw_rate(random, 500),
                stuck_stop: draw_rate(random, 300),
            },
            append_ms_max: *random.pick(&[0, 1, 5, 40]),
            pipelined: random.chance(400),
            snapshots: draw_rate(random, 200),
            agent_dies_acting: draw_rate(random, 10),
            requests_lost: draw_rate(random, 200),
            slow_answers: draw_rate(random, 400),
        }
    }

    /// A world in which nothing goes wrong any more, from the same draw.
    pub(crate) fn heal(&mut self) {
        self.faults.clear();
        self.wishes.clear();
        self.network = NetworkTrouble {
            loss: 0,
            repetition: 0,
            delay_ms_max: 5,
            held_up: 0,
            outlive_links: self.network.outlive_links,
        };
        self.runtime = RuntimeTrouble {
            start_fails: 0,
            start_ms_max: 100,
            slow_start: 0,
            crashes: 0,
            run_fails: 0,
            stuck_stop: 0,
        };
        self.append_ms_max = 1;
        self.agent_dies_acting = 0;
        self.requests_lost = 0;
        self.slow_answers = 0;
    }

    /// A large cluster under moderate trouble, to measure by.
    pub(crate) fn scale(random: &mut Random, faults_ms: u64) -> Swarm {
        let mut swarm = Swarm::draw(random);
        swarm.machines = 100;
        swarm.machines_later = 0;
        swarm.faults_ms = faults_ms;
        swarm.faults = vec![
            (Fault::ControllerCrash, 300_000),
            (Fault::AgentCrash, 30_000),
            (Fault::MachineCrash, 60_000),
            (Fault::LinkFlap, 30_000),
            (Fault::PartitionBoth, 60_000),
            (Fault::JournalFull, 300_000),
        ];
        swarm.wishes =
            vec![Wish::Session, Wish::EndInstance, Wish::RunJob, Wish::Reapply, Wish::Use];
        swarm.wish_ms = 1_000;
        swarm.network = NetworkTrouble {
            loss: 5,
            repetition: 5,
            delay_ms_max: 20,
            held_up: 1,
            outlive_links: false,
        };
        swarm.runtime = RuntimeTrouble {
            start_fails: 5,
            start_ms_max: 200,
            slow_start: 5,
            crashes: 20,
            run_fails: 20,
            stuck_stop: 20,
        };
        swarm.append_ms_max = 5;
        swarm.snapshots = 1;
        swarm
    }
}

/// Nothing for a third of the seeds, else up to `per_mille_max`.
fn draw_rate(random: &mut Random, per_mille_max: u64) -> u32 {
    let rate = random.below(per_mille_max + 1) as u32;
    if random.chance(330) { 0 } else { rate }
}

/// A random part of all wishes, each as often as its weight says.
fn draw_wishes(random: &mut Random) -> Vec<Wish> {
    let mut wishes = Vec::new();
    for wish in Wish::ALL {
        let share = if wish == Wish::TokenFlood { 60 } else { 600 };
        if random.chance(share) {
            wishes.extend((0..wish.weight()).map(|_| wish));
        }
    }
    if random.chance(350) {
        // A world of sessions, so that many meet by their keys.
        for (wish, weight) in [(Wish::Template, 20), (Wish::Session, 70), (Wish::Use, 15)] {
            wishes.extend((0..weight).map(|_| wish));
        }
    }
    if wishes.is_empty() {
        wishes.push(Wish::Service);
    }
    wishes
}
