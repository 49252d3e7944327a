//! What an instance with a private network reaches, and what not.

#[path = "network/world.rs"]
mod hosts;
mod support;

use std::path::Path;
use std::time::Instant;

use hosts::{World, has_ipv6};
use spawnery_sandbox::limits::FLOWS_MAX;
use spawnery_sandbox::protocol::{Reply, Request, Usage};
use spawnery_sandbox::spec::{
    EgressRule, EgressSpec, FileSpec, LimitReached, Network, SandboxSpec,
};
use support::{As, Bench, DEADLINE, everybody, is_root, skip};

const CLIENT: &str = include_str!("network/client.py");

/// Runs `test` with a launcher of each kind in the namespace of a test host.
fn for_everybody(test: impl Fn(&mut Bench)) {
    if !is_root() {
        return skip("only root makes network namespaces for test hosts");
    }
    let world = World::new();
    for whose in everybody() {
        test(&mut bench_in(&world, whose, &["198.51.100.53:53"]));
    }
}

fn bench_in(world: &World, whose: As, resolvers: &[&str]) -> Bench {
    Bench::start_with(whose, Some(world.host()), |config| {
        config.resolvers = resolvers.iter().map(|it| it.parse().expect("an address")).collect();
    })
}

/// An instance that makes `attempts`.
fn client(egress: EgressSpec, attempts: &[&str]) -> SandboxSpec {
    let mut argv = vec!["/usr/bin/python3", "/client.py"];
    argv.extend(attempts);
    let mut spec = SandboxSpec::new(argv);
    spec.network = Network::Private;
    spec.egress = Some(egress);
    let bytes = CLIENT.as_bytes().to_vec();
    spec.files = vec![FileSpec { path: "/client.py".into(), mode: 0o644, bytes }];
    spec
}

fn rule(allow: bool, block: &str, ports: Option<(u16, u16)>) -> EgressRule {
    EgressRule { allow, block: block.into(), ports }
}

/// Makes each attempt in one instance and compares its results.
fn check(egress: &EgressSpec, table: &[(&str, &str)]) {
    let possible = |(attempt, _): &&(&str, &str)| has_ipv6() || !attempt.contains('[');
    let table: Vec<_> = table.iter().filter(possible).copied().collect();
    if !has_ipv6() {
        skip("what goes over IPv6, which is not there");
    }
    for_everybody(|bench| {
        let attempts: Vec<&str> = table.iter().map(|(attempt, _)| *attempt).collect();
        let (exit, output) = bench.run_spec("it", client(egress.clone(), &attempts));
        let results: Vec<&str> = output.lines().collect();
        let expected: Vec<&str> = table.iter().map(|(_, expected)| *expected).collect();
        assert_eq!(results, expected, "{attempts:?}: {exit:?} {output}");
    });
}

#[test]
fn the_internet_is_reached_from_the_address_of_the_host() {
    check(
        &EgressSpec::default(),
        &[
            ("tcp 198.51.100.1:80", "hello"),
            ("who 198.51.100.1:80", "198.51.100.254"),
            ("upload 198.51.100.1:80 5000000", "intact"),
            ("download 198.51.100.1:80 5000000", "intact"),
            ("echo 198.51.100.1:80 3000000", "intact"),
            ("udp 198.51.100.1:90", "intact"),
            ("udp 198.51.100.1:90 9000", "intact"),
            ("tcp 198.51.100.1:82", "ECONNREFUSED"),
            ("udp 198.51.100.1:91", "ECONNREFUSED"),
            ("tcp [2001:db8:1::1]:80", "hello"),
            ("download [2001:db8:1::1]:80 2000000", "intact"),
            ("udp [2001:db8:1::1]:90", "intact"),
        ],
    );
}

#[test]
fn what_is_not_the_internet_is_refused_at_once() {
    check(
        &EgressSpec::default(),
        &[
            ("tcp 169.254.169.254:80", "ECONNREFUSED"),
            ("udp 169.254.169.254:90", "ECONNREFUSED"),
            ("tcp 10.9.9.1:80", "ECONNREFUSED"),
            ("tcp 198.51.100.254:80", "ECONNREFUSED"),
            ("tcp 10.9.9.254:80", "ECONNREFUSED"),
            ("udp 198.51.100.254:90", "ECONNREFUSED"),
            ("tcp 127.0.0.1:80", "ECONNREFUSED"),
            ("tcp 192.0.0.1:80", "ECONNREFUSED"),
            ("tcp 198.51.100.255:80", "ECONNREFUSED"),
            ("tcp [fd00:9::1]:80", "ECONNREFUSED"),
            ("tcp [2001:db8:1::fe]:80", "ECONNREFUSED"),
            ("tcp [64:ff9b::a09:901]:80", "ECONNREFUSED"),
            ("tcp [::ffff:10.9.9.1]:80", "ECONNREFUSED"),
        ],
    );
}

