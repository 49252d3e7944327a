//! An agent apart from its server, over TLS.

use crate::support::{Background, COUNTER, Home, Server, is_alive, wait_for};

/// Starts an agent with data of its own, by the words that `nodes invite` printed.
fn agent(home: &Home, words: &[&str]) -> Background {
    let data = home.path("agent").display().to_string();
    let mut arguments = words.to_vec();
    arguments.extend(["--data", &data, "--name", "apart", "--label", "role=worker"]);
    Background::start(home.command(&arguments), home.path("agent.log"))
}

/// The command that `nodes invite` prints, without the program.
fn invitation(home: &Home) -> String {
    let ran = home.output(&["nodes", "invite"]).expect(0);
    let line = ran.stdout.lines().find_map(|line| line.trim().strip_prefix("spawnery "));
    line.expect("the command").to_owned()
}

fn status(home: &Home) -> Option<String> {
    let nodes = home.json(&["nodes"]);
    nodes.as_array()?.first()?["status"].as_str().map(str::to_owned)
}

#[test]
fn an_agent_joins_by_a_token_and_keeps_its_instances_when_it_is_killed() {
    let server = Server::start_with(Home::new(), &["--no-agent", "--link-listen", "127.0.0.1:0"]);
    let home = &server.home;
    assert_eq!(home.json(&["nodes"]), serde_json::json!([]));
    let command = invitation(home);
    let words: Vec<&str> = command.split(' ').collect();
    let mut joined = agent(home, &words);
    wait_for("the node", || status(home).filter(|status| status == "up"));
    server.apply(COUNTER);
    let before = home.instance("counter", "ready");
    assert_eq!(before["node"]["name"], "apart");
    home.output(&["run", "--", "echo", "hi"]).expect(0).prints("hi\n");

    joined.kill();
    assert!(is_alive(before["pid"].as_u64().expect("a process")));
    // It has joined: the token is neither needed nor good any more.
    let mut joined = agent(home, &words[..3]);
    joined.wait_for_line("linked");
    home.output(&["run", "--", "echo", "again"]).expect(0).prints("again\n");
    let after = home.instance("counter", "ready");
    assert_eq!((&after["id"], &after["pid"]), (&before["id"], &before["pid"]));
    home.output(&["remove", "counter"]).expect(0);
}

#[test]
fn a_token_lets_one_machine_join_once() {
    let server = Server::start_with(Home::new(), &["--no-agent", "--link-listen", "127.0.0.1:0"]);
    let command = invitation(&server.home);
    let words: Vec<&str> = command.split(' ').collect();
    let first = agent(&server.home, &words);
    wait_for("the node", || status(&server.home).filter(|status| status == "up"));
    let other = Home::new();
    let mut second = agent(&other, &words);
    assert_eq!(second.wait().code(), Some(4), "{}", second.printed());
    assert!(second.printed().contains("spawnery nodes invite"), "{}", second.printed());
    drop(first);
}

#[test]
fn what_is_missing_or_wrong_is_said() {
    let home = Home::new();
    home.output(&["agent"]).expect(2).says("--join HOST:PORT");
    home.output(&["agent", "--join", "127.0.0.1:1"]).expect(2).says("nodes invite");
    let wrong = ["agent", "--join", "127.0.0.1:1", "--token", "s3cret"];
    let ran = home.output(&wrong).expect(2).says("join token");
    assert!(!ran.stderr.contains("s3cret"));
    let token = format!("secret.{}", "0".repeat(64));
    let nobody = ["agent", "--join", "127.0.0.1:1", "--token", &token];
    home.output(&nobody).expect(3).says("--link-listen");
}

#[test]
fn a_server_without_links_says_how_to_have_them() {
    let server = Server::start();
    server.home.output(&["nodes", "invite"]).expect(1).says("--link-listen");
}
