//! Files and functions that a person can hold in mind.

use std::path::Path;

use super::source::{Source, indent};
use super::{Finding, Tree};

/// Lines of a file: about an hour's reading, and one subject.
const FILE_LINES_MAX: usize = 800;

/// Lines of a function, from its name to its last brace: what a screen shows.
const FUNCTION_LINES_MAX: usize = 70;

/// Lines of a function in a test: mostly a table of cases, which is data.
const TEST_LINES_MAX: usize = 150;

/// Files that may be longer, each with its number of lines. The numbers may only shrink, and
/// nothing may be added; the aim is an empty table.
const LONG_FILES: [(&str, usize); 0] = [];

/// Functions that may be longer, each with its file and number of lines; as above.
const LONG_FUNCTIONS: [(&str, &str, usize); 0] = [];

/// Checks one file and its functions.
pub fn check(source: &Source, test: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.lines.len();
    let path = source.path.to_string_lossy();
    let known = LONG_FILES.iter().find(|(name, _)| *name == path);
    let allowed = known.map_or(FILE_LINES_MAX, |it| it.1);
    if lines > allowed {
        let message = format!("{lines} lines, and {allowed} are allowed: split it by subject");
        findings.push(Finding::new(&source.path, 0, message));
    }
    for (start, lines) in functions(&source.code) {
        let test = test || source.in_test[start];
        let name = function_name(&source.code[start]);
        let known = LONG_FUNCTIONS.iter().find(|it| it.0 == path && Some(it.1) == name);
        let usual = if test { TEST_LINES_MAX } else { FUNCTION_LINES_MAX };
        let allowed = known.map_or(usual, |it| it.2);
        if lines > allowed {
            let message = format!("a function of {lines} lines; {allowed} are allowed: split it");
            findings.push(Finding::new(&source.path, start + 1, message));
        }
    }
    findings
}

/// Checks that the tables above only shrink.
pub fn check_ratchet(tree: &Tree) -> Vec<Finding> {
    let files = LONG_FILES.map(|(path, lines)| {
        let now = tree.sources.get(Path::new(path)).map_or(0, |source| source.lines.len());
        (path.to_owned(), lines, now)
    });
    let functions = LONG_FUNCTIONS.map(|(path, name, lines)| {
        let now = tree.sources.get(Path::new(path)).map_or(0, |source| {
            let mut all = functions(&source.code).into_iter();
            all.find(|(start, _)| function_name(&source.code[*start]) == Some(name))
                .map_or(0, |(_, lines)| lines)
        });
        (format!("{name} in {path}"), lines, now)
    });
    let shrunk = files.into_iter().chain(functions).filter(|(_, lines, now)| now < lines);
    shrunk
        .map(|(what, _, now)| {
            let message = format!("{what} has {now} lines now: lower its number, or remove it");
            Finding::new("crates/xtask/src/tidy/length.rs", 0, message)
        })
        .collect()
}

/// The functions with a body: index of the first line, and number of lines. It relies on the
/// indentation that rustfmt gives.
fn functions(code: &[String]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (start, line) in code.iter().enumerate() {
        if function_name(line).is_none() {
            continue;
        }
        let depth = indent(line);
        let end = code.iter().enumerate().skip(start).find(|(index, line)| {
            let last = line.trim_end();
            let at_depth = indent(last) == depth && !last.is_empty();
            let one_line = *index == start && (last.ends_with('}') || last.ends_with(';'));
            one_line
                || *index > start
                    && at_depth
                    && !last.ends_with('{')
                    && !last.trim_start().starts_with("where")
        });
        if let Some((end, _)) = end {
            found.push((start, end - start + 1));
        }
    }
    found
}

/// The name of the function that begins on the line.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let modifiers = ["pub", "const", "async", "unsafe", "extern", "default", "\""];
    let only_modifiers = before.split_whitespace().all(|word| {
        let word = word.split('(').next().unwrap_or(word);
        modifiers.contains(&word) || word.ends_with(')')
    });
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
    (only_modifiers && end > 0).then(|| &after[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_lengths(text: &str, expected: &[usize]) {
        let source = Source::new(Path::new("crates/model/src/a.rs"), text);
        let found: Vec<usize> = functions(&source.code).iter().map(|it| it.1).collect();
        assert_eq!(found, expected, "lengths in {text:?}");
    }

    #[test]
    fn functions_are_measured_to_their_last_brace() {
        check_lengths("fn a() {}\nfn b() {\n    1\n}", &[1, 3]);
        check_lengths(
            "    pub(crate) async fn a(\n        b: u8,\n    ) {\n        c\n    }",
            &[5],
        );
        check_lengths("trait A {\n    fn a(&self);\n    fn b(\n        x: u8,\n    );\n}", &[1, 3]);
        check_lengths("fn a<T>(t: T)\nwhere\n    T: B,\n{\n    1\n}", &[6]);
        check_lengths("let a: fn (u8) = b;\n// fn c() {\ntype F = fn(u8);", &[]);
    }

    #[test]
    fn what_is_too_long_is_found() {
        let body = "    a();\n".repeat(FUNCTION_LINES_MAX);
        let text = format!("fn a() {{\n{body}}}\n");
        let source = Source::new(Path::new("crates/model/src/a.rs"), &text);
        assert_eq!(check(&source, false).len(), 1);
        assert_eq!(check(&source, true).len(), 0);
        let text = "// a\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(check(&Source::new(Path::new("crates/model/src/a.rs"), &text), false).len(), 1);
    }
}
