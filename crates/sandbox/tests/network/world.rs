//! Two network namespaces: that of a host, where launchers run, and that of the test hosts which
//! it can reach. Nothing in them leads to a real network.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Addresses of the test hosts: public ones, a resolver's, a private one and a metadata service's.
#[rustfmt::skip]
const WORLD: &[&str] = &[
    "198.51.100.1/24", "198.51.100.2/24", "198.51.100.3/24", "198.51.100.53/24", "203.0.113.1/24",
    "10.9.9.1/24", "169.254.169.254/16", "2001:db8:1::1/64", "fd00:9::1/64",
];
/// Addresses of the host.
const HOST: &[&str] = &[
    "198.51.100.254/24",
    "203.0.113.254/24",
    "10.9.9.254/24",
    "169.254.1.1/16",
    "2001:db8:1::fe/64",
    "fd00:9::fe/64",
];

/// Whether interfaces have IPv6 here, which a kernel may lack, and a container often turns off.
pub fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6")
        .is_ok_and(|text| text.trim() == "0")
}

/// The addresses that can be given.
fn possible(addresses: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    addresses.iter().copied().filter(|it| has_ipv6() || !it.contains(':'))
}

/// Both namespaces with their servers, which end with this.
pub struct World {
    host: Child,
    world: Child,
}

impl World {
    pub fn new() -> Self {
        let (mut host, mut world) = (namespace("host"), namespace("world"));
        let (host_pid, world_pid) = (host.id().to_string(), world.id().to_string());
        wait_for(&mut host, "in");
        wait_for(&mut world, "in");
        run(&[
            "ip", "link", "add", "e0", "netns", &host_pid, "type", "veth", "peer", "name", "e0",
            "netns", &world_pid,
        ]);
        for (pid, addresses) in [(&host_pid, HOST), (&world_pid, WORLD)] {
            let inside = |words: &[&str]| {
                run(&[&["nsenter", "--net", "--target", pid, "--", "ip"], words].concat());
            };
            inside(&["link", "set", "lo", "up"]);
            inside(&["link", "set", "e0", "up"]);
            for address in possible(addresses) {
                let mut words = vec!["addr", "add", address, "dev", "e0"];
                words.extend(address.contains(':').then_some("nodad"));
                inside(&words);
            }
        }
        begin(&mut host);
        begin(&mut world);
        Self { host, world }
    }

    /// The process in whose network namespace launchers are to run.
    pub fn host(&self) -> u32 {
        self.host.id()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in [&mut self.host, &mut self.world] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A process in a new network namespace, which serves when it is told to begin.
fn namespace(which: &str) -> Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/world.py");
    let addresses = if which == "world" { WORLD } else { HOST };
    let mut addresses: Vec<&str> =
        possible(addresses).filter_map(|it| it.split('/').next()).collect();
    if which == "host" {
        addresses.push("127.0.0.1");
    }
    Command::new("unshare")
        .args([
            "--net",
            "sh",
            "-c",
            "echo in; read begin; exec /usr/bin/python3 \"$@\"",
            "sh",
            script,
        ])
        .args(addresses)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare runs")
}

fn begin(child: &mut Child) {
    use std::io::Write;
    child.stdin.as_mut().expect("a pipe").write_all(b"\n").expect("written");
    wait_for(child, "ready");
}

fn wait_for(child: &mut Child, line: &str) {
    let mut text = String::new();
    let stdout = child.stdout.as_mut().expect("a pipe");
    // One line at a time is written, and nothing after it until we go on.
    BufReader::with_capacity(1, stdout).read_line(&mut text).expect("read");
    assert_eq!(text.trim(), line);
}

fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {error}");
}
