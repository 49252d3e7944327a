//! `spawnery up`: a whole server for as long as somebody watches.

use crate::support::{Background, Home, is_alive, wait_for};

fn up(home: &Home, file: Option<&str>) -> Background {
    let mut arguments = vec!["up", "--listen", "127.0.0.1:0"];
    arguments.extend(file);
    Background::start(home.command(&arguments), home.path("up.log"))
}

#[test]
fn the_tour_runs_until_it_is_interrupted_and_starts_again() {
    let home = Home::new();
    let tour = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tour.yaml");
    let mut running = up(&home, Some(tour));
    running.wait_for_line("Ctrl-C stops everything.");
    running.wait_for_line("web   | listening on port 8000");
    let shown = running.printed();
    for part in ["web      1/1", "http://web.localhost:", "tick", "session shell", "Isolation "] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    let first = home.instance("web", "ready");
    running.interrupt();
    assert!(running.wait().success(), "{}", running.printed());
    let shown = running.printed();
    assert!(shown.contains("stopping…"), "{shown}");
    assert!(shown.contains("web   | told to stop"), "{shown}");
    assert!(!is_alive(first["pid"].as_u64().expect("a process")));
    assert!(!home.data().join("server.json").exists());
    assert!(!has_launcher(&home));

    let mut running = up(&home, None);
    running.wait_for_line("Ctrl-C stops everything.");
    let second = home.instance("web", "ready");
    assert_ne!(first["id"], second["id"]);
    let shown = running.printed();
    assert!(shown.contains("tick") && shown.contains("session shell"), "{shown}");
    running.interrupt();
    assert!(running.wait().success(), "{}", running.printed());
}

/// Whether a launcher serves the home's data.
fn has_launcher(home: &Home) -> bool {
    let data = home.data().join("agent/launcher");
    spawnery_sandbox::client::Client::connect(&data).is_ok()
}

#[test]
fn a_second_interrupt_kills_what_does_not_stop() {
    let home = Home::new();
    let stubborn = "services:\n  stubborn:\n    run: 'trap \"echo no\" TERM; echo ready; while :; do sleep 0.05; done'\n    stop: {grace: 1h}\n";
    let file = home.write("m.yaml", stubborn);
    let mut running = up(&home, Some(&file));
    running.wait_for_line("stubborn | ready");
    let pid = home.instance("stubborn", "ready")["pid"].as_u64().expect("a process");
    running.interrupt();
    running.wait_for_line("stubborn | no");
    assert!(is_alive(pid));
    running.interrupt();
    assert!(running.wait().success(), "{}", running.printed());
    wait_for("its end", || (!is_alive(pid)).then_some(()));
    assert!(running.printed().contains("killing what is left"), "{}", running.printed());
}

#[test]
fn a_manifest_that_is_wrong_starts_nothing() {
    let home = Home::new();
    let file = home.write("m.yaml", "services: {web: {rum: [ls]}}\n");
    let mut running = up(&home, Some(&file));
    assert_eq!(running.wait().code(), Some(2));
    assert!(running.printed().contains("run"), "{}", running.printed());
    assert!(!home.data().exists());
}

#[test]
fn a_service_that_fails_is_shown_with_its_reason() {
    let home = Home::new();
    let file = home.write("m.yaml", "services: {web: {run: 'echo alas; exit 3'}}\n");
    let mut running = up(&home, Some(&file));
    running.wait_for_line("web | alas");
    running.wait_for_line("exit code 3");
    running.interrupt();
    assert!(running.wait().success(), "{}", running.printed());
}
