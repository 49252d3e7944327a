//! Commands of a client, with a server and without.

use crate::support::{Home, Server, wait_for};

#[test]
fn applying_twice_changes_nothing() {
    let server = Server::start();
    let home = &server.home;
    let manifest = home.write(
        "m.yaml",
        "jobs: {tick: {run: [echo, tick]}}\nsessions: {shell: {run: [cat], stdin: true}}\n",
    );
    let verdicts = |arguments: &[&str]| {
        let said = home.json(arguments);
        let all = said["differences"].as_array().expect("a list").clone();
        let words = all.iter().map(|it| it["verdict"].as_str().expect("a word").to_owned());
        words.collect::<Vec<_>>()
    };
    assert_eq!(verdicts(&["diff", &manifest]), ["added", "added"]);
    home.output(&["diff", &manifest, "--exit-code"]).expect(1);
    assert_eq!(verdicts(&["apply", &manifest]), ["added", "added"]);
    let before = home.json(&["journal", "stat"])["last_position"].clone();
    assert_eq!(verdicts(&["apply", &manifest]), ["unchanged", "unchanged"]);
    assert_eq!(home.json(&["journal", "stat"])["last_position"], before);
    home.output(&["diff", &manifest, "--exit-code"]).expect(0);

    let changed = home.write("m.yaml", "jobs: {tick: {run: [echo, tock], memory: 20M}}\n");
    let said = home.json(&["diff", &changed]);
    assert_eq!(said["differences"][0]["fields"], serde_json::json!(["run", "memory"]));
    home.output(&["remove", "tick", "nobody"]).expect(1).says("nobody");
    home.output(&["remove", "tick", "shell"]).expect(0).prints("removed tick");
    assert_eq!(home.json(&["jobs"]), serde_json::json!([]));
}

#[test]
fn a_job_runs_when_it_is_told_to() {
    let server = Server::start();
    server.apply("jobs: {good: {run: [echo, done]}, bad: {run: exit 3, restart: never}}\n");
    let home = &server.home;
    home.output(&["jobs", "run", "good", "--wait"]).expect(0);
    home.output(&["logs", "good"]).expect(0).prints("done");
    home.output(&["jobs", "run", "bad", "--wait"]).expect(1).says("exit code 3");
    home.output(&["jobs", "runs", "bad"]).expect(0).prints("exit code 3");
    home.output(&["jobs", "run", "none"]).expect(1).says("none").says("spawnery jobs");
}

#[test]
fn a_session_lives_until_it_is_ended() {
    let server = Server::start();
    server.apply("sessions: {shell: {run: [cat], stdin: true}}\n");
    let home = &server.home;
    let id = home.output(&["session", "create", "shell"]).expect(0).stdout.trim().to_owned();
    home.instance("shell", "ready");
    let exec = ["session", "exec", &id[..8], "--", "sh", "-c", "echo in; exit 4"];
    home.output(&exec).expect(4).prints("in\n");
    let ran = home.output_with_input(&["session", "exec", &id, "--", "cat"], b"to and fro");
    assert_eq!(ran.expect(0).stdout, "to and fro");
    home.output(&["session", "list"]).expect(0).prints(&id[..8]);
    home.output(&["session", "end", &id]).expect(0);
    home.instance("shell", "ended");
    home.output(&["session", "exec", &id, "--", "true"]).expect(125);
    home.output(&["session", "create", "none"]).expect(1).says("none");
}

#[test]
fn what_instances_use_is_shown_and_unknown_is_a_dash() {
    let server = Server::start();
    server.apply("sessions: {shell: {run: [cat], stdin: true, memory: 32M}}\n");
    let home = &server.home;
    home.output(&["session", "create", "shell"]).expect(0);
    home.instance("shell", "ready");
    let found = home.json(&["instances", "--usage"]);
    let usage = &found[0]["usage"];
    assert_eq!(found[0]["workload"], "shell");
    assert!(usage["memory_bytes"].as_u64() > Some(0), "{usage}");
    assert_eq!(usage["pids"], 1);
    assert!(usage["network_bytes_in"].is_null(), "it has no network: {usage}");
    let table = home.output(&["instances", "--usage"]).expect(0).stdout;
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][4..], ["MEMORY", "CPU", "PIDS", "IN", "OUT"], "{table}");
    assert_eq!(lines[1][6..], ["1", "-", "-"], "{table}");
}

