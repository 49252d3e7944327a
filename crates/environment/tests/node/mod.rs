//! What the tests of building share: a node with a launcher and a store of its own.
#![allow(dead_code)] // Each test program uses a part.

pub mod server;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use spawnery_environment::build::{
    BuildError, Builder, BuiltEnvironment, LauncherExecutor, Progress, Secrets, Settings,
};
use spawnery_environment::{Store, Tree};
use spawnery_model::{Base, Environment, EnvironmentFile, Local};
use spawnery_sandbox::client::Client;
use spawnery_sandbox::launcher::{Config, log_dir};
use spawnery_sandbox::log::LogReader;
use spawnery_sandbox::protocol::{Event, Reply, Request};
use spawnery_sandbox::spec::{Network, RootSpec, SandboxSpec};

/// Generous: a busy machine must not fail a test.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A node: a launcher, a store and a builder.
pub struct Node {
    pub dir: tempfile::TempDir,
    pub builder: Builder,
    pub heard: Arc<Heard>,
    child: Child,
}

/// All progress, as lines.
#[derive(Default)]
pub struct Heard(Mutex<(Vec<String>, Vec<u8>)>);

impl Heard {
    pub fn steps(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("not poisoned").0)
    }

    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("not poisoned").1).into_owned()
    }
}

impl Progress for Heard {
    fn step(&self, number: usize, of: usize, title: &str) {
        let text = format!("step {number} of {of}: {title}");
        self.0.lock().expect("not poisoned").0.push(text);
    }

    fn resolving(&self, what: &str) {
        self.0.lock().expect("not poisoned").0.push(format!("resolving {what}"));
    }

    fn output(&self, bytes: &[u8]) {
        self.0.lock().expect("not poisoned").1.extend_from_slice(bytes);
    }
}

impl Node {
    pub fn new() -> Node {
        Node::with(settings())
    }

    pub fn with(mut settings: Settings) -> Node {
        settings.uv = settings.uv.or_else(uv);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let data = dir.path().join("launcher");
        std::fs::create_dir(&data).expect("made");
        let child = run_launcher(&data);
        drop(connect(&data));
        let store = Store::open(&dir.path().join("store"), u64::MAX).expect("a store");
        let builder = Builder::new(store, Arc::new(LauncherExecutor::new(&data)), settings);
        Node { dir, builder, heard: Arc::default(), child }
    }

    pub fn store(&self) -> &Store {
        self.builder.store()
    }

    pub async fn build(&self, recipe: &Environment) -> Result<BuiltEnvironment, BuildError> {
        self.build_with(recipe, Secrets::default()).await
    }

    pub async fn build_with(
        &self,
        recipe: &Environment,
        secrets: Secrets,
    ) -> Result<BuiltEnvironment, BuildError> {
        let built = self.builder.build(recipe, secrets, self.heard.clone());
        tokio::time::timeout(DEADLINE * 4, built).await.expect("it ends in time")
    }

    /// Sends a file or folder, as a client does.
    pub fn send(&self, path: &Path) -> Local {
        let (tree, files) = Tree::read(path).expect("read");
        for file in files.values() {
            let mut file = std::fs::File::open(file).expect("opened");
            self.store().content().put(None, &mut file).expect("stored");
        }
        let digest = self.store().content().put_bytes(&tree.encode()).expect("stored");
        Local { path: path.to_string_lossy().into_owned(), tree: Some(digest) }
    }

    /// The output of a command in an environment, as an instance runs it.
    pub fn run(&self, built: &BuiltEnvironment, script: &str) -> String {
        let mut spec = SandboxSpec::new(["/bin/sh", "-c", script]);
        let layers = built.layers.iter().map(|it| it.to_string_lossy().into_owned()).collect();
        spec.root = Some(RootSpec { layers, host: built.host });
        spec.env.extend(built.config.env.iter().cloned());
        spec.working_directory = built.config.working_directory.clone();
        self.run_spec(spec)
    }

    pub fn run_spec(&self, spec: SandboxSpec) -> String {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let data = self.data();
        let mut client = connect(&data);
        let instance = format!("run-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let start = Request::Start { instance: instance.clone(), spec: Box::new(spec) };
        match client.request(start).expect("an answer") {
            Reply::Started { .. } => {}
            other => panic!("not started: {other:?}"),
        }
        let until = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < until, "it does not end");
            if let Ok(Event::Exited { instance: of, process: 0, .. }) =
                client.next_event(Duration::from_secs(1))
                && of == instance
            {
                break;
            }
        }
        let reader = LogReader::open(log_dir(&data, &instance, 0)).expect("a log");
        let page = reader.read_from(1, usize::MAX).expect("read");
        let bytes: Vec<u8> = page.records.into_iter().flat_map(|record| record.bytes).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("launcher")
    }

    /// What a failed or cancelled build must not leave.
    pub fn check_nothing_left(&self) {
        let building = self.store().folder().join("building");
        let until = Instant::now() + DEADLINE;
        let left = || std::fs::read_dir(&building).expect("listed").count();
        while left() > 0 || !self.instances().is_empty() {
            assert!(Instant::now() < until, "left: {} {:?}", left(), self.instances());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sandboxes of builds.
    pub fn instances(&self) -> Vec<String> {
        match connect(&self.data()).request(Request::List).expect("an answer") {
            Reply::Instances { instances } => instances
                .into_iter()
                .map(|it| it.instance)
                .filter(|it| it.starts_with("build-"))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    pub fn layers(&self) -> usize {
        self.store().layers().expect("listed").len()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(mut client) = Client::connect(&self.data()) {
            let _ = client.request(Request::Shutdown { stop_all: true });
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The `uv` that `cargo xtask test` has put into the build folder, if there is none on the `PATH`.
fn uv() -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    // Such as `target/debug/deps/python-0123`.
    let found = here.ancestors().nth(3)?.join("tools/uv/bin/uv");
    let paths = std::env::var_os("PATH")?;
    let on_path = std::env::split_paths(&paths).any(|folder| folder.join("uv").is_file());
    (!on_path && found.is_file()).then_some(found)
}

fn run_launcher(data: &Path) -> Child {
    let log = std::fs::File::create(data.join("test.log")).expect("a log file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_environment-test-launcher"));
    command.args(Config::new(data).arguments());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("the launcher runs")
}

fn connect(data: &Path) -> Client {
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

/// With the network of the host, where the servers of the tests are.
pub fn settings() -> Settings {
    Settings { network: Network::Host, ..Settings::default() }
}

/// A recipe over the view of the host.
pub fn recipe() -> Environment {
    Environment {
        name: None,
        base: Base::Host,
        apt: Vec::new(),
        python: None,
        source: None,
        files: Vec::new(),
        build: Vec::new(),
        build_network: false,
        lock: None,
    }
}

pub fn commands(commands: &[&str]) -> Environment {
    let build = commands.iter().map(|it| (*it).to_owned()).collect();
    Environment { build, ..recipe() }
}

pub fn file(from: Local, to: &str) -> EnvironmentFile {
    EnvironmentFile { from, to: to.to_owned(), directory: false }
}

/// The content digests of an environment's layers, the lowest first.
pub fn contents(node: &Node, built: &BuiltEnvironment) -> Vec<String> {
    let record = node.store().environment(&built.digest).expect("read").expect("there");
    let layers = node.store().layers_of(&record).expect("there");
    layers.into_iter().map(|layer| layer.record.content.to_string()).collect()
}
