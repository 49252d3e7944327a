//! What sessions are promised about their ends: each is warned of, is for a reason, and never
//! comes while the session is used.

mod town;

use spawnery_cluster::{Command, Rejection, Reply};
use spawnery_model::{
    DurationMs, Exit, InstanceId, LimitReached, Phase, SessionTerms, StopCause, Timestamp, Want,
    Warnings, Workload, limits,
};
use town::{Town, exit_code, keyed, session, session_settings};

const HOUR: u64 = 3_600_000;
const MINUTE: u64 = 60_000;

/// A session of a template that is ended after `duration` and when idle for `idle`.
fn town_with(duration: Option<u64>, idle: Option<u64>) -> (Town, InstanceId) {
    let mut town = Town::with_nodes(&["a"]);
    let mut desk = session("desk", duration);
    session_settings(&mut desk).idle_timeout = idle.map(DurationMs);
    town.apply(desk);
    let instance = town.created("desk", "ann", SessionTerms::default());
    (town, instance)
}

fn warnings(town: &Town) -> usize {
    town.told("session.warning").len()
}

fn extend(town: &mut Town, instance: InstanceId, by_ms: u64) -> Result<Reply, Rejection> {
    let (by_time, by) = (DurationMs(by_ms), "ann".to_owned());
    town.command(Command::ExtendSession { instance, by_time, by })
}

fn seen(town: &mut Town, instance: InstanceId) {
    let active_at = town.now;
    town.command(Command::SessionSeen { instance, active_at }).unwrap();
}

fn drain(town: &mut Town, deadline: Option<u64>) {
    let (node, by) = (town.node("a"), "ann".to_owned());
    let deadline = deadline.map(DurationMs);
    town.command(Command::SetDraining { node, draining: true, deadline, by }).unwrap();
}

fn stop_cause(town: &Town, instance: InstanceId) -> Option<StopCause> {
    town.state().instance(instance).unwrap().stop_cause.clone()
}

#[test]
fn the_longest_duration_is_warned_of_once_ten_minutes_before() {
    let (mut town, desk) = town_with(Some(HOUR), None);
    town.pass(HOUR - 10 * MINUTE - 1);
    assert_eq!(warnings(&town), 0);
    town.pass(1);
    assert_eq!(warnings(&town), 1);
    town.pass(10 * MINUTE - 1);
    assert_eq!((warnings(&town), town.phase(desk)), (1, Phase::Ready));
    town.pass(1);
    assert_eq!(stop_cause(&town, desk), Some(StopCause::DurationReached));
    assert_eq!(warnings(&town), 1);
}

#[test]
fn a_short_duration_is_warned_of_at_its_half() {
    let (mut town, desk) = town_with(Some(10 * MINUTE), None);
    town.pass(5 * MINUTE - 1);
    assert_eq!(warnings(&town), 0);
    town.pass(1);
    assert_eq!(warnings(&town), 1);
    town.pass(5 * MINUTE);
    assert_eq!((warnings(&town), town.phase(desk)), (1, Phase::Ended));
}

#[test]
fn an_idle_session_is_warned_once_a_minute_before_and_then_ended() {
    let (mut town, desk) = town_with(None, Some(10 * MINUTE));
    town.pass(9 * MINUTE - 1);
    assert_eq!(warnings(&town), 0);
    town.pass(1);
    assert_eq!(warnings(&town), 1);
    town.pass(MINUTE - 1);
    assert_eq!((warnings(&town), town.phase(desk)), (1, Phase::Ready));
    town.pass(1);
    assert_eq!(stop_cause(&town, desk), Some(StopCause::Idle));
    assert_eq!(warnings(&town), 1);
}

#[test]
fn idleness_counts_from_when_a_session_is_ready() {
    let mut town = Town::with_nodes(&["a"]);
    let mut desk = session("desk", None);
    session_settings(&mut desk).idle_timeout = Some(DurationMs(10 * MINUTE));
    town.apply(desk);
    town.agents.get_mut("a").unwrap().starts = false;
    let desk = town.created("desk", "ann", SessionTerms::default());
    town.pass(HOUR);
    let running = spawnery_model::Observation::Running { pid: 7 };
    town.agents.get_mut("a").unwrap().observe(desk, running);
    town.pass(HOUR);
    assert_eq!((warnings(&town), town.phase(desk)), (0, Phase::Running));
    let ready = spawnery_model::Observation::Ready { pid: 7 };
    town.agents.get_mut("a").unwrap().observe(desk, ready);
    town.settle();
    town.pass(9 * MINUTE - 1);
    assert_eq!(warnings(&town), 0);
    town.pass(MINUTE + 1);
    assert_eq!(town.phase(desk), Phase::Ended);
}

