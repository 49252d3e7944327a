//! `cargo xtask tidy`: the rules that the compiler does not know.
//!
//! Each rule is one module. A [`Finding`] names the place, what is wrong and the mend. The test
//! below runs all rules on this workspace, so `cargo test` fails where `tidy` would.

mod documents;
mod layers;
mod length;
mod licences;
mod machine_paths;
mod modules;
mod purity;
mod source;
mod style;
mod unsafety;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::workspace::{self, Workspace};
use source::Source;

/// Something that is against a rule.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Finding {
    /// The file, relative to the root of the workspace.
    pub path: String,
    /// The line, from 1; 0 if it is the file as a whole.
    pub line: usize,
    /// What is wrong, and what to do instead.
    pub message: String,
}

impl Finding {
    fn new(path: impl AsRef<Path>, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: path.as_ref().display().to_string(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// All that the rules look at.
pub struct Tree {
    root: PathBuf,
    workspace: Workspace,
    /// Every file in the workspace, relative to its root, with its text.
    texts: BTreeMap<PathBuf, String>,
    /// Every Rust file in the workspace.
    sources: BTreeMap<PathBuf, Source>,
}

impl Tree {
    /// # Errors
    ///
    /// When cargo fails, or a file cannot be read.
    pub fn load() -> Result<Tree, Failure> {
        let root = workspace::root();
        let mut texts = BTreeMap::new();
        for path in workspace::files(&root)? {
            let bytes = std::fs::read(root.join(&path))
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            if let Ok(text) = String::from_utf8(bytes) {
                texts.insert(path, text);
            }
        }
        let sources = texts
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"))
            .map(|(path, text)| (path.clone(), Source::new(path, text)))
            .collect();
        Ok(Tree { root, workspace: Workspace::load()?, texts, sources })
    }

    /// The text of a file, empty if there is none: each rule then says what it misses.
    fn text(&self, path: &str) -> &str {
        self.texts.get(Path::new(path)).map_or("", String::as_str)
    }
}

/// All findings of all rules, in the order of the files.
///
/// # Errors
///
/// When the workspace cannot be read.
pub fn findings() -> Result<Vec<Finding>, Failure> {
    let tree = Tree::load()?;
    let mut findings = Vec::new();
    // Which files are tests is known only after the modules have been followed.
    let (tests, lost) = modules::follow(&tree);
    findings.extend(lost);
    for source in tree.sources.values() {
        let test = tests.contains(&source.path);
        findings.extend(purity::check(source, test));
        findings.extend(unsafety::check(source));
        findings.extend(style::check(source, test));
        findings.extend(length::check(source, test));
    }
    findings.extend(length::check_ratchet(&tree));
    findings.extend(purity::check_tree(&tree));
    findings.extend(layers::check(&tree));
    findings.extend(licences::check(&tree.workspace));
    for (path, text) in &tree.texts {
        findings.extend(machine_paths::check(path, text));
        findings.extend(style::check_text(path, text));
    }
    findings.extend(documents::check(&tree));
    findings.sort();
    findings.dedup();
    Ok(findings)
}

/// Prints the findings.
///
/// # Errors
///
/// When there is one.
pub fn command() -> Result<(), Failure> {
    let findings = findings()?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => Err("one thing is not tidy".to_owned()),
        count => Err(format!("{count} things are not tidy")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_workspace_is_tidy() {
        let findings = super::findings().expect("the workspace can be read");
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "not tidy:\n{}", lines.join("\n"));
    }
}
