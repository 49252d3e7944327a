//! The command of an OCI runtime, with the interface of `runc`.

use super::root::Places;
use crate::runtimes::OciCommand;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
        command.arg("--bundle").arg(&self.tool).arg("--pid-file").arg(&pid_file).arg(&self.name);
        self.carry_out("create", command)?;
        read_pid(&pid_file)
    }

    /// Lets its process run the program.
    pub(super) fn start(&self) -> Result<(), String> {
        let mut command = self.command("start");
        command.arg(&self.name).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.carry_out("start", command)
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