#[test]
fn use_clears_the_warning_and_a_later_one_comes_again() {
    let (mut town, desk) = town_with(None, Some(10 * MINUTE));
    town.pass(9 * MINUTE + 30_000);
    assert_eq!(warnings(&town), 1);
    let now = town.now;
    town.used.insert(desk, now);
    town.pass(9 * MINUTE - 1);
    assert_eq!((warnings(&town), town.phase(desk)), (1, Phase::Ready));
    town.pass(1);
    assert_eq!(warnings(&town), 2);
    town.pass(MINUTE);
    assert_eq!((warnings(&town), town.phase(desk)), (2, Phase::Ended));
}

/// An answer that brings nothing new, as while a node is drained for a moment.
#[test]
fn an_answer_that_brings_no_use_leaves_the_warning_as_it_is() {
    let (mut town, desk) = town_with(None, Some(10 * MINUTE));
    town.pass(9 * MINUTE);
    assert_eq!(warnings(&town), 1);
    town.deaf = true;
    town.pass(MINUTE);
    town.restart_controller();
    drain(&mut town, None);
    town.drain("a", false);
    town.deaf = false;
    let told = |town: &Town| {
        town.told("session.warning").iter().filter(|it| it.contains("nobody uses it")).count()
    };
    town.pass(MINUTE);
    assert_eq!((told(&town), town.phase(desk)), (1, Phase::Ended));
}

/// It was used after its warning, and then nobody could be asked for long.
#[test]
fn a_use_that_is_heard_of_late_leads_to_one_more_warning_and_then_the_end() {
    let (mut town, desk) = town_with(None, Some(10 * MINUTE));
    town.pass(9 * MINUTE + 1);
    let now = town.now;
    town.used.insert(desk, now);
    town.deaf = true;
    town.pass(HOUR);
    town.deaf = false;
    town.pass(3 * MINUTE);
    assert_eq!((warnings(&town), town.phase(desk)), (2, Phase::Ended));
}

#[test]
fn keep_alive_counts_as_use() {
    let (mut town, desk) = town_with(None, Some(10 * MINUTE));
    for _ in 0..20 {
        town.pass(8 * MINUTE);
        seen(&mut town, desk);
    }
    assert_eq!((warnings(&town), town.phase(desk)), (0, Phase::Ready));
    town.pass(10 * MINUTE);
    assert_eq!(town.phase(desk), Phase::Ended);
}

#[test]
fn a_busy_session_is_never_ended_for_being_idle() {
    let (mut town, desk) = town_with(None, Some(10 * MINUTE));
    town.busy.insert(desk);
    town.pass(24 * HOUR);
    assert_eq!((warnings(&town), town.phase(desk)), (0, Phase::Ready));
    town.restart_controller();
    town.pass(HOUR);
    assert_eq!(town.phase(desk), Phase::Ready);
}

/// It is asked now and then, not without a pause.
#[test]
fn a_busy_session_costs_little_whatever_its_timeout() {
    for (idle, before_idle) in [(0, None), (1, None), (30_000, Some(MINUTE)), (5000, Some(4999))] {
        let mut town = Town::with_nodes(&["a"]);
        let mut desk = session("desk", None);
        let settings = session_settings(&mut desk);
        settings.idle_timeout = Some(DurationMs(idle));
        let before_idle = before_idle.map(DurationMs);
        settings.warnings = Some(Box::new(Warnings { before_idle, ..Warnings::default() }));
        town.apply(desk);
        town.deaf = true;
        let desk = town.created("desk", "ann", SessionTerms::default());
        town.busy.insert(desk);
        town.deaf = false;
        let before = town.journal.len();
        town.pass(10 * MINUTE);
        assert_eq!(town.phase(desk), Phase::Ready, "{idle} {before_idle:?}");
        let records = town.journal.len() - before;
        assert!(records <= 1300, "{records} records in ten minutes, {idle} {before_idle:?}");
    }
}

