//! What is promised of volumes, secrets, allowances and sandboxes that are kept ready.

mod town;

use spawnery_cluster::{Command, Rejection};
use spawnery_model::{
    Allowances, Exit, LimitReached, Network, Observation, SecretUse, StopCause, Surroundings,
    VolumeMount, Workload, limits,
};
use town::{Town, label, service, service_everywhere, session};

fn with(mut workload: Workload, change: impl FnOnce(&mut Surroundings)) -> Workload {
    change(workload.surroundings.get_or_insert_default());
    workload
}

fn with_volume(workload: Workload, name: &str, exclusive: bool) -> Workload {
    with(workload, |surroundings| {
        surroundings.volumes.push(VolumeMount {
            name: label(name),
            path: format!("/srv/{name}"),
            exclusive,
            read_only: false,
        });
    })
}

fn with_secret(workload: Workload, name: &str) -> Workload {
    with(workload, |surroundings| {
        surroundings.secrets.push(SecretUse { name: label(name), variable: None });
    })
}

fn set_secret(town: &mut Town, name: &str) {
    let (name, by) = (label(name), "ann".to_owned());
    town.command(Command::SetSecret { name, sealed: vec![1, 2, 3], by }).unwrap();
}

fn remove(town: &mut Town, workload: &str) {
    let names = vec![label(workload)];
    town.command(Command::Remove { names, by: "ann".to_owned() }).unwrap();
}

fn remove_volume(town: &mut Town, name: &str) -> Result<(), Rejection> {
    let command = Command::RemoveVolume { name: label(name), by: "ann".to_owned() };
    town.command(command).map(|_| ())
}

#[test]
fn an_instance_goes_where_its_volume_is() {
    let mut town = Town::with_nodes(&["a", "b", "c"]);
    town.apply(with_volume(service("first", 1), "data", false));
    town.check("first/0 ready a");
    town.apply(service("filler", 1));
    for name in ["second", "third"] {
        town.apply(with_volume(service(name, 1), "data", false));
    }
    town.check("filler/0 ready b\nfirst/0 ready a\nsecond/0 ready a\nthird/0 ready a");
}

#[test]
fn a_volume_keeps_its_node_when_nothing_uses_it() {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.apply(with_volume(service("web", 1), "data", false));
    remove(&mut town, "web");
    town.drain("a", true);
    town.apply(with_volume(service("web", 1), "data", false));
    town.check_live("web/0 pending -: the node that it must run on is draining, stopping or lost");
    town.drain("a", false);
    town.check_live("web/0 ready a");
}

#[test]
fn a_volume_that_one_uses_alone_makes_others_wait() {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.apply(with_volume(service("first", 1), "data", true));
    town.apply(with_volume(service("second", 1), "data", false));
    let first = town.live("first");
    town.check(&format!(
        "first/0 ready a\nsecond/0 pending -: volume data is in use by instance {first}"
    ));
    remove(&mut town, "first");
    town.check_live("second/0 ready a");
}

#[test]
fn each_node_has_its_own_volume_of_a_service_that_runs_everywhere() {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.apply(with_volume(service_everywhere("agent"), "cache", true));
    town.check("agent/node ready a\nagent/node ready b");
}

#[test]
fn volumes_on_different_nodes_cannot_be_used_together() {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.apply(with_volume(service("one", 1), "left", false));
    town.apply(service("filler", 1));
    town.drain("a", true);
    town.apply(with_volume(service("two", 1), "right", false));
    town.drain("a", false);
    let both = with_volume(with_volume(service("both", 1), "left", false), "right", false);
    town.apply(both);
    let table = town.table().join("\n");
    assert!(table.contains("its volumes left, right are on different nodes"), "{table}");
}

#[test]
fn a_volume_in_use_is_not_removed() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(with_volume(service("web", 1), "data", false));
    let refused = remove_volume(&mut town, "data").unwrap_err();
    assert_eq!(refused.code(), "volume-in-use");
    remove(&mut town, "web");
    remove_volume(&mut town, "data").unwrap();
    assert_eq!(remove_volume(&mut town, "data").unwrap_err().code(), "volume-unknown");
    assert_eq!(town.state().volumes().count(), 0);
}

#[test]
fn volumes_and_secrets_survive_the_controller() {
    let mut town = Town::with_nodes(&["a"]);
    set_secret(&mut town, "key");
    town.apply(with_secret(with_volume(service("web", 1), "data", false), "key"));
    town.restart_controller();
    assert_eq!(town.state().volumes().count(), 1);
    assert_eq!(town.state().secret(&label("key")).unwrap().sealed, [1, 2, 3]);
    let users: Vec<_> = town.state().users_of_secret(&label("key")).cloned().collect();
    assert_eq!(users, [label("web")]);
}

#[test]
fn a_workload_needs_its_secrets() {
    let mut town = Town::with_nodes(&["a"]);
    let web = with_secret(service("web", 1), "key");
    let apply = Command::Apply { workloads: vec![web.clone()], by: "ann".to_owned() };
    let refused = town.command(apply).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "there is no secret called key: set it with `spawnery secret set key`"
    );
    set_secret(&mut town, "key");
    town.apply(web);
    town.check("web/0 ready a");
    let forget = || Command::RemoveSecret { name: label("key"), by: "ann".to_owned() };
    assert_eq!(town.command(forget()).unwrap_err().code(), "secret-in-use");
    remove(&mut town, "web");
    town.command(forget()).unwrap();
    assert_eq!(town.command(forget()).unwrap_err().code(), "secret-unknown");
}