#[test]
fn a_rule_opens_what_is_closed_by_default() {
    let rules = vec![
        rule(true, "10.9.9.0/24", Some((80, 80))),
        rule(true, "198.51.100.254/32", None),
        rule(true, "169.254.169.254/32", None),
        rule(true, "fd00:9::/64", None),
        rule(true, "127.0.0.0/8", None),
    ];
    check(
        &EgressSpec { rules, ..EgressSpec::default() },
        &[
            ("tcp 10.9.9.1:80", "hello"),
            ("tcp 10.9.9.1:81", "ECONNREFUSED"),
            ("tcp 198.51.100.254:80", "hello"),
            ("tcp 169.254.169.254:80", "hello"),
            ("tcp [fd00:9::1]:80", "hello"),
            // The loopback interface is the sandbox's own, whatever rules say.
            ("tcp 127.0.0.1:80", "ECONNREFUSED"),
        ],
    );
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = vec![
        rule(true, "198.51.100.2/32", Some((80, 80))),
        rule(false, "198.51.100.0/30", Some((1, 80))),
        rule(true, "198.51.100.0/24", None),
        rule(false, "0.0.0.0/0", None),
    ];
    check(
        &EgressSpec { rules, ..EgressSpec::default() },
        &[
            ("tcp 198.51.100.2:80", "hello"),
            ("tcp 198.51.100.1:80", "ECONNREFUSED"),
            ("tcp 198.51.100.1:81", "hello"),
            ("udp 198.51.100.1:90", "intact"),
            ("tcp 203.0.113.1:80", "ECONNREFUSED"),
        ],
    );
}

#[test]
fn only_listed_names_are_resolved_and_open_their_addresses() {
    let egress = EgressSpec {
        names: Some(vec!["good.test".into(), "*.good.test".into(), "absent.test".into()]),
        deny_by_default: true,
        ..EgressSpec::default()
    };
    check(
        &egress,
        &[
            ("tcp 198.51.100.1:80", "ECONNREFUSED"),
            ("tcp good.test:80", "hello"),
            ("tcp 198.51.100.1:81", "hello"),
            ("tcp 198.51.100.2:80", "ECONNREFUSED"),
            ("tcp other.test:80", "no name"),
            ("tcp 198.51.100.2:80", "ECONNREFUSED"),
            ("tcp sub.good.test:80", "hello"),
            ("dns 1 other.test", "5 0 whole"),
            ("dns 1 absent.test", "3 0 whole"),
            ("dns 12 good.test", "5 0 whole"),
            ("dns 1 go/od.test", "5 0 whole"),
            ("dns 1 sub.good.test tcp", "0 1 whole"),
            ("dns 1 other.test tcp", "5 0 whole"),
            ("tcp 198.51.100.53:53", "ECONNREFUSED"),
        ],
    );
}

#[test]
fn a_name_that_is_rebound_to_a_private_address_opens_nothing() {
    let egress = EgressSpec { names: Some(vec!["*.good.test".into()]), ..EgressSpec::default() };
    check(
        &egress,
        &[
            ("name rebinding.good.test", "10.9.9.1"),
            ("tcp rebinding.good.test:80", "ECONNREFUSED"),
            ("tcp metadata.good.test:80", "ECONNREFUSED"),
        ],
    );
}

#[test]
fn a_name_opens_nothing_that_a_rule_denies() {
    let egress = EgressSpec {
        rules: vec![rule(false, "198.51.100.0/24", None)],
        names: Some(vec!["good.test".into()]),
        deny_by_default: true,
        ..EgressSpec::default()
    };
    check(&egress, &[("name good.test", "198.51.100.1"), ("tcp good.test:80", "ECONNREFUSED")]);
}

#[test]
fn without_a_list_every_name_is_resolved_and_none_opens_anything() {
    let egress = EgressSpec { deny_by_default: true, ..EgressSpec::default() };
    check(
        &egress,
        &[
            ("name other.test", "198.51.100.2"),
            ("tcp other.test:80", "ECONNREFUSED"),
            ("dns 16 big.test", "0 0 cut"),
            ("dns 16 big.test tcp", "0 9 whole"),
        ],
    );
}

