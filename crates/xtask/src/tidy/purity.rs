//! The pure crates touch nothing: no clock, randomness, environment, file, socket or runtime,
//! and nothing whose order or rounding may differ from one run to the next.
//!
//! Each of them has a `clippy.toml` that bans the same by lint, where the types are known. This
//! rule finds what lints cannot: whole modules, and dependencies near and far.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::source::{Source, has_word};
use super::{Finding, Tree};

/// The crates that decide. Their tests and examples may do what they need.
pub const PURE: [&str; 8] =
    ["model", "schedule", "manifest", "placement", "cluster", "node", "wire", "simulator"];

/// The crates whose decisions are made on integers, so that they are the same everywhere.
const EXACT: [&str; 3] = ["cluster", "node", "placement"];

/// What must not stand in the code of a pure crate, and what to do instead.
const BANNED: [(&[&str], &str); 6] = [
    (
        &["Instant", "SystemTime", "UNIX_EPOCH", "sleep"],
        "reads or waits for the clock; take `now` as an argument and give a `poll_timeout`",
    ),
    (
        &["rand", "getrandom", "uuid", "RandomState", "fastrand"],
        "is random; take the ids or numbers as arguments",
    ),
    (&["HashMap", "HashSet", "DefaultHasher"], "has no fixed order; use BTreeMap or BTreeSet"),
    (
        &["tokio", "async", "rusqlite", "rustix", "libc"],
        "belongs to a shell crate; return an effect or action instead",
    ),
    (
        &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener"],
        "opens a socket; return an effect or action instead",
    ),
    (
        &["std::env", "std::fs", "std::process", "std::os"],
        "touches what is outside; take the value as an argument",
    ),
];

/// Packages that a pure crate is not built from, near or far.
const BANNED_PACKAGES: [&str; 6] = ["getrandom", "mio", "rand", "reqwest", "tokio", "uuid"];

/// Names in `use std::{…}` that are the same as a banned `std::…`.
const BANNED_IN_STD: [&str; 4] = ["env", "fs", "os", "process"];

/// Checks one file.
pub fn check(source: &Source, test: bool) -> Vec<Finding> {
    let Some(member) = source.member().filter(|it| PURE.contains(it)) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for (line, code) in source.product_code(test) {
        for (words, mend) in BANNED {
            for word in words.iter().filter(|word| has_word(code, word)) {
                let message = format!("`{word}` in the pure crate `{member}` {mend}");
                findings.push(Finding::new(&source.path, line, message));
            }
        }
        if code.contains("use std::{") {
            for word in BANNED_IN_STD.iter().filter(|word| has_word(code, word)) {
                let message = format!("`std::{word}` in the pure crate `{member}`");
                findings.push(Finding::new(&source.path, line, message));
            }
        }
        let exact = EXACT.contains(&member);
        for word in ["f32", "f64"].iter().filter(|word| exact && has_word(code, word)) {
            let message = format!("`{word}` in `{member}`, which decides; count in integers");
            findings.push(Finding::new(&source.path, line, message));
        }
    }
    findings
}

/// Checks what the pure crates are built from, and that their lints are there.
pub fn check_tree(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in tree.workspace.members.iter().filter(|it| PURE.contains(&it.name.as_str())) {
        let folder = PathBuf::from("crates").join(&member.name);
        let packages: BTreeSet<&str> = member
            .closure
            .iter()
            .filter_map(|id| tree.workspace.packages.get(id))
            .map(|package| package.name.as_str())
            .collect();
        for package in BANNED_PACKAGES.iter().filter(|it| packages.contains(**it)) {
            let message = format!(
                "this pure crate is built from `{package}` (`cargo tree -p spawnery-{} -i \
                 {package} -e normal` shows how); leave the feature or dependency out",
                member.name
            );
            findings.push(Finding::new(folder.join("Cargo.toml"), 0, message));
        }
        let lints = folder.join("clippy.toml");
        if !tree.texts.contains_key(&lints) {
            let message = "a pure crate needs the bans; copy crates/model/clippy.toml";
            findings.push(Finding::new(lints, 0, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn check_lines(path: &str, text: &str, lines: &[usize]) {
        let found: BTreeSet<usize> =
            check(&Source::new(Path::new(path), text), false).iter().map(|it| it.line).collect();
        let expected: BTreeSet<usize> = lines.iter().copied().collect();
        assert_eq!(found, expected, "lines found in {path}: {text:?}");
    }

    #[test]
    fn what_a_pure_crate_must_not_touch_is_found() {
        let core = "crates/cluster/src/a.rs";
        check_lines(core, "let now = Instant::now();", &[1]);
        check_lines(core, "use std::time::{Duration, SystemTime};", &[1]);
        check_lines(core, "\nuse std::collections::HashMap;", &[2]);
        check_lines(core, "use std::{env, fmt};", &[1]);
        check_lines(core, "std::fs::read(path)", &[1]);
        check_lines(core, "let share: f64 = 0.5;", &[1]);
        check_lines(core, "async fn f() {}", &[1]);
        check_lines("crates/model/src/a.rs", "let share: f64 = 0.5;", &[]);
        check_lines("crates/agent/src/a.rs", "let now = Instant::now();", &[]);
    }

    #[test]
    fn comments_strings_and_tests_may_name_it() {
        let core = "crates/cluster/src/a.rs";
        check_lines(core, "// Instant\nlet a = \"tokio\";", &[]);
        check_lines(core, "#[cfg(test)]\nmod tests {\n    use std::fs;\n    fs::x()\n}", &[]);
        let source = Source::new(Path::new("crates/cluster/tests/a.rs"), "Instant::now()");
        assert_eq!(check(&source, true), Vec::new());
    }
}
