//! What the cluster does by itself: the next record that is due, if any.
//!
//! Deciding changes nothing. Its answer is a record like that of a command, and becomes true by
//! [`apply()`](crate::apply()).

mod jobs;
mod place;
mod services;
mod volumes;

pub(crate) use place::room_for;
pub(crate) use volumes::mounts_of;

use crate::command::Ids;
use crate::record::{Change, Record};
use crate::state::{State, Timer};
use crate::terms::duration_ends_at;
use place::PlacementPass;
use spawnery_model::{
    InstanceId, Kind, Name, Origin, Phase, Replicas, Session, StopCause, Timestamp, WarningCause,
};
use std::collections::BTreeSet;

/// Where to look. It holds nothing that a restart could lose: a new one looks everywhere.
#[derive(Debug, Default)]
pub struct Attention {
    /// Services whose replicas may not be as wanted.
    services: BTreeSet<Name>,
    /// All services are to be looked at.
    services_all: bool,
    /// Those that run on every node are.
    services_on_every_node: bool,
    /// When to look at a service again.
    wake_ups: BTreeSet<(Timestamp, Name)>,
    /// How far placing has come.
    placement: PlacementPass,
}

impl Attention {
    /// Looks everywhere: for a controller that has just started.
    pub fn everywhere() -> Attention {
        Attention { services_all: true, ..Attention::default() }
    }

    /// Looks at one service soon.
    pub fn service(&mut self, name: Name) {
        self.services.insert(name);
    }

    /// Looks soon at all services that run on every node.
    pub fn services_on_every_node(&mut self) {
        self.services_on_every_node = true;
    }

    /// When something is due that no command brings.
    pub(crate) fn wake_up(&self) -> Option<Timestamp> {
        self.wake_ups.first().map(|(at, _)| *at)
    }
}

/// The next record that is due at the time `now`, or `None` if nothing is to be done before
/// [`poll_timeout`].
pub fn decide(
    state: &State,
    attention: &mut Attention,
    now: Timestamp,
    ids: &mut dyn Ids,
) -> Option<Record> {
    let at = now.max(state.time());
    let change = next_stop(state)
        .or_else(|| next_replica(state, attention, at, ids))
        .or_else(|| jobs::next_attempt(state, ids))
        .or_else(|| next_timer(state, at, ids))
        .or_else(|| place::next_placement(state, &mut attention.placement))?;
    Some(Record { at, change, answered: None })
}

/// When [`decide`] wants to be asked again, if nothing happens before.
pub fn poll_timeout(state: &State, attention: &Attention) -> Option<Timestamp> {
    let timer = state.agenda.timers.first().map(|(at, _)| *at);
    [timer, attention.wake_up()].into_iter().flatten().min()
}

/// Whether a timer has run out that [`decide`] has not looked at yet.
pub(crate) fn is_due(state: &State, now: Timestamp) -> bool {
    let at = now.max(state.time());
    state.agenda.timers.first().is_some_and(|(due, _)| *due <= at)
}

fn next_stop(state: &State) -> Option<Change> {
    let (instance, cause) = state.agenda.stops.first_key_value()?;
    Some(Change::InstanceStopRequested { instance: *instance, cause: cause.clone() })
}

fn next_replica(
    state: &State,
    attention: &mut Attention,
    now: Timestamp,
    ids: &mut dyn Ids,
) -> Option<Change> {
    let all = std::mem::take(&mut attention.services_all);
    if std::mem::take(&mut attention.services_on_every_node) || all {
        let services = state.workloads().filter(|entry| match &entry.workload.kind {
            Kind::Service(service) => all || service.replicas == Replicas::EveryNode,
            Kind::Job(_) | Kind::Session(_) => false,
        });
        attention.services.extend(services.map(|entry| entry.workload.name.clone()));
    }
    while attention.wake_ups.first().is_some_and(|(at, _)| *at <= now) {
        let (_, name) = attention.wake_ups.pop_first().expect("it was just looked at");
        attention.services.insert(name);
    }
    while let Some(name) = attention.services.first().cloned() {
        match services::reconcile(state, &name, now, ids) {
            services::Outcome::Change(change) => return Some(change),
            services::Outcome::Wait(until) => {
                attention.wake_ups.insert((until, name.clone()));
            }
            services::Outcome::Settled => {}
        }
        attention.services.remove(&name);
    }
    None
}

fn next_timer(state: &State, now: Timestamp, ids: &mut dyn Ids) -> Option<Change> {
    let (_, timer) = state.agenda.timers.first().filter(|(at, _)| *at <= now)?;
    Some(match timer {
        Timer::Occurrence(job) => jobs::occurrence_due(state, job, now, ids),
        Timer::Attempt(run) => jobs::attempt(state, *run, ids),
        Timer::Duration(instance) => duration_reached(state, *instance),
        Timer::Restart(instance) => restart(state, *instance, ids),
        Timer::Idle(instance) => Change::SessionAsked { instance: *instance },
        Timer::DurationWarning(instance) => duration_warning(state, *instance),
        Timer::Queue(instance) => {
            Change::InstanceStopRequested { instance: *instance, cause: StopCause::QueuedTooLong }
        }
        Timer::Stale(instance) => Change::SessionForgotten { instance: *instance },
        Timer::Fence(template, key) => {
            Change::KeyReleased { template: template.clone(), key: key.clone() }
        }
        Timer::Drain(node) => Change::DrainEnded { node: *node },
    })
}

/// The instance that takes the place of a session which ended by itself.
fn restart(state: &State, before: InstanceId, ids: &mut dyn Ids) -> Change {
    let ended = state.instance(before).expect("it is kept until it is restarted");
    let Origin::Session { owner, failures, .. } = &ended.origin else {
        unreachable!("only a session is restarted by a timer of its own")
    };
    Change::InstanceCreated {
        instance: InstanceId(ids.fresh()),
        workload: ended.workload.clone(),
        definition: ended.definition,
        inline: None,
        origin: Origin::Session { owner: owner.clone(), after: Some(before), failures: *failures },
        session: ended.session.as_deref().map(|session| Box::new(successor(session))),
    }
}

/// What the successor of a session that ended by itself has of it.
fn successor(session: &Session) -> Session {
    Session {
        queue_until: None,
        turn: None,
        active_at: None,
        warned: None,
        follows: None,
        asked_at: None,
        ..session.clone()
    }
}

fn duration_warning(state: &State, instance: InstanceId) -> Change {
    let found = state.instance(instance).expect("its clock is stopped when it ends");
    let ends_at = duration_ends_at(found).expect("it has a longest duration");
    Change::SessionWarned { instance, cause: WarningCause::Duration, ends_at }
}

fn duration_reached(state: &State, instance: InstanceId) -> Change {
    let found = state.instance(instance).expect("its clock is stopped when it ends");
    assert_ne!(found.phase, Phase::Ended, "its clock is stopped when it ends");
    let cause = match state.definition_of(found).kind {
        Kind::Job(_) => StopCause::TimedOut,
        Kind::Service(_) | Kind::Session(_) => StopCause::DurationReached,
    };
    Change::InstanceStopRequested { instance, cause }
}
