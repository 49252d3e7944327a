//! The limits of a session: the smaller of what is asked and what is allowed.

use crate::state::State;
use spawnery_model::limits::{
    CLIENT_GRACE_DEFAULT, DRAIN_IDLE, KEY_LEASE_DEFAULT, WARNING_BEFORE_DURATION_DEFAULT,
    WARNING_BEFORE_IDLE_DEFAULT,
};
use spawnery_model::{
    Capacity, DurationMs, Instance, Kind, Notice, Phase, Process, Session, SessionLimits,
    SessionOrder, SessionSettings, SessionTerms, Timestamp, Warned, WarningCause, Workload,
};

/// Time from the last use that is known to the next question whether a session is idle: each is a
/// record, and a busy session with a timeout of nothing would be asked without a pause.
const ASKED_EVERY_MIN: DurationMs = DurationMs::from_secs(1);

/// What `kind` says of sessions.
pub fn settings_of(workload: &Workload) -> Option<&SessionSettings> {
    match &workload.kind {
        Kind::Session(settings) => Some(settings),
        Kind::Service(_) | Kind::Job(_) => None,
    }
}

/// What is decided about the limits of a session of `template`, when it is created on `terms`.
pub(crate) fn session_of(template: &Workload, terms: &SessionTerms) -> Session {
    let (process, SessionTerms { wanted, allowed, .. }) = (&template.process, terms);
    let settings = settings_of(template).expect("a session has a template of that kind");
    let beyond = terms.beyond_template;
    let transfer = template.surroundings.as_ref().and_then(|it| it.egress.transfer_max);
    let duration_top = settings.duration_limit.or(settings.duration_max);
    let idle_top = settings.idle_timeout_limit.or(settings.idle_timeout);
    let memory = Some(process.memory);
    let cpu = process.cpu_max;
    let pids = Some(process.pids_max);
    let (duration, idle) = (settings.duration_max, settings.idle_timeout);
    let cpu = least(wanted.cpu, cpu, allowed.cpu, cpu.or(Some(process.cpu_reserved)), beyond);
    let limits = SessionLimits {
        memory: least(wanted.memory, memory, allowed.memory, memory, beyond),
        cpu,
        disk: least(wanted.disk, process.disk_max, allowed.disk, process.disk_max, beyond),
        pids: least(wanted.pids, pids, allowed.pids, pids, beyond),
        clients: least(
            wanted.clients,
            settings.clients_max,
            allowed.clients,
            settings.clients_max,
            beyond,
        ),
        duration: least(wanted.duration, duration, allowed.duration, duration_top, beyond),
        idle_timeout: least(wanted.idle_timeout, idle, allowed.idle_timeout, idle_top, beyond),
        transfer: least(wanted.transfer, transfer, allowed.transfer, transfer, beyond),
    };
    let own_cpu = limits.cpu.filter(|cpu| wanted.cpu.is_some() || *cpu < process.cpu_reserved);
    Session {
        key: terms.key.clone(),
        tags: terms.tags.clone(),
        shared_with: terms.shared_with.clone(),
        cpu_reserved: own_cpu,
        // What is as the template says is not kept for each session.
        limits: SessionLimits {
            memory: limits.memory.filter(|memory| *memory != process.memory),
            cpu: limits.cpu.filter(|cpu| Some(*cpu) != process.cpu_max),
            disk: limits.disk.filter(|disk| Some(*disk) != process.disk_max),
            pids: limits.pids.filter(|pids| *pids != process.pids_max),
            transfer: limits.transfer.filter(|most| Some(*most) != transfer),
            ..limits
        },
        duration_limit: match (allowed.duration, beyond) {
            (Some(allowed), _) => Some(allowed),
            (None, true) => None,
            (None, false) => duration_top,
        },
        ..Session::default()
    }
}

/// The value that is wanted, or else the template's; at most what the token allows. Where the
/// token says nothing, who may not go beyond the template has at most what that says.
fn least<T: Ord + Copy>(
    wanted: Option<T>,
    template: Option<T>,
    allowed: Option<T>,
    template_most: Option<T>,
    beyond_template: bool,
) -> Option<T> {
    let most = allowed.or(template_most.filter(|_| !beyond_template));
    let value = wanted.or(template);
    match (value, most) {
        (Some(value), Some(most)) => Some(value.min(most)),
        (value, most) => value.or(most.filter(|_| allowed.is_some())),
    }
}

/// The process that an instance runs, within its own limits.
pub fn process_of(workload: &Workload, instance: &Instance) -> Process {
    let mut process = workload.process.clone();
    let Some(session) = &instance.session else {
        return process;
    };
    let limits = &session.limits;
    process.memory = limits.memory.unwrap_or(process.memory);
    process.cpu_max = limits.cpu.or(process.cpu_max);
    process.cpu_reserved = session.cpu_reserved.unwrap_or(process.cpu_reserved);
    process.disk_max = limits.disk.or(process.disk_max);
    process.pids_max = limits.pids.unwrap_or(process.pids_max);
    process
}

/// What an instance of `workload` reserves.
pub(crate) fn amount(workload: &Workload, session: Option<&Session>) -> Capacity {
    let process = &workload.process;
    let own = session.map(|session| (session.limits.memory, session.cpu_reserved));
    let (memory, cpu) = own.unwrap_or_default();
    Capacity { memory: memory.unwrap_or(process.memory), cpu: cpu.unwrap_or(process.cpu_reserved) }
}

/// How long a session may live; `None` for ever.
pub(crate) fn duration_of(session: &Session) -> Option<DurationMs> {
    session.limits.duration
}

