//! Making a Python environment when everything is in uv's cache, beside uv alone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use spawnery_environment::Store;
use spawnery_environment::build::{Builder, LauncherExecutor, Secrets, Settings, Silent};
use spawnery_model::{Base, Environment, Python};
use spawnery_sandbox::client::Client;
use spawnery_sandbox::spec::Network;

use super::figure::Figure;
use super::options::Options;
use super::row::{Goal, Row};
use super::server::{self, Process};
use crate::{Failure, process, tools};

/// What is installed: a small application's worth, with what they need.
const PACKAGES: [&str; 4] = ["requests==2.32.3", "flask==3.0.3", "click==8.1.7", "rich==13.7.1"];

/// How often each is made.
const COUNT: usize = 15;

/// What is the goal, in seconds.
const GOAL_SECONDS: f64 = 1.0;

/// Measures the step of a Python environment, from the recipe with its lock to the layer in the
/// store, and `uv venv` with `uv pip install` of the same requirements, in turn.
pub fn measure(options: &Options) -> Result<Vec<Row>, Failure> {
    let programs = tools::install_uv()?;
    let uv = programs.map_or_else(|| PathBuf::from("uv"), |folder| folder.join("uv"));
    let mut launcher = Process::start(&server::binary(options)?, &["launcher"])?;
    launcher.wait_for("launcher", |it| Client::connect(&it.data()).ok())?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let ours = Ours::new(&launcher.data(), folder.path(), &uv)?;
    let recipe = runtime.block_on(ours.lock())?;
    let theirs = Theirs::new(folder.path(), &uv, &recipe)?;
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for number in 0..=COUNT {
        let our = runtime.block_on(ours.make(&recipe))?;
        let their = theirs.make()?;
        // The first fills the caches.
        if number > 0 {
            our_times.push(our);
            their_times.push(their);
        }
    }
    let ours = Figure::times(our_times);
    let goal = Goal::SecondsAtMost(GOAL_SECONDS);
    let row = Row::new("python environment, warm cache", ours, goal);
    Ok(vec![row.beside("uv venv + uv pip install", Figure::times(their_times))])
}

struct Ours {
    builder: Builder,
}

impl Ours {
    fn new(data: &Path, folder: &Path, uv: &Path) -> Result<Ours, Failure> {
        let store = Store::open(&folder.join("store"), u64::MAX);
        let store = store.map_err(|error| error.to_string())?;
        let uv = Some(uv.to_owned()).filter(|path| path.is_file());
        let settings = Settings { network: Network::Host, uv, ..Settings::default() };
        let executor = Arc::new(LauncherExecutor::new(data));
        Ok(Ours { builder: Builder::new(store, executor, settings) })
    }

    async fn lock(&self) -> Result<Environment, Failure> {
        let packages = PACKAGES.map(str::to_owned).to_vec();
        let python = Some(Python { packages, ..Python::default() });
        let mut recipe = Environment {
            name: None,
            base: Base::Host,
            apt: Vec::new(),
            python,
            source: None,
            files: Vec::new(),
            build: Vec::new(),
            build_network: false,
            lock: None,
        };
        let lock = self.builder.resolve(&recipe, Secrets::default(), Arc::new(Silent)).await;
        recipe.lock = Some(lock.map_err(|error| error.to_string())?);
        Ok(recipe)
    }

    /// Builds it, and takes it out of the store again.
    async fn make(&self, recipe: &Environment) -> Result<Duration, Failure> {
        let start = Instant::now();
        let built = self.builder.build(recipe, Secrets::default(), Arc::new(Silent)).await;
        let time = start.elapsed();
        built.map_err(|error| error.to_string())?;
        let nothing = self.builder.store().prune(0, &std::collections::BTreeSet::new());
        nothing.map_err(|error| error.to_string())?;
        Ok(time)
    }
}

struct Theirs {
    uv: PathBuf,
    folder: PathBuf,
    requirements: PathBuf,
}

impl Theirs {
    fn new(folder: &Path, uv: &Path, recipe: &Environment) -> Result<Theirs, Failure> {
        let folder = folder.join("theirs");
        std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
        let lines = recipe.lock.as_ref().map(|lock| lock.requirements.join("\n"));
        let requirements = folder.join("requirements.txt");
        let written = std::fs::write(&requirements, lines.unwrap_or_default() + "\n");
        written.map_err(|error| error.to_string())?;
        Ok(Theirs { uv: uv.to_owned(), folder, requirements })
    }

    fn make(&self) -> Result<Duration, Failure> {
        let environment = self.folder.join("venv");
        let start = Instant::now();
        let python = ["venv", "--quiet", "--python", "/usr/bin/python3"];
        process::run(self.uv().args(python).arg(&environment))?;
        let install = ["pip", "install", "--quiet", "--require-hashes", "--no-deps", "--python"];
        let mut command = self.uv();
        command.args(install).arg(&environment).arg("--requirements").arg(&self.requirements);
        process::run(&mut command)?;
        let time = start.elapsed();
        std::fs::remove_dir_all(&environment).map_err(|error| error.to_string())?;
        Ok(time)
    }

    fn uv(&self) -> Command {
        let mut command = Command::new(&self.uv);
        command.arg("--no-config").env("UV_CACHE_DIR", self.folder.join("cache"));
        command
    }
}
