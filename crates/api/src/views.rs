//! From the state to what the API shows. Nothing here shows a value of `env` or what is in a file.

use crate::config::Config;
use spawnery_cluster::state::{NodeEntry, Run, Slot, SlotState, WorkloadEntry};
use spawnery_cluster::terms::{duration_ends_at, process_of};
use spawnery_cluster::{Difference, State};
use spawnery_model::{
    DurationMs, End, EndReason, Exit, File, Instance, Kind, LimitReached, Missed, Network, NodeId,
    Origin, Overlap, Phase, Process, Replicas, Restart, RestartPolicy, Session, SessionLimits,
    Stop, Workload,
};
use spawnery_wire::api::{
    DifferenceView, EndView, ExitView, FileView, InstanceView, JobView, LimitsView, MissedView,
    NodeReference, NodeView, PhaseCounts, PortView, ProcessView, RestartView, RunOutcomeView,
    RunView, ScheduleView, ServiceView, SessionTemplateView, SessionView, SlotView, StopView,
};

/// An instance, without what it runs.
pub(crate) fn instance(state: &State, instance: &Instance, config: &Config) -> InstanceView {
    let (run, attempt) = match &instance.origin {
        Origin::Attempt { run, attempt } => (Some(*run), Some(*attempt)),
        _ => (None, None),
    };
    let owner = match &instance.origin {
        Origin::Session { owner, .. } => Some(owner.clone()),
        _ => None,
    };
    InstanceView {
        id: instance.id,
        workload: instance.workload.clone(),
        kind: kind_of(instance).to_owned(),
        origin: origin(state, &instance.origin),
        run,
        attempt,
        owner,
        inline: instance.inline,
        restarts_at_ms: instance.restarts_at.map(|at| at.0),
        restarted_as: instance.restarted_as,
        phase: instance.phase,
        waits_for: instance.waits_for.clone(),
        node: instance.node.map(|id| node_reference(state, id)),
        pid: instance.pid,
        created_at_ms: instance.created_at.0,
        started_at_ms: instance.started_at.map(|at| at.0),
        ready_at_ms: instance.ready_at.map(|at| at.0),
        stop_cause: instance.stop_cause.as_ref().map(|cause| cause.words()),
        end: instance.end.as_ref().map(end),
        urls: instance_urls(state, instance, config),
        session: instance.session.as_deref().map(|it| Box::new(session(state, instance, it))),
        process: None,
    }
}

/// What only a session has.
fn session(state: &State, instance: &Instance, session: &Session) -> SessionView {
    let process = process_of(state.definition_of(instance), instance);
    let limits = SessionLimits {
        memory: Some(process.memory),
        cpu: process.cpu_max,
        disk: process.disk_max,
        pids: Some(process.pids_max),
        ..session.limits.clone()
    };
    let warned = session.warned.as_ref();
    SessionView {
        key: session.key.clone(),
        epoch: session.key.as_ref().map(|_| instance.epoch),
        tags: session.tags.clone(),
        shared_with: session.shared_with.clone(),
        limits: LimitsView::from(&limits),
        ends_at_ms: duration_ends_at(instance).map(|at| at.0),
        idle_ends_at_ms: warned.and_then(|warned| warned.idle).map(|at| at.0),
        drain_ends_at_ms: warned.and_then(|warned| warned.drain).map(|at| at.0),
        queue_place: None,
        queue_until_ms: session.queue_until.map(|at| at.0).filter(|_| session.turn.is_some()),
    }
}

/// An instance with what it runs.
pub(crate) fn instance_in_full(state: &State, one: &Instance, config: &Config) -> InstanceView {
    let mut view = instance(state, one, config);
    view.process = Some(process(&process_of(state.definition_of(one), one)));
    if let Some(session) = &mut view.session {
        session.queue_place = state.queue_place(one);
    }
    view
}

/// Of which kind of workload it is an instance.
pub(crate) fn kind_of(instance: &Instance) -> &'static str {
    match instance.origin {
        Origin::Replica { .. } | Origin::NodeReplica { .. } => "service",
        Origin::Attempt { .. } => "job",
        Origin::Session { .. } => "session",
    }
}

fn origin(state: &State, origin: &Origin) -> String {
    match origin {
        Origin::Replica { slot } => format!("replica {slot}"),
        Origin::NodeReplica { node } => match state.node(*node) {
            Some(entry) => format!("replica of node {}", entry.node.name),
            None => format!("replica of node {node}"),
        },
        Origin::Attempt { run, attempt } => format!("attempt {attempt} of run {run}"),
        Origin::Session { owner, .. } => format!("session of {owner}"),
    }
}

fn node_reference(state: &State, id: NodeId) -> NodeReference {
    let name = state.node(id).map(|entry| entry.node.name.clone());
    NodeReference { id, name }
}

/// A replica is reached by the name of its service, which may lead to another replica.
fn instance_urls(state: &State, instance: &Instance, config: &Config) -> Vec<String> {
    let is_replica = kind_of(instance) == "service" && instance.phase != Phase::Ended;
    match &config.public {
        Some(public) if is_replica => {
            let ports = &state.definition_of(instance).process.ports;
            public.urls(&instance.workload, ports)
        }
        _ => Vec::new(),
    }
}