#[test]
fn the_next_resolver_is_asked_when_one_does_not_answer() {
    if !is_root() {
        return skip("only root makes network namespaces for test hosts");
    }
    let world = World::new();
    let attempts = ["dns 1 good.test", "dns 1 good.test tcp"];
    let table: [(&[&str], &str); 2] = [
        (&["198.51.100.1:53", "198.51.100.2:53"], "2 0 whole\n2 0 whole\n"),
        (&["198.51.100.1:53", "198.51.100.53:53"], "0 1 whole\n0 1 whole\n"),
    ];
    for (resolvers, expected) in table {
        let mut bench = bench_in(&world, As::Us, resolvers);
        let (_, output) = bench.run_spec("it", client(EgressSpec::default(), &attempts));
        assert_eq!(output, expected, "{resolvers:?}");
    }
}

#[test]
fn many_connections_at_once_are_carried() {
    check(
        &EgressSpec::default(),
        &[
            ("many 198.51.100.1:80 100 100000", "100 intact"),
            ("many [2001:db8:1::1]:80 20 1000000", "20 intact"),
        ],
    );
}

#[test]
fn connections_above_the_limit_are_refused() {
    let expected = format!("{FLOWS_MAX} ECONNREFUSED hello");
    check(&EgressSpec::default(), &[("hold 198.51.100.1:80 600", &expected)]);
}

#[test]
fn packets_that_are_not_its_own_cannot_be_sent() {
    check(
        &EgressSpec::default(),
        &[
            // Internet and packet sockets for raw packets, and pings.
            ("sock 2 3 1", "EPERM"),
            ("sock 2 3 255", "EPERM"),
            ("sock 17 3 768", "EPERM"),
            ("sock 2 2 1", "EACCES"),
            ("bind 198.51.100.254", "EADDRNOTAVAIL"),
            ("freebind 198.51.100.7", "refused"),
            ("tcp 198.51.100.1:80", "hello"),
        ],
    );
}

fn usage(bench: &mut Bench, instance: &str) -> Usage {
    match bench.ask(Request::Usage { instance: instance.into() }) {
        Reply::Usage { usage } => usage,
        other => panic!("{other:?}"),
    }
}

/// Waits for a figure of an instance.
fn wait_for_usage(bench: &mut Bench, instance: &str, is_it: impl Fn(Usage) -> bool) {
    let until = Instant::now() + DEADLINE;
    loop {
        let usage = usage(bench, instance);
        if is_it(usage) {
            return;
        }
        assert!(Instant::now() < until, "{usage:?}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn bytes_are_counted_in_each_direction() {
    for_everybody(|bench| {
        let script = "import sys; sys.argv[1:] = ['upload 198.51.100.1:80 1000000', \
            'download 198.51.100.1:80 3000000']; exec(open('/client.py').read()); sys.stdin.read()";
        let mut spec = client(EgressSpec::default(), &[]);
        spec.argv = ["/usr/bin/python3", "-c", script].map(String::from).to_vec();
        spec.stdin_pipe = true;
        bench.start_spec("it", spec);
        bench.wait_for_output("it", 0, "intact\nintact\n");
        wait_for_usage(bench, "it", |usage| {
            let (into, out) = (usage.network_bytes_in, usage.network_bytes_out);
            into.is_some_and(|it| (3_000_000..3_500_000).contains(&it))
                && out.is_some_and(|it| (1_000_000..1_500_000).contains(&it))
        });
        bench.start_spec("none", SandboxSpec::new(["sleep", "1000"]));
        assert_eq!(usage(bench, "none").network_bytes_in, None);
    });
}

#[test]
fn the_transfer_limit_ends_an_instance_with_that_reason() {
    for_everybody(|bench| {
        let egress = EgressSpec { transfer_bytes_max: Some(2_000_000), ..EgressSpec::default() };
        let within = client(egress.clone(), &["download 198.51.100.1:80 1000000"]);
        let (exit, output) = bench.run_spec("within", within);
        assert_eq!((exit.code, exit.limit, output.as_str()), (Some(0), None, "intact\n"));
        let above = client(egress, &["download 198.51.100.1:80 100000000"]);
        let (exit, output) = bench.run_spec("above", above);
        assert_eq!((exit.limit, output.as_str()), (Some(LimitReached::Transfer), ""), "{exit:?}");
    });
}

#[test]
fn two_instances_do_not_see_each_other() {
    for_everybody(|bench| {
        let script = "import socket; s = socket.create_server(('', 4000)); print('ready', flush=True)\n\
            while True: s.accept()[0].close()";
        let mut spec = client(EgressSpec::default(), &[]);
        spec.argv = ["/usr/bin/python3", "-c", script].map(String::from).to_vec();
        bench.start_spec("server", spec);
        bench.wait_for_output("server", 0, "ready");
        let all = EgressSpec {
            rules: vec![rule(true, "0.0.0.0/0", None), rule(true, "::/0", None)],
            ..EgressSpec::default()
        };
        let attempts = ["tcp 192.0.0.2:4000", "tcp 192.0.0.3:4000", "tcp 198.51.100.254:4000"];
        let (_, output) = bench.run_spec("client", client(all, &attempts));
        let mut lines = output.lines();
        // Each has that address itself.
        assert_eq!(lines.next(), Some("ECONNREFUSED"), "{output}");
        assert!(lines.all(|line| line.starts_with('E')), "{output}");
        match bench.ask(Request::Dial { instance: "server".into(), port: 4000 }) {
            Reply::Dialed => {}
            other => panic!("{other:?}"),
        }
    });
}

/// The network process of a launcher.
fn network_process(launcher: u32) -> Option<u32> {
    let path = format!("/proc/{launcher}/task/{launcher}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    children.split_ascii_whitespace().find_map(|pid| {
        let name = std::fs::read_to_string(Path::new("/proc").join(pid).join("comm")).ok()?;
        (name.trim() == "network").then(|| pid.parse().ok())?
    })
}

#[test]
fn the_network_process_is_nobody() {
    for_everybody(|bench| {
        bench.run_spec("it", client(EgressSpec::default(), &["tcp 198.51.100.1:80"]));
        let pid = network_process(bench.child.id()).expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("read");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        for name in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(name), "0000000000000000", "{name}");
        }
        assert_eq!((field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()), ("1", "2"));
        assert!(!field("Uid:").split('\t').any(|uid| uid == "0"), "{}", field("Uid:"));
    });
}

