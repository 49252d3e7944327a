//! Workloads and commands, drawn.

mod sessions;

pub(crate) use sessions::allowed;

use crate::activity::IN_USE;
use crate::random::Random;
use crate::swarm::Wish;
use spawnery_cluster::{Command, SecretHash, SessionSource, State};
use spawnery_model::{
    Bytes, Capacity, Constraint, ConstraintOperator, CpuMillis, DurationMs, Id, Instance,
    InstanceId, JobSettings, Kind, Missed, Name, Network, NodeId, Overlap, Port, Process, Replicas,
    Restart, RestartPolicy, Schedule, SecretUse, ServiceSettings, Stop, Surroundings, VolumeMount,
    Workload,
};
use std::collections::BTreeMap;

/// Names of each kind: few, so that they meet again.
const NAMES_PER_KIND: u64 = 4;

/// Schedules that come due within minutes, those with a clock change in them too.
const SCHEDULES: [(&str, &str); 8] = [
    ("*/5 * * * * *", "UTC"),
    ("*/20 * * * * *", "Europe/Zurich"),
    ("* * * * *", "America/New_York"),
    ("*/2 * * * *", "UTC"),
    ("3,33 * * * * *", "Europe/Zurich"),
    ("30 * * * *", "Europe/Zurich"),
    ("0 3 * * *", "Europe/Zurich"),
    ("15 1 1 * * *", "America/New_York"),
];

/// The program whose ports never listen.
pub(crate) const MUTE: &str = "mute";

/// What a command may be about.
pub(crate) struct Scene<'a> {
    pub(crate) state: &'a State,
    /// Sessions that clients were told of, the newest last.
    pub(crate) sessions: &'a [InstanceId],
}

/// The command for a wish, if there is anything that it could be about.
pub(crate) fn command(wish: Wish, scene: &Scene<'_>, random: &mut Random) -> Option<Command> {
    let by = "tester".to_owned();
    let apply = |workload| Command::Apply { workloads: vec![workload], by: by.clone() };
    Some(match wish {
        Wish::Service => apply(service(false, random)),
        Wish::EveryNode => apply(service(true, random)),
        Wish::Job => apply(job(random)),
        Wish::Template => apply(template(random)),
        Wish::Reapply => Command::Apply { workloads: reapplied(scene.state, random)?, by },
        Wish::Remove => Command::Remove { names: vec![known_workload(scene.state, random)?], by },
        Wish::RunJob => Command::RunJob { job: name("job", random), by },
        Wish::Session => {
            sessions::create(SessionSource::Template(name("template", random)), random)
        }
        Wish::InlineSession => {
            sessions::create(SessionSource::Inline(Box::new(inline(random))), random)
        }
        Wish::KeepAlive => {
            Command::SessionSeen { instance: some_instance(scene, random)?, active_at: IN_USE }
        }
        Wish::Extend => Command::ExtendSession {
            instance: limited_session(scene, random).or_else(|| some_instance(scene, random))?,
            by_time: DurationMs(random.between(1, 20_000)),
            by,
        },
        Wish::Revoke => Command::EndSessionsOf { owner: sessions::owner(random), by },
        Wish::EndInstance => Command::EndInstance { instance: some_instance(scene, random)?, by },
        Wish::Drain | Wish::Undrain => Command::SetDraining {
            node: some_node(scene.state, random)?,
            draining: wish == Wish::Drain,
            by,
            deadline: sessions::drain_deadline(wish == Wish::Drain, random),
        },
        Wish::StopNode => Command::StopNode { node: some_node(scene.state, random)? },
        Wish::RemoveNode => Command::RemoveNode { node: some_node(scene.state, random)?, by },
        Wish::SetSecret => {
            let sealed = random.below(1000).to_be_bytes().to_vec();
            Command::SetSecret { name: kept("secret", random), sealed, by }
        }
        Wish::RemoveSecret => Command::RemoveSecret { name: kept("secret", random), by },
        Wish::RemoveVolume => Command::RemoveVolume { name: kept("volume", random), by },
        Wish::Nonsense => nonsense(scene, random),
        Wish::JoinMore | Wish::Query | Wish::TokenFlood | Wish::Use => return None,
    })
}