#[test]
fn nobody_who_cannot_be_asked_is_ended_and_it_is_asked_again() {
    let (mut town, desk) = town_with(None, Some(10 * MINUTE));
    town.deaf = true;
    town.pass(2 * HOUR);
    assert_eq!((warnings(&town), town.phase(desk)), (0, Phase::Ready));
    town.deaf = false;
    town.pass(limits::IDLE_ANSWER.0 + 1);
    assert_eq!(warnings(&town), 1);
    // Who is warned late has as long as who is warned in time.
    town.pass(MINUTE - limits::IDLE_ANSWER.0 - 1);
    assert_eq!(town.phase(desk), Phase::Ready);
    town.pass(2 * limits::IDLE_ANSWER.0);
    assert_eq!(town.phase(desk), Phase::Ended);
}

#[test]
fn a_session_lives_longer_if_it_is_extended_within_its_limit() {
    let mut town = Town::with_nodes(&["a"]);
    let mut desk = session("desk", Some(HOUR));
    session_settings(&mut desk).duration_limit = Some(DurationMs(3 * HOUR));
    town.apply(desk);
    let begun = town.now;
    let desk = town.created("desk", "ann", SessionTerms::default());
    town.pass(55 * MINUTE);
    assert_eq!(warnings(&town), 1);
    let ends_at = Timestamp(begun.0 + 2 * HOUR);
    assert_eq!(extend(&mut town, desk, HOUR), Ok(Reply::Extended { ends_at }));
    town.pass(55 * MINUTE);
    assert_eq!((warnings(&town), town.phase(desk)), (2, Phase::Ready));
    // More than is allowed gives what is allowed.
    let ends_at = Timestamp(begun.0 + 3 * HOUR);
    assert_eq!(extend(&mut town, desk, 9 * HOUR), Ok(Reply::Extended { ends_at }));
    assert_eq!(extend(&mut town, desk, HOUR).unwrap_err().code(), "not-extended");
    town.pass(70 * MINUTE);
    assert_eq!((warnings(&town), town.phase(desk)), (3, Phase::Ended));
    assert_eq!(extend(&mut town, desk, HOUR).unwrap_err().code(), "not-extended");
}

#[test]
fn a_session_without_a_longest_duration_cannot_be_extended() {
    let (mut town, desk) = town_with(None, None);
    assert_eq!(extend(&mut town, desk, HOUR).unwrap_err().code(), "not-extended");
}

#[test]
fn sessions_on_a_drained_node_are_warned_and_end_once_they_are_idle() {
    let (mut town, busy) = town_with(None, None);
    town.busy.insert(busy);
    let idle = town.created("desk", "ann", SessionTerms::default());
    town.pass(HOUR);
    drain(&mut town, None);
    assert_eq!(warnings(&town), 2);
    town.pass(limits::DRAIN_IDLE.0);
    assert_eq!((town.phase(busy), town.phase(idle)), (Phase::Ready, Phase::Ended));
    town.pass(limits::DRAIN_DEADLINE_DEFAULT.0 - limits::DRAIN_IDLE.0 - 1);
    assert_eq!(town.phase(busy), Phase::Ready);
    town.pass(1);
    assert_eq!(stop_cause(&town, busy), Some(StopCause::Drained));
    assert_eq!(warnings(&town), 2);
}

#[test]
fn a_drain_has_the_deadline_that_is_asked_for_and_it_may_be_changed() {
    let (mut town, desk) = town_with(None, None);
    town.busy.insert(desk);
    drain(&mut town, Some(HOUR));
    town.pass(30 * MINUTE);
    drain(&mut town, Some(MINUTE));
    town.restart_controller();
    town.pass(MINUTE - 1);
    assert_eq!(town.phase(desk), Phase::Ready);
    town.pass(1);
    assert_eq!(stop_cause(&town, desk), Some(StopCause::Drained));
}