/// When a session will have lived as long as it may.
pub fn duration_ends_at(instance: &Instance) -> Option<Timestamp> {
    let limit = instance.session.as_deref().and_then(duration_of)?;
    Some(instance.started_at?.plus(limit))
}

/// How idleness ends a session now, if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleRule {
    /// After how long.
    pub timeout: DurationMs,
    /// How long before it is warned.
    pub warning: DurationMs,
}

/// How idleness ends `instance` now. On a node that is drained it does so soon, because it was
/// warned of that.
pub fn idle_rule(state: &State, instance: &Instance) -> Option<IdleRule> {
    let session = instance.session.as_deref()?;
    if is_drained(state, instance) {
        return Some(IdleRule { timeout: DRAIN_IDLE, warning: DurationMs(0) });
    }
    let timeout = session.limits.idle_timeout?;
    let settings = settings_of(state.definition_of(instance))?;
    let told = settings.warnings.as_ref().and_then(|warnings| warnings.before_idle);
    // A token may allow less time than the template warns ahead.
    let told = told.filter(|told| *told < timeout);
    let warning = told.unwrap_or(DurationMs(WARNING_BEFORE_IDLE_DEFAULT.0.min(timeout.0 / 2)));
    Some(IdleRule { timeout, warning })
}

/// Whether the node of `instance` is drained.
pub(crate) fn is_drained(state: &State, instance: &Instance) -> bool {
    let node = instance.node.and_then(|node| state.node(node));
    node.is_some_and(|found| found.node.draining)
}

/// When to ask whether a session is idle.
pub(crate) fn idle_due(state: &State, instance: &Instance) -> Option<Timestamp> {
    let session = instance.session.as_deref()?;
    if instance.phase != Phase::Ready || instance.stop_cause.is_some() {
        return None;
    }
    if let Some(asked_at) = session.asked_at {
        return Some(asked_at.plus(spawnery_model::limits::IDLE_ANSWER));
    }
    let rule = idle_rule(state, instance)?;
    if let Some(ends_at) = session.warned.as_ref().and_then(|warned| warned.idle) {
        return Some(ends_at);
    }
    let active_at = session.active_at.or(instance.ready_at)?;
    Some(active_at.plus(DurationMs(rule.timeout.0 - rule.warning.0).max(ASKED_EVERY_MIN)))
}

/// When to warn that a session will have lived long enough; `None` if it was warned already.
pub(crate) fn duration_warning_due(state: &State, instance: &Instance) -> Option<Timestamp> {
    let session = instance.session.as_deref()?;
    if session.warned.as_ref().is_some_and(|warned| warned.duration.is_some()) {
        return None;
    }
    let (limit, started_at) = (duration_of(session)?, instance.started_at?);
    let settings = settings_of(state.definition_of(instance))?;
    let told = settings.warnings.as_ref().and_then(|warnings| warnings.before_duration);
    let default = DurationMs(WARNING_BEFORE_DURATION_DEFAULT.0.min(limit.0 / 2));
    let warning = told.unwrap_or(default).min(limit);
    Some(started_at.plus(DurationMs(limit.0 - warning.0)))
}

/// What a node is told of a session.
pub(crate) fn session_order(workload: &Workload, instance: &Instance) -> Option<Box<SessionOrder>> {
    let session = instance.session.as_deref()?;
    let settings = settings_of(workload)?;
    let lease = settings.key_lease.unwrap_or(KEY_LEASE_DEFAULT);
    let order = SessionOrder {
        key: session.key.clone(),
        lease: session.key.is_some().then_some(lease),
        notices: notices(settings, session.warned.as_ref()),
    };
    (order != SessionOrder::default()).then(|| Box::new(order))
}

fn notices(settings: &SessionSettings, warned: Option<&Warned>) -> Vec<Notice> {
    let (Some(warned), Some(warnings)) = (warned, &settings.warnings) else {
        return Vec::new();
    };
    if warnings.signal.is_none() && warnings.file.is_none() {
        return Vec::new();
    }
    let ends = [
        (WarningCause::Duration, warned.duration),
        (WarningCause::Idle, warned.idle),
        (WarningCause::Drain, warned.drain),
    ];
    let notice = |(cause, ends_at): (WarningCause, Option<Timestamp>)| {
        let (signal, file) = (warnings.signal, warnings.file.clone());
        Some(Notice { cause, ends_at: ends_at?, signal, file })
    };
    ends.into_iter().filter_map(notice).collect()
}

/// How many clients may be attached at once, and how long one that is gone keeps its place.
pub fn clients_of(state: &State, instance: &Instance) -> (Option<u32>, DurationMs) {
    let settings = settings_of(state.definition_of(instance));
    let grace = settings.and_then(|settings| settings.client_grace);
    let most = instance.session.as_deref().and_then(|session| session.limits.clients);
    (most, grace.unwrap_or(CLIENT_GRACE_DEFAULT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_what_is_asked_and_what_is_allowed_counts() {
        let check = |wanted, template, allowed, beyond, expected| {
            let found = least(wanted, template, allowed, template, beyond);
            assert_eq!(found, expected, "{wanted:?} {template:?} {allowed:?} {beyond}");
        };
        check(None, Some(4), None, false, Some(4));
        check(Some(2), Some(4), None, false, Some(2));
        check(Some(8), Some(4), None, false, Some(4));
        check(Some(8), Some(4), None, true, Some(8));
        check(Some(8), Some(4), Some(6), false, Some(6));
        check(Some(8), Some(4), Some(6), true, Some(6));
        check(None, Some(4), Some(2), true, Some(2));
        check(None, None, Some(2), false, Some(2));
        check(None, None, None, false, None);
        check(Some(9), None, None, false, Some(9));
    }
}