#[test]
fn when_the_network_process_dies_new_connections_work_and_the_count_goes_on() {
    for_everybody(|bench| {
        let script = "import sys; exec(open('/client.py').read().split('for attempt')[0])\n\
            s = connected('198.51.100.1:80'); s.sendall(b'echo\\nx'); assert s.recv(1) == b'x'\n\
            print(download('198.51.100.1:80', '1000000'), flush=True)\n\
            try: print(s.recv(1), flush=True)\n\
            except OSError as error: print(code(error), flush=True)\n\
            print(download('198.51.100.1:80', '1000000'), flush=True); sys.stdin.readline()";
        let mut spec = client(EgressSpec::default(), &[]);
        spec.argv = ["/usr/bin/python3", "-c", script].map(String::from).to_vec();
        spec.stdin_pipe = true;
        bench.start_spec("it", spec);
        bench.wait_for_output("it", 0, "intact\n");
        wait_for_usage(bench, "it", |usage| usage.network_bytes_in > Some(1_000_000));
        let pid = network_process(bench.child.id()).expect("it runs");
        let target = rustix::process::Pid::from_raw(pid as i32).expect("not 0");
        rustix::process::kill_process(target, rustix::process::Signal::KILL).expect("killed");
        bench.wait_for_output("it", 0, "intact\nECONNRESET\nintact\n");
        wait_for_usage(bench, "it", |usage| usage.network_bytes_in > Some(2_000_000));
        assert!(network_process(bench.child.id()).is_some_and(|it| it != pid));
        bench.start_spec("other", client(EgressSpec::default(), &["tcp 198.51.100.1:80"]));
        assert_eq!(bench.exit_of("other", 0).code, Some(0));
        assert_eq!(bench.output("other", 0), "hello\n");
    });
}

#[test]
fn a_prepared_sandbox_gets_its_network_when_it_is_used() {
    for_everybody(|bench| {
        let launcher = bench.child.id();
        let path = format!("/proc/{launcher}/task/{launcher}/children");
        let until = Instant::now() + DEADLINE;
        let prepared = loop {
            let children = std::fs::read_to_string(&path).unwrap_or_default();
            let pids: Vec<u32> =
                children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            if !pids.is_empty() {
                break pids;
            }
            assert!(Instant::now() < until, "no sandbox is prepared");
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        let spec = client(EgressSpec::default(), &["tcp 198.51.100.1:80"]);
        let (init_pid, _) = bench.start_spec("it", spec);
        assert!(prepared.contains(&init_pid), "{init_pid} is none of {prepared:?}");
        bench.exit_of("it", 0);
        assert_eq!(bench.output("it", 0), "hello\n");
        // And one without a network has none.
        let script = "cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '";
        assert_eq!(bench.sh("none", script).1, "lo\n");
    });
}
