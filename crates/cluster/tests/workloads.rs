//! What workloads are promised: services, sessions, and what may be asked twice.

mod town;

use spawnery_cluster::diff::Verdict;
use spawnery_cluster::{Command, Rejection, Reply, SessionSource};
use spawnery_model::{Bytes, DurationMs, Exit, Phase, RestartPolicy, limits};
use town::{Town, exit_code, key, label, service, service_everywhere, session};

#[test]
fn applying_the_same_twice_changes_nothing() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("web", 2));
    town.check("web/0 ready a\nweb/1 ready a");
    let records = town.journal.len();
    let by = "tester".to_owned();
    let workloads = vec![service("web", 2)];
    let reply = town.command(Command::Apply { workloads, by }).unwrap();
    let Reply::Applied(differences) = reply else { panic!("{reply:?}") };
    assert_eq!(differences[0].verdict, Verdict::Unchanged);
    assert_eq!(town.journal.len(), records);
}

#[test]
fn a_pending_instance_says_why_and_goes_on_when_there_is_room() {
    let mut town = Town::with_nodes(&["a"]);
    let mut large = service("large", 2);
    large.process.memory = Bytes::mib(700);
    town.apply(large);
    town.check(
        "large/0 ready a
         large/1 pending -: 1 node: 1 has too little memory (wanted 700M, at most 324M free)",
    );
    town.add_node("b");
    town.check("large/0 ready a\nlarge/1 ready b");
}

#[test]
fn an_instance_waits_for_the_first_node_to_join() {
    let mut town = Town::with_nodes(&[]);
    town.apply(service("web", 1));
    town.check("web/0 pending -: no node has joined");
    town.add_node("a");
    town.check("web/0 ready a");
}

#[test]
fn a_change_walks_through_the_replicas_one_by_one() {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.apply(service("web", 2));
    town.check("web/0 ready a\nweb/1 ready b");
    for agent in town.agents.values_mut() {
        agent.starts = false;
    }
    let mut changed = service("web", 2);
    changed.process.run.push("--new".to_owned());
    town.apply(changed);
    town.pass(10_000);
    // The second one stays until the first one is ready.
    town.check_live("web/0 assigned a\nweb/1 ready b");
    let id = town.in_phase(Phase::Assigned);
    for agent in town.agents.values_mut() {
        agent.starts = true;
    }
    let ready = spawnery_model::Observation::Ready { pid: 8 };
    town.agents.get_mut("a").unwrap().observe(id, ready);
    town.settle();
    town.check(
        "web/0 ended a: replaced: its workload was changed
         web/0 ready a
         web/1 ended b: replaced: its workload was changed
         web/1 ready b",
    );
}

#[test]
fn a_change_mends_a_replica_that_never_became_ready_before_one_that_works() {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.agents.get_mut("b").unwrap().starts = false;
    town.apply(service("web", 2));
    town.check("web/0 ready a\nweb/1 assigned b");
    town.agents.get_mut("b").unwrap().starts = true;
    let mut changed = service("web", 2);
    changed.process.run.push("--mended".to_owned());
    town.apply(changed);
    town.check_live("web/0 ready a\nweb/1 ready b");
    let state = town.state();
    let old = state.instances().filter(|instance| {
        instance.phase != Phase::Ended && state.definition_of(instance).process.run.len() == 1
    });
    assert_eq!(old.count(), 0);
}

#[test]
fn failures_are_tried_again_later_and_later() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("web", 1));
    let mut waits = Vec::new();
    for _ in 0..4 {
        let instance = town.live("web");
        town.exits(instance, exit_code(3));
        town.check_live("");
        let failed_at = town.now.0;
        while town.state().instances_live() == 0 {
            town.pass(1);
        }
        waits.push(town.now.0 - failed_at);
    }
    // Doubled up to the longest delay, and up to a quarter more.
    for (wait, base) in waits.iter().zip([1000, 2000, 4000, 4000]) {
        assert!((base..=base * 5 / 4).contains(wait), "{waits:?}");
    }
}

