//! A launcher on the world's host, and one attempt after the other in containers that it starts.

use crate::attempts;
use crate::support::DEADLINE;
use crate::table::{Attempt, Judge, Shape};
use crate::world::World;
use rustix::process::{Pid, Signal, kill_process};
use spawnery_model::{
    Bytes, CpuMillis, DurationMs, Egress, Exit, File, Id, InstanceId, LimitReached, Name, Network,
    Process, RuntimeKind, StartOrder, Stop,
};
use spawnery_runtime::{
    Event, Events, Launcher, MountSpec, Prepared, ProcessRuntime, RootSpec, Runtime, Runtimes,
    SecretFile, UserSpec,
};
use spawnery_sandbox::client::Client;
use spawnery_sandbox::launcher::SOCKET_NAME;
use spawnery_sandbox::limits::{HOST_ID_BASE, LAST_OUTPUT_BYTES_MAX, LOG_BYTES_MAX_DEFAULT};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TRANSFER_BYTES_MAX: u64 = 1_000_000;
/// By which the kernel ends what its filter does not let live; the engine tells it as a code.
const SIGSYS: i32 = 31;

/// Those of the world's host that launcher and engine share. Not that of processes, because the
/// test must see them, and so not that of mounts, where `/proc` is the world's: what of the world's
/// files is to be read is on a disk that both see.
pub const NAMESPACES: &[&str] = &["--uts", "--ipc", "--net"];

/// How an attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Held,
    Through(String),
    /// It could not even be made.
    Broken(String),
}

pub struct Trial<'a> {
    world: &'a World,
    kind: RuntimeKind,
    layer: TempDir,
    runtime: ProcessRuntime,
    events: Events,
    count: u128,
    /// After the runtime, which would start another launcher.
    data: Data,
}

/// A data folder whose launcher ends with it, and everything that it started.
struct Data(TempDir);

