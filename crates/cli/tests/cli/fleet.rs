//! What the nodes of one cluster share, and what each keeps to itself.

use crate::support::{Background, Home, Server, wait_for};

/// A server without an agent of its own, and the words by which agents join it.
fn server() -> Server {
    Server::start_with(Home::new(), &["--no-agent", "--link-listen", "127.0.0.1:0"])
}

/// A node with a name and data of its own.
fn node(server: &Server, name: &str) -> Background {
    let home = &server.home;
    let ran = home.output(&["nodes", "invite"]).expect(0);
    let line = ran.stdout.lines().find_map(|line| line.trim().strip_prefix("spawnery "));
    let words = line.expect("the command").to_owned();
    let data = home.path(name).display().to_string();
    let mut arguments: Vec<&str> = words.split(' ').collect();
    arguments.extend(["--data", &data, "--name", name]);
    Background::start(home.command(&arguments), home.path(&format!("{name}.log")))
}

fn nodes_up(home: &Home) -> usize {
    let nodes = home.json(&["nodes"]);
    let nodes = nodes.as_array().expect("a list");
    nodes.iter().filter(|node| node["status"] == "up").count()
}

/// The live instances of a service with what each has printed, once all are ready.
fn outputs(home: &Home, service: &str, count: usize) -> Vec<(String, String)> {
    wait_for("the instances", || {
        let instances = home.json(&["instances"]);
        let ready = instances
            .as_array()
            .expect("a list")
            .iter()
            .filter(|instance| instance["workload"] == service && instance["phase"] == "ready");
        let ids: Vec<_> = ready.map(|it| it["id"].as_str().expect("an id").to_owned()).collect();
        (ids.len() == count).then_some(ids)
    })
    .into_iter()
    .map(|id| {
        let said = wait_for("its output", || {
            let ran = home.output(&["logs", &id]).expect(0);
            (!ran.stdout.is_empty()).then_some(ran.stdout)
        });
        (id, said)
    })
    .collect()
}

const RANDOM: &str = r#"
environments:
  random:
    build: "cat /proc/sys/kernel/random/uuid > /opt/drawn"
services:
  web:
    environment: random
    replicas: every-node
    run: "cat /opt/drawn; sleep 1000"
    memory: 32M
"#;

#[test]
fn two_nodes_that_want_the_same_environment_get_the_one_that_was_built_once() {
    let server = server();
    let home = &server.home;
    let _one = node(&server, "one");
    let _two = node(&server, "two");
    wait_for("both nodes", || (nodes_up(home) == 2).then_some(()));
    server.apply(RANDOM);
    let said = outputs(home, "web", 2);
    assert_eq!(said[0].1.trim().len(), 36, "{said:?}");
    assert_eq!(said[0].1, said[1].1, "each node has built for itself");
    // One that comes later gets it from the others.
    let _three = node(&server, "three");
    let said = outputs(home, "web", 3);
    assert!(said.iter().all(|(_, text)| *text == said[0].1), "{said:?}");
    home.output(&["remove", "web"]).expect(0);
}

/// The only instance of a workload that is not ended, once `ready` says that it is as wanted.
fn instance(
    home: &Home,
    workload: &str,
    ready: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    wait_for("the instance", || {
        let instances = home.json(&["instances"]);
        let mut live =
            instances.as_array().expect("a list").iter().filter(|instance| {
                instance["workload"] == workload && instance["phase"] != "ended"
            });
        live.find(|instance| ready(instance)).cloned()
    })
}

const WRITER: &str = r#"
services:
  writer:
    volumes: [data]
    run: "echo line >> /srv/data/lines; wc -l < /srv/data/lines; sleep 1000"
    memory: 32M
"#;

#[test]
fn what_is_in_a_volume_stays_when_its_instances_end() {
    let server = Server::start();
    let home = &server.home;
    server.apply(WRITER);
    assert_eq!(outputs(home, "writer", 1)[0].1, "1\n");
    home.output(&["remove", "writer"]).expect(0);
    server.apply(WRITER);
    assert_eq!(outputs(home, "writer", 1)[0].1, "2\n");
    home.output(&["remove", "writer"]).expect(0);
}

const ALONE: &str = r#"
services:
  first:
    volumes: [{name: data, exclusive: true}]
    run: "sleep 1000"
    memory: 32M
  second:
    volumes: [data]
    run: "sleep 1000"
    memory: 32M
"#;

#[test]
fn a_volume_that_one_uses_alone_makes_others_wait() {
    let server = Server::start();
    let home = &server.home;
    server.apply(ALONE);
    let waits = |it: &serde_json::Value| {
        let reason = it["waits_for"].as_str().unwrap_or_default();
        reason.contains("volume data is in use by instance")
    };
    let ready = |it: &serde_json::Value| it["phase"] == "ready";
    let (one, other) = wait_for("one of them", || {
        let instances = home.json(&["instances"]);
        let instances = instances.as_array().expect("a list").clone();
        let one = instances.iter().find(|it| ready(it))?.clone();
        let other = instances.iter().find(|it| waits(it))?.clone();
        Some((one, other))
    });
    let word = |it: &serde_json::Value| it["workload"].as_str().expect("a name").to_owned();
    home.output(&["remove", &word(&one)]).expect(0);
    instance(home, &word(&other), ready);
}

const HOST_NETWORK: &str = r#"
services:
  open:
    network: host
    run: "sleep 1000"
    memory: 32M
"#;

#[test]
fn the_network_of_the_host_is_only_for_nodes_that_allow_it() {
    let server = Server::start();
    server.apply(HOST_NETWORK);
    let waiting = instance(&server.home, "open", |it| it["waits_for"].is_string());
    let reason = waiting["waits_for"].as_str().expect("a reason");
    assert!(reason.contains("does not allow `network host`"), "{reason}");
}

const SLOW: &str = r#"
services:
  slow:
    environment: {build: "sleep 1000"}
    run: "true"
    memory: 32M
"#;

#[test]
fn an_instance_says_what_is_built_for_it_and_is_given_up_with_its_workload() {
    let server = Server::start();
    let home = &server.home;
    server.apply(SLOW);
    let building = instance(home, "slow", |it| {
        it["waits_for"].as_str().is_some_and(|text| text.contains("step 1 of 1"))
    });
    let id = building["id"].as_str().expect("an id").to_owned();
    home.output(&["remove", "slow"]).expect(0);
    wait_for("the end", || {
        let instances = home.json(&["instances", "--all"]);
        let mut all = instances.as_array().expect("a list").iter();
        all.find(|it| it["id"] == id.as_str() && it["phase"] == "ended").cloned()
    });
}

const BROKEN: &str = r#"
sessions:
  broken:
    environment: {build: "echo words of the compiler; exit 3"}
    run: "true"
    memory: 32M
"#;

#[test]
fn a_build_that_fails_is_the_reason_with_its_last_output() {
    let server = Server::start();
    let home = &server.home;
    server.apply(BROKEN);
    let ran = home.output(&["session", "create", "broken"]).expect(0);
    let id = ran.stdout.split_whitespace().next().expect("an id").to_owned();
    let ended = wait_for("the end", || {
        let instances = home.json(&["instances", "--all"]);
        let mut all = instances.as_array().expect("a list").iter();
        all.find(|it| it["id"] == id.as_str() && it["phase"] == "ended").cloned()
    });
    let reason = ended["end"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("step 1 of 1"), "{reason}");
    assert!(reason.contains("words of the compiler"), "{reason}");
    assert!(reason.contains('3'), "{reason}");
}
