//! A launcher in the world, and one attempt after the other in sandboxes that it starts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use spawnery_sandbox::client::Client;
use spawnery_sandbox::launcher::{Config, SOCKET_NAME, log_dir};
use spawnery_sandbox::limits::{LAST_OUTPUT_BYTES_MAX, LOG_BYTES_MIN, LOG_RECORD_BYTES_MAX};
use spawnery_sandbox::log::LogReader;
use spawnery_sandbox::protections::Protection;
use spawnery_sandbox::protocol::{Event, Reply, Request};
use spawnery_sandbox::spec::{
    EgressSpec, Exit, FileSpec, LimitReached, MountSpec, Network, SandboxSpec, SecretFile, UserSpec,
};

use crate::attempts;
use crate::support::layers::{Layers, over_host, put};
use crate::support::{As, DEADLINE, PLAIN_USER, connect, program_for_others};
use crate::table::{Attempt, Judge, Shape};
use crate::world::World;

const LOG_BYTES_MAX: u64 = 1 << 20;
const DISK_BYTES_MAX: u64 = 16 << 20;
const TRANSFER_BYTES_MAX: u64 = 1_000_000;

/// How an attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Held,
    Through(String),
    /// It could not even be made.
    Broken(String),
}

/// A data folder that several launchers use, one after the other: most of their start is to fill it.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new(world: &World, whose: As) -> Self {
        let dir = world.folder_beside();
        if whose == As::PlainUser {
            chown(dir.path(), Some(PLAIN_USER), Some(PLAIN_USER)).expect("given");
        }
        Self(dir)
    }
}

/// A launcher in the world.
pub struct Trial<'a> {
    world: &'a World,
    whose: As,
    /// With the socket by which the test reaches the launcher.
    _near: tempfile::TempDir,
    data: PathBuf,
    layers: Layers,
    layer: String,
    client: Client,
    child: Child,
    exits: BTreeMap<String, Exit>,
    /// How long something may take that must happen: short if it is expected not to.
    patience: Duration,
}

impl<'a> Trial<'a> {
    pub fn new(home: &Home, world: &'a World, whose: As, without: &[Protection]) -> Self {
        let near = world.folder_beside();
        let data = home.0.path().to_owned();
        let child = run_launcher(world, whose, &data, without);
        world.forward(&near.path().join(SOCKET_NAME), &data.join(SOCKET_NAME));
        let client = connect(near.path());
        let layers = Layers::in_folder(world.folder_beside(), whose);
        let layer = hostile_layer(&layers, world);
        let patience = if without.is_empty() { DEADLINE } else { Duration::from_secs(2) };
        let exits = BTreeMap::new();
        Self { world, whose, _near: near, data, layers, layer, client, child, exits, patience }
    }

