//! Checks a command against the state and says which record it would become.

mod access;
mod keeping;
mod sessions;

pub use keeping::secrets_of;
pub use sessions::may_use;

use crate::command::{Command, IdempotencyKey, Ids, Rejection, Reply};
use crate::diff::{Verdict, diff};
use crate::record::{Answered, AppliedWorkload, Change, Record, SecretHash};
use crate::state::State;
use spawnery_model::{
    InstanceId, Introduction, Kind, Name, NodeId, NodeStatus, Observed, Phase, Report, RunId,
    StopCause, Timestamp, Workload, limits,
};
use spawnery_schedule::Cron;
use std::collections::BTreeSet;

/// A command that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The fact that it makes true; `None` if it is true already.
    pub record: Option<Record>,
    /// The answer, once the record is durable.
    pub reply: Reply,
}

/// Checks `command` against `state` at the time `now`.
///
/// # Errors
///
/// A [`Rejection`] says why the command cannot be taken in. Nothing is changed in either case:
/// that is for [`apply()`](crate::apply()).
pub fn admit(
    state: &State,
    command: Command,
    key: Option<IdempotencyKey>,
    now: Timestamp,
    ids: &mut dyn Ids,
) -> Result<Admitted, Rejection> {
    if let Some(answer) = key.as_ref().and_then(|key| state.answers.find(key)) {
        let reply = answer.map_err(|()| Rejection::IdempotencyConflict)?.clone();
        return Ok(Admitted { record: None, reply });
    }
    let at = now.max(state.time);
    let (change, reply) = admit_change(state, command, at, ids)?;
    // An answer is remembered even if it changed nothing, by a record that changes nothing: the
    // same request must not do something when it is repeated after others have changed the state.
    let nothing = || Change::WorkloadsApplied { workloads: Vec::new(), by: String::new() };
    let change = change.or_else(|| key.as_ref().map(|_| nothing()));
    let answered = key.map(|key| Answered { key, reply: reply.clone() });
    let record = change.map(|change| Record { at, change, answered });
    Ok(Admitted { record, reply })
}

type Outcome = Result<(Option<Change>, Reply), Rejection>;

fn admit_change(state: &State, command: Command, at: Timestamp, ids: &mut dyn Ids) -> Outcome {
    match command {
        Command::BeginReign => {
            let reign = state.reign + 1;
            Ok((Some(Change::ReignBegan { reign }), Reply::Reign(reign)))
        }
        Command::Apply { workloads, by } => apply_workloads(state, workloads, by, at),
        Command::Remove { names, by } => remove_workloads(state, names, by),
        Command::CreateSession { source, owner, terms } => {
            sessions::create_session(state, source, owner, &terms, at, ids)
        }
        Command::ExtendSession { instance, by_time, by } => {
            sessions::extend_session(state, instance, by_time, by)
        }
        Command::SessionSeen { instance, active_at } => {
            sessions::session_seen(state, instance, active_at, at)
        }
        Command::EndSessionsOf { owner, by } => sessions::end_sessions_of(owner, by),
        Command::EndInstance { instance, by } => end_instance(state, instance, by),
        Command::RunJob { job, by } => run_job(state, job, by, ids),
        Command::CreateJoinToken { hash, life, by } => {
            let usable = state.join_tokens.values().filter(|until| **until > at);
            if usable.count() >= limits::JOIN_TOKENS_MAX {
                let limit = limits::JOIN_TOKENS_MAX;
                return Err(Rejection::Limit { what: "too many join tokens are out", limit });
            }
            let expires_at = at.plus(life);
            let change = Change::JoinTokenCreated { hash, expires_at, by };
            Ok((Some(change), Reply::JoinToken { expires_at }))
        }
        Command::Join { token, name, credential } => join(state, token, name, credential, at, ids),
        Command::Report(report) => admit_report(state, *report),
        Command::LeaseExpired { node } => {
            let entry = state.nodes.get(&node).ok_or(Rejection::NodeUnknown { node })?;
            let lost = entry.node.status == NodeStatus::Lost;
            Ok(((!lost).then_some(Change::NodeLost { node }), Reply::Done))
        }
        Command::SetDraining { node, draining, deadline, by } => {
            let entry = state.nodes.get(&node).ok_or(Rejection::NodeUnknown { node })?;
            let same = entry.node.draining == draining && deadline.is_none();
            let stay = deadline.unwrap_or(limits::DRAIN_DEADLINE_DEFAULT);
            let until = draining.then(|| at.plus(stay));
            let change = Change::NodeDraining { node, draining, by, until };
            Ok(((!same).then_some(change), Reply::Done))
        }
        Command::StopNode { node } => {
            let entry = state.nodes.get(&node).ok_or(Rejection::NodeUnknown { node })?;
            let up = entry.node.status == NodeStatus::Up;
            Ok((up.then_some(Change::NodeStopping { node }), Reply::Done))
        }
        Command::RemoveNode { node, by } => remove_node(state, node, by),
        Command::SetSecret { name, sealed, by } => keeping::set_secret(state, name, sealed, by),
        Command::RemoveSecret { name, by } => keeping::remove_secret(state, name, by),
        Command::RemoveVolume { name, by } => keeping::remove_volume(state, name, by),
        Command::CreateToken(request) => access::create_token(state, *request, at, ids),
        Command::RevokeTokens { revoked, foreign, end_sessions, by } => {
            access::revoke_tokens(state, revoked, foreign, end_sessions, by, at)
        }
    }
}

