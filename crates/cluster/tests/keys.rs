//! What a key promises: it names at most one live session, whatever happens.

mod town;

use spawnery_cluster::{Command, Rejection, Reply, SessionSource};
use spawnery_model::{
    DurationMs, Exit, InstanceId, LimitReached, Observation, Phase, RestartPolicy, SessionTerms,
    Want, Workload, limits,
};
use std::collections::{BTreeMap, BTreeSet};
use town::{Town, exit_code, keyed, session, session_settings};

/// The key lease of the template `room`, whose grace is one second.
const LEASE: DurationMs = DurationMs(30_000);

/// From the loss of a node until what it ran has ended by itself.
const FENCE_MS: u64 = LEASE.0 + 1000 + limits::KEY_LEASE_MARGIN.0;

fn room() -> Workload {
    let mut room = session("room", None);
    session_settings(&mut room).key_lease = Some(LEASE);
    room
}

fn town() -> Town {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.apply(room());
    town
}

/// A town in which the session of key `k` ran on node a, which is lost, and another one waits.
fn town_with_lost_node() -> (Town, InstanceId, InstanceId) {
    let mut town = town();
    let (first, _) = town.keyed_session("room", "k");
    assert_eq!(town.state().instance(first).unwrap().node, Some(town.node("a")));
    town.disconnect("a");
    while town.phase(first) != Phase::Ended {
        town.pass(100);
    }
    assert_eq!(town.why(first), "its node was lost");
    // It is started anew by itself, as the next one of its key.
    town.pass(5000);
    let (second, is_new) = town.keyed_session("room", "k");
    assert!(!is_new && second != first);
    assert_eq!(town.phase(second), Phase::Pending);
    (town, first, second)
}

fn follows(town: &Town, instance: InstanceId) -> Option<InstanceId> {
    town.state().instance(instance).unwrap().session.as_ref().unwrap().follows
}

/// The epoch that its node was told of.
fn epoch_told(town: &Town, instance: InstanceId) -> u64 {
    let orders = town.orders.iter().flat_map(|(_, orders)| &orders.orders);
    let mut told = orders.filter_map(|order| match &order.want {
        Want::Run(run) if order.instance == instance => Some(run.epoch),
        _ => None,
    });
    told.next().expect("its node was told to run it")
}

#[test]
fn asking_again_gives_the_same_session() {
    let mut town = town();
    let (first, is_new) = town.keyed_session("room", "k");
    assert!(is_new);
    assert_eq!(town.keyed_session("room", "k"), (first, false));
    let (other, is_new) = town.keyed_session("room", "other");
    assert!(is_new && other != first);
}

#[test]
fn a_hundred_that_come_at_once_get_one_session() {
    let mut town = town();
    let ask = |_| Command::CreateSession {
        source: SessionSource::Template(town::label("room")),
        owner: "tester".to_owned(),
        terms: Box::new(keyed("k")),
    };
    let tickets: Vec<_> = (0..100).map(ask).map(|command| town.ask(command, None)).collect();
    town.settle();
    let answers = tickets.into_iter().map(|ticket| match town.reply(ticket) {
        Some(Ok(Reply::Session(id) | Reply::SessionFound(id))) => id,
        other => panic!("{other:?}"),
    });
    assert_eq!(answers.collect::<BTreeSet<_>>().len(), 1);
    town.check_live("room/session ready a");
}

#[test]
fn the_same_key_of_another_template_names_another_session() {
    let mut town = town();
    let mut hall = room();
    hall.name = town::label("hall");
    town.apply(hall);
    let (first, _) = town.keyed_session("room", "k");
    assert_ne!(town.keyed_session("hall", "k").0, first);
}

#[test]
fn a_session_that_brings_its_definition_is_found_by_its_key_too() {
    let mut town = town();
    let mut ask = || {
        town.command(Command::CreateSession {
            source: SessionSource::Inline(Box::new(session("own", None))),
            owner: "tester".to_owned(),
            terms: Box::new(keyed("k")),
        })
    };
    let Ok(Reply::Session(first)) = ask() else { panic!("it is new") };
    assert_eq!(ask(), Ok(Reply::SessionFound(first)));
    assert_eq!(ask(), Ok(Reply::SessionFound(first)));
}

#[test]
fn one_that_is_ending_is_waited_for() {
    let mut town = town();
    let (first, _) = town.keyed_session("room", "k");
    // Its node hears nothing for a while, so its end is not known.
    town.disconnect("a");
    town.end(first);
    let (second, is_new) = town.keyed_session("room", "k");
    assert!(is_new);
    assert_eq!((town.phase(first), town.phase(second)), (Phase::Stopping, Phase::Pending));
    assert_eq!(follows(&town, second), Some(first));
    assert_eq!(town.keyed_session("room", "k"), (second, false));
    town.connect("a");
    assert_eq!((town.phase(first), town.phase(second)), (Phase::Ended, Phase::Ready));
    assert_eq!(follows(&town, second), None);
}

