//! The documents name what is there: each crate has its part in ARCHITECTURE.md, and links lead
//! to files.

use std::path::{Component, Path, PathBuf};

use super::{Finding, Tree, layers};

/// Checks all Markdown files.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let map = "ARCHITECTURE.md";
    let named = layers::order(tree.text(map));
    for member in &tree.workspace.members {
        if !named.iter().any(|(_, name)| *name == member.name) {
            let message = format!(
                "crates/{0} has no part in the code map: add \"### `crates/{0}`\" at its place in \
                 the order of the layers",
                member.name
            );
            findings.push(Finding::new(map, 0, message));
        }
    }
    for (path, text) in &tree.texts {
        if path.extension().is_some_and(|extension| extension == "md") {
            findings.extend(broken_links(tree, path, text));
        }
    }
    findings
}

fn broken_links(tree: &Tree, path: &Path, text: &str) -> Vec<Finding> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut findings = Vec::new();
    for (line, target) in links(text) {
        let file = target.split('#').next().unwrap_or_default();
        if target.contains("://") || target.starts_with("mailto:") || file.is_empty() {
            continue;
        }
        if !tree.root.join(plain(&folder.join(file))).exists() {
            let message = format!("the link leads to `{target}`, and there is no such file");
            findings.push(Finding::new(path, line, message));
        }
    }
    findings
}

/// The targets of the links in a Markdown text, outside of code: line from 1, and target.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        // What stands between two backquotes is code, too.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for part in prose.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push((index + 1, target.to_owned()));
            }
        }
    }
    found
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_of_code() {
        let text = "[a](b.md) and [c](d.md#e)\n```\n[x](y)\n```\n`[x](y)` [`f`](g)\n";
        let found: Vec<(usize, String)> = links(text);
        let expected = [(1, "b.md"), (1, "d.md#e"), (5, "g")];
        assert_eq!(found, expected.map(|(line, target)| (line, target.to_owned())));
    }
}
