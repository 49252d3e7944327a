//! How well instances are isolated on this machine, in words.

use crate::error::CliError;
use crate::place::Place;
use spawnery_sandbox::capabilities::{Check, Status, probe};
use std::path::Path;

/// The launcher's folder in the agent's.
const LAUNCHER_FOLDER: &str = "launcher";

/// Tries what this machine can enforce, with the launcher of `place`, or with one for the while.
pub(crate) fn checks(place: &Place) -> Result<Vec<Check>, CliError> {
    let program = std::env::current_exe();
    let program = program.map_err(|error| CliError::failed(format!("no program: {error}")))?;
    let launcher = place.agent().join(LAUNCHER_FOLDER);
    if launcher.is_dir() {
        return Ok(probe(&program, &launcher));
    }
    let folder = tempfile::Builder::new().prefix("spawnery-").tempdir();
    let folder = folder.map_err(|error| {
        CliError::failed(format!("cannot make a temporary folder: {error}"))
            .hint("name another place with TMPDIR")
    })?;
    Ok(probe(&program, &canonical(folder.path())))
}

fn canonical(path: &Path) -> std::path::PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// What is not fully enforced, in one or two lines.
pub(crate) fn summary(checks: &[Check]) -> Vec<String> {
    let names = |status: Status| -> Vec<&str> {
        let found = checks.iter().filter(|check| check.status == status);
        found.map(|check| check.name).collect()
    };
    let (missing, weak) = (names(Status::Unavailable), names(Status::Approximate));
    let user = match rustix::process::geteuid().is_root() {
        true => "as root",
        false => "without root",
    };
    let mut lines = match (missing.is_empty(), weak.is_empty()) {
        (true, true) => return vec![format!("Isolation {user}: everything is enforced.")],
        (false, _) => vec![format!("Isolation {user}; missing: {}", missing.join(", "))],
        (true, false) => Vec::new(),
    };
    if !weak.is_empty() {
        let weak = weak.join(", ");
        lines.push(match lines.is_empty() {
            true => format!("Isolation {user}; weak: {weak}"),
            false => format!("weak: {weak}"),
        });
    }
    if let Some(last) = lines.last_mut() {
        last.push_str(" (see `spawnery doctor`)");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, status: Status) -> Check {
        Check { name, status, detail: String::new(), mend: None }
    }

    #[test]
    fn what_is_not_enforced_is_named_in_at_most_two_lines() {
        let whole = summary(&[check("a", Status::Enforced)]);
        assert_eq!(whole.len(), 1);
        assert!(whole[0].ends_with("everything is enforced."));
        let weak = summary(&[check("a", Status::Enforced), check("b", Status::Approximate)]);
        assert_eq!(weak.len(), 1);
        assert!(weak[0].contains("; weak: b (see `spawnery doctor`)"), "{weak:?}");
        let missing = summary(&[check("b", Status::Approximate), check("c", Status::Unavailable)]);
        assert_eq!(missing.len(), 2);
        assert!(missing[0].ends_with("; missing: c"));
    }
}