/// Something that can only be refused.
fn nonsense(scene: &Scene<'_>, random: &mut Random) -> Command {
    let by = "tester".to_owned();
    match random.below(7) {
        0 => {
            let workload = service(false, random);
            Command::Apply { workloads: vec![workload.clone(), workload], by }
        }
        1 => Command::RunJob { job: name("service", random), by },
        2 => Command::CreateSession {
            source: SessionSource::Inline(Box::new(service(false, random))),
            owner: by,
            terms: Box::default(),
        },
        3 => Command::EndInstance { instance: InstanceId(Id::from_bits(1)), by },
        4 => Command::SetDraining {
            node: NodeId(Id::from_bits(1)),
            draining: true,
            by,
            deadline: None,
        },
        5 => Command::Join {
            token: SecretHash([0; 32]),
            name: name("intruder", random),
            credential: SecretHash([0; 32]),
        },
        _ => Command::Remove {
            names: vec![
                known_workload(scene.state, random).unwrap_or_else(|| name("nothing", random)),
                name("nothing", random),
            ],
            by,
        },
    }
}

fn name(kind: &str, random: &mut Random) -> Name {
    let number = random.below(NAMES_PER_KIND);
    // Now and then a name is that of another kind, so that a workload changes its kind.
    let kind = if random.chance(30) { "mixed" } else { kind };
    numbered(kind, number)
}

/// The name of a secret or a volume: two of each, so that they are shared and fought over.
fn kept(kind: &str, random: &mut Random) -> Name {
    numbered(kind, random.below(2))
}

/// Volumes and secrets, at times.
fn surroundings(random: &mut Random) -> Option<Box<Surroundings>> {
    if !random.chance(120) {
        return None;
    }
    let mut surroundings = Surroundings::default();
    if random.chance(700) {
        let name = kept("volume", random);
        surroundings.volumes.push(VolumeMount {
            path: format!("/srv/{name}"),
            name,
            exclusive: random.chance(500),
            read_only: false,
        });
    }
    if random.chance(400) {
        let name = kept("secret", random);
        surroundings.secrets.push(SecretUse { name, variable: None });
    }
    surroundings.warm = random.below(3) as u32;
    Some(Box::new(surroundings))
}

pub(crate) fn numbered(kind: &str, number: u64) -> Name {
    Name::new(format!("{kind}-{number}")).expect("it is a label")
}

fn known_workload(state: &State, random: &mut Random) -> Option<Name> {
    let names: Vec<_> = state.workloads().map(|e| &e.workload.name).collect();
    (!names.is_empty()).then(|| (*random.pick(&names)).clone())
}

fn some_node(state: &State, random: &mut Random) -> Option<NodeId> {
    let nodes: Vec<_> = state.nodes().map(|entry| entry.node.id).collect();
    (!nodes.is_empty()).then(|| *random.pick(&nodes))
}

fn some_instance(scene: &Scene<'_>, random: &mut Random) -> Option<InstanceId> {
    if !scene.sessions.is_empty() && random.chance(500) {
        return Some(*random.pick(scene.sessions));
    }
    let instances: Vec<_> = scene.state.instances().map(|i| i.id).collect();
    (!instances.is_empty()).then(|| *random.pick(&instances))
}

/// A session that lives only so long, mostly.
fn limited_session(scene: &Scene<'_>, random: &mut Random) -> Option<InstanceId> {
    let is_limited = |it: &&Instance| {
        let limits = it.session.as_ref().map(|session| &session.limits);
        limits.is_some_and(|limits| limits.duration.is_some()) && it.stop_cause.is_none()
    };
    let limited: Vec<_> = scene.state.instances().filter(is_limited).map(|it| it.id).collect();
    (!limited.is_empty() && random.chance(800)).then(|| *random.pick(&limited))
}

/// A workload that is known, as it is or with one thing changed.
fn reapplied(state: &State, random: &mut Random) -> Option<Vec<Workload>> {
    let known = known_workload(state, random)?;
    let mut workload = state.workload(&known)?.workload.clone();
    match random.below(4) {
        0 => {}
        1 => workload.process.memory = memory(random),
        2 => {
            let value = random.below(1000).to_string();
            workload.process.env.insert("SEED".to_owned(), value);
        }
        _ => match &mut workload.kind {
            Kind::Service(service) => service.replicas = replicas(false, random),
            Kind::Job(job) => job.schedule = schedule(random),
            Kind::Session(session) => session.duration_max = Some(DurationMs(4000)),
        },
    }
    Some(vec![workload])
}

pub(crate) fn service(every_node: bool, random: &mut Random) -> Workload {
    let kind = Kind::Service(ServiceSettings { replicas: replicas(every_node, random) });
    let mut process = process("serve", random);
    if random.chance(100) {
        // A service that comes to an end.
        process.run.push(random.between(500, 5000).to_string());
    } else if random.chance(60) {
        // One that never listens, until it is changed.
        process.run = vec![MUTE.to_owned()];
        process.ports = vec![http()];
    }
    workload(name("service", random), kind, process, random)
}

