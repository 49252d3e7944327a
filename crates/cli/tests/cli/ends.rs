//! However a session ends, it has a reason that a person understands.

use crate::support::{Background, Home, Server, wait_for};
use serde_json::Value;
use spawnery_sandbox::client::Client as LauncherClient;

/// Creates a session of a template and gives its id.
fn create(home: &Home, template: &str) -> String {
    let ran = home.output(&["session", "create", template]).expect(0);
    ran.stdout.split_whitespace().next().expect("an id").to_owned()
}

/// The session, once it is as wanted.
#[track_caller]
fn session(home: &Home, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_for(id, || {
        let instances = home.json(&["instances", "--all"]);
        let mut all = instances.as_array().expect("a list").iter();
        all.find(|it| it["id"] == id && wanted(it)).cloned()
    })
}

/// How it ended, once it has: the code, the reason in words and the last output.
#[track_caller]
fn end(home: &Home, id: &str) -> (String, String, String) {
    let ended = session(home, id, |it| it["phase"] == "ended");
    let text = |field: &str| ended["end"][field].as_str().unwrap_or_default().to_owned();
    (text("code"), text("reason"), text("last_output"))
}

#[track_caller]
fn wait_until_ready(home: &Home, id: &str) -> Value {
    session(home, id, |it| it["phase"] == "ready")
}

/// Kills a launcher, and with it all that it runs.
fn kill_launcher(home: &Home, data: &str) {
    let launcher = home.path(data).join("agent/launcher");
    let client = LauncherClient::connect(&launcher).expect("a launcher runs");
    let pid = i32::try_from(client.launcher_pid()).ok().and_then(rustix::process::Pid::from_raw);
    let kill = rustix::process::Signal::KILL;
    rustix::process::kill_process(pid.expect("a pid"), kill).expect("it is ours");
}

const BY_THEMSELVES: &str = r#"
sessions:
  finishes: {run: "echo done", memory: 32M}
  fails: {run: "echo last words; exit 3", memory: 32M}
  crashes: {run: "kill -SEGV $$", memory: 32M}
  killed: {run: "kill -KILL $$", memory: 32M}
  missing: {run: [no-such-program], memory: 32M}
  greedy: {run: "head -c 400000000 /dev/zero | tail -n 1", memory: 64M}
  writes: {run: "head -c 40000000 /dev/zero > $HOME/large", memory: 64M, disk: 4M}
  long: {run: "sleep 1000", memory: 32M, duration: 1s}
"#;

#[test]
fn each_end_that_a_session_comes_to_by_itself_is_told_in_words() {
    let server = Server::start();
    let home = &server.home;
    server.apply(BY_THEMSELVES);
    let table = [
        ("finishes", "finished", "finished", "done\n"),
        ("fails", "failed", "failed with exit code 3", "last words\n"),
        ("crashes", "signalled", "ended by signal 11", ""),
        ("killed", "signalled", "ended by signal 9", ""),
        ("missing", "start-failed", "could not start: ", ""),
        ("greedy", "out-of-memory", "out of memory: it used more than its limit", ""),
        ("writes", "disk-full", "disk full: it wrote more than its limit", ""),
        ("long", "stopped", "reached the longest duration allowed", ""),
    ];
    let sessions: Vec<_> = table.iter().map(|(name, ..)| create(home, name)).collect();
    for ((template, code, words, output), id) in table.into_iter().zip(sessions) {
        let (ended_code, reason, last_output) = end(home, &id);
        assert_eq!(ended_code, code, "{template}: {reason}");
        assert!(reason.starts_with(words), "{template}: {reason}");
        assert!(last_output.contains(output), "{template}: {last_output}");
        let listed = home.output(&["instances", "--all"]).expect(0);
        assert!(listed.stdout.contains(reason.split(':').next().expect("words")), "{listed:#?}");
    }
}

const WAITS: &str = r#"
sessions:
  waits: {run: "echo up; sleep 1000", memory: 32M}
"#;

#[test]
fn an_end_by_request_says_whose_it_was() {
    let server = Server::start();
    let home = &server.home;
    server.apply(WAITS);
    let id = create(home, "waits");
    wait_until_ready(home, &id);
    home.output(&["session", "end", &id]).expect(0);
    let (code, reason, last_output) = end(home, &id);
    assert_eq!((code.as_str(), reason.as_str()), ("stopped", "ended by admin"));
    assert_eq!(last_output, "up\n");
}

#[test]
fn a_session_on_a_node_that_is_drained_ends_for_that_and_no_other_starts_there() {
    let server = Server::start();
    let home = &server.home;
    server.apply(WAITS);
    let id = create(home, "waits");
    let node = wait_until_ready(home, &id)["node"]["name"].as_str().expect("a name").to_owned();
    home.output(&["drain", &node]).expect(0);
    let (code, reason, _) = end(home, &id);
    assert_eq!((code.as_str(), reason.as_str()), ("stopped", "its node was drained"));
    let later = create(home, "waits");
    let waiting = session(home, &later, |it| it["waits_for"].is_string());
    let reason = waiting["waits_for"].as_str().expect("a reason");
    assert!(reason.contains("drain"), "{reason}");
    home.output(&["drain", &node, "--undo"]).expect(0);
    wait_until_ready(home, &later);
}

#[test]
fn a_session_whose_launcher_is_killed_was_lost_by_its_node() {
    let server = Server::start();
    let home = &server.home;
    server.apply(WAITS);
    let id = create(home, "waits");
    wait_until_ready(home, &id);
    kill_launcher(home, "data");
    let (code, reason, _) = end(home, &id);
    let expected = ("lost-by-node", "its node lost it: its launcher died");
    assert_eq!((code.as_str(), reason.as_str()), expected);
    wait_until_ready(home, &create(home, "waits"));
}

/// An agent of its own for a server without one.
fn agent(home: &Home) -> Background {
    let ran = home.output(&["nodes", "invite"]).expect(0);
    let line = ran.stdout.lines().find_map(|line| line.trim().strip_prefix("spawnery "));
    let words = line.expect("the command").to_owned();
    let data = home.path("agent").display().to_string();
    let mut arguments: Vec<&str> = words.split(' ').collect();
    arguments.extend(["--data", &data, "--name", "apart"]);
    Background::start(home.command(&arguments), home.path("agent.log"))
}

#[test]
fn a_session_on_a_machine_that_is_gone_was_lost_with_its_node() {
    let server = Server::start_with(Home::new(), &["--no-agent", "--link-listen", "127.0.0.1:0"]);
    let home = &server.home;
    let mut agent = agent(home);
    server.apply(WAITS);
    let id = create(home, "waits");
    wait_until_ready(home, &id);
    // All that ran there is gone at once, as when the power fails.
    agent.kill();
    kill_launcher(home, "agent");
    let (code, reason, _) = end(home, &id);
    assert_eq!((code.as_str(), reason.as_str()), ("node-lost", "its node was lost"));
}