#[test]
fn failures_are_forgotten_by_one_that_ran_long_enough() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("web", 1));
    for _ in 0..3 {
        let instance = town.live("web");
        town.exits(instance, exit_code(3));
        town.pass(6000);
    }
    town.pass(60_000);
    let instance = town.live("web");
    town.exits(instance, exit_code(3));
    town.pass(1250);
    town.check_live("web/0 ready a");
}

#[test]
fn a_service_that_finished_stays_finished_until_it_is_changed() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("once", 1));
    let instance = town.live("once");
    town.exits(instance, exit_code(0));
    town.pass(100_000);
    town.check("once/0 ended a: finished");
    let mut changed = service("once", 1);
    changed.restart.policy = RestartPolicy::Always;
    town.apply(changed);
    town.check_live("once/0 ready a");
}

#[test]
fn every_end_says_why() {
    let check = |exit: Exit, words: &str| {
        let mut town = Town::with_nodes(&["a"]);
        let mut once = service("x", 1);
        once.restart.policy = RestartPolicy::Never;
        town.apply(once);
        let instance = town.live("x");
        town.exits(instance, exit);
        town.check(&format!("x/0 ended a: {words}"));
    };
    let failure =
        |message: &str, lost| Exit { failure: Some(message.to_owned()), lost, ..Exit::default() };
    let signal =
        |signal, out_of_memory| Exit { signal: Some(signal), out_of_memory, ..Exit::default() };
    check(exit_code(0), "finished");
    check(exit_code(7), "failed with exit code 7");
    check(signal(11, false), "ended by signal 11");
    check(signal(9, true), "out of memory: it used more than its limit");
    check(failure("no such file", false), "could not start: no such file");
}

#[test]
fn what_its_node_lost_is_started_anew_whatever_its_policy() {
    let mut town = Town::with_nodes(&["a"]);
    let mut once = service("x", 1);
    once.restart.policy = RestartPolicy::Never;
    town.apply(once);
    let instance = town.live("x");
    let exit = Exit {
        failure: Some("the machine was restarted".to_owned()),
        lost: true,
        ..Exit::default()
    };
    town.exits(instance, exit);
    town.check(
        "x/0 ended a: its node lost it: the machine was restarted
         x/0 ready a",
    );
}

#[test]
fn a_service_everywhere_follows_the_nodes() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service_everywhere("log"));
    town.check_live("log/node ready a");
    town.add_node("b");
    town.check_live("log/node ready a\nlog/node ready b");
    town.drain("a", true);
    town.check_live("log/node ready b");
    town.drain("a", false);
    // The newest instance comes last.
    town.check_live("log/node ready b\nlog/node ready a");
}

#[test]
fn fewer_replicas_end_those_in_excess() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("web", 3));
    town.apply(service("web", 1));
    town.check(
        "web/0 ready a
         web/1 ended a: removed with its workload
         web/2 ended a: removed with its workload",
    );
}

#[test]
fn a_workload_can_become_one_of_another_kind() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("x", 1));
    town.apply(town::job("x", "* * * * *", "UTC"));
    town.check("x/0 ended a: removed with its workload");
    town.apply(service("x", 1));
    town.pass(61_000);
    town.check_live("x/0 ready a");
    assert_eq!(town.state().runs().count(), 0);
}

#[test]
fn a_session_ends_when_it_has_lived_long_enough() {
    let mut town = Town::with_nodes(&["a"]);
    town.session(session("shell", Some(30_000)));
    town.pass(29_999);
    town.check("shell/session ready a");
    town.pass(1);
    town.check("shell/session ended a: reached the longest duration allowed");
}

#[test]
fn a_session_that_is_ended_is_not_started_again() {
    let mut town = Town::with_nodes(&["a"]);
    let instance = town.session(session("shell", None));
    let by = "ann".to_owned();
    town.command(Command::EndInstance { instance, by }).unwrap();
    town.pass(100_000);
    town.check("shell/session ended a: ended by ann");
}

