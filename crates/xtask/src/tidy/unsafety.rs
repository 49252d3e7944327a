//! `unsafe` stands in one crate, and each use says why it is sound.

use super::Finding;
use super::source::{Source, has_word};

/// The crate that speaks with the kernel.
const CRATE: &str = "sandbox";

/// Checks one file.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, code) in source.code.iter().enumerate() {
        // The attribute `#[allow(unsafe_code)]` is another word, and harmless elsewhere.
        if !has_word(code, "unsafe") {
            continue;
        }
        if source.member() != Some(CRATE) {
            let message =
                format!("`unsafe` outside crates/{CRATE}; put it there, behind a safe call");
            findings.push(Finding::new(&source.path, index + 1, message));
        } else if !explained(source, index) {
            let message = "`unsafe` without a `// SAFETY:` comment right before it that says why \
                           it is sound";
            findings.push(Finding::new(&source.path, index + 1, message));
        }
    }
    findings
}

/// Whether a comment with SAFETY stands on the line, or on those before it up to the end of the
/// statement before.
fn explained(source: &Source, index: usize) -> bool {
    let is_reason = |comment: &str| comment.contains("SAFETY:") || comment.contains("# Safety");
    if is_reason(&source.comments[index]) {
        return true;
    }
    for before in (0..index).rev() {
        if is_reason(&source.comments[before]) {
            return true;
        }
        let code = source.code[before].trim();
        let is_comment = !source.comments[before].trim().is_empty();
        let is_attribute = code.starts_with("#[") || code.ends_with(")]");
        // A brace that opens may belong to the same statement, but not that of a function.
        let opened = code.ends_with('{') && has_word(code, "fn");
        let statement_ended =
            opened || code.ends_with([';', '}']) || code.is_empty() && !is_comment;
        if statement_ended && !is_attribute {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn check_count(path: &str, text: &str, count: usize) {
        let findings = check(&Source::new(Path::new(path), text));
        assert_eq!(findings.len(), count, "{path}: {text:?} gave {findings:?}");
    }

    #[test]
    fn unsafe_code_needs_a_reason_and_the_right_crate() {
        let here = "crates/sandbox/src/a.rs";
        check_count("crates/agent/src/a.rs", "// SAFETY: none\nunsafe { f() };", 1);
        check_count(here, "unsafe { f() };", 1);
        check_count(here, "// SAFETY: f needs nothing.\nunsafe { f() };", 0);
        check_count(here, "// SAFETY: long\n// reason.\nlet a =\n    unsafe { f() };", 0);
        check_count(here, "// SAFETY: of the first.\nunsafe { f() };\nunsafe { g() };", 1);
        check_count(here, "// unsafe\nlet a = \"unsafe\";\n#[allow(unsafe_code)]", 0);
    }
}