#[test]
fn a_new_value_of_a_secret_is_a_new_version() {
    let mut town = Town::with_nodes(&[]);
    set_secret(&mut town, "key");
    set_secret(&mut town, "key");
    assert_eq!(town.state().secret(&label("key")).unwrap().version, 2);
    let told = town.told("secret.set");
    assert_eq!(told[1], "secret key was set by ann, version 2");
}

#[test]
fn what_a_node_does_not_allow_is_not_placed_there() {
    let mut town = Town::with_nodes(&["a", "b"]);
    let mut open = service("open", 1);
    open.process.network = Network::Host;
    town.apply(open);
    town.check("open/0 pending -: 2 nodes: 2 do not allow `network host` by configuration");
    town.disconnect("b");
    let agent = town.agents.get_mut("b").unwrap();
    agent.allowances = Some(Allowances { host_network: true, ..Allowances::default() });
    agent.incarnation += 1;
    town.connect("b");
    town.check("open/0 ready b");
}

#[test]
fn devices_and_folders_of_the_node_must_be_listed() {
    let mut town = Town::with_nodes(&["a"]);
    let agent = town.agents.get_mut("a").unwrap();
    agent.allowances =
        Some(Allowances { devices: vec!["/dev/listed".to_owned()], ..Allowances::default() });
    agent.incarnation += 1;
    town.disconnect("a");
    town.connect("a");
    let device = |path: &str| with(session("s", None), |it| it.devices.push(path.to_owned()));
    town.session(device("/dev/listed"));
    town.check_live("s/session ready a");
    town.session(device("/dev/other"));
    let table = town.table().join("\n");
    assert!(table.contains("does not allow `device /dev/other`"), "{table}");
}

#[test]
fn nodes_are_told_which_sandboxes_to_keep_ready() {
    let mut town = Town::with_nodes(&["a"]);
    let warm = |count| with(session("shell", None), |surroundings| surroundings.warm = count);
    town.apply(warm(3));
    assert_eq!(town.agents["a"].pools, [(label("shell"), 3)]);
    town.apply(warm(5));
    assert_eq!(town.agents["a"].pools, [(label("shell"), 5)]);
    town.add_node("b");
    assert_eq!(town.agents["b"].pools, [(label("shell"), 5)]);
    town.restart_controller();
    assert_eq!(town.agents["a"].pools, [(label("shell"), 5)]);
    remove(&mut town, "shell");
    assert_eq!(town.agents["a"].pools, []);
}

#[test]
fn what_was_said_about_ready_sandboxes_is_said_until_it_was_heard() {
    let mut town = Town::with_nodes(&["a"]);
    town.disconnect("a");
    town.apply(with(session("shell", None), |surroundings| surroundings.warm = 2));
    assert_eq!(town.agents["a"].pools, []);
    town.connect("a");
    assert_eq!(town.agents["a"].pools, [(label("shell"), 2)]);
    let heard = town.orders.len();
    town.pass(limits::HEARTBEAT.0 * 3);
    let later = &town.orders[heard..];
    assert!(later.iter().all(|(_, orders)| orders.pools.is_none()), "{later:?}");
}

#[test]
fn what_takes_long_before_a_start_is_shown_and_forgotten_when_it_runs() {
    let mut town = Town::with_nodes(&["a"]);
    town.agents.get_mut("a").unwrap().starts = false;
    town.apply(service("web", 1));
    let id = town.in_phase(spawnery_model::Phase::Assigned);
    let progress = Some("building environment, step 3 of 5".to_owned());
    let agent = town.agents.get_mut("a").unwrap();
    agent.observe(id, Observation::Starting { progress });
    town.settle();
    town.check("web/0 starting a: building environment, step 3 of 5");
    town.agents.get_mut("a").unwrap().observe(id, Observation::Ready { pid: 7 });
    town.settle();
    town.check("web/0 ready a");
}

#[test]
fn a_limit_that_was_reached_is_the_reason_of_the_end() {
    let check = |limit, stopped: bool, expected: &str| {
        let mut town = Town::with_nodes(&["a"]);
        let id = town.session(session("s", None));
        if stopped {
            town.agents.get_mut("a").unwrap().starts = false;
            let end = Command::EndInstance { instance: id, by: "ann".to_owned() };
            town.command(end).unwrap();
            let cause = StopCause::Requested { by: "ann".to_owned() };
            town.check(&format!("s/session ended a: {}", cause.words()));
            return;
        }
        let exit = Exit { signal: Some(9), limit: Some(limit), ..Exit::default() };
        town.exits(id, exit);
        town.check(&format!("s/session ended a: {expected}"));
    };
    check(LimitReached::Disk, false, "disk full: it wrote more than its limit");
    let transfer = "transfer limit: it sent and received more than its limit";
    check(LimitReached::Transfer, false, transfer);
    check(LimitReached::Disk, true, "");
}