    /// Makes one attempt, and looks at the host afterwards.
    pub fn make(&mut self, attempt: &Attempt) -> Verdict {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let instance = format!("a{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let layer_before = content(self.layers.path());
        let neighbour = attempt.shape == Shape::Neighbour;
        if neighbour && let Err(error) = self.start("neighbour", self.neighbour()) {
            return Verdict::Broken(error);
        }
        let verdict = match self.start(&instance, self.spec(attempt)) {
            Ok(()) => self.judge(attempt.judge, &instance),
            Err(error) => Verdict::Broken(error),
        };
        self.end(&instance);
        if neighbour {
            self.end("neighbour");
        }
        if verdict != Verdict::Held {
            return verdict;
        }
        let mut found = self.world.changes();
        found.extend(self.world.leftovers(self.patience));
        if content(self.layers.path()) != layer_before {
            found.push("the layers have changed".to_owned());
        }
        if found.is_empty() { Verdict::Held } else { Verdict::Through(found.join("; ")) }
    }

    fn start(&mut self, instance: &str, spec: SandboxSpec) -> Result<(), String> {
        let request = Request::Start { instance: instance.to_owned(), spec: Box::new(spec) };
        match self.client.request(request) {
            Ok(Reply::Started { .. }) => Ok(()),
            other => Err(format!("it does not start: {other:?}; {}", self.launcher_log())),
        }
    }

    fn end(&mut self, instance: &str) {
        let instance = instance.to_owned();
        let stop = Request::Stop { instance: instance.clone(), signal: 9, grace_ms: 0 };
        let _ = self.client.request(stop);
        let _ = self.exit_of(&instance, DEADLINE);
        self.exits.remove(&instance);
        let _ = self.client.request(Request::Forget { instance });
    }

    fn judge(&mut self, judge: Judge, instance: &str) -> Verdict {
        match judge {
            Judge::Stop => return self.judge_stop(instance),
            Judge::CpuQuota => return self.judge_quota(),
            _ => {}
        }
        let Some(exit) = self.exit_of(instance, DEADLINE) else {
            return Verdict::Broken("it does not end".to_owned());
        };
        let output = self.output(instance);
        match judge {
            Judge::Memory if exit.oom => Verdict::Held,
            Judge::Disk if exit.limit == Some(LimitReached::Disk) => Verdict::Held,
            Judge::Transfer if exit.limit == Some(LimitReached::Transfer) => Verdict::Held,
            Judge::Flood => self.judge_flood(instance, &exit),
            _ => by_word(&output, &exit),
        }
    }

    /// It ignores the signal, and must end nevertheless.
    fn judge_stop(&mut self, instance: &str) -> Verdict {
        let until = Instant::now() + DEADLINE;
        while !self.output(instance).contains("ignoring") {
            if Instant::now() > until {
                return Verdict::Broken("it never begins".to_owned());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let name = instance.to_owned();
        let _ = self.client.request(Request::Stop { instance: name, signal: 15, grace_ms: 50 });
        match self.exit_of(instance, self.patience) {
            Some(exit) if exit.signal == Some(9) => Verdict::Held,
            Some(exit) => Verdict::Broken(format!("it ends by itself: {exit:?}")),
            None => Verdict::Through("it lives on after its grace".to_owned()),
        }
    }

    /// The quota is there for as long as it runs.
    fn judge_quota(&self) -> Verdict {
        let list = fs::read_to_string(self.data.join("cgroups")).unwrap_or_default();
        let groups = list.lines().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
        let files =
            groups.flat_map(|it| ["cpu.cfs_quota_us", "cpu.max"].map(|f| it.path().join(f)));
        let quotas: Vec<String> = files.filter_map(|it| fs::read_to_string(it).ok()).collect();
        let is_limited = |it: &String| matches!(it.trim(), "50000" | "50000 100000");
        if quotas.iter().any(is_limited) {
            Verdict::Held
        } else {
            Verdict::Through(format!("the quotas are {quotas:?}"))
        }
    }

    /// Nothing of what it wrote may take more room than it was given.
    fn judge_flood(&self, instance: &str, exit: &Exit) -> Verdict {
        if exit.code != Some(0) {
            return Verdict::Broken(format!("{exit:?}"));
        }
        let dir = log_dir(&self.data, instance, 0);
        let files = fs::read_dir(dir).expect("a log").flatten();
        let bytes: u64 = files.filter_map(|it| it.metadata().ok()).map(|it| it.len()).sum();
        let page = self.reader(instance).read_from(1, usize::MAX).expect("read");
        let largest = page.records.iter().map(|it| it.bytes.len()).max().unwrap_or(0);
        let all_are_small = bytes <= LOG_BYTES_MAX.max(LOG_BYTES_MIN)
            && largest <= LOG_RECORD_BYTES_MAX
            && exit.last_output.len() <= LAST_OUTPUT_BYTES_MAX;
        if all_are_small {
            Verdict::Held
        } else {
            Verdict::Through(format!("{bytes} bytes of log, {largest} in one record"))
        }
    }

    fn exit_of(&mut self, instance: &str, within: Duration) -> Option<Exit> {
        let until = Instant::now() + within;
        loop {
            if let Some(exit) = self.exits.get(instance) {
                return Some(exit.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.client.next_event(left) {
                Ok(Event::Exited { instance, process: 0, exit }) => {
                    self.exits.insert(instance, exit);
                }
                Ok(_) => {}
                Err(_) if Instant::now() >= until => return None,
                Err(_) => {}
            }
        }
    }

    fn reader(&self, instance: &str) -> LogReader {
        LogReader::open(log_dir(&self.data, instance, 0)).expect("a log")
    }

    fn output(&self, instance: &str) -> String {
        let page = self.reader(instance).read_from(1, usize::MAX).expect("read");
        let bytes: Vec<u8> = page.records.into_iter().flat_map(|it| it.bytes).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn launcher_log(&self) -> String {
        fs::read_to_string(self.data.join("test.log")).unwrap_or_default()
    }

    fn spec(&self, attempt: &Attempt) -> SandboxSpec {
        let aims = self.aims();
        let mut spec = SandboxSpec::new(attempts::command(attempt.name, &aims));
        let file = |(path, text): &(&str, &str)| FileSpec {
            path: (*path).to_owned(),
            mode: 0o644,
            bytes: text.as_bytes().to_vec(),
        };
        spec.files = attempts::FILES.iter().map(file).collect();
        spec.hostname = "inside".into();
        spec.memory_bytes = Some(96 << 20);
        spec.pids_max = Some(20);
        spec.cpu_millis_max = (attempt.judge == Judge::CpuQuota).then_some(500);
        spec.tmp_bytes_max = 8 << 20;
        spec.log_bytes_max = LOG_BYTES_MAX;
        if attempt.is_root {
            spec.root = over_host(&[&self.layer]);
            spec.user = Some(UserSpec { uid: 0, gid: 0, groups: Vec::new() });
        }
        let folder = |name: &str| self.world.folder().join(name).to_string_lossy().into_owned();
        match attempt.shape {
            Shape::Plain | Shape::Neighbour => {}
            Shape::Volumes => {
                let mount = |name: &str, target: &str, read_only| MountSpec {
                    source: folder(name),
                    target: target.into(),
                    read_only,
                };
                spec.mounts =
                    Some(vec![mount("volume", "/vol", false), mount("frozen", "/frozen", true)]);
            }
            Shape::Layers => {
                let file = |path: &str| FileSpec {
                    path: path.into(),
                    mode: 0o666,
                    bytes: b"escape was here".to_vec(),
                };
                // Through links that lead nowhere inside: made inside, or refused.
                spec.files.extend([file("/hole-file"), file("/up/was-here")]);
            }
            Shape::PrivateNetwork => {
                spec.network = Network::Private;
                let transfer_bytes_max = Some(TRANSFER_BYTES_MAX);
                spec.egress = Some(EgressSpec { transfer_bytes_max, ..EgressSpec::default() });
            }
            Shape::Disk => spec.disk_bytes_max = Some(DISK_BYTES_MAX),
            Shape::Secrets => spec.secret_files = Some(vec![secret()]),
        }
        spec
    }

    /// An instance with something that others want.
    fn neighbour(&self) -> SandboxSpec {
        let script = "echo mine > /tmp/mine; echo mine > /dev/shm/mine; echo mine > /work/mine; \
            exec sleep 600";
        let mut spec = SandboxSpec::new(["/bin/sh", "-c", script]);
        spec.secret_files = Some(vec![secret()]);
        spec.secret_env = Some(vec![("TOKEN".into(), "of-another".into())]);
        spec
    }

    /// What attempts aim at, as JSON.
    fn aims(&self) -> String {
        let text = |path: &Path| format!("{:?}", path.to_string_lossy());
        let names = ["mnt", "pid", "ipc", "uts", "net", "cgroup", "user"];
        let links = names.map(|name| {
            let link = fs::read_link(format!("/proc/{}/ns/{name}", self.world.host()));
            format!("{name:?}: {}", text(&link.expect("read")))
        });
        format!(
            r#"{{"canary": {}, "folder": {}, "socket": {}, "launcher": {}, "usr_is_private": {}, "namespaces": {{{}}}}}"#,
            text(&self.world.canary()),
            text(self.world.folder()),
            text(&self.data.join(SOCKET_NAME)),
            text(&program_for_others()),
            self.whose == As::Us,
            links.join(", ")
        )
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        let _ = self.client.request(Request::Shutdown { stop_all: true });
        let until = Instant::now() + DEADLINE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn secret() -> SecretFile {
    SecretFile { name: "token".into(), bytes: b"of-another".to_vec() }
}

fn by_word(output: &str, exit: &Exit) -> Verdict {
    let last = output.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
    match last.split_once("through") {
        Some(("", what)) => Verdict::Through(what.trim_start_matches([':', ' ']).to_owned()),
        _ if last.starts_with("held") && exit.code == Some(0) => Verdict::Held,
        _ => Verdict::Broken(format!("{exit:?}: {output}")),
    }
}

/// A launcher on the world's host, with everything that a careless caller could leave to it.
fn run_launcher(world: &World, whose: As, data: &Path, without: &[Protection]) -> Child {
    let mut words: Vec<OsString> = world.enter().into_iter().map(Into::into).collect();
    words.push("/usr/bin/setpriv".into());
    if whose == As::PlainUser {
        let id = PLAIN_USER.to_string();
        words.extend(["--reuid", &id, "--regid", &id, "--clear-groups"].map(Into::into));
    } else {
        words.push("--clear-groups".into());
    }
    words.push(program_for_others().into());
    words.extend(Config { spares: 1, ..Config::new(data) }.arguments());
    words.extend(["--leave-open".into(), world.folder().join("open").into()]);
    for protection in without {
        words.extend(["--without".into(), protection.name().into()]);
    }
    let log = fs::File::create(data.join("test.log")).expect("a log file");
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("SPAWNERY_ESCAPE", "canary");
    command.stdin(fs::File::open(world.canary()).expect("opened"));
    command.stdout(Stdio::null()).stderr(log);
    command.spawn().expect("the launcher runs")
}

/// A layer with files to change, and links that lead out.
fn hostile_layer(layers: &Layers, world: &World) -> String {
    layers.add("hostile", |layer| {
        for name in ["file", "gone", "folder/in-it"] {
            put(layer, &format!("root/shared/{name}"), "shared\n");
        }
        let root = layer.join("root");
        symlink(world.folder(), root.join("hole")).expect("linked");
        symlink(world.canary(), root.join("hole-file")).expect("linked");
        symlink(world.canary(), root.join("link")).expect("linked");
        symlink("../".repeat(30), root.join("up")).expect("linked");
        symlink(world.folder(), root.join("tmp")).expect("linked");
        symlink(world.folder(), root.join("proc")).expect("linked");
        symlink(world.folder(), root.join("dev")).expect("linked");
    })
}

/// All that is below a folder.
fn content(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(dir).expect("listed").flatten() {
        let path = entry.path();
        let text = if path.is_file() && !path.is_symlink() {
            fs::read_to_string(&path).unwrap_or_default()
        } else {
            String::new()
        };
        lines.push(format!(
            "{} {:?} {text}",
            path.display(),
            entry.metadata().map(|it| it.permissions())
        ));
        if path.is_dir() && !path.is_symlink() {
            lines.extend(content(&path));
        }
    }
    lines.sort_unstable();
    lines
}
