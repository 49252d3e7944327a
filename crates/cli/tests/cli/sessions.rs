//! Sessions: keys, limits, queueing, warnings and ends, on the real binary.

use crate::support::{Home, Ran, Server, wait_for};
use serde_json::Value;
use std::process::Child;

fn create(home: &Home, arguments: &[&str]) -> Ran {
    let mut words = vec!["session", "create"];
    words.extend(arguments);
    home.output(&words)
}

fn id(ran: Ran) -> String {
    ran.expect(0).stdout.trim().to_owned()
}

fn show(home: &Home, id: &str) -> Value {
    home.json(&["session", "show", id])
}

/// How a session ended, once it has.
fn end_of(home: &Home, id: &str) -> String {
    wait_for("its end", || show(home, id)["end"]["reason"].as_str().map(str::to_owned))
}

fn wait_until(home: &Home, id: &str, phase: &str) {
    wait_for(phase, || (show(home, id)["phase"] == phase).then_some(()));
}

const BOX: &str = "sessions: {box: {run: [sleep, '100000'], memory: 16M, cpu: 0.01}}\n";

#[test]
fn a_key_names_one_live_session() {
    let server = Server::start();
    let home = &server.home;
    server.apply(BOX);
    let first = id(create(home, &["box", "--key", "ada", "--tag", "course=logic"]));
    let again = id(create(home, &["box", "--key", "ada", "--tag", "course=logic"]));
    assert_eq!(first, again);
    let other = id(create(home, &["box", "--key", "bob"]));
    assert_ne!(first, other);
    create(home, &["box", "--key", "ada"]).expect(1).says("other tags: course=logic");
    wait_until(home, &first, "ready");
    let epoch = show(home, &first)["session"]["epoch"].as_u64().expect("an epoch");
    // One that is ending is waited for.
    home.output(&["session", "end", &first]).expect(0);
    let next = id(create(home, &["box", "--key", "ada"]));
    assert_ne!(first, next);
    wait_until(home, &next, "ready");
    assert_eq!(show(home, &first)["phase"], "ended");
    assert!(show(home, &next)["session"]["epoch"].as_u64().expect("an epoch") > epoch);
}

