//! The command of an OCI runtime, with the interface of `runc`.

use super::root::Places;
use crate::runtimes::OciCommand;
use crate::shim::{End, end_of_code};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The end of the command's log that is looked at for the reason of a failure, in bytes.
const LOG_BYTES_MAX: usize = 64 * 1024;

/// A container by its name.
pub(super) struct Container {
    command: OciCommand,
    name: String,
    tool: PathBuf,
}

impl Container {
    pub(super) fn new(command: OciCommand, name: &str, places: &Places) -> Self {
        Self { command, name: name.to_owned(), tool: places.tool.clone() }
    }

    /// Makes it, with this process's standard streams, and gives its process, which waits.
    pub(super) fn create(&self) -> Result<u32, String> {
        let pid_file = self.tool.join("pid");
        let mut command = self.command("create");
        command.arg("--bundle").arg(&self.tool).arg("--pid-file").arg(&pid_file);
        // It has the stand-in's session keyring, which is the instance's alone: one that the command
        // made would count to the user of all containers, to whom the kernel gives 200.
        command.arg("--no-new-keyring").arg(&self.name);
        self.carry_out("create", command)?;
        read_pid(&pid_file)
    }

    /// Lets its process run the program.
    pub(super) fn start(&self) -> Result<(), String> {
        let mut command = self.command("start");
        command.arg(&self.name).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.carry_out("start", command)
    }

    /// Makes it and runs its program, with this process's standard streams, until it ends.
    pub(super) fn run(&self) -> Result<Foreground, String> {
        let mut command = self.command("run");
        command.arg("--bundle").arg(&self.tool).arg(&self.name);
        let mut run = self.spawn("run", command)?;
        run.wait_until(|| self.pid())?;
        Ok(run)
    }

    /// Runs the further process `number` as `file` says, until it ends.
    pub(super) fn run_further(&self, number: u32, file: &Path) -> Result<Foreground, String> {
        let what = format!("exec-{number}");
        let pid_file = self.tool.join(format!("pid-{number}"));
        let mut command = self.logging(&what, "exec");
        command.arg("--pid-file").arg(&pid_file).arg("--process").arg(file).arg(&self.name);
        let mut run = self.spawn(&what, command)?;
        run.wait_until(|| read_pid(&pid_file).ok())?;
        Ok(run)
    }

    fn spawn(&self, what: &str, mut command: Command) -> Result<Foreground, String> {
        let child = command.spawn();
        let child =
            child.map_err(|error| format!("cannot run `{}`: {error}", self.command.program))?;
        Ok(Foreground { child, log: self.log(what), pid: None, end: None })
    }

    /// The process id of its main process, once that runs.
    fn pid(&self) -> Option<u32> {
        let mut command = self.command("state");
        let output = command.arg(&self.name).stdin(Stdio::null()).output().ok()?;
        let state: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let runs = state.get("status")?.as_str()? == "running";
        u32::try_from(state.get("pid")?.as_u64()?).ok().filter(|_| runs)
    }

    /// Sends a signal to its main process. What has just ended takes none.
    pub(super) fn kill(&self, signal: i32) {
        let mut command = self.command("kill");
        command.args([self.name.as_str(), &signal.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = self.carry_out("kill", command);
    }

    /// Starts the further process `number` as `file` says, with this process's standard streams.
    pub(super) fn exec(&self, number: u32, file: &Path) -> Result<u32, String> {
        let what = format!("exec-{number}");
        let pid_file = self.tool.join(format!("pid-{number}"));
        let mut command = self.logging(&what, "exec");
        command.arg("--detach").arg("--pid-file").arg(&pid_file);
        command.arg("--process").arg(file).arg(&self.name);
        self.carry_out(&what, command)?;
        read_pid(&pid_file)
    }

    /// Removes what is left of it.
    pub(super) fn delete(&self) -> Result<(), String> {
        let mut command = self.command("delete");
        command.args(["--force", &self.name]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.carry_out("delete", command)
    }

    fn command(&self, verb: &str) -> Command {
        self.logging(verb, verb)
    }

    /// The command with a log of its own, because its standard error is the instance's.
    fn logging(&self, what: &str, verb: &str) -> Command {
        let mut command = Command::new(&self.command.program);
        command.args(&self.command.arguments).arg("--root").arg(self.tool.join("state"));
        command.arg("--log").arg(self.log(what)).args(["--log-format", "json", verb]);
        command
    }

    fn log(&self, what: &str) -> PathBuf {
        self.tool.join(format!("{what}.log"))
    }

    fn carry_out(&self, what: &str, mut command: Command) -> Result<(), String> {
        let program = &self.command.program;
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let log = std::fs::read(self.log(what)).unwrap_or_default();
                let log = &log[log.len().saturating_sub(LOG_BYTES_MAX)..];
                let reason = last_error(&String::from_utf8_lossy(log));
                Err(reason.unwrap_or_else(|| format!("`{program} {what}` ends with {status}")))
            }
            Err(error) => Err(format!("cannot run `{program}`: {error}")),
        }
    }
}

/// Time between two looks at a command in the foreground.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A command that stays until the process that it runs has ended.
pub(super) struct Foreground {
    child: Child,
    log: PathBuf,
    /// The process, as the command tells it; none if it ended too soon.
    pub(super) pid: Option<u32>,
    /// How the command ended, if it did already.
    pub(super) end: Option<End>,
}

impl Foreground {
    /// The command's own process id.
    pub(super) fn command(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the process runs, or has ended.
    fn wait_until(&mut self, runs: impl Fn() -> Option<u32>) -> Result<(), String> {
        loop {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                if let Some(reason) = last_error(&log) {
                    return Err(reason);
                }
                self.end = Some(status.code().map_or(End::Signal(9), |it| end_of_code(it.into())));
                return Ok(());
            }
            self.pid = runs();
            if self.pid.is_some() {
                return Ok(());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// The last error of a log with a JSON object a line.
fn last_error(log: &str) -> Option<String> {
    log.lines().rev().find_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        let level = entry.get("level")?.as_str()?;
        let message = entry.get("msg")?.as_str()?;
        matches!(level, "error" | "fatal").then(|| message.to_owned())
    })
}

fn read_pid(path: &Path) -> Result<u32, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("it wrote no process id: {error}"))?;
    text.trim().parse().map_err(|_| format!("`{}` is no process id", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_is_the_reason() {
        let log = r#"{"level":"warning","msg":"w","time":"t"}
{"level":"error","msg":"first"}
{"level":"error","msg":"runc create failed: x: not found"}
{"level":"info","msg":"i"}
not json"#;
        assert_eq!(last_error(log).as_deref(), Some("runc create failed: x: not found"));
        assert_eq!(last_error("").as_deref(), None);
    }
}