#[test]
fn undraining_a_node_leaves_its_sessions_as_they_were() {
    let (mut town, desk) = town_with(None, None);
    town.busy.insert(desk);
    drain(&mut town, None);
    town.drain("a", false);
    town.busy.clear();
    town.pass(2 * limits::DRAIN_DEADLINE_DEFAULT.0);
    assert_eq!(town.phase(desk), Phase::Ready);
    town.created("desk", "ann", SessionTerms::default());
    town.check_live("desk/session ready a\ndesk/session ready a");
}

#[test]
fn a_drained_node_gets_no_sessions() {
    let (mut town, _) = town_with(None, None);
    drain(&mut town, None);
    let waits = town.created("desk", "ann", SessionTerms::default());
    assert_eq!(town.phase(waits), Phase::Pending);
    town.drain("a", false);
    assert_eq!(town.phase(waits), Phase::Ready);
}

#[test]
fn the_sessions_of_an_owner_whose_rights_are_revoked_end() {
    let (mut town, first) = town_with(None, None);
    let waits = town.created("desk", "ann", SessionTerms::default());
    town.exits(waits, exit_code(3));
    let other = town.created("desk", "bob", SessionTerms::default());
    let (owner, by) = ("ann".to_owned(), "root".to_owned());
    town.command(Command::EndSessionsOf { owner, by }).unwrap();
    let cause = StopCause::OwnerRevoked { by: "root".to_owned() };
    assert_eq!(stop_cause(&town, first), Some(cause));
    town.pass(HOUR / 2);
    // The one that waited for its restart stays away.
    town.check_live("desk/session ready a");
    assert_eq!(town.phase(other), Phase::Ready);
    assert_eq!(town.state().owners().live("ann"), 0);
}

#[test]
fn a_session_is_started_anew_so_many_times_and_no_more() {
    let mut town = Town::with_nodes(&["a"]);
    let mut desk = session("desk", None);
    desk.restart.restarts_max = Some(2);
    town.apply(desk);
    town.created("desk", "ann", SessionTerms::default());
    for _ in 0..3 {
        town.check_live("desk/session ready a");
        let live = town.live("desk");
        town.exits(live, exit_code(3));
        town.pass(10_000);
    }
    town.check_live("");
    assert_eq!(town.state().owners().live("ann"), 0);
}

#[test]
fn an_ended_session_is_listed_for_its_stale_period() {
    let mut town = Town::with_nodes(&["a"]);
    let mut desk = session("desk", None);
    session_settings(&mut desk).stale_period = Some(DurationMs(5 * MINUTE));
    town.apply(desk);
    let desk = town.created("desk", "ann", SessionTerms::default());
    town.end(desk);
    town.pass(5 * MINUTE - 1);
    assert_eq!(town.phase(desk), Phase::Ended);
    town.restart_controller();
    town.pass(1);
    assert_eq!(town.state().instance(desk), None);
    assert!(!town.agents["a"].has.contains_key(&desk));
}

#[test]
fn a_session_that_its_node_ended_by_its_lease_says_so() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(session("desk", None));
    let (desk, _) = town.keyed_session("desk", "k");
    let limit = Some(LimitReached::KeyLease);
    town.exits(desk, Exit { signal: Some(15), limit, ..Exit::default() });
    assert!(town.why(desk).contains("lease"), "{}", town.why(desk));
}

/// The template that tells its program of warnings by a signal.
fn telling() -> Workload {
    let mut desk = session("desk", Some(HOUR));
    let signal = Some(10);
    session_settings(&mut desk).warnings =
        Some(Box::new(Warnings { signal, ..Warnings::default() }));
    desk
}

#[test]
fn a_warning_reaches_the_node_if_the_template_tells_its_program() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(telling());
    let desk = town.created("desk", "ann", keyed("k"));
    let notices = |town: &Town| {
        let orders = town.orders.iter().flat_map(|(_, orders)| &orders.orders);
        let wants = orders.filter(|order| order.instance == desk).filter_map(|it| match &it.want {
            Want::Run(order) => order.session.as_ref().map(|it| it.notices.len()),
            _ => None,
        });
        wants.collect::<Vec<_>>()
    };
    town.pass(50 * MINUTE - 1);
    assert_eq!(notices(&town), [0]);
    town.pass(1);
    assert_eq!(notices(&town), [0, 1]);
}