/// Where the gateway serves a port of an instance, if it does.
pub(crate) fn port_url(
    state: &State,
    instance: &Instance,
    config: &Config,
    port: u16,
) -> Option<String> {
    let ports = &state.definition_of(instance).process.ports;
    let index = ports.iter().position(|named| named.port == port)?;
    instance_urls(state, instance, config).into_iter().nth(index)
}

/// How an instance ended.
pub(crate) fn end(end: &End) -> EndView {
    let exit = end.exit.as_ref();
    EndView {
        code: end_code(&end.reason).to_owned(),
        reason: end.reason.words(),
        at_ms: end.at.0,
        exit_code: exit.and_then(|exit| exit.code),
        signal: exit.and_then(|exit| exit.signal),
        out_of_memory: end.reason == EndReason::OutOfMemory
            || exit.is_some_and(|exit| exit.out_of_memory),
        last_output: exit.map(|exit| exit.last_output.clone()),
    }
}

fn end_code(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::Finished => "finished",
        EndReason::Failed { .. } => "failed",
        EndReason::Signalled { .. } => "signalled",
        EndReason::OutOfMemory => "out-of-memory",
        EndReason::StartFailed { .. } => "start-failed",
        EndReason::Stopped { .. } => "stopped",
        EndReason::NodeLost => "node-lost",
        EndReason::LostByNode { .. } => "lost-by-node",
        EndReason::DiskFull => "disk-full",
        EndReason::TransferReached => "transfer-limit",
        EndReason::KeyLeaseEnded => "key-lease",
    }
}

/// How a process ended.
pub(crate) fn exit(exit: &Exit) -> ExitView {
    ExitView {
        exit_code: exit.code,
        signal: exit.signal,
        out_of_memory: exit.out_of_memory,
        timed_out: exit.limit == Some(LimitReached::Time),
        failure: exit.failure.clone(),
        at_ms: exit.at.0,
    }
}

/// A service; `None` of another workload.
pub(crate) fn service(
    state: &State,
    entry: &WorkloadEntry,
    config: &Config,
) -> Option<ServiceView> {
    let workload = &entry.workload;
    let Kind::Service(settings) = &workload.kind else {
        return None;
    };
    let (replicas, every_node) = match settings.replicas {
        Replicas::Count(count) => (Some(count), false),
        Replicas::EveryNode => (None, true),
    };
    let public = config.public.as_ref();
    let urls = public.map(|public| public.urls(&workload.name, &workload.process.ports));
    Some(ServiceView {
        name: workload.name.clone(),
        replicas,
        every_node,
        phases: phases(state, entry),
        slots: entry.slots.iter().map(|(slot, known)| slot_view(*slot, known)).collect(),
        urls: urls.unwrap_or_default(),
        process: process(&workload.process),
        restart: restart(&workload.restart),
        stop: stop(&workload.stop),
        constraints: constraints(workload),
        labels: workload.labels.clone(),
        created_at_ms: entry.created_at.0,
        changed_at_ms: entry.changed_at.0,
    })
}

fn phases(state: &State, entry: &WorkloadEntry) -> PhaseCounts {
    let mut counts = PhaseCounts::default();
    let instances = entry.slots.values().filter_map(|slot| slot.instance);
    for instance in instances.filter_map(|id| state.instance(id)) {
        let count = match instance.phase {
            Phase::Pending => &mut counts.pending,
            Phase::Assigned | Phase::Starting => &mut counts.starting,
            Phase::Running => &mut counts.running,
            Phase::Ready => &mut counts.ready,
            Phase::Stopping => &mut counts.stopping,
            Phase::Ended => continue,
        };
        *count += 1;
    }
    counts
}

fn slot_view(slot: Slot, known: &SlotState) -> SlotView {
    let (index, node) = match slot {
        Slot::Index(index) => (Some(index), None),
        Slot::Node(node) => (None, Some(node)),
    };
    let waits = known.instance.is_none() && known.failures > 0 && !known.finished;
    SlotView {
        index,
        node,
        instance: known.instance,
        failures: known.failures,
        restarts_at_ms: waits.then_some(known.not_before.0),
        finished: known.finished,
    }
}

