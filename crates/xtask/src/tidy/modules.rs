//! No file is forgotten: each Rust file belongs to a target, by way of its modules.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::source::Source;
use super::{Finding, Tree};
use crate::workspace::TargetKind;

/// Follows the modules from the first file of every target.
///
/// Returns the files that only tests and examples reach, and a finding for each that none does.
pub fn follow(tree: &Tree) -> (BTreeSet<PathBuf>, Vec<Finding>) {
    let mut product = BTreeSet::new();
    let mut tests = BTreeSet::new();
    for (path, kind) in tree.workspace.members.iter().flat_map(|member| &member.targets) {
        if let Ok(path) = path.strip_prefix(&tree.root) {
            let reached = if *kind == TargetKind::Product { &mut product } else { &mut tests };
            visit(tree, path, true, reached, *kind == TargetKind::Test);
        }
    }
    // Modules under `#[cfg(test)]` of the product are not reached above; they are tests.
    let under_test: Vec<PathBuf> = product
        .iter()
        .filter_map(|path| tree.sources.get(path))
        .flat_map(|source| children(source, is_first(tree, &source.path)))
        .filter(|child| child.test)
        .filter_map(|child| child.find(tree))
        .collect();
    for path in under_test {
        visit(tree, &path, false, &mut tests, true);
    }
    let lost = tree
        .sources
        .keys()
        .filter(|path| !product.contains(*path) && !tests.contains(*path))
        .map(|path| {
            let mend = "no target reaches this file: declare it with `mod`, or remove it";
            Finding::new(path, 0, mend)
        })
        .collect();
    (tests.difference(&product).cloned().collect(), lost)
}

/// Whether the file is the first of a target.
fn is_first(tree: &Tree, path: &Path) -> bool {
    let targets = tree.workspace.members.iter().flat_map(|member| &member.targets);
    targets.into_iter().any(|(target, _)| target.strip_prefix(&tree.root) == Ok(path))
}

fn visit(
    tree: &Tree,
    path: &Path,
    is_root: bool,
    reached: &mut BTreeSet<PathBuf>,
    with_tests: bool,
) {
    let Some(source) = tree.sources.get(path) else {
        return;
    };
    if !reached.insert(path.to_owned()) {
        return;
    }
    for child in children(source, is_root) {
        if let Some(path) = child.find(tree).filter(|_| with_tests || !child.test) {
            visit(tree, &path, false, reached, with_tests);
        }
    }
}

/// A module that lies in a file of its own.
struct Child {
    /// Where it may lie.
    paths: Vec<PathBuf>,
    /// Whether it stands under `#[cfg(test)]`.
    test: bool,
}

impl Child {
    fn find(&self, tree: &Tree) -> Option<PathBuf> {
        self.paths.iter().find(|path| tree.sources.contains_key(*path)).cloned()
    }
}

fn children(source: &Source, is_root: bool) -> Vec<Child> {
    let parent = source.path.parent().unwrap_or(Path::new(""));
    let stem = source.path.file_stem().unwrap_or_default();
    let folder = if is_root || stem == "mod" { parent.to_owned() } else { parent.join(stem) };
    let mut found = Vec::new();
    for (index, line) in source.code.iter().enumerate() {
        let Some(name) = declared(line) else { continue };
        let attribute = index.checked_sub(1).and_then(|before| source.lines.get(before));
        let path = attribute.and_then(|line| line.trim().strip_prefix("#[path = \""));
        let paths = match path.and_then(|path| path.strip_suffix("\"]")) {
            Some(path) => vec![tidied(&parent.join(path))],
            None => vec![folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")],
        };
        found.push(Child { paths, test: source.in_test[index] });
    }
    found
}

/// The name in `mod name;`.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim().strip_suffix(';')?;
    let (before, name) = line.rsplit_once("mod ").or_else(|| line.rsplit_once("mod r#"))?;
    let before = before.trim();
    let visible = before.is_empty() || before == "pub" || before.starts_with("pub(");
    (visible && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(name)
}

/// The path without `..`.
fn tidied(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, is_root: bool, text: &str, expected: &[(&str, bool)]) {
        let source = Source::new(Path::new(path), text);
        let found: Vec<(String, bool)> = children(&source, is_root)
            .iter()
            .map(|child| (child.paths[0].display().to_string(), child.test))
            .collect();
        let expected: Vec<(String, bool)> =
            expected.iter().map(|(path, test)| ((*path).to_owned(), *test)).collect();
        assert_eq!(found, expected, "modules of {path}: {text:?}");
    }

    #[test]
    fn modules_are_found_where_rust_looks_for_them() {
        check("c/src/lib.rs", true, "pub mod a;\nmod b {}\n// mod c;", &[("c/src/a.rs", false)]);
        check("c/src/a.rs", false, "pub(crate) mod b;", &[("c/src/a/b.rs", false)]);
        check("c/src/a/mod.rs", false, "mod b;", &[("c/src/a/b.rs", false)]);
        check("c/src/a.rs", false, "#[cfg(test)]\nmod b;", &[("c/src/a/b.rs", true)]);
        check("c/tests/a.rs", true, "#[path = \"../src/x.rs\"]\nmod b;", &[("c/src/x.rs", false)]);
    }
}