#[test]
fn ending_the_one_that_waits_leaves_the_key_to_the_one_before() {
    let mut town = town();
    let (first, _) = town.keyed_session("room", "k");
    town.disconnect("a");
    town.end(first);
    let (second, _) = town.keyed_session("room", "k");
    town.end(second);
    let (third, is_new) = town.keyed_session("room", "k");
    assert!(is_new);
    town.connect("a");
    assert_eq!(town.phase(third), Phase::Ready);
}

#[test]
fn other_tags_are_refused_with_what_they_are() {
    let mut town = town();
    let tagged = |tags: &[(&str, &str)]| SessionTerms {
        tags: tags.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect(),
        ..keyed("k")
    };
    let first = town.created("room", "tester", tagged(&[("map", "moon")]));
    let again = town.create("room", "tester", tagged(&[("map", "moon")]));
    assert_eq!(again, Ok(Reply::SessionFound(first)));
    for tags in [BTreeMap::new(), BTreeMap::from([("map".to_owned(), "mars".to_owned())])] {
        let refused = town.create("room", "tester", SessionTerms { tags, ..keyed("k") });
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), "tags-differ");
        assert!(refused.to_string().contains("map=moon"), "{refused}");
    }
}

#[test]
fn a_key_of_another_owner_is_refused_unless_it_is_shared() {
    let mut town = town();
    let shared_with = BTreeSet::from(["bob".to_owned()]);
    let first = town.created("room", "ann", SessionTerms { shared_with, ..keyed("k") });
    assert_eq!(town.create("room", "bob", keyed("k")), Ok(Reply::SessionFound(first)));
    let refused = town.create("room", "eve", keyed("k"));
    assert_eq!(refused, Err(Rejection::KeyOfOther { key: town::label("k") }));
    // Whoever may go beyond the template, such as an admin, may.
    let terms = SessionTerms { beyond_template: true, ..keyed("k") };
    assert_eq!(town.create("room", "root", terms), Ok(Reply::SessionFound(first)));
}

#[test]
fn each_session_of_a_key_has_a_higher_epoch_than_those_before() {
    let mut town = town();
    let mut epochs = Vec::new();
    for round in 0..4 {
        let (instance, _) = town.keyed_session("room", "k");
        epochs.push(epoch_told(&town, instance));
        match round % 2 {
            0 => town.end(instance),
            // This one comes back by itself.
            _ => {
                town.exits(instance, exit_code(1));
                town.pass(6000);
            }
        }
    }
    assert!(epochs.is_sorted_by(|before, after| before < after), "{epochs:?}");
}

#[test]
fn a_session_in_its_back_off_keeps_its_key() {
    let mut town = town();
    let (first, _) = town.keyed_session("room", "k");
    town.exits(first, exit_code(3));
    assert_eq!(town.keyed_session("room", "k"), (first, false));
    town.pass(2000);
    let (second, is_new) = town.keyed_session("room", "k");
    assert!(!is_new && second != first);
    assert_eq!(town.phase(second), Phase::Ready);
}

#[test]
fn a_session_that_finished_leaves_its_key() {
    let mut town = town();
    let (first, _) = town.keyed_session("room", "k");
    town.exits(first, exit_code(0));
    let (second, is_new) = town.keyed_session("room", "k");
    assert!(is_new && second != first);
    assert_eq!(town.phase(second), Phase::Ready);
}

#[test]
fn ending_a_session_in_its_back_off_frees_its_key() {
    let mut town = town();
    let (first, _) = town.keyed_session("room", "k");
    town.exits(first, exit_code(3));
    town.end(first);
    let (second, is_new) = town.keyed_session("room", "k");
    assert!(is_new);
    assert_eq!(town.phase(second), Phase::Ready);
    town.pass(60_000);
    town.check_live("room/session ready a");
}

#[test]
fn after_a_node_is_lost_its_key_is_free_only_when_its_lease_is_over() {
    let (mut town, _, second) = town_with_lost_node();
    town.pass(FENCE_MS - 5000 - 200);
    assert_eq!(town.phase(second), Phase::Pending);
    town.pass(200);
    town.check_live("room/session ready b");
}

#[test]
fn a_lost_node_that_is_back_without_the_session_frees_its_key() {
    let (mut town, first, second) = town_with_lost_node();
    town.agents.get_mut("a").unwrap().has.remove(&first);
    town.connect("a");
    assert_eq!(town.phase(second), Phase::Ready);
}

#[test]
fn a_lost_node_that_is_back_and_tells_of_the_end_frees_its_key() {
    let (mut town, first, second) = town_with_lost_node();
    let exit = Exit { limit: Some(LimitReached::KeyLease), ..Exit::default() };
    town.agents.get_mut("a").unwrap().observe(first, Observation::Ended { exit });
    town.connect("a");
    assert_eq!(town.phase(second), Phase::Ready);
}

