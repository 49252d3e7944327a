//! May a session be created, extended or ended for being idle?

use super::{Outcome, expect_kind, keeping};
use crate::command::{Rejection, Reply, SessionSource};
use crate::decide::room_for;
use crate::keys::is_current;
use crate::record::Change;
use crate::state::State;
use crate::terms::{idle_rule, is_drained, session_of, settings_of};
use crate::{command::Ids, terms::duration_of};
use spawnery_model::{
    DurationMs, Instance, InstanceId, Name, Origin, Phase, SessionTerms, StopCause, Timestamp,
    WarningCause, Workload, limits,
};

pub(super) fn create_session(
    state: &State,
    source: SessionSource,
    owner: String,
    terms: &SessionTerms,
    at: Timestamp,
    ids: &mut dyn Ids,
) -> Outcome {
    let (name, definition, inline) = match source {
        SessionSource::Template(name) => {
            let unknown =
                || Rejection::WorkloadUnknown { kind: "session template", name: name.clone() };
            let entry = state.workloads.get(&name).ok_or_else(unknown)?;
            expect_kind(&entry.workload, "session")?;
            if let Some(found) = found_by_key(state, &name, &owner, terms)? {
                return Ok((None, Reply::SessionFound(found)));
            }
            (name, entry.definition, None)
        }
        SessionSource::Inline(workload) => {
            expect_kind(&workload, "session")?;
            keeping::secrets_exist(state, [&*workload])?;
            if let Some(found) = found_by_key(state, &workload.name, &owner, terms)? {
                return Ok((None, Reply::SessionFound(found)));
            }
            (workload.name.clone(), state.definition_last + 1, Some(workload))
        }
    };
    if state.live as usize >= limits::INSTANCES_LIVE_MAX {
        return Err(Rejection::instances_max());
    }
    state.owners.check(&owner, &terms.allowed, at)?;
    let template = match &inline {
        Some(workload) => workload,
        None => &state.workloads[&name].workload,
    };
    let mut session = session_of(template, terms);
    let waits_for_key = terms.key.as_ref().is_some_and(|key| {
        let hold = state.keys.get(&(name.clone(), key.clone()));
        hold.is_some_and(|hold| hold.fenced_until.is_some() || runs(state, hold.holder))
    });
    if terms.at_once {
        refuse_without_room(state, template, &session, waits_for_key)?;
    } else if state.agenda.queue.len() + state.agenda.place.len() >= limits::SESSIONS_QUEUED_MAX {
        let limit = limits::SESSIONS_QUEUED_MAX;
        return Err(Rejection::Limit { what: "too many sessions wait for room", limit });
    }
    let deadline = settings_of(template).and_then(|settings| settings.queue_deadline);
    let deadline = terms.queue_deadline.or(deadline).unwrap_or(limits::QUEUE_DEADLINE_DEFAULT);
    session.queue_until = Some(at.plus(deadline));
    let instance = InstanceId(ids.fresh());
    assert!(!state.instances.contains_key(&instance), "a fresh id recurred: {instance}");
    let origin = Origin::Session { owner, after: None, failures: 0 };
    let session = Some(Box::new(session));
    let change =
        Change::InstanceCreated { instance, workload: name, definition, inline, origin, session };
    Ok((Some(change), Reply::Session(instance)))
}

fn runs(state: &State, id: InstanceId) -> bool {
    state.instance(id).is_some_and(|instance| instance.phase != Phase::Ended)
}

/// The session that the key names, if `owner` may have it.
fn found_by_key(
    state: &State,
    template: &Name,
    owner: &str,
    terms: &SessionTerms,
) -> Result<Option<InstanceId>, Rejection> {
    let Some(key) = &terms.key else {
        return Ok(None);
    };
    let Some(found) = state.session_of_key(template, key) else {
        return Ok(None);
    };
    let session = found.session.as_ref().expect("it has a key");
    if !terms.beyond_template && !may_use(found, owner) {
        return Err(Rejection::KeyOfOther { key: key.clone() });
    }
    if session.tags != terms.tags {
        let tags: Vec<_> =
            session.tags.iter().map(|(tag, value)| format!("{tag}={value}")).collect();
        let found_tags = if tags.is_empty() { "none".to_owned() } else { tags.join(", ") };
        return Err(Rejection::TagsDiffer {
            key: key.clone(),
            instance: found.id,
            found: found_tags,
        });
    }
    Ok(Some(found.id))
}

