//! Running other programs, cargo above all.

use std::ffi::OsString;
use std::process::Command;

use crate::Failure;
use crate::workspace;

/// A cargo command in the root of the workspace, with the cargo that runs this program.
///
/// What `cargo run` sets for this crate is taken away: a nested cargo would see it as a change
/// of its environment, and build again what it has.
pub fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(workspace::root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command to its end, with this program's output as its own.
///
/// # Errors
///
/// When it cannot be started, or does not end with success.
pub fn run(command: &mut Command) -> Result<(), Failure> {
    let line = describe(command);
    let status = command.status().map_err(|error| format!("cannot start `{line}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` ended with {status}")) }
}

/// Runs a command and returns what it wrote to its standard output.
///
/// # Errors
///
/// When it cannot be started, does not end with success (with what it wrote to its standard
/// error), or writes something that is not text.
pub fn output(command: &mut Command) -> Result<String, Failure> {
    let line = describe(command);
    let output = command.output().map_err(|error| format!("cannot start `{line}`: {error}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{line}` ended with {}: {}", output.status, errors.trim()));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("`{line}` wrote something else than text"))
}

/// Whether a command can be started and ends with success; its output is thrown away.
pub fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// The command as one would type it.
pub fn describe(command: &Command) -> String {
    let mut line = match std::path::Path::new(command.get_program()).file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => command.get_program().to_string_lossy().into_owned(),
    };
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
