//! No path of a developer's machine is in a file.
//!
//! `/root`, `/home/user` and `/work` are places inside an instance, too, so the bare folders are
//! fine; what lies in them on somebody's machine is not.

use std::path::Path;

use super::Finding;

/// The file with the examples of this rule.
const SELF: &str = "crates/xtask/src/tidy/machine_paths.rs";

/// Starts of paths that no instance and no documentation has.
const BANNED: [&str; 8] = [
    "/work/main",
    "/work/shared",
    "/tmp/target",
    "/Users/",
    "/root/.cargo",
    "/root/.rustup",
    "/root/.pyenv",
    "/tmp/bash_jobs",
];

/// Homes that stand for anybody's.
const HOMES: [&str; 6] = ["a", "alice", "b", "bob", "user", "you"];

/// Checks one file.
pub fn check(path: &Path, text: &str) -> Vec<Finding> {
    if path == Path::new(SELF) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(found) = banned(line) {
            let message = format!(
                "`{found}` is a path of somebody's machine: name a place that \
                                   everybody has, or take it as an argument"
            );
            findings.push(Finding::new(path, index + 1, message));
        }
    }
    findings
}

fn banned(line: &str) -> Option<String> {
    if let Some(start) = BANNED.iter().find(|start| line.contains(**start)) {
        return Some((*start).to_owned());
    }
    line.match_indices("/home/").find_map(|(at, _)| {
        let name = &line[at + "/home/".len()..];
        let name =
            &name[..name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len())];
        // A placeholder or a bare folder has no name here.
        (!name.is_empty() && !HOMES.contains(&name)).then(|| format!("/home/{name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: bool) {
        assert_eq!(banned(line).is_some(), expected, "{line:?}");
    }

    #[test]
    fn paths_of_a_machine_are_found_and_those_of_an_instance_are_not() {
        check("cd /work/main && make", true);
        check("/home/jane/project", true);
        check("/root/.cargo/bin", true);
        check("working_directory: /work", false);
        check("ls /root /home", false);
        check("HOME=/home/user", false);
        check("/home/$USER or /home/<name>", false);
    }
}