#[test]
fn what_a_private_network_carries_is_counted() {
    let server = Server::start();
    // The name may not be resolved, so that the question goes to the node's resolver and no further.
    server.apply(
        "services: {asks: {run: 'getent hosts elsewhere.test; sleep 1000', memory: 32M, \
         network: private, egress: {names: [example.test]}}}\n",
    );
    let figure = |instance: &serde_json::Value, name: &str| instance["usage"][name].as_u64();
    wait_for("the question and its answer to be counted", || {
        let found = server.home.json(&["instances", "asks", "--usage"]);
        let (into, out) = ("network_bytes_in", "network_bytes_out");
        (figure(&found[0], into) > Some(0) && figure(&found[0], out) > Some(0)).then_some(())
    });
}

#[test]
fn run_uses_the_local_server() {
    let server = Server::start();
    server.home.output(&["run", "--", "echo", "hi"]).expect(0).prints("hi\n");
    let ended = server.home.json(&["instances", "--all"]);
    assert_eq!(ended[0]["end"]["code"], "finished");
}

#[test]
fn without_a_server_it_is_said_how_to_get_one() {
    let home = Home::new();
    home.output(&["services"]).expect(3).says("error: no server").says("hint: start one");
    let nobody = ["services", "--url", "http://127.0.0.1:1"];
    home.output(&nobody).expect(3).says("no server answers at http://127.0.0.1:1");
    home.output(&["services", "--url", "127.0.0.1:1"]).expect(2).says("http://HOST:PORT");
}

#[test]
fn a_wrong_token_is_refused_and_not_shown() {
    let server = Server::start();
    let mut command = server.home.command(&["services"]);
    let output = command.env("SPAWNERY_TOKEN", "spawnery_wr0ng").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("hint: set SPAWNERY_TOKEN"), "{said}");
    assert!(!said.contains("wr0ng"), "{said}");
}

#[test]
fn the_token_goes_to_no_other_server() {
    let server = Server::start();
    let other = Server::start();
    let ran = server.home.output(&["services", "--url", &other.url]);
    ran.expect(4);
}

#[test]
fn events_are_told_from_the_oldest_on() {
    let server = Server::start();
    server.apply("jobs: {tick: {run: [echo, tick]}}\n");
    let ran = server.home.output(&["events"]).expect(0);
    let ran = ran.prints("node.up").prints("workload.added");
    assert!(ran.stdout.lines().count() >= 3, "{ran:?}");
    let lines = server.home.output(&["events", "--json"]).expect(0);
    for line in lines.stdout.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("a JSON line");
    }
}

#[test]
fn the_journal_can_be_looked_at_while_its_server_runs() {
    let server = Server::start();
    server.apply("jobs: {tick: {run: [echo, tick], env: {PASSWORD: s3cret}}}\n");
    let home = &server.home;
    assert_eq!(home.json(&["journal", "verify"])["is_sound"], true);
    let exported = home.output(&["journal", "export"]).expect(0).prints("WorkloadsApplied");
    assert!(!exported.stdout.contains("s3cret"));
    let first: serde_json::Value =
        serde_json::from_str(exported.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["position"], 1);
    assert_eq!(first["change"], "ReignBegan");
    Home::new().output(&["journal", "verify"]).expect(1).says("hint: say where");
}

#[test]
fn a_drained_node_takes_nothing_until_that_is_undone() {
    let home = Home::new();
    let server = Server::start_with(home, &["--name", "here"]);
    let home = &server.home;
    home.output(&["drain", "here"]).expect(0);
    home.output(&["nodes"]).expect(0).prints("draining");
    server.apply("services: {web: {run: [sleep, '1000']}}\n");
    let waits = home.instance("web", "pending");
    assert!(waits["waits_for"].as_str().is_some_and(|why| !why.is_empty()), "{waits}");
    home.output(&["drain", "here", "--undo"]).expect(0);
    home.instance("web", "ready");
    home.output(&["nodes", "remove", "here"]).expect(1).says("only a lost node");
    home.output(&["drain", "there"]).expect(1).says("`spawnery nodes`");
}

#[test]
fn the_doctor_says_what_is_enforced() {
    let checks = {
        let ran = Home::new().output(&["doctor", "--json"]);
        serde_json::from_str::<serde_json::Value>(&ran.stdout).expect("one JSON document")
    };
    let checks = checks.as_array().expect("a list");
    let found = checks.iter().find(|check| check["check"] == "seccomp filter");
    assert_eq!(found.expect("a check of it")["status"], "enforced");
}
