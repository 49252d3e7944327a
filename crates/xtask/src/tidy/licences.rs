//! All that is built in may be given on under MIT or Apache-2.0, and comes from crates.io.

use super::Finding;
use crate::workspace::Workspace;

/// Licences that ask for no more than to be named (MPL-2.0: and for changes of its own files).
const ALLOWED: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Zlib",
];

/// Packages with a licence that is not in the list, each with the licence and the reason.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    ("minicbor", "BlueOak-1.0.0", "permissive, as MIT is; the design chose this encoding"),
    ("minicbor-derive", "BlueOak-1.0.0", "belongs to minicbor"),
];

/// What Cargo.lock names as crates.io, whatever mirror it came from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks every package that is built for this machine, tests and build scripts included.
pub fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in workspace.packages.values() {
        let name = format!("{} {}", package.name, package.version);
        let licence = package.licence.as_deref().unwrap_or("none");
        if !allowed(licence) && !excepted(&package.name, licence) {
            let message = format!(
                "the licence of {name} is {licence}, which is not in the list of \
                 crates/xtask/src/tidy/licences.rs: use another package"
            );
            findings.push(Finding::new("Cargo.lock", 0, message));
        }
        if package.source.as_deref().is_some_and(|source| source != REGISTRY) {
            let message = format!("{name} does not come from crates.io; use a published version");
            findings.push(Finding::new("Cargo.lock", 0, message));
        }
    }
    findings
}

fn excepted(name: &str, licence: &str) -> bool {
    EXCEPTIONS.iter().any(|(package, known, _)| *package == name && *known == licence)
}

/// Whether an SPDX expression leaves a choice that is allowed. Older packages write `/` for `OR`.
fn allowed(expression: &str) -> bool {
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest) && rest.is_empty()
}

fn any_of(words: &mut &[&str]) -> bool {
    let mut allowed = all_of(words);
    while words.first() == Some(&"OR") {
        *words = &words[1..];
        allowed |= all_of(words);
    }
    allowed
}

fn all_of(words: &mut &[&str]) -> bool {
    let mut allowed = one(words);
    while words.first() == Some(&"AND") {
        *words = &words[1..];
        allowed &= one(words);
    }
    allowed
}

fn one(words: &mut &[&str]) -> bool {
    let Some((first, rest)) = words.split_first() else {
        return false;
    };
    *words = rest;
    if *first == "(" {
        let allowed = any_of(words);
        let closed = words.first() == Some(&")");
        *words = words.get(1..).unwrap_or_default();
        return allowed && closed;
    }
    // An exception only permits more than the licence before it.
    if words.first() == Some(&"WITH") {
        *words = words.get(2..).unwrap_or_default();
    }
    ALLOWED.contains(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, expected: bool) {
        assert_eq!(allowed(expression), expected, "{expression:?}");
    }

    #[test]
    fn an_expression_is_allowed_if_one_choice_is() {
        check("MIT", true);
        check("MIT OR Apache-2.0", true);
        check("MIT/Apache-2.0", true);
        check("GPL-3.0 OR MIT", true);
        check("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true);
        check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        check("(MIT OR GPL-3.0) AND ISC", true);
    }

    #[test]
    fn an_expression_without_an_allowed_choice_is_refused() {
        check("", false);
        check("none", false);
        check("GPL-3.0", false);
        check("MIT AND GPL-3.0", false);
        check("(MIT OR Apache-2.0) AND GPL-3.0", false);
        check("MIT OR", true);
        check("(MIT", false);
        check("MIT Apache-2.0", false);
    }

    #[test]
    fn an_exception_holds_for_its_licence_only() {
        assert!(excepted("minicbor", "BlueOak-1.0.0"));
        assert!(!excepted("minicbor", "GPL-3.0"));
        assert!(!excepted("other", "BlueOak-1.0.0"));
    }
}
