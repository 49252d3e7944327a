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
        let ready = instances.as_array().expect("a list").iter().filter(|instance| {
            instance["workload"] == service && instance["phase"] == "ready"
        });
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