#[test]
fn a_lost_node_that_is_back_is_told_to_end_it_and_then_its_key_is_free() {
    let (mut town, first, second) = town_with_lost_node();
    town.connect("a");
    let ended = &town.agents["a"].has[&first].1;
    assert!(matches!(ended, Observation::Ended { .. }), "{ended:?}");
    assert_eq!(town.phase(second), Phase::Ready);
}

#[test]
fn removing_a_lost_node_frees_its_keys() {
    let (mut town, _, second) = town_with_lost_node();
    let (node, by) = (town.node("a"), "tester".to_owned());
    town.command(Command::RemoveNode { node, by }).unwrap();
    assert_eq!(town.phase(second), Phase::Ready);
}

/// It was heard, so its leases begin anew, although its agent may die before it ends anything.
#[test]
fn a_lost_node_that_was_back_for_a_moment_has_its_lease_counted_from_then() {
    let (mut town, _, second) = town_with_lost_node();
    town.pass(10_000);
    let now = town.now;
    let report = town.agents.get_mut("a").unwrap().report("a", now);
    assert!(report.introduction.is_some());
    town.send(report);
    town.settle();
    // It hears nothing more, and is lost again.
    town.pass(FENCE_MS - 1);
    assert_eq!(town.phase(second), Phase::Pending);
    town.pass(limits::LEASE.0 + 1000);
    assert_eq!(town.phase(second), Phase::Ready);
}

#[test]
fn a_fence_survives_a_restart_of_the_controller() {
    let (mut town, _, second) = town_with_lost_node();
    town.restart_controller();
    town.pass(FENCE_MS - 6000);
    assert_eq!(town.phase(second), Phase::Pending);
    town.pass(2000);
    assert_eq!(town.phase(second), Phase::Ready);
}

#[test]
fn a_session_that_was_told_to_end_is_not_started_anew_when_its_node_is_lost() {
    let mut town = town();
    let (first, _) = town.keyed_session("room", "k");
    town.disconnect("a");
    town.end(first);
    let (second, _) = town.keyed_session("room", "k");
    town.pass(limits::LEASE.0 + 10_000);
    assert_eq!(town.why(first), "its node was lost");
    assert_eq!(town.state().instance(first).unwrap().restarted_as, None);
    assert_eq!(town.keyed_session("room", "k"), (second, false));
    town.pass(FENCE_MS);
    assert_eq!(town.phase(second), Phase::Ready);
    town.check_live("room/session ready b");
}

#[test]
fn a_key_that_was_free_again_is_not_fenced_a_second_time() {
    let mut town = town();
    let mut slow = room();
    slow.restart.policy = RestartPolicy::OnFailure;
    (slow.restart.delay, slow.restart.delay_max) = (DurationMs(300_000), DurationMs(300_000));
    town.apply(slow);
    let (first, _) = town.keyed_session("room", "k");
    town.disconnect("a");
    town.pass(limits::LEASE.0 + 1);
    town.connect("a");
    // It waits for its restart, and nothing of it runs.
    assert_eq!(town.keyed_session("room", "k"), (first, false));
    town.end(first);
    let (second, is_new) = town.keyed_session("room", "k");
    assert!(is_new);
    assert_eq!(town.phase(second), Phase::Ready);
}

#[test]
fn a_key_is_found_again_after_the_controller_was_restarted_in_the_middle() {
    let mut town = town();
    town.agents.get_mut("a").unwrap().starts = false;
    let (first, _) = town.keyed_session("room", "k");
    assert_eq!(town.phase(first), Phase::Assigned);
    town.restart_controller();
    assert_eq!(town.keyed_session("room", "k"), (first, false));
    town.end(first);
    let (second, _) = town.keyed_session("room", "k");
    town.restart_controller();
    assert_eq!(town.keyed_session("room", "k"), (second, false));
    assert_eq!(follows(&town, second).is_some(), town.phase(first) != Phase::Ended);
}

#[test]
fn a_session_that_waits_for_its_key_does_not_wait_for_room_yet() {
    let mut town = Town::with_nodes(&["a", "b"]);
    let mut room = session("room", None);
    session_settings(&mut room).key_lease = Some(DurationMs::from_secs(100));
    session_settings(&mut room).queue_deadline = Some(DurationMs::from_secs(10));
    room.restart.policy = RestartPolicy::Never;
    town.apply(room);
    let (first, _) = town.keyed_session("room", "k");
    town.disconnect("a");
    while town.phase(first) != Phase::Ended {
        town.pass(100);
    }
    let (second, is_new) = town.keyed_session("room", "k");
    assert!(is_new);
    town.pass(90_000);
    assert_eq!(town.phase(second), Phase::Pending);
    town.pass(30_000);
    assert_eq!(town.phase(second), Phase::Ready);
}