fn apply_workloads(state: &State, workloads: Vec<Workload>, by: String, at: Timestamp) -> Outcome {
    let mut names = BTreeSet::new();
    if let Some(twice) = workloads.iter().find(|workload| !names.insert(workload.name.clone())) {
        return Err(Rejection::NameTwice { name: twice.name.clone() });
    }
    keeping::secrets_exist(state, &workloads)?;
    let differences = diff(state, &workloads);
    let added = differences.iter().filter(|d| d.verdict == Verdict::Added).count();
    if state.workloads.len() + added > limits::WORKLOADS_MAX {
        return Err(Rejection::workloads_max());
    }
    let mut definition = state.definition_last;
    let changed: Vec<_> = workloads
        .into_iter()
        .zip(&differences)
        .filter(|(_, difference)| difference.verdict != Verdict::Unchanged)
        .map(|(workload, _)| {
            definition += 1;
            let next = occurrence_after(&workload, at);
            AppliedWorkload { definition, workload, next }
        })
        .collect();
    let change =
        (!changed.is_empty()).then_some(Change::WorkloadsApplied { workloads: changed, by });
    Ok((change, Reply::Applied(differences)))
}

/// The first occurrence of a job after `after`. A schedule that cannot be read has none: the
/// manifest refuses it, so it is never in a workload that came through the API.
pub(crate) fn occurrence_after(workload: &Workload, after: Timestamp) -> Option<Timestamp> {
    let Kind::Job(job) = &workload.kind else {
        return None;
    };
    let schedule = job.schedule.as_ref()?;
    Cron::parse(&schedule.cron, &schedule.time_zone).ok()?.next_after(after)
}

fn remove_workloads(state: &State, names: Vec<Name>, by: String) -> Outcome {
    let names: Vec<Name> = names.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    if let Some(name) = names.iter().find(|name| !state.workloads.contains_key(*name)) {
        return Err(Rejection::WorkloadUnknown { kind: "workload", name: name.clone() });
    }
    let change = (!names.is_empty()).then_some(Change::WorkloadsRemoved { names, by });
    Ok((change, Reply::Done))
}

fn expect_kind(workload: &Workload, wanted: &'static str) -> Result<(), Rejection> {
    let found = workload.kind.word();
    if found == wanted {
        return Ok(());
    }
    Err(Rejection::WorkloadKind { name: workload.name.clone(), found, wanted })
}

fn end_instance(state: &State, instance: InstanceId, by: String) -> Outcome {
    let found = state.instances.get(&instance).ok_or(Rejection::InstanceUnknown { instance })?;
    let ended = found.phase == Phase::Ended && found.restarts_at.is_none();
    let ending = found.stop_cause.is_some() || ended;
    let cause = StopCause::Requested { by };
    let change = (!ending).then_some(Change::InstanceStopRequested { instance, cause });
    Ok((change, Reply::Done))
}