#[test]
fn a_hundred_requests_to_one_new_key_start_one_session_also_when_the_server_is_killed() {
    let mut server = Server::start();
    server.apply(BOX);
    let ask = |home: &Home| -> Vec<Child> {
        let start = |_| {
            let mut command = home.command(&["session", "create", "box", "--key", "one"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
            command.spawn().expect("the binary runs")
        };
        (0..50).map(start).collect()
    };
    let before = ask(&server.home);
    server.process.kill();
    server.restart();
    let after = ask(&server.home);
    let mut ids: Vec<String> = Vec::new();
    for child in before.into_iter().chain(after) {
        let output = child.wait_with_output().expect("it ends");
        if output.status.success() {
            ids.push(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
    }
    assert!(ids.len() >= 50, "{} were answered", ids.len());
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let live = server.home.json(&["session", "list"]);
    assert_eq!(live.as_array().expect("a list").len(), 1);
}

#[test]
fn limits_are_as_asked_and_reach_the_program() {
    let server = Server::start();
    let home = &server.home;
    server.apply(BOX);
    let arguments = ["box", "--memory", "32M", "--pids", "9", "--duration", "1h", "--cpu", "0.2"];
    let session = id(create(home, &arguments));
    let shown = show(home, &session);
    let limits = &shown["session"]["limits"];
    assert_eq!(limits["memory_bytes"], 32 << 20);
    assert_eq!(limits["cpu_millis"], 200);
    assert_eq!((&limits["pids"], &limits["duration_ms"]), (&9.into(), &3_600_000.into()));
    create(home, &["box", "--memory", "lots"]).expect(2).says("256M");
}

#[test]
fn a_session_waits_for_room_in_its_turn_or_is_refused_at_once() {
    let server = Server::start_with(Home::new(), &["--memory-total", "40M", "--cpu-total", "1"]);
    let home = &server.home;
    server.apply(BOX);
    let first = id(create(home, &["box"]));
    let second = id(create(home, &["box"]));
    create(home, &["box", "--no-wait"]).expect(1).says("no room");
    let third = id(create(home, &["box"]));
    let late = id(create(home, &["box", "--queue-deadline", "300ms"]));
    assert!(end_of(home, &late).contains("no room was found for it in time"));
    wait_for("its place", || (show(home, &third)["session"]["queue_place"] == 0).then_some(()));
    wait_until(home, &first, "ready");
    wait_until(home, &second, "ready");
    home.output(&["session", "end", &first]).expect(0);
    wait_until(home, &third, "ready");
    let past = wait_for("the history", || {
        let past = home.json(&["history", "box", "--owner", "admin"]);
        (past.as_array().expect("a list").len() == 2).then_some(past)
    });
    assert_eq!(past[0]["id"].as_str(), Some(first.as_str()));
    assert!(past[1]["reason"].as_str().expect("words").contains("no room"));
}

#[test]
fn a_session_that_was_listed_long_enough_is_in_history_only() {
    let server = Server::start_with(Home::new(), &["--stale-period", "1s"]);
    let home = &server.home;
    server.apply("sessions: {hi: {run: [echo, hi], memory: 16M}}\n");
    let session = id(create(home, &["hi"]));
    wait_for("that it is no longer listed", || {
        home.json(&["session", "list", "--all"])
            .as_array()
            .expect("a list")
            .is_empty()
            .then_some(())
    });
    let past = home.json(&["history"]);
    assert_eq!(past[0]["id"].as_str(), Some(session.as_str()));
    assert_eq!(past[0]["reason"], "finished");
    assert_eq!(past[0]["last_output"], "hi\n");
}

#[test]
fn an_idle_session_is_warned_and_ended_but_never_while_it_is_used() {
    let server = Server::start();
    let home = &server.home;
    server.apply(
        "sessions:\n  box:\n    run: [sleep, '100000']\n    memory: 16M\n    idle_timeout: 2s\n    \
         warnings: {idle: 1s, file: /tmp/warning}\n",
    );
    let idle = id(create(home, &["box"]));
    let used = id(create(home, &["box"]));
    wait_until(home, &used, "ready");
    // Longer than the timeout: it is in use all the time.
    home.output(&["session", "exec", &used, "--", "sleep", "4"]).expect(0);
    assert!(end_of(home, &idle).contains("was idle"));
    assert_eq!(show(home, &used)["phase"], "ready");
    let warned = wait_for("the warning", || {
        let cat = ["session", "exec", &used, "--", "cat", "/tmp/warning"];
        let ran = home.output(&cat);
        ran.stdout.contains("idle").then_some(ran.stdout)
    });
    assert!(warned.contains("ends_at"), "{warned}");
    home.output(&["session", "keep-alive", &used]).expect(0);
    assert!(end_of(home, &used).contains("was idle"));
}

#[test]
fn a_session_is_warned_of_its_duration_and_can_be_extended_within_its_limit() {
    let server = Server::start();
    let home = &server.home;
    server.apply(
        "sessions:\n  box:\n    run: 'trap \"echo warned\" USR1; while :; do sleep 0.1; done'\n    \
         memory: 16M\n    duration: 4s\n    duration_limit: 6s\n    \
         warnings: {duration: 3s, signal: USR1}\n",
    );
    let session = id(create(home, &["box"]));
    wait_for("the warning", || {
        home.output(&["logs", &session]).stdout.contains("warned").then_some(())
    });
    // The operator may go beyond what the template says.
    home.output(&["session", "extend", &session, "--by", "1s"]).expect(0).prints("ends in");
    assert!(end_of(home, &session).contains("longest duration"));
}
