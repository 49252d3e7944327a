//! What the tests share: a launcher of their own and short ways to ask it.
#![allow(dead_code)] // Each test program uses a part.

pub mod layers;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use spawnery_sandbox::client::Client;
use spawnery_sandbox::launcher::{Config, log_dir};
use spawnery_sandbox::log::LogReader;
use spawnery_sandbox::protocol::{Event, InstanceState, Reply, Request};
use spawnery_sandbox::spec::{Exit, SandboxSpec};

/// Generous: a busy machine must not fail a test.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The user that tests run a launcher as, when they themselves run as root.
pub const PLAIN_USER: u32 = 61_234;

/// Whose launcher it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    Us,
    PlainUser,
}

/// A launcher and a connection to it.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub client: Client,
    pub child: Child,
    whose: As,
    config: Config,
    /// The process in whose network namespace the launcher runs, if it is not ours.
    network_of: Option<u32>,
    exits: BTreeMap<(String, u32), Exit>,
}

impl Bench {
    pub fn new() -> Self {
        Self::start(As::Us)
    }

    pub fn start(whose: As) -> Self {
        Self::start_with(whose, None, |_| ())
    }

    /// With another configuration, in the network namespace of another process.
    pub fn start_with(
        whose: As,
        network_of: Option<u32>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self::start_at(dir, whose, network_of, change)
    }

    /// With its data in a folder of its own in `place`.
    pub fn start_in(place: &Path, whose: As) -> Self {
        let dir = tempfile::tempdir_in(place).expect("a temporary folder");
        Self::start_at(dir, whose, None, |_| ())
    }

    fn start_at(
        dir: tempfile::TempDir,
        whose: As,
        network_of: Option<u32>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        open_to_others(dir.path());
        if whose == As::PlainUser {
            std::os::unix::fs::chown(dir.path(), Some(PLAIN_USER), Some(PLAIN_USER))
                .expect("given to the plain user");
        }
        let mut config = Config::new(dir.path());
        change(&mut config);
        let child = run_launcher_with(&config, whose, network_of);
        let client = connect(dir.path());
        Self { dir, client, child, whose, config, network_of, exits: BTreeMap::new() }
    }

    /// Ends the launcher at once, as a crash does, and starts another.
    pub fn crash_and_restart(&mut self) {
        self.kill_launcher();
        self.restart();
    }

    pub fn kill_launcher(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }

    pub fn restart(&mut self) {
        self.child = run_launcher_with(&self.config, self.whose, self.network_of);
        self.client = connect(self.dir.path());
    }

    pub fn reconnect(&mut self) {
        self.client = connect(self.dir.path());
    }

    pub fn ask(&mut self, request: Request) -> Reply {
        self.client.request(request).expect("an answer")
    }

    pub fn start_spec(&mut self, instance: &str, spec: SandboxSpec) -> (u32, u32) {
        match self.ask(Request::Start { instance: instance.into(), spec: Box::new(spec) }) {
            Reply::Started { init_pid, pid } => (init_pid, pid),
            other => panic!("{instance} did not start: {other:?}"),
        }
    }

    /// Waits for the end of a process.
    pub fn exit_of(&mut self, instance: &str, process: u32) -> Exit {
        let key = (instance.to_owned(), process);
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(exit) = self.exits.remove(&key) {
                return exit;
            }
            assert!(Instant::now() < until, "{instance}/{process} does not end");
            if let Ok(Event::Exited { instance, process, exit }) =
                self.client.next_event(Duration::from_secs(1))
            {
                self.exits.insert((instance, process), exit);
            }
        }
    }

    /// Runs an instance to its end: its exit and its output.
    pub fn run_spec(&mut self, instance: &str, spec: SandboxSpec) -> (Exit, String) {
        self.start_spec(instance, spec);
        let exit = self.exit_of(instance, 0);
        (exit, self.output(instance, 0))
    }

    /// Runs a shell script to its end.
    pub fn sh(&mut self, instance: &str, script: &str) -> (Exit, String) {
        self.run_spec(instance, SandboxSpec::new(["sh", "-c", script]))
    }

    pub fn reader(&self, instance: &str, process: u32) -> LogReader {
        LogReader::open(log_dir(self.dir.path(), instance, process)).expect("a log")
    }

    /// All output, both streams in their order.
    pub fn output(&self, instance: &str, process: u32) -> String {
        let page = self.reader(instance, process).read_from(1, usize::MAX).expect("read");
        let bytes: Vec<u8> = page.records.into_iter().flat_map(|record| record.bytes).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the output contains `text`.
    pub fn wait_for_output(&mut self, instance: &str, process: u32, text: &str) {
        let until = Instant::now() + DEADLINE;
        while !self.output(instance, process).contains(text) {
            assert!(Instant::now() < until, "{instance}/{process} never writes {text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn state(&mut self, instance: &str) -> Option<InstanceState> {
        match self.ask(Request::List) {
            Reply::Instances { instances } => {
                instances.into_iter().find(|it| it.instance == instance).map(|it| it.state)
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.client.request(Request::Shutdown { stop_all: true });
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A launcher as a direct child, so that the test can end and reap it.
pub fn run_launcher(data: &Path, whose: As) -> Child {
    run_launcher_with(&Config::new(data), whose, None)
}

fn run_launcher_with(config: &Config, whose: As, network_of: Option<u32>) -> Child {
    let data = &config.data;
    let program = env!("CARGO_BIN_EXE_sandbox-test-launcher");
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(data.join("test.log"))
        .expect("a log file");
    let mut words: Vec<OsString> = Vec::new();
    if let Some(pid) = network_of {
        words.extend(["nsenter", "--net", "--target", &pid.to_string(), "--"].map(Into::into));
    }
    if whose == As::PlainUser {
        let (uid, gid) = (format!("--reuid={PLAIN_USER}"), format!("--regid={PLAIN_USER}"));
        words.extend(["setpriv", &uid, &gid, "--clear-groups"].map(Into::into));
    }
    words.push(match whose {
        As::Us => program.into(),
        As::PlainUser => program_for_others().into(),
    });
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command.args(config.arguments());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("the launcher runs")
}

pub fn connect(data: &Path) -> Client {
    let until = Instant::now() + DEADLINE;
    loop {
        match Client::connect(data) {
            Ok(client) => return client,
            Err(error) if Instant::now() > until => {
                let log = std::fs::read_to_string(data.join("test.log")).unwrap_or_default();
                panic!("the launcher does not answer: {error}; {log}");
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whose launchers to test: ours, and, as root, also a plain user's.
pub fn everybody() -> Vec<As> {
    if is_root() { vec![As::Us, As::PlainUser] } else { vec![As::Us] }
}

/// Says why a test is not run on this machine.
pub fn skip(reason: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

pub fn process_exists(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
}

pub fn wait_until_gone(pid: u32) {
    let until = Instant::now() + DEADLINE;
    while process_exists(pid) {
        assert!(Instant::now() < until, "process {pid} does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The build folder may be closed to other users, hence a copy in a place that is not.
pub fn program_for_others() -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::OnceLock;
    static COPY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = COPY.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        open_to_others(dir.path());
        let path = dir.path().join("launcher");
        std::fs::copy(env!("CARGO_BIN_EXE_sandbox-test-launcher"), &path).expect("copied");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
        (dir, path)
    });
    path.clone()
}

pub fn open_to_others(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("set");
}