#[test]
fn a_request_that_is_repeated_is_carried_out_once() {
    let mut town = Town::with_nodes(&["a"]);
    let create = || Command::CreateSession {
        source: SessionSource::Inline(Box::new(session("shell", None))),
        owner: "ann".to_owned(),
        terms: Box::default(),
    };
    let first = town.keyed(create(), key("k")).unwrap();
    town.restart_controller();
    assert_eq!(town.keyed(create(), key("k")).unwrap(), first);
    town.check("shell/session ready a");
    let mut other = key("k");
    other.as_mut().unwrap().fingerprint = 2;
    let refused = town.keyed(create(), other);
    assert_eq!(refused, Err(Rejection::IdempotencyConflict));
}

#[test]
fn a_repeated_request_that_changed_nothing_undoes_nothing() {
    let mut town = Town::with_nodes(&["a"]);
    let apply = |replicas| Command::Apply {
        workloads: vec![service("web", replicas)],
        by: "ann".to_owned(),
    };
    town.apply(service("web", 1));
    let first = town.keyed(apply(1), key("k")).unwrap();
    town.apply(service("web", 2));
    assert_eq!(town.keyed(apply(1), key("k")).unwrap(), first);
    town.check("web/0 ready a\nweb/1 ready a");
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("web", 1));
    let by = || "ann".to_owned();
    let mut check = |command: Command, code: &str, words: &str| {
        let rejection = town.command(command).unwrap_err();
        assert_eq!((rejection.code(), rejection.to_string()), (code, words.to_owned()));
    };
    let names = vec![label("nothing")];
    let words = "there is no workload called nothing";
    check(Command::Remove { names, by: by() }, "workload-unknown", words);
    let job = label("web");
    let words = "web is a service, not a job";
    check(Command::RunJob { job, by: by() }, "workload-kind", words);
    let workloads = vec![service("b", 1), service("b", 2)];
    let words = "b is named twice in one request";
    check(Command::Apply { workloads, by: by() }, "name-twice", words);
}

#[test]
fn nothing_is_changed_while_the_journal_is_full_and_work_goes_on_after() {
    let mut town = Town::with_nodes(&["a"]);
    town.full = Some("no space left on device".to_owned());
    let by = || "ann".to_owned();
    let apply = |name| Command::Apply { workloads: vec![service(name, 1)], by: by() };
    let waits = town.ask(apply("first"), None);
    town.settle();
    assert_eq!(town.reply(waits), None, "it is not durable yet");
    let refused = town.command(apply("second")).unwrap_err();
    assert_eq!(refused.code(), "journal-full");
    assert!(refused.to_string().contains("no space left on device"));
    town.pass(5000);
    town.full = None;
    town.pass(1000);
    assert!(matches!(town.reply(waits), Some(Ok(Reply::Applied(_)))));
    town.command(apply("second")).unwrap();
    town.check("first/0 ready a\nsecond/0 ready a");
}

#[test]
fn a_node_is_not_lost_because_the_journal_was_full() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(service("web", 1));
    town.full = Some("no space left on device".to_owned());
    town.ask(Command::Apply { workloads: vec![service("more", 1)], by: "ann".to_owned() }, None);
    town.pass(limits::LEASE.0 * 3);
    town.full = None;
    town.pass(2000);
    town.check("more/0 ready a\nweb/0 ready a");
    assert_eq!(town.told("node.lost"), Vec::<&str>::new());
}

#[test]
fn only_so_many_ended_instances_are_remembered() {
    let mut town = Town::with_nodes(&["a"]);
    let mut always = service("web", 1);
    always.restart.delay = DurationMs(1);
    always.restart.delay_max = DurationMs(1);
    town.apply(always);
    for _ in 0..limits::ENDED_KEPT_PER_WORKLOAD_MAX + 5 {
        let instance = town.live("web");
        town.exits(instance, exit_code(1));
        town.pass(2);
    }
    assert_eq!(town.table().len(), limits::ENDED_KEPT_PER_WORKLOAD_MAX + 1);
    // The node was told to forget the others too.
    town.pass(3000);
    let kept = town.agents["a"].has.len();
    assert_eq!(kept, limits::ENDED_KEPT_PER_WORKLOAD_MAX + 1);
}
