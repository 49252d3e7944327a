//! What the code must not hold, and how its lines end.

use std::path::Path;

use super::Finding;
use super::source::{Source, has_word};

/// Macros and attributes that have no place in a commit.
const UNFINISHED: [(&str, &str); 4] = [
    ("todo!", "finish it, or leave it out"),
    ("unimplemented!", "finish it, or leave it out"),
    ("dbg!", "use `tracing`, or remove it"),
    ("#[ignore", "make the test run always, or remove it"),
];

/// Words in comments that promise work.
const PROMISES: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Macros that print, and calls that end the process.
const PRINTING: [&str; 5] = ["print!", "println!", "eprint!", "eprintln!", "process::exit"];

/// The crates for a person at a terminal.
const PRINTERS: [&str; 2] = ["cli", "xtask"];

/// The endings of the files whose white space is looked at.
const TEXTS: [&str; 7] = ["json", "md", "rs", "sh", "toml", "yaml", "yml"];

/// Checks one Rust file.
pub fn check(source: &Source, test: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line: usize, message: String| {
        findings.push(Finding::new(&source.path, line, message));
    };
    for (index, code) in source.code.iter().enumerate() {
        for (text, mend) in UNFINISHED.iter().filter(|(text, _)| holds(code, text)) {
            find(index + 1, format!("`{text}`: {mend}"));
        }
        for word in PROMISES.iter().filter(|word| has_word(&source.comments[index], word)) {
            find(index + 1, format!("`{word}` in a comment: do it, or open an issue"));
        }
    }
    if source.member().is_some_and(|member| !PRINTERS.contains(&member)) {
        for (line, code) in source.product_code(test) {
            for text in PRINTING.iter().filter(|text| holds(code, text)) {
                find(
                    line,
                    format!("`{text}` outside crates/cli: return a value, or use `tracing`"),
                );
            }
        }
    }
    findings
}

/// Whether the code holds the text, and not as the end of a longer word.
fn holds(code: &str, text: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(text).any(|(at, _)| !code[..at].chars().next_back().is_some_and(inside))
}

/// Checks the white space of any text.
pub fn check_text(path: &Path, text: &str) -> Vec<Finding> {
    let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    if !TEXTS.contains(&ending.as_str()) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            findings.push(Finding::new(path, index + 1, "white space at the end of the line"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::new(path, text.lines().count(), "the last line has no end"));
    }
    if text.ends_with("\n\n") {
        findings.push(Finding::new(path, text.lines().count(), "an empty line at the end"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_count(path: &str, text: &str, count: usize) {
        let findings = check(&Source::new(Path::new(path), text), false);
        assert_eq!(findings.len(), count, "{path}: {text:?} gave {findings:?}");
    }

    #[test]
    fn unfinished_and_printing_code_is_found() {
        let path = "crates/agent/src/a.rs";
        check_count(path, "fn f() { todo!() }", 1);
        check_count(path, "#[ignore = \"slow\"]", 1);
        check_count(path, "// TODO later", 1);
        check_count(path, "println!(\"a\")", 1);
        check_count(path, "std::process::exit(1)", 1);
        check_count(path, "writeln!(f, \"println!\"); my_println!()", 0);
        check_count("crates/cli/src/a.rs", "println!(\"a\")", 0);
        check_count("crates/agent/src/a.rs", "#[cfg(test)]\nmod t {\n    println!();\n}", 0);
    }

    #[test]
    fn white_space_at_an_end_is_found() {
        let check_text = |text: &str| check_text(Path::new("a.md"), text).len();
        assert_eq!(check_text("a\nb\n"), 0);
        assert_eq!(check_text(""), 0);
        assert_eq!(check_text("a \nb\t\n"), 2);
        assert_eq!(check_text("a\nb"), 1);
        assert_eq!(check_text("a\n\n"), 1);
    }
}
