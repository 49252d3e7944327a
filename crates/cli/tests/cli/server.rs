//! What outlives a server.

use crate::support::{COUNTER, Server, is_alive, wait_for};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn a_killed_server_leaves_its_services_running() {
    let mut server = Server::start();
    server.apply(COUNTER);
    let before = server.home.instance("counter", "ready");
    let pid = before["pid"].as_u64().expect("a process");
    server.process.kill();
    assert!(is_alive(pid));
    server.restart();
    let after = server.home.instance("counter", "ready");
    assert_eq!((&after["id"], &after["pid"]), (&before["id"], &before["pid"]));
    check_log(&server);
}

#[test]
fn a_stopped_server_leaves_its_services_running() {
    let mut server = Server::start();
    server.apply(COUNTER);
    let before = server.home.instance("counter", "ready");
    let pid = before["pid"].as_u64().expect("a process");
    server.process.signal(Signal::TERM);
    assert!(server.process.wait().success(), "{}", server.process.printed());
    assert!(server.process.printed().contains("what runs goes on"));
    assert!(is_alive(pid));
    assert!(!server.home.data().join("server.json").exists());
    server.restart();
    let after = server.home.instance("counter", "ready");
    assert_eq!((&after["id"], &after["pid"]), (&before["id"], &before["pid"]));
}

#[test]
fn services_are_reached_by_their_names() {
    let server = Server::start();
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tour.yaml");
    server.home.output(&["apply", manifest]).expect(0);
    server.home.instance("web", "ready");
    let answer = server.fetch("web.localhost");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("Hello from Spawnery!"), "{answer}");
    assert!(server.fetch("none.localhost").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let server = Server::start();
    let ran = server.home.output(&["server", "--listen", "127.0.0.1:0"]);
    ran.expect(1).says("error: ").says("hint: ");
    server.home.output(&["services"]).expect(0);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let server = Server::start();
    let address = server.url.strip_prefix("http://").expect("plain HTTP");
    let home = crate::support::Home::new();
    home.output(&["server", "--listen", address]).expect(1).says(address).says("--listen");
}

#[test]
fn listening_beyond_this_machine_is_warned_of() {
    let home = crate::support::Home::new();
    let server = Server::start_on(home, "0.0.0.0:0");
    assert!(server.process.printed().contains("warning: "), "{}", server.process.printed());
    server.home.output(&["services"]).expect(0);
}

/// The log goes on while the server is away, and nothing of it is missing or double.
fn check_log(server: &Server) {
    let read = || {
        let ran = server.home.output(&["logs", "counter", "--json"]).expect(0);
        let lines = ran.stdout.lines();
        let pieces = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        pieces.collect::<Vec<Value>>()
    };
    let least = read().len() + 5;
    let pieces = wait_for("more of the log", || Some(read()).filter(|it| it.len() >= least));
    let mut text = String::new();
    for (index, piece) in pieces.iter().enumerate() {
        assert_eq!(piece["event"], "output", "{piece}");
        assert_eq!(piece["data"]["sequence"], index + 1);
        text.push_str(piece["data"]["text"].as_str().expect("text"));
    }
    for (index, line) in text.lines().enumerate() {
        assert_eq!(line, format!("count {}", index + 1));
    }
}
