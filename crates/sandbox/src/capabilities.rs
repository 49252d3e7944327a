//! What this machine can enforce, found out by trying.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::client::Client;
use crate::launcher::{Config, log_dir, spawn_detached};
use crate::log::LogReader;
use crate::protocol::{Description, Event, Reply, Request};
use crate::spec::{Exit, SandboxSpec};

/// One thing that a sandbox should enforce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is about, such as `seccomp filter`.
    pub name: &'static str,
    /// How far it goes here.
    pub status: Status,
    /// How it is done, or why it is not.
    pub detail: String,
    /// What to do for more.
    pub mend: Option<String>,
}

/// How far something is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Fully.
    Enforced,
    /// With a weakness that the detail names.
    Approximate,
    /// Not at all.
    Unavailable,
}

/// Time that each trial gets.
const TRIAL_WITHIN: Duration = Duration::from_secs(20);

/// Tries everything with sandboxes of the launcher that serves `data`, or, if there is none,
/// of a temporary one: `program` is run for that as by [`spawn_detached`], in a folder of its
/// own below `data`. Nothing is left behind. Takes well under a second.
pub fn probe(program: &Path, data: &Path) -> Vec<Check> {
    let temporary = match Client::connect(data) {
        Ok(_) => None,
        Err(_) => Some(data.join(format!("doctor-{}", now_nanos()))),
    };
    let used = temporary.clone().unwrap_or_else(|| data.to_owned());
    let checks = probe_launcher(program, &used);
    if let Some(dir) = temporary {
        if let Ok(mut client) = Client::connect(&dir) {
            let _ = client.request(Request::Shutdown { stop_all: true });
        }
        let _ = fs::remove_dir_all(dir);
    }
    checks
}

fn probe_launcher(program: &Path, data: &Path) -> Vec<Check> {
    let config = Config { spares: 0, ..Config::new(data) };
    if let Err(error) = spawn_detached(program, &config) {
        return vec![no_launcher(error.to_string())];
    }
    let mut client = match Client::connect(data) {
        Ok(client) => client,
        Err(error) => return vec![no_launcher(error.to_string())],
    };
    let description = match client.request(Request::Describe) {
        Ok(Reply::Description { description }) => description,
        Ok(other) => return vec![no_launcher(format!("it answers {other:?}"))],
        Err(error) => return vec![no_launcher(error.to_string())],
    };
    let mut trial = Trial { client, data: data.to_owned() };
    let inside = trial.look_inside();
    let mut checks = vec![user_namespaces(&inside)];
    if let Ok(inside) = &inside {
        checks.extend(namespaces(inside));
        checks.push(writable_layer(inside));
        checks.push(id_range(&description));
        checks.push(usr_view(&description));
        checks.extend(privileges(inside));
        checks.extend(limits(&description));
        checks.push(trial.out_of_memory());
    }
    checks.push(disk(&description));
    checks
}

fn check(name: &'static str, status: Status, detail: impl Into<String>) -> Check {
    Check { name, status, detail: detail.into(), mend: None }
}

impl Check {
    fn mend(mut self, mend: &str) -> Self {
        if self.status != Status::Enforced {
            self.mend = Some(mend.to_owned());
        }
        self
    }
}

fn no_launcher(reason: String) -> Check {
    check("launcher", Status::Unavailable, reason)
        .mend("make the data folder writable for this user, on a local disk")
}

/// What a process in a sandbox saw: lines of `name=value`.
type Inside = BTreeMap<String, String>;

/// The namespaces and restrictions as the workload sees them.
const LOOK: &str = "for n in mnt pid ipc uts net cgroup user; do \
    echo $n=$(readlink /proc/self/ns/$n); done; \
    while read -r name value rest; do case $name in \
    CapEff:|NoNewPrivs:|Seccomp:) echo $name=$value;; esac; done < /proc/self/status; \
    while read -r source place kind rest; do case $place in \
    /|/usr) echo mount$place=$kind;; esac; done < /proc/self/mounts";

struct Trial {
    client: Client,
    data: PathBuf,
}

impl Trial {
    fn look_inside(&mut self) -> Result<Inside, String> {
        let (_, output) = self.run(SandboxSpec::new(["sh", "-c", LOOK]))?;
        let pairs = output.lines().filter_map(|line| line.split_once('='));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Uses more memory than it may.
    fn out_of_memory(&mut self) -> Check {
        // Zeros without a line's end: tail keeps them all.
        let mut spec = SandboxSpec::new(["sh", "-c", "head -c 400000000 /dev/zero | tail -n 1"]);
        spec.memory_bytes = Some(48 << 20);
        let name = "out-of-memory detection";
        match self.run(spec) {
            Ok((exit, _)) if exit.oom => check(name, Status::Enforced, "recognized in a trial"),
            Ok((exit, _)) => {
                let (code, signal) = (exit.code, exit.signal);
                let detail = format!("a trial ended with code {code:?} and signal {signal:?}");
                check(name, Status::Unavailable, detail)
            }
            Err(reason) => check(name, Status::Unavailable, reason),
        }
    }

    /// Runs something to its end and forgets it.
    fn run(&mut self, spec: SandboxSpec) -> Result<(Exit, String), String> {
        let instance = format!("doctor-{}", now_nanos());
        let result = self.run_named(&instance, spec);
        let stop = Request::Stop { instance: instance.clone(), signal: 9, grace_ms: 0 };
        let _ = self.client.request(stop);
        let _ = self.client.request(Request::Forget { instance });
        result
    }

    fn run_named(&mut self, instance: &str, spec: SandboxSpec) -> Result<(Exit, String), String> {
        let start = Request::Start { instance: instance.to_owned(), spec: Box::new(spec) };
        match self.client.request(start).map_err(|error| error.to_string())? {
            Reply::Started { .. } => {}
            Reply::StartFailed { step, reason } => return Err(format!("{step}: {reason}")),
            other => return Err(format!("the launcher answers {other:?}")),
        }
        let until = Instant::now() + TRIAL_WITHIN;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.client.next_event(left).map_err(|error| error.to_string())? {
                Event::Exited { instance: ended, process: 0, exit } if ended == instance => {
                    let log = LogReader::open(log_dir(&self.data, instance, 0));
                    let page = log.and_then(|log| log.read_from(1, usize::MAX));
                    let page = page.map_err(|error| error.to_string())?;
                    let bytes: Vec<u8> = page.records.into_iter().flat_map(|it| it.bytes).collect();
                    return Ok((exit, String::from_utf8_lossy(&bytes).into_owned()));
                }
                _ => {}
            }
        }
    }
}

