//! What nodes are promised: joining, leases, drains, and what old messages are worth.

mod town;

use spawnery_cluster::{Command, Rejection};
use spawnery_model::{Capacity, CpuMillis, DurationMs, NodeStatus, limits};
use town::{Town, service, session};

#[test]
fn a_join_token_can_be_used_once() {
    let mut town = Town::with_nodes(&[]);
    let token = town.token(DurationMs(60_000));
    town.join(token, "a").unwrap();
    assert_eq!(town.join(token, "b"), Err(Rejection::JoinTokenInvalid));
}

#[test]
fn a_join_token_expires() {
    let mut town = Town::with_nodes(&[]);
    let token = town.token(DurationMs(60_000));
    town.pass(60_000);
    assert_eq!(town.join(token, "a"), Err(Rejection::JoinTokenInvalid));
}

#[test]
fn expired_join_tokens_leave_room_for_new_ones() {
    let mut town = Town::with_nodes(&[]);
    let create = |number: usize| Command::CreateJoinToken {
        hash: spawnery_cluster::SecretHash(std::array::from_fn(|place| (number >> place) as u8)),
        life: DurationMs(60_000),
        by: "ann".to_owned(),
    };
    for number in 0..limits::JOIN_TOKENS_MAX {
        town.command(create(number)).unwrap();
    }
    let refused = town.command(create(5000)).unwrap_err();
    assert_eq!(refused.code(), "limit");
    town.pass(60_000);
    town.command(create(5000)).unwrap();
}

#[test]
fn two_nodes_cannot_share_a_name() {
    let mut town = Town::with_nodes(&["a"]);
    let token = town.token(DurationMs(60_000));
    let refused = town.join(token, "a").unwrap_err();
    assert_eq!(refused.code(), "node-name-taken");
    // The token is not used up by that.
    town.join(token, "b").unwrap();
}

#[test]
fn a_silent_node_is_lost_and_its_services_go_elsewhere() {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.apply(service("web", 1));
    town.check("web/0 ready a");
    town.disconnect("a");
    town.pass(limits::LEASE.0 - 1);
    town.check("web/0 ready a");
    town.pass(limits::HEARTBEAT.0);
    town.check("web/0 ended a: its node was lost\nweb/0 ready b");
    assert_eq!(town.told("node.lost"), ["node a was silent for longer than its lease and is lost"]);
}

#[test]
fn a_node_that_comes_back_ends_what_was_given_away() {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.apply(service("web", 1));
    let old = town.live("web");
    town.disconnect("a");
    town.pass(limits::LEASE.0 * 2);
    let epoch = town.agents["a"].epoch;
    town.connect("a");
    town.check_live("web/0 ready b");
    assert!(town.agents["a"].epoch > epoch);
    let observation = &town.agents["a"].has[&old].1;
    let ended = matches!(observation, spawnery_model::Observation::Ended { .. });
    assert!(ended, "{observation:?}");
}

#[test]
fn a_link_that_breaks_for_a_moment_ends_nothing() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("web", 1));
    let instance = town.live("web");
    town.disconnect("a");
    town.pass(5000);
    town.connect("a");
    assert_eq!(town.live("web"), instance);
    town.check("web/0 ready a");
}

#[test]
fn a_controller_that_comes_back_finds_the_same_instances() {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.apply(service("web", 2));
    town.session(session("shell", None));
    let before = town.table();
    let reign = town.state().reign();
    town.restart_controller();
    town.pass(limits::LEASE.0 * 3);
    assert_eq!(town.table(), before);
    assert_eq!(town.state().reign(), reign + 1);
}

#[test]
fn nodes_have_time_to_come_back_after_the_controller_was_away() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("web", 1));
    town.disconnect("a");
    town.now.0 += 600_000;
    town.restart_controller();
    town.pass(limits::LEASE.0);
    town.connect("a");
    town.check("web/0 ready a");
}

#[test]
fn a_drained_node_is_emptied_one_replica_at_a_time_and_filled_again() {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.apply(service("web", 2));
    town.check("web/0 ready a\nweb/1 ready b");
    town.drain("a", true);
    town.check_live("web/0 ready b\nweb/1 ready b");
    town.drain("a", false);
    town.apply(service("new", 1));
    town.check_live("new/0 ready a\nweb/0 ready b\nweb/1 ready b");
}

#[test]
fn a_session_that_shares_a_services_name_is_drained_too() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("web", 0));
    town.session(session("web", None));
    town.check("web/session ready a");
    town.drain("a", true);
    town.check("web/session ready a");
    town.pass(20_000);
    town.check("web/session ended a: its node was drained");
}

