//! Real servers of this repository, built in release, each with a data folder of its own.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::options::Options;
use crate::Failure;
use crate::process::{self, cargo};

/// How long a process may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// Says where the binary is: the one that was asked for, or one that is built now.
///
/// # Errors
///
/// When it cannot be built.
pub fn binary(options: &Options) -> Result<PathBuf, Failure> {
    if let Some(binary) = &options.binary {
        return Ok(binary.clone());
    }
    process::run(&mut cargo(&[
        "build",
        "--release",
        "--quiet",
        "--locked",
        "--package=spawnery-cli",
    ]))?;
    // Cargo puts it beside this program.
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(own.with_file_name("spawnery"))
}

/// A process of the binary, with everything that it started. It ends when this is dropped.
pub struct Process {
    child: Child,
    program: PathBuf,
    data: TempDir,
}

impl Process {
    /// Starts a command of the binary with an empty data folder.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Process, Failure> {
        let data = tempfile::Builder::new().prefix("spawnery-bench-").tempdir();
        let data = data.map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        let log = File::create(data.path().join("log")).map_err(|error| error.to_string())?;
        let mut command = command(program);
        command.args(arguments).arg("--data").arg(data.path().join("data"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        Ok(Process { child, program: program.to_owned(), data })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// Its launcher's process id.
    pub fn launcher(&self) -> Result<u32, Failure> {
        let found = processes_of(self.data.path())
            .into_iter()
            .find(|(_, line)| line.split('\0').nth(1) == Some("launcher"));
        found.map(|(id, _)| id).ok_or_else(|| format!("no launcher runs: {}", self.log()))
    }

    /// What a command of the binary prints when it asks this server.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let text = self.run(arguments)?;
        serde_json::from_str(&text).map_err(|error| format!("{error} in {text:?}"))
    }

    /// Runs a command of the binary against this server, and returns its output.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn run(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut run = command(&self.program);
        run.arg("--json").arg("--data").arg(self.data()).args(arguments);
        process::output(&mut run)
    }

    /// Waits until a question has an answer.
    ///
    /// # Errors
    ///
    /// When the process ended, or it takes too long; with what it wrote last.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&Process) -> Option<T>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || start.elapsed() > PATIENCE {
                return Err(format!("there is no {what}: {}", self.log()));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The end of what it wrote.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.data.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The launcher outlives what started it, so it has to be found: by the data folder that
        // nothing else has. What it runs ends with it.
        let launchers = processes_of(self.data.path());
        for id in launchers.iter().map(|(id, _)| *id).filter(|id| *id != self.child.id()) {
            signal("-TERM", id);
        }
        signal("-TERM", self.child.id());
        let start = Instant::now();
        while start.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK);
        }
        for (id, _) in processes_of(self.data.path()) {
            signal("-KILL", id);
        }
        // It has ended, so this only takes its status.
        let _ = self.child.wait();
    }
}

/// The processes that have a folder in their command line: id, and line with its NULs.
fn processes_of(folder: &Path) -> Vec<(u32, String)> {
    let folder = folder.to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(&folder).then_some((id, line))
        })
        .collect()
}

fn signal(signal: &str, process: u32) {
    // It may have ended meanwhile.
    let _ = Command::new("kill").args([signal, &process.to_string()]).output();
}

/// A command of the binary without the settings of whoever runs the benchmark.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SPAWNERY_") {
            command.env_remove(&name);
        }
    }
    command
}

/// A server with its API.
pub struct Server {
    /// The process.
    pub process: Process,
    /// Where its API is.
    pub address: SocketAddr,
    /// Its admin token.
    pub token: String,
    /// Where it takes in agents, if it does.
    pub link: Option<String>,
}

impl Server {
    /// Starts one and waits until it is ready, and so is its node if it has one.
    ///
    /// # Errors
    ///
    /// When it is not ready in time, with what it wrote.
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Server, Failure> {
        let mut all = vec!["server", "--listen", "127.0.0.1:0"];
        all.extend(arguments);
        let mut process = Process::start(program, &all)?;
        let file = process.wait_for("server file", |process| {
            let text = std::fs::read_to_string(process.data().join("server.json")).ok()?;
            serde_json::from_str::<Value>(&text).ok()
        })?;
        let url = file["url"].as_str().unwrap_or_default();
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let address =
            address.parse().map_err(|_| format!("{url:?} is not the server's address"))?;
        let token = std::fs::read_to_string(process.data().join("admin.token"))
            .map_err(|error| format!("cannot read the admin token: {error}"))?;
        let token = token.trim().to_owned();
        let link = file["link"].as_str().map(str::to_owned);
        if !arguments.contains(&"--no-agent") {
            process.wait_for("node that is up", node_is_up)?;
        }
        Ok(Server { process, address, token, link })
    }
}

/// Whether a node of the server is up.
pub fn node_is_up(process: &Process) -> Option<()> {
    let nodes = process.ask(&["nodes"]).ok()?;
    nodes.as_array()?.iter().any(|node| node["status"] == "up").then_some(())
}
