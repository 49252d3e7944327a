//! A launcher of the test's own, and a runtime that uses it.

// Not every test program uses all of it.
#![allow(dead_code)]

use spawnery_model::RuntimeKind;
use spawnery_runtime::{Events, Launcher, ProcessRuntime, Runtimes};
use spawnery_sandbox::client::Client;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A runtime of the kind that is tested, with what it needs.
pub struct World {
    pub runtime: ProcessRuntime,
    pub events: Events,
    pub kind: RuntimeKind,
    runtimes: Runtimes,
    // After the runtime, so that the launcher is there until it has gone.
    data: Data,
    /// What is to stay until the end of all others.
    pub guard: Option<Box<dyn std::any::Any>>,
}

impl World {
    pub async fn new(kind: RuntimeKind, runtimes: Runtimes) -> World {
        let data = Data::new();
        let (runtime, events) = data.connect_with(runtimes.clone()).await;
        World { runtime, events, kind, runtimes, guard: None, data }
    }

    /// What the next agent sees, after this one has ended.
    pub async fn next_agent(self) -> World {
        let World { kind, runtimes, guard, data, .. } = self;
        let (runtime, events) = data.connect_with(runtimes.clone()).await;
        World { runtime, events, kind, runtimes, guard, data }
    }

    pub fn kill_launcher(&self) {
        self.data.kill_launcher();
    }

    /// The files of the data folder, logs aside, in which `word` occurs.
    pub fn files_that_hold(&self, word: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut waiting = vec![self.data.path().to_owned()];
        while let Some(dir) = waiting.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
                let shared = ["log", "base", "stage"].iter().any(|name| path.ends_with(name));
                if kind.is_dir() && !shared {
                    waiting.push(path);
                } else if kind.is_file() {
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                        found.push(path);
                    }
                }
            }
        }
        found
    }
}

/// A data folder whose launcher, if one runs, is ended with it.
pub struct Data(TempDir);

impl Data {
    pub fn new() -> Data {
        Data(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn launcher_pid(&self) -> Option<u32> {
        Client::connect(self.path()).ok().map(|client| client.launcher_pid())
    }

    pub fn kill_launcher(&self) {
        self.signal_launcher(rustix::process::Signal::KILL);
    }

    pub fn signal_launcher(&self, signal: rustix::process::Signal) {
        let pid = self.launcher_pid().expect("a launcher runs");
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a pid"), signal).expect("it is ours");
    }

    pub fn launcher(&self, runtimes: Runtimes) -> Launcher {
        Launcher {
            data: self.path().to_owned(),
            program: PathBuf::from(env!("CARGO_BIN_EXE_runtime-test-launcher")),
            runtimes,
        }
    }

    pub async fn connect(&self) -> (ProcessRuntime, Events) {
        self.connect_with(Runtimes::default()).await
    }

    pub async fn connect_with(&self, runtimes: Runtimes) -> (ProcessRuntime, Events) {
        ProcessRuntime::connect(self.launcher(runtimes)).await.expect("a launcher")
    }
}

impl Drop for Data {
    /// Ends the launcher in order, so that nothing of it stays on the machine.
    fn drop(&mut self) {
        if self.launcher_pid().is_none() {
            return;
        }
        self.signal_launcher(rustix::process::Signal::TERM);
        let until = Instant::now() + Duration::from_secs(20);
        while self.launcher_pid().is_some() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