fn user_namespaces(inside: &Result<Inside, String>) -> Check {
    let name = "user namespaces";
    match inside {
        Ok(inside) => own_namespace(name, "user", inside),
        Err(reason) => check(name, Status::Unavailable, reason.clone()).mend(
            "allow them: sysctl user.max_user_namespaces above 0, and where they exist \
             kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0; \
             in a container, run it with --privileged; or run as root",
        ),
    }
}

fn namespaces(inside: &Inside) -> Vec<Check> {
    let table = [
        ("mount namespace", "mnt"),
        ("process namespace", "pid"),
        ("ipc namespace", "ipc"),
        ("host name namespace", "uts"),
        ("network namespace", "net"),
        ("cgroup namespace", "cgroup"),
    ];
    table.into_iter().map(|(name, file)| own_namespace(name, file, inside)).collect()
}

fn own_namespace(name: &'static str, file: &str, inside: &Inside) -> Check {
    let ours = fs::read_link(format!("/proc/self/ns/{file}")).unwrap_or_default();
    match inside.get(file) {
        Some(theirs) if !theirs.is_empty() && Path::new(theirs) != ours => {
            check(name, Status::Enforced, "of its own in a trial")
        }
        _ => check(name, Status::Unavailable, "shared with the host in a trial"),
    }
}

fn writable_layer(inside: &Inside) -> Check {
    let name = "private writable layer";
    match inside.get("mount/").map(String::as_str) {
        Some("overlay") => check(name, Status::Enforced, "an overlay on disk"),
        kind => {
            let detail = format!("kept in memory ({})", kind.unwrap_or("unknown"));
            check(name, Status::Approximate, detail)
                .mend("Linux 5.11 or later, and a data folder on ext4, xfs or btrfs")
        }
    }
}

fn id_range(description: &Description) -> Check {
    let name = "user ids of their own";
    if description.rootful {
        return check(name, Status::Enforced, "65,536 ids that nobody else on the host has");
    }
    check(name, Status::Approximate, "workloads run under this user's id, without its rights")
        .mend("run as root")
}

fn usr_view(description: &Description) -> Check {
    let name = "writable view of /usr";
    if description.usr_writable {
        return check(name, Status::Enforced, "an id-mapped clone under a private layer");
    }
    let reason = description.usr_reason.clone();
    let reason = reason.unwrap_or_else(|| "it needs root".to_owned());
    check(name, Status::Unavailable, format!("read-only: {reason}"))
        .mend("run as root on Linux 5.19 or later")
}

fn privileges(inside: &Inside) -> Vec<Check> {
    let table = [
        ("no capabilities", "CapEff:", "0000000000000000"),
        ("no new privileges", "NoNewPrivs:", "1"),
        ("seccomp filter", "Seccomp:", "2"),
    ];
    let judge = |(name, key, expected): (&'static str, &str, &str)| match inside.get(key) {
        Some(value) if value == expected => check(name, Status::Enforced, "as seen in a trial"),
        value => {
            let detail = format!("a trial saw {value:?} instead of {expected}");
            check(name, Status::Unavailable, detail)
        }
    };
    table.into_iter().map(judge).collect()
}

fn limits(description: &Description) -> Vec<Check> {
    const MEND: &str = "run as root, or as a systemd user service with Delegate=yes";
    let table = [
        (
            "memory limit",
            "memory",
            Status::Approximate,
            "watched ten times a second and killed when over it; files in /tmp are not counted",
        ),
        (
            "process limit",
            "pids",
            Status::Approximate,
            "RLIMIT_NPROC in the user namespace, which counts threads of this user there \
             (Linux 5.14 or later)",
        ),
        ("cpu limit", "cpu", Status::Unavailable, "there is no control group to limit it"),
    ];
    table
        .into_iter()
        .map(|(name, controller, otherwise, detail)| {
            if has_controller(description, controller) {
                let detail = format!("control group: {}", description.controllers.join(", "));
                check(name, Status::Enforced, detail)
            } else {
                check(name, otherwise, detail).mend(MEND)
            }
        })
        .collect()
}

fn has_controller(description: &Description, controller: &str) -> bool {
    description.controllers.iter().any(|it| it.split(' ').next() == Some(controller))
}

fn disk(description: &Description) -> Check {
    let detail = description.disk_limit.clone().unwrap_or_else(|| "an older launcher".to_owned());
    let held =
        if detail.starts_with("accounting") { Status::Approximate } else { Status::Enforced };
    check("disk limit", held, detail)
        .mend("run as root with loop devices and mkfs.ext4 (Debian package e2fsprogs)")
}

fn now_nanos() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}