/// A job; `None` of another workload.
pub(crate) fn job(state: &State, entry: &WorkloadEntry) -> Option<JobView> {
    let (workload, known) = (&entry.workload, &entry.job);
    let Kind::Job(settings) = &workload.kind else {
        return None;
    };
    let schedule = settings.schedule.as_ref().map(|schedule| ScheduleView {
        cron: schedule.cron.clone(),
        time_zone: schedule.time_zone.clone(),
    });
    let missed_last = known
        .missed_last
        .as_ref()
        .map(|missed| MissedView { at_ms: missed.at.0, reason: missed.reason.clone() });
    let last = known.finished.back().and_then(|id| state.run(*id));
    Some(JobView {
        name: workload.name.clone(),
        schedule,
        next_at_ms: known.next.map(|at| at.0),
        overlap: match settings.overlap {
            Overlap::Skip => "skip".to_owned(),
            Overlap::Allow => "allow".to_owned(),
        },
        missed: match settings.missed {
            Missed::Skip => "skip".to_owned(),
            Missed::RunLatest => "run-latest".to_owned(),
        },
        start_deadline_ms: settings.start_deadline.0,
        attempts_max: settings.attempts_max,
        timeout_ms: settings.timeout.map(|timeout| timeout.0),
        active: known.active.iter().copied().collect(),
        last: last.map(run),
        missed_total: known.missed_total,
        missed_last,
        process: process(&workload.process),
        restart: restart(&workload.restart),
        stop: stop(&workload.stop),
        constraints: constraints(workload),
        labels: workload.labels.clone(),
        created_at_ms: entry.created_at.0,
        changed_at_ms: entry.changed_at.0,
    })
}

/// A run.
pub(crate) fn run(run: &Run) -> RunView {
    RunView {
        id: run.id,
        job: run.job.clone(),
        occurrence_ms: run.occurrence.map(|at| at.0),
        by: run.by.clone(),
        created_at_ms: run.created_at.0,
        attempts: run.attempts,
        current: run.current,
        retry_at_ms: run.retry_at.map(|at| at.0),
        outcome: run.outcome.as_ref().map(|outcome| RunOutcomeView {
            succeeded: outcome.succeeded,
            reason: outcome.reason.clone(),
            at_ms: outcome.at.0,
        }),
    }
}

/// A session template; `None` of another workload.
pub(crate) fn template(entry: &WorkloadEntry) -> Option<SessionTemplateView> {
    let workload = &entry.workload;
    let Kind::Session(settings) = &workload.kind else {
        return None;
    };
    Some(SessionTemplateView {
        name: workload.name.clone(),
        duration_max_ms: settings.duration_max.map(|DurationMs(ms)| ms),
        process: process(&workload.process),
        stop: stop(&workload.stop),
        constraints: constraints(workload),
        labels: workload.labels.clone(),
        created_at_ms: entry.created_at.0,
        changed_at_ms: entry.changed_at.0,
    })
}

/// A node.
pub(crate) fn node(state: &State, entry: &NodeEntry) -> NodeView {
    let node = &entry.node;
    let instances = entry.instances.iter().filter_map(|id| state.instance(*id));
    let live = instances.filter(|instance| instance.phase != Phase::Ended);
    NodeView {
        id: node.id,
        name: node.name.clone(),
        status: node.status,
        draining: node.draining,
        labels: node.labels.clone(),
        memory_bytes: node.capacity.memory.0,
        memory_reserved_bytes: node.reserved.memory.0,
        cpu_millis: node.capacity.cpu.0,
        cpu_reserved_millis: node.reserved.cpu.0,
        instances_live: live.count() as u64,
        joined_at_ms: node.joined_at.0,
        changed_at_ms: node.changed_at.0,
        version: node.version.clone(),
    }
}

/// What applying changes of one workload.
pub(crate) fn difference(difference: Difference) -> DifferenceView {
    DifferenceView {
        name: difference.name,
        kind: difference.kind,
        verdict: difference.verdict.word().to_owned(),
        fields: difference.fields,
    }
}

fn process(process: &Process) -> ProcessView {
    let ports =
        process.ports.iter().map(|port| PortView { name: port.name.clone(), port: port.port });
    ProcessView {
        run: process.run.clone(),
        env_names: process.env.keys().cloned().collect(),
        memory_bytes: process.memory.0,
        cpu_reserved_millis: process.cpu_reserved.0,
        cpu_max_millis: process.cpu_max.map(|cpu| cpu.0),
        disk_max_bytes: process.disk_max.map(|disk| disk.0),
        pids_max: process.pids_max,
        ports: ports.collect(),
        working_directory: process.working_directory.clone(),
        network: match process.network {
            Network::None => "none".to_owned(),
            Network::Host => "host".to_owned(),
            Network::Private => "private".to_owned(),
        },
        files: process.files.iter().map(file).collect(),
        stdin: process.stdin == Some(true),
    }
}

fn file(file: &File) -> FileView {
    FileView {
        path: file.path.clone(),
        mode: format!("{:04o}", file.mode),
        size_bytes: file.content.len() as u64,
    }
}

fn restart(restart: &Restart) -> RestartView {
    let policy = match restart.policy {
        RestartPolicy::Never => "never",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::Always => "always",
    };
    RestartView {
        policy: policy.to_owned(),
        delay_ms: restart.delay.0,
        delay_max_ms: restart.delay_max.0,
        reset_after_ms: restart.reset_after.0,
    }
}

fn stop(stop: &Stop) -> StopView {
    StopView { signal: stop.signal, grace_ms: stop.grace.0 }
}

fn constraints(workload: &Workload) -> Vec<String> {
    workload.constraints.iter().map(ToString::to_string).collect()
}