/// Whether `subject` owns a session, or is named by it.
pub fn may_use(instance: &Instance, subject: &str) -> bool {
    let Origin::Session { owner, .. } = &instance.origin else {
        return false;
    };
    let shared = instance.session.as_ref().is_some_and(|it| it.shared_with.contains(subject));
    owner == subject || shared
}

fn refuse_without_room(
    state: &State,
    template: &Workload,
    session: &spawnery_model::Session,
    waits_for_key: bool,
) -> Result<(), Rejection> {
    if waits_for_key {
        let reason = "the session of this key before it has not ended yet".to_owned();
        return Err(Rejection::NoRoom { reason });
    }
    if !state.agenda.queue.is_empty() {
        let reason = format!("{} sessions wait already", state.agenda.queue.len());
        return Err(Rejection::NoRoom { reason });
    }
    room_for(state, template, session).map_err(|reason| Rejection::NoRoom { reason })
}

fn session(state: &State, instance: InstanceId) -> Result<&Instance, Rejection> {
    let found = state.instances.get(&instance).ok_or(Rejection::InstanceUnknown { instance })?;
    match found.session {
        Some(_) => Ok(found),
        None => {
            let reason = "it is no session".to_owned();
            Err(Rejection::NotExtended { instance, reason })
        }
    }
}

pub(super) fn extend_session(
    state: &State,
    instance: InstanceId,
    by_time: DurationMs,
    by: String,
) -> Outcome {
    let found = session(state, instance)?;
    let refused = |reason: String| Err(Rejection::NotExtended { instance, reason });
    if !is_current(found) || found.phase == Phase::Ended {
        return refused("it has ended or is ending".to_owned());
    }
    let kept = found.session.as_ref().expect("it is a session");
    let Some(now) = duration_of(kept) else {
        return refused("it has no longest duration".to_owned());
    };
    let wanted = DurationMs(now.0.saturating_add(by_time.0).min(limits::DURATION_MAX.0));
    let duration = kept.duration_limit.map_or(wanted, |limit| wanted.min(limit));
    if duration <= now {
        return refused(format!("it may already live as long as is allowed, {now}"));
    }
    let ends_at = found.started_at.unwrap_or(found.created_at).plus(duration);
    let change = Change::SessionExtended { instance, duration, by };
    Ok((Some(change), Reply::Extended { ends_at }))
}

/// What is found about the use of a session decides whether it is warned, ended, or left alone.
pub(super) fn session_seen(
    state: &State,
    instance: InstanceId,
    active_at: Timestamp,
    at: Timestamp,
) -> Outcome {
    let found = session(state, instance)?;
    let kept = found.session.as_ref().expect("it is a session");
    let ready_at =
        found.ready_at.filter(|_| found.phase == Phase::Ready && found.stop_cause.is_none());
    let Some(ready_at) = ready_at else {
        return Ok((None, Reply::Done));
    };
    let known = kept.active_at.unwrap_or(ready_at);
    let active_at = active_at.min(at).max(known);
    let is_newer = active_at > known;
    let seen = (is_newer || kept.asked_at.is_some())
        .then_some(Change::SessionSeen { instance, active_at });
    // Only the answer to a question ends it: whoever was asked keeps it from being used meanwhile.
    // A use that was not known is kept first, and is what the next question goes by.
    let may_end = kept.asked_at.is_some() && !is_newer && active_at < at;
    let Some(rule) = idle_rule(state, found).filter(|_| may_end) else {
        return Ok((seen, Reply::Done));
    };
    let warned = kept.warned.as_ref().and_then(|warned| warned.idle);
    let warning_at = active_at.plus(DurationMs(rule.timeout.0 - rule.warning.0));
    let change = match warned {
        Some(ends_at) if ends_at <= at => idle_end(state, found),
        None if rule.warning.0 == 0 && warning_at <= at => idle_end(state, found),
        None if rule.warning.0 > 0 && warning_at <= at => {
            // Who comes late, such as a controller that was away, still warns in time.
            let ends_at = active_at.plus(rule.timeout).max(at.plus(rule.warning));
            Change::SessionWarned { instance, cause: WarningCause::Idle, ends_at }
        }
        _ => return Ok((seen, Reply::Done)),
    };
    Ok((Some(change), Reply::Done))
}

/// On a node that is drained, that is why so little idleness ends it.
fn idle_end(state: &State, found: &Instance) -> Change {
    let cause = if is_drained(state, found) { StopCause::Drained } else { StopCause::Idle };
    Change::InstanceStopRequested { instance: found.id, cause }
}

pub(super) fn end_sessions_of(owner: String, by: String) -> Outcome {
    Ok((Some(Change::OwnerRevoked { owner, by }), Reply::Done))
}