#[test]
fn a_node_that_is_shut_down_stops_all_and_returns() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("web", 1));
    let node = town.node("a");
    town.command(Command::StopNode { node }).unwrap();
    town.check(
        "web/0 ended a: its node was shut down
         web/0 pending -: 1 node: 1 is draining, stopping or lost",
    );
    let status = |town: &Town| town.state().node(node).unwrap().node.status;
    assert_eq!(status(&town), NodeStatus::Stopping);
    town.disconnect("a");
    town.pass(5000);
    town.agents.get_mut("a").unwrap().incarnation += 100_000;
    town.connect("a");
    assert_eq!(status(&town), NodeStatus::Up);
    town.check_live("web/0 ready a");
}

#[test]
fn what_was_stopped_before_its_node_heard_of_it_has_stopped_and_is_not_lost() {
    let mut town = Town::with_nodes(&["a"]);
    town.disconnect("a");
    let instance = town.session(session("shell", None));
    town.check("shell/session assigned a");
    let by = "ann".to_owned();
    town.command(Command::EndInstance { instance, by }).unwrap();
    town.check("shell/session stopping a");
    town.connect("a");
    town.check("shell/session ended a: ended by ann");
}

#[test]
fn only_a_lost_node_can_be_removed_and_nothing_of_it_stays() {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.apply(town::service_everywhere("log"));
    let node = town.node("a");
    let by = || "ann".to_owned();
    let refused = town.command(Command::RemoveNode { node, by: by() });
    assert_eq!(refused.unwrap_err().code(), "node-not-lost");
    town.disconnect("a");
    town.pass(limits::LEASE.0 * 2);
    town.command(Command::RemoveNode { node, by: by() }).unwrap();
    town.check_live("log/node ready b");
    let log = town.state().workload(&town::label("log")).unwrap();
    assert_eq!(log.slots.len(), 1);
    // Its name is free again.
    town.add_node("a");
    town.check_live("log/node ready b\nlog/node ready a");
}

#[test]
fn a_report_of_an_old_epoch_is_refused_and_counted() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("web", 1));
    let now = town.now;
    let old = town.agents.get_mut("a").unwrap().report("a", now);
    town.settle();
    town.disconnect("a");
    town.pass(1000);
    town.connect("a");
    let refused = town.sequencer.reports_refused();
    let records = town.journal.len();
    town.send(old);
    town.settle();
    assert_eq!(town.sequencer.reports_refused(), refused + 1);
    // It is asked to introduce itself, which it need not, and nothing else happens.
    let lost = town.told("node.lost").len() + town.told("instance.ended").len();
    assert_eq!(lost, 0);
    let introduced = town.journal[records..].len();
    assert!(introduced <= 1, "{:?}", &town.journal[records..]);
}

#[test]
fn a_report_of_an_agent_that_was_replaced_is_refused_and_counted() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("web", 1));
    town.disconnect("a");
    let now = town.now;
    let late = town.agents.get_mut("a").unwrap().report("a", now);
    assert!(late.introduction.is_some());
    town.agents.get_mut("a").unwrap().incarnation += 100_000;
    town.connect("a");
    let records = town.journal.len();
    let refused = town.sequencer.reports_refused();
    town.send(late);
    town.settle();
    assert_eq!(town.sequencer.reports_refused(), refused + 1);
    assert_eq!(town.journal.len(), records);
}

#[test]
fn a_machine_that_shrank_gets_nothing_new_until_there_is_room() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("web", 2));
    town.disconnect("a");
    let agent = town.agents.get_mut("a").unwrap();
    agent.capacity = Capacity { cpu: CpuMillis(100), ..agent.capacity };
    town.connect("a");
    town.apply(service("more", 1));
    town.check(
        "more/0 pending -: 1 node: 1 has too little CPU (wanted 0.1, at most 0 free)
         web/0 ready a
         web/1 ready a",
    );
    town.apply(service("web", 0));
    town.check_live("more/0 ready a");
}

#[test]
fn an_order_that_is_not_acknowledged_is_sent_again() {
    let mut town = Town::with_nodes(&["a"]);
    town.pass(1);
    // The order goes out on a link that carries nothing any more.
    town.agents.get_mut("a").unwrap().connected = false;
    town.apply(service("web", 1));
    town.check("web/0 assigned a");
    assert_eq!(town.sequencer.orders_unacknowledged(), 1);
    town.agents.get_mut("a").unwrap().connected = true;
    town.pass(limits::HEARTBEAT.0 * 2);
    town.check("web/0 ready a");
    town.pass(limits::HEARTBEAT.0 * 2);
    assert_eq!(town.sequencer.orders_unacknowledged(), 0);
}
