//! A crate uses only crates above it in the code map of ARCHITECTURE.md, whose headings give the
//! order.
//!
//! Tests and examples may use any crate that is not for a person at a terminal, with one bound:
//! those of a pure crate use no shell, so that what they show of it needs no machine.

use super::purity::PURE;
use super::{Finding, Tree};

/// Where the order stands.
const MAP: &str = "ARCHITECTURE.md";

/// How a crate's heading in the map begins.
const HEADING: &str = "### `crates/";

/// The crates of the pure part's world: what their tests may use.
const NO_SHELL: [&str; 1] = ["journal"];

/// The crates that nothing else is built from.
const LAST: [&str; 2] = ["cli", "xtask"];

/// The crates that one must not be built from, near or far, whatever the order says.
const APART: [(&str, &[&str], &str); 2] = [
    (
        "sandbox",
        &["cluster", "node", "placement", "schedule", "manifest", "wire", "journal"],
        "it knows nothing of clusters",
    ),
    (
        "simulator",
        &["sandbox", "runtime", "agent", "controller", "gateway", "api", "client"],
        "it links no shell",
    ),
];

/// The crates in the order of the map.
pub fn order(map: &str) -> Vec<(usize, String)> {
    let lines = map.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            let name = line.strip_prefix(HEADING)?.split('`').next()?;
            Some((index + 1, name.to_owned()))
        })
        .collect()
}

/// Checks all crates.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let order = order(tree.text(MAP));
    let mut findings = Vec::new();
    for (line, name) in &order {
        if !tree.workspace.members.iter().any(|member| member.name == *name) {
            let message = format!("there is no crates/{name}: remove its part of the code map");
            findings.push(Finding::new(MAP, *line, message));
        }
    }
    let names: Vec<String> = order.into_iter().map(|(_, name)| name).collect();
    for member in &tree.workspace.members {
        let manifest = format!("crates/{}/Cargo.toml", member.name);
        let mut find = |message: String| findings.push(Finding::new(&manifest, 0, message));
        for used in ours(&member.dependencies) {
            if let Some(message) = against_order(&names, &member.name, used) {
                find(message);
            }
        }
        for used in ours(&member.dev_dependencies) {
            if let Some(message) = against_tests(&member.name, used) {
                find(message);
            }
        }
        let far: Vec<&str> = member
            .closure
            .iter()
            .filter_map(|id| tree.workspace.packages.get(id))
            .filter_map(|package| package.name.strip_prefix("spawnery-"))
            .collect();
        for (name, banned, reason) in APART.iter().filter(|(name, ..)| *name == member.name) {
            for used in banned.iter().filter(|used| far.contains(*used)) {
                find(format!("`{name}` is built from `{used}`, but {reason}"));
            }
        }
    }
    findings
}

fn ours<'a>(names: impl IntoIterator<Item = &'a String>) -> impl Iterator<Item = &'a str> {
    names.into_iter().filter_map(|name| name.strip_prefix("spawnery-"))
}

fn against_order(order: &[String], member: &str, used: &str) -> Option<String> {
    let place = |name: &str| order.iter().position(|it| it == name);
    let Some(own) = place(member) else {
        return Some(format!("`{member}` is not in the code map of {MAP}; give it its place"));
    };
    match place(used) {
        Some(other) if other < own => None,
        _ => Some(format!(
            "`{member}` uses `{used}`, which does not stand above it in the code map of {MAP}: \
             turn the dependency round, or move what both need up"
        )),
    }
}

fn against_tests(member: &str, used: &str) -> Option<String> {
    if LAST.contains(&used) {
        return Some(format!("the tests of `{member}` use `{used}`; nothing is built from it"));
    }
    let pure = |name: &str| PURE.contains(&name) || NO_SHELL.contains(&name);
    (PURE.contains(&member) && !pure(used)).then(|| {
        format!("the tests of the pure crate `{member}` use the shell `{used}`: move them there")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_headings() {
        let map = "# A\n### `crates/model`: nouns\ntext `crates/x`\n### `crates/wire`\n";
        assert_eq!(order(map), [(2, "model".to_owned()), (4, "wire".to_owned())]);
    }

    #[test]
    fn a_crate_uses_only_what_stands_above_it() {
        let order: Vec<String> = ["model", "wire", "agent"].map(str::to_owned).to_vec();
        assert_eq!(against_order(&order, "agent", "model"), None);
        assert!(against_order(&order, "model", "agent").is_some());
        assert!(against_order(&order, "model", "model").is_some());
        assert!(against_order(&order, "other", "model").is_some());
        assert!(against_order(&order, "agent", "other").is_some());
    }

    #[test]
    fn tests_of_a_pure_crate_use_no_shell() {
        assert_eq!(against_tests("cluster", "simulator"), None);
        assert_eq!(against_tests("simulator", "journal"), None);
        assert_eq!(against_tests("agent", "controller"), None);
        assert!(against_tests("cluster", "controller").is_some());
        assert!(against_tests("agent", "cli").is_some());
    }
}