fn run_job(state: &State, job: Name, by: String, ids: &mut dyn Ids) -> Outcome {
    if state.live as usize >= limits::INSTANCES_LIVE_MAX {
        return Err(Rejection::instances_max());
    }
    let found = state.workloads.get(&job);
    let entry =
        found.ok_or_else(|| Rejection::WorkloadUnknown { kind: "job", name: job.clone() })?;
    expect_kind(&entry.workload, "job")?;
    let run = RunId(ids.fresh());
    let (definition, next) = (entry.definition, entry.job.next);
    let change = Change::RunCreated { run, job, definition, occurrence: None, by: Some(by), next };
    Ok((Some(change), Reply::Run(run)))
}

fn join(
    state: &State,
    token: SecretHash,
    name: Name,
    credential: SecretHash,
    at: Timestamp,
    ids: &mut dyn Ids,
) -> Outcome {
    if state.join_tokens.get(&token).is_none_or(|expires_at| *expires_at <= at) {
        return Err(Rejection::JoinTokenInvalid);
    }
    if state.node_names.contains_key(&name) {
        return Err(Rejection::NodeNameTaken { name });
    }
    if state.nodes.len() >= limits::NODES_MAX {
        return Err(Rejection::Limit { what: "too many nodes", limit: limits::NODES_MAX });
    }
    let node = NodeId(ids.fresh());
    Ok((Some(Change::NodeJoined { node, name, credential, token }), Reply::Joined(node)))
}

fn remove_node(state: &State, node: NodeId, by: String) -> Outcome {
    let entry = state.nodes.get(&node).ok_or(Rejection::NodeUnknown { node })?;
    if entry.node.status != NodeStatus::Lost {
        let (name, status) = (entry.node.name.clone(), entry.node.status.word());
        return Err(Rejection::NodeNotLost { node: name, status });
    }
    Ok((Some(Change::NodeRemoved { node, by }), Reply::Done))
}

/// What a report is worth, before anything is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportStanding {
    /// It is news from an agent that the controller knows, or introduces one.
    Valid,
    /// The agent must introduce itself first.
    Introduce,
    /// It is older than what is known: ignore it.
    Stale,
}

/// Judges a report by its epoch, its agent process and its number.
pub(crate) fn standing(state: &State, report: &Report) -> ReportStanding {
    let Some(entry) = state.nodes.get(&report.node) else {
        return ReportStanding::Stale;
    };
    if let Some(introduction) = &report.introduction {
        let newer = introduction.incarnation > entry.incarnation
            || (introduction.incarnation == entry.incarnation
                && report.sequence > entry.report_sequence);
        return if newer { ReportStanding::Valid } else { ReportStanding::Stale };
    }
    let lost = entry.node.status == NodeStatus::Lost;
    if lost || report.epoch != entry.node.epoch || report.reign != state.reign {
        return ReportStanding::Introduce;
    }
    ReportStanding::Valid
}

fn admit_report(state: &State, report: Report) -> Outcome {
    let node = report.node;
    if !state.nodes.contains_key(&node) {
        return Err(Rejection::NodeUnknown { node });
    }
    if standing(state, &report) != ReportStanding::Valid {
        return Ok((None, Reply::Done));
    }
    if let Some(introduction) = report.introduction {
        return introduce(state, node, introduction, report.sequence, report.observed);
    }
    let observed: Vec<Observed> =
        report.observed.into_iter().filter(|news| is_news(state, node, news)).collect();
    if observed.is_empty() {
        return Ok((None, Reply::Done));
    }
    let change = Change::Observed { node, sequence: report.sequence, observed };
    Ok((Some(change), Reply::Done))
}

fn introduce(
    state: &State,
    node: NodeId,
    introduction: Introduction,
    sequence: u64,
    observed: Vec<Observed>,
) -> Outcome {
    let taken = state.node_names.get(&introduction.name).is_some_and(|other| *other != node);
    if taken {
        return Err(Rejection::NodeNameTaken { name: introduction.name });
    }
    let epoch = state.nodes[&node].node.epoch + 1;
    let change = Change::NodeIntroduced { node, epoch, introduction, sequence, observed };
    Ok((Some(change), Reply::Done))
}

fn is_news(state: &State, node: NodeId, observed: &Observed) -> bool {
    state.instances.get(&observed.instance).is_some_and(|instance| {
        instance.node == Some(node)
            && (instance.phase != Phase::Ended || state.is_fenced(instance))
            && observed.revision > instance.revision_observed
    })
}
