//! However a session ends, it has a reason that a person understands.

use crate::support::{Background, Home, Server, is_alive, wait_for};
use serde_json::Value;
use spawnery_sandbox::client::Client as LauncherClient;

/// Creates a session of a template and gives its id.
fn create(home: &Home, template: &str) -> String {
    create_with(home, &[template])
}

/// The same with further words.
fn create_with(home: &Home, words: &[&str]) -> String {
    let words: Vec<&str> = ["session", "create"].iter().chain(words).copied().collect();
    let ran = home.output(&words).expect(0);
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

/// An agent of its own for a server without one, with its data in a folder of its name.
fn agent(home: &Home, name: &str) -> Background {
    let ran = home.output(&["nodes", "invite"]).expect(0);
    let line = ran.stdout.lines().find_map(|line| line.trim().strip_prefix("spawnery "));
    let words = line.expect("the command").to_owned();
    let data = home.path(name).display().to_string();
    let mut arguments: Vec<&str> = words.split(' ').collect();
    arguments.extend(["--data", &data, "--name", name]);
    Background::start(home.command(&arguments), home.path(&format!("{name}.log")))
}

#[test]
fn a_session_on_a_machine_that_is_gone_was_lost_with_its_node() {
    let server = Server::start_with(Home::new(), &["--no-agent", "--link-listen", "127.0.0.1:0"]);
    let home = &server.home;
    let mut agent = agent(home, "agent");
    server.apply(WAITS);
    let id = create(home, "waits");
    wait_until_ready(home, &id);
    // All that ran there is gone at once, as when the power fails.
    agent.kill();
    kill_launcher(home, "agent");
    let (code, reason, _) = end(home, &id);
    assert_eq!((code.as_str(), reason.as_str()), ("node-lost", "its node was lost"));
}

const KEYED: &str = r#"
sessions:
  one:
    run: "echo $SPAWNERY_KEY $SPAWNERY_EPOCH; sleep 1000"
    memory: 32M
    key_lease: 20s
    stop: {grace: 1s}
"#;

/// Waits for the output of a keyed session, and gives its epoch.
#[track_caller]
fn epoch(home: &Home, id: &str, key: &str) -> u64 {
    wait_for("its first line", || {
        let said = home.output(&["logs", id]).expect(0).stdout;
        said.strip_prefix(key)?.trim().parse().ok()
    })
}

#[test]
fn a_session_with_a_key_ends_on_a_node_whose_agent_is_killed_before_its_key_is_given_anew() {
    let server = Server::start_with(Home::new(), &["--no-agent", "--link-listen", "127.0.0.1:0"]);
    let home = &server.home;
    let mut joined = agent(home, "agent");
    server.apply(KEYED);
    let first = create_with(home, &["one", "--key", "alice"]);
    let pid = wait_until_ready(home, &first)["pid"].as_u64().expect("a process");
    let epoch_before = epoch(home, &first, "alice ");
    assert_eq!(create_with(home, &["one", "--key", "alice"]), first, "it is the same one");

    let _other = agent(home, "other");
    wait_for("the other node", || {
        let nodes = home.json(&["nodes"]);
        let up = nodes.as_array()?.iter().filter(|node| node["status"] == "up").count();
        (up == 2).then_some(())
    });
    joined.kill();
    assert!(is_alive(pid), "it does not end with its agent");
    let (code, reason, _) = end(home, &first);
    assert_eq!((code.as_str(), reason.as_str()), ("node-lost", "its node was lost"));
    // There is another node that could take it.
    let next = create_with(home, &["one", "--key", "alice"]);
    assert_ne!(next, first);
    wait_for("the end of its process", || {
        let listed = session(home, &next, |_| true);
        let lives = is_alive(pid);
        assert!(!lives || listed["pid"].is_null(), "two at once: {listed}");
        (!lives).then_some(())
    });
    let launcher = home.path("agent").join("agent/launcher");
    assert!(LauncherClient::connect(&launcher).is_ok(), "the launcher lives on");
    assert_eq!(wait_until_ready(home, &next)["node"]["name"], "other");
    assert!(epoch(home, &next, "alice ") > epoch_before);
    home.output(&["session", "end", &next]).expect(0);
}

#[test]
fn a_session_with_a_key_whose_controller_is_away_for_too_long_says_that_it_ended_for_that() {
    let mut server = Server::start();
    server.apply(KEYED);
    let id = create_with(&server.home, &["one", "--key", "bob"]);
    let pid = wait_until_ready(&server.home, &id)["pid"].as_u64().expect("a process");
    // The controller and the agent, which is in the same process.
    server.process.kill();
    assert!(is_alive(pid), "it does not end with them");
    wait_for("the end of its process", || (!is_alive(pid)).then_some(()));
    server.restart();
    let (code, reason, _) = end(&server.home, &id);
    assert_eq!(code, "key-lease", "{reason}");
    assert!(reason.contains("longer than the lease of its key"), "{reason}");
}

const WARNED: &str = r#"
sessions:
  warned:
    run: |
      trap 'echo warned' USR1
      echo 'now ready'
      while :; do
        if [ -e /tmp/end ]; then cat /tmp/end; rm /tmp/end; fi
        sleep 0.1
      done
    ready: {output: now ready}
    memory: 32M
    duration: 6s
    warnings: {duration: 4s, signal: USR1, file: /tmp/end}
"#;

#[test]
fn a_program_is_warned_by_signal_and_by_file_before_its_session_reaches_its_duration() {
    let server = Server::start();
    let home = &server.home;
    server.apply(WARNED);
    let id = create(home, "warned");
    wait_until_ready(home, &id);
    let (_, reason, output) = end(home, &id);
    assert_eq!(reason, "reached the longest duration allowed");
    let lines: Vec<&str> = output.lines().collect();
    let [ready, warned, file] = lines[..] else { panic!("{output}") };
    assert_eq!((ready, warned), ("now ready", "warned"));
    let notice: Value = serde_json::from_str(file).expect("JSON");
    assert_eq!(notice["cause"], "duration");
    assert!(notice["ends_at_ms"].as_u64().is_some_and(|at| at > 0), "{notice}");
}