fn replicas(every_node: bool, random: &mut Random) -> Replicas {
    if every_node || random.chance(80) {
        return Replicas::EveryNode;
    }
    Replicas::Count(random.below(4) as u32)
}

pub(crate) fn job(random: &mut Random) -> Workload {
    let kind = Kind::Job(JobSettings {
        schedule: schedule(random),
        overlap: *random.pick(&[Overlap::Skip, Overlap::Allow]),
        missed: *random.pick(&[Missed::Skip, Missed::RunLatest]),
        start_deadline: DurationMs(random.between(500, 30_000)),
        attempts_max: random.between(1, 4) as u32,
        timeout: random.chance(400).then(|| DurationMs(random.between(200, 8000))),
    });
    let mut process = process("work", random);
    process.run.push(random.between(50, 12_000).to_string());
    workload(name("job", random), kind, process, random)
}

fn schedule(random: &mut Random) -> Option<Schedule> {
    let (cron, time_zone) = *random.pick(&SCHEDULES);
    random.chance(800).then(|| Schedule { cron: cron.to_owned(), time_zone: time_zone.to_owned() })
}

pub(crate) fn template(random: &mut Random) -> Workload {
    session(name("template", random), random)
}

/// A session of its own, at times under the name of a service.
fn inline(random: &mut Random) -> Workload {
    let name = match random.chance(200) {
        true => name("service", random),
        false => name("inline", random),
    };
    session(name, random)
}

fn session(name: Name, random: &mut Random) -> Workload {
    let kind = Kind::Session(sessions::settings(random));
    let mut process = process("serve", random);
    if random.chance(300) {
        process.run.push(random.between(500, 10_000).to_string());
    }
    workload(name, kind, process, random)
}

fn workload(name: Name, kind: Kind, process: Process, random: &mut Random) -> Workload {
    let delay = random.between(50, 1000);
    Workload {
        name,
        kind,
        process,
        restart: Restart {
            policy: *random.pick(&[
                RestartPolicy::Never,
                RestartPolicy::OnFailure,
                RestartPolicy::OnFailure,
                RestartPolicy::Always,
                RestartPolicy::Always,
            ]),
            delay: DurationMs(delay),
            delay_max: DurationMs(delay * random.between(1, 8)),
            reset_after: DurationMs(random.between(1000, 30_000)),
            restarts_max: random.chance(100).then(|| random.between(1, 3) as u32),
        },
        stop: Stop { signal: 15, grace: DurationMs(random.between(100, 5000)) },
        constraints: constraints(random),
        labels: BTreeMap::new(),
        surroundings: surroundings(random),
    }
}

fn process(word: &str, random: &mut Random) -> Process {
    let ports = match random.chance(400) {
        true => vec![http()],
        false => Vec::new(),
    };
    Process {
        run: vec![word.to_owned()],
        env: BTreeMap::new(),
        memory: memory(random),
        cpu_reserved: CpuMillis(random.between(10, 900) as u32),
        cpu_max: None,
        disk_max: None,
        pids_max: 64,
        ports,
        working_directory: None,
        network: Network::None,
        files: Vec::new(),
        stdin: None,
        ready: None,
    }
}

fn http() -> Port {
    Port { name: Name::new("http").expect("it is a label"), port: 8080 }
}

fn memory(random: &mut Random) -> Bytes {
    Bytes::mib(*random.pick(&[16, 64, 64, 200, 200, 500, 3000]))
}

fn constraints(random: &mut Random) -> Vec<Constraint> {
    if !random.chance(200) {
        return Vec::new();
    }
    let constraint = |label: &str, operator, values: &[&str]| Constraint {
        label: label.to_owned(),
        operator,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    vec![match random.below(4) {
        0 => constraint("zone", ConstraintOperator::In, &["a"]),
        1 => constraint("zone", ConstraintOperator::NotIn, &["b"]),
        2 => constraint("fast", ConstraintOperator::Exists, &[]),
        _ => constraint("node", ConstraintOperator::NotIn, &["node-0"]),
    }]
}

/// What a machine has and is labelled with.
pub(crate) fn machine(random: &mut Random) -> (BTreeMap<String, String>, Capacity) {
    let zone = *random.pick(&["a", "b", "c"]);
    let mut labels = BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
    if random.chance(300) {
        labels.insert("fast".to_owned(), "yes".to_owned());
    }
    let capacity = Capacity {
        memory: Bytes::mib(*random.pick(&[512, 1024, 2048, 4096])),
        cpu: CpuMillis(*random.pick(&[1000, 2000, 4000])),
    };
    (labels, capacity)
}