impl Data {
    fn path(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn launcher(&self) -> Option<Pid> {
        let pid = Client::connect(&self.path()).ok()?.launcher_pid();
        i32::try_from(pid).ok().and_then(Pid::from_raw)
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let Some(launcher) = self.launcher() else {
            return;
        };
        let _ = kill_process(launcher, Signal::TERM);
        let until = Instant::now() + DEADLINE;
        while self.launcher().is_some() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl<'a> Trial<'a> {
    pub async fn new(world: &'a World, kind: RuntimeKind, runtimes: Runtimes) -> Trial<'a> {
        let (data, layer) = (world.folder_beside(), world.folder_beside());
        hostile_layer(layer.path(), world);
        let (program, data) = (program(world, data.path()), Data(data));
        let launcher = Launcher { data: data.path(), program, runtimes };
        let (runtime, events) = ProcessRuntime::connect(launcher).await.expect("a launcher");
        Trial { world, kind, layer, runtime, events, count: 0, data }
    }

    pub fn kind(&self) -> RuntimeKind {
        self.kind
    }

    /// Makes one attempt, and looks at the host afterwards.
    pub async fn make(&mut self, attempt: &Attempt) -> Verdict {
        let before = content(self.layer.path());
        let neighbour = match attempt.shape {
            Shape::Neighbour => match self.start_neighbour().await {
                Ok(neighbour) => Some(neighbour),
                Err(error) => return Verdict::Broken(error),
            },
            _ => None,
        };
        let command = attempts::command(attempt.name, &self.aims());
        let (mut order, prepared) = (self.order(&command), self.prepared(attempt));
        if attempt.shape == Shape::PrivateNetwork {
            order.process.network = Network::Private;
            let surroundings = order.surroundings.get_or_insert_default();
            let transfer_max = Some(Bytes(TRANSFER_BYTES_MAX));
            surroundings.egress = Egress { transfer_max, ..Egress::default() };
        }
        let verdict = match self.start(&order, prepared).await {
            Ok(instance) => self.judge(attempt.judge, instance).await,
            Err(error) => Verdict::Broken(error),
        };
        if let Some(instance) = neighbour {
            self.stop(instance).await;
        }
        if verdict != Verdict::Held {
            return verdict;
        }
        let mut found = self.world.changes();
        found.extend(self.leftovers());
        if content(self.layer.path()) != before {
            found.push("the layers have changed".to_owned());
        }
        if found.is_empty() { Verdict::Held } else { Verdict::Through(found.join("; ")) }
    }

    pub async fn start(
        &mut self,
        order: &StartOrder,
        prepared: Prepared,
    ) -> Result<InstanceId, String> {
        self.count += 1;
        let instance = InstanceId(Id::from_bits(self.count));
        let started = self.runtime.start(instance, order, prepared).await;
        started.map(|_| instance).map_err(|error| format!("it does not start: {error}"))
    }

    async fn start_neighbour(&mut self) -> Result<InstanceId, String> {
        let script = "echo mine > /tmp/mine; echo mine > /dev/shm/mine; echo mine > /work/mine; \
            exec sleep 600";
        let mut prepared = Prepared { secret_files: vec![secret()], ..Prepared::default() };
        if self.kind == RuntimeKind::Oci {
            prepared.secret_env = vec![("TOKEN".into(), "of-another".into())];
        }
        self.start(&self.order(&["/bin/sh", "-c", script]), prepared).await
    }

    async fn stop(&mut self, instance: InstanceId) {
        let stop = Stop { signal: 9, grace: DurationMs(0) };
        if self.runtime.stop(instance, stop).await.is_ok() {
            self.end_of(instance, DEADLINE).await;
        }
    }

    pub async fn end_of(&mut self, instance: InstanceId, within: Duration) -> Option<Exit> {
        let ended = async {
            loop {
                match self.events.recv().await? {
                    Event::Ended { instance: ended, exit } if ended == instance => {
                        return Some(exit);
                    }
                    _ => {}
                }
            }
        };
        tokio::time::timeout(within, ended).await.ok()?
    }

    async fn judge(&mut self, judge: Judge, instance: InstanceId) -> Verdict {
        if judge == Judge::Stop {
            return self.judge_stop(instance).await;
        }
        let Some(exit) = self.end_of(instance, DEADLINE).await else {
            self.stop(instance).await;
            return Verdict::Broken("it does not end".to_owned());
        };
        let (output, bytes) = self.output(instance);
        match judge {
            Judge::Memory if exit.out_of_memory => Verdict::Held,
            Judge::Transfer if exit.limit == Some(LimitReached::Transfer) => Verdict::Held,
            Judge::Flood if bytes <= LOG_BYTES_MAX_DEFAULT => {
                let is_short = exit.last_output.len() <= LAST_OUTPUT_BYTES_MAX;
                if is_short && exit.code == Some(0) {
                    Verdict::Held
                } else {
                    Verdict::Broken(format!("{exit:?}"))
                }
            }
            Judge::Flood => Verdict::Through(format!("{bytes} bytes of log")),
            // The filter of a container ends it for a system call of another architecture.
            _ if exit.signal == Some(SIGSYS) || exit.code == Some(128 + SIGSYS) => Verdict::Held,
            _ => by_word(&output, &exit),
        }
    }

    /// It ignores the signal, and must end nevertheless.
    async fn judge_stop(&mut self, instance: InstanceId) -> Verdict {
        let until = Instant::now() + DEADLINE;
        while !self.output(instance).0.contains("ignoring") {
            if Instant::now() > until {
                return Verdict::Broken("it never begins".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let stop = Stop { signal: 15, grace: DurationMs(50) };
        if let Err(error) = self.runtime.stop(instance, stop).await {
            return Verdict::Broken(error.to_string());
        }
        match self.end_of(instance, DEADLINE).await {
            Some(exit) if exit.signal == Some(9) => Verdict::Held,
            Some(exit) => Verdict::Broken(format!("it ends by itself: {exit:?}")),
            None => Verdict::Through("it lives on after its grace".to_owned()),
        }
    }

    /// All output that is kept, and how much it is.
    pub fn output(&self, instance: InstanceId) -> (String, u64) {
        let Ok(log) = self.runtime.log(instance, 0) else {
            return Default::default();
        };
        let page = log.files.read_from(1, usize::MAX).expect("a log");
        let bytes: Vec<u8> = page.records.into_iter().flat_map(|it| it.bytes).collect();
        (String::from_utf8_lossy(&bytes).into_owned(), bytes.len() as u64)
    }

    /// What runs on of an attempt in this world.
    fn leftovers(&self) -> Vec<String> {
        let world = self.world.canary().to_string_lossy().into_owned();
        let is_ours = |line: &String| line.contains(attempts::PROGRAM) && line.contains(&world);
        let until = Instant::now() + DEADLINE;
        loop {
            let processes = fs::read_dir("/proc").expect("listed").flatten();
            let lines = processes.filter_map(|it| fs::read(it.path().join("cmdline")).ok());
            let lines = lines.map(|it| String::from_utf8_lossy(&it).replace('\0', " "));
            let left: Vec<String> = lines.filter(is_ours).collect();
            if left.is_empty() || Instant::now() > until {
                return left;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn order<S: AsRef<str>>(&self, run: &[S]) -> StartOrder {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            mode: 0o644,
            content: text.as_bytes().to_vec(),
        };
        let mut order = StartOrder {
            workload: Name::new("inside").expect("a name"),
            epoch: 1,
            process: Process {
                run: run.iter().map(|word| word.as_ref().to_owned()).collect(),
                env: BTreeMap::new(),
                memory: Bytes::mib(96),
                cpu_reserved: CpuMillis(100),
                cpu_max: None,
                disk_max: None,
                pids_max: 20,
                ports: Vec::new(),
                working_directory: None,
                network: Network::None,
                files: attempts::FILES.iter().map(file).collect(),
                stdin: None,
                ready: None,
            },
            stop: Stop { signal: 15, grace: DurationMs(10_000) },
            surroundings: None,
            session: None,
        };
        order.surroundings.get_or_insert_default().runtime = self.kind;
        order
    }

    fn prepared(&self, attempt: &Attempt) -> Prepared {
        let mut prepared = Prepared::default();
        if attempt.is_root {
            let layers = vec![self.layer.path().to_string_lossy().into_owned()];
            prepared.root = Some(RootSpec { layers, host: true });
            prepared.user = Some(UserSpec { uid: 0, gid: 0, groups: Vec::new() });
        }
        let mount = |name: &str, target: &str, read_only| MountSpec {
            source: self.world.folder().join(name).to_string_lossy().into_owned(),
            target: target.to_owned(),
            read_only,
        };
        match attempt.shape {
            Shape::Volumes => {
                prepared.mounts =
                    vec![mount("volume", "/vol", false), mount("frozen", "/frozen", true)];
            }
            Shape::Secrets => prepared.secret_files = vec![secret()],
            _ => {}
        }
        prepared
    }

    /// What attempts aim at, as JSON.
    fn aims(&self) -> String {
        let names = ["mnt", "pid", "ipc", "uts", "net", "cgroup", "user"];
        let link = |name: &str| fs::read_link(format!("/proc/{}/ns/{name}", self.world.host()));
        let links = names.map(|name| (name, link(name).expect("read")));
        serde_json::json!({
            "canary": self.world.canary(),
            "folder": self.world.folder(),
            "socket": self.data.path().join(SOCKET_NAME),
            "launcher": env!("CARGO_BIN_EXE_runtime-test-launcher"),
            "usr_is_private": self.kind == RuntimeKind::Oci,
            "namespaces": BTreeMap::from(links),
        })
        .to_string()
    }
}

fn secret() -> SecretFile {
    SecretFile { name: "token".to_owned(), bytes: b"of-another".to_vec() }
}

fn by_word(output: &str, exit: &Exit) -> Verdict {
    let last = output.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
    match last.split_once("through") {
        Some(("", what)) => Verdict::Through(what.trim_start_matches([':', ' ']).to_owned()),
        _ if last.starts_with("held") && exit.code == Some(0) => Verdict::Held,
        _ => Verdict::Broken(format!("{exit:?}: {output}")),
    }
}

/// A program that is a launcher on the world's host, and a stand-in wherever it is run.
fn program(world: &World, folder: &Path) -> PathBuf {
    let path = folder.join("program");
    let quote = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    let enter = world.enter_with(NAMESPACES);
    let enter: Vec<String> = enter.iter().map(|word| quote(word)).collect();
    let launcher = quote(env!("CARGO_BIN_EXE_runtime-test-launcher"));
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\nlauncher) exec {} {launcher} \"$@\" ;;\n*) exec {launcher} \"$@\" ;;\nesac\n",
        enter.join(" ")
    );
    fs::write(&path, script).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    path
}

/// A layer with files to change, and links that lead out.
fn hostile_layer(layer: &Path, world: &World) {
    fs::set_permissions(layer, fs::Permissions::from_mode(0o755)).expect("set");
    let root = layer.join("root");
    fs::create_dir_all(root.join("shared/folder")).expect("made");
    for name in ["file", "gone", "folder/in-it"] {
        fs::write(root.join("shared").join(name), "shared\n").expect("written");
    }
    symlink(world.folder(), root.join("hole")).expect("linked");
    symlink(world.canary(), root.join("hole-file")).expect("linked");
    symlink(world.canary(), root.join("link")).expect("linked");
    own(layer);
}

fn own(path: &Path) {
    lchown(path, Some(HOST_ID_BASE), Some(HOST_ID_BASE)).expect("given");
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let kind = entry.file_type().expect("a kind");
        lchown(entry.path(), Some(HOST_ID_BASE), Some(HOST_ID_BASE)).expect("given");
        if kind.is_dir() {
            own(&entry.path());
        }
    }
}

/// All that is below a folder.
fn content(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(dir).expect("listed").flatten() {
        let (path, metadata) = (entry.path(), entry.metadata().expect("looked at"));
        let text =
            if metadata.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        lines.push(format!("{} {:?} {text:?}", path.display(), metadata.permissions()));
        if metadata.is_dir() {
            lines.extend(content(&path));
        }
    }
    lines.sort_unstable();
    lines
}
