//! A Rust file, with its code, its comments and its strings told apart.

use std::path::{Path, PathBuf};

/// A Rust file. All vectors have one element for each line.
pub struct Source {
    /// Relative to the root of the workspace.
    pub path: PathBuf,
    /// The lines as they are.
    pub lines: Vec<String>,
    /// The lines with spaces in place of comments and of what stands in quotation marks.
    pub code: Vec<String>,
    /// The lines with spaces in place of all but comments.
    pub comments: Vec<String>,
    /// Which lines belong to a module under `#[cfg(test)]`.
    pub in_test: Vec<bool>,
}

impl Source {
    /// Takes a file apart.
    pub fn new(path: &Path, text: &str) -> Source {
        let (code, comments) = split(text);
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let code = lines(&code);
        let in_test = test_lines(&code);
        Source {
            path: path.to_owned(),
            lines: lines(text),
            comments: lines(&comments),
            in_test,
            code,
        }
    }

    /// The crate that the file belongs to: the folder below `crates/`.
    pub fn member(&self) -> Option<&str> {
        let mut parts = self.path.components();
        let first = parts.next()?.as_os_str();
        (first == "crates").then(|| parts.next()?.as_os_str().to_str())?
    }

    /// The lines of code that go into the product: number from 1, and text.
    pub fn product_code(&self, test: bool) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code.iter().zip(&self.in_test).enumerate();
        lines
            .filter(move |(_, (_, in_test))| !test && !**in_test)
            .map(|(index, (line, _))| (index + 1, line.as_str()))
    }
}

/// The places in a line of code where a word stands by itself.
pub fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(inside)
            && !line[at + word.len()..].chars().next().is_some_and(inside)
    })
}

/// How far a line is indented, in spaces.
pub fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The file as code without comments and strings, and as comments without anything else. Both
/// have the lines of the file.
fn split(text: &str) -> (String, String) {
    let mut code = String::with_capacity(text.len());
    let mut comments = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (part, length) = next_part(rest, code.chars().next_back());
        let taken = &rest[..length.max(first.len_utf8())];
        match part {
            Part::Code => {
                code.push_str(taken);
                comments.push_str(&blank(taken));
            }
            Part::Comment => {
                code.push_str(&blank(taken));
                comments.push_str(taken);
            }
            Part::Literal => {
                // The quotation marks stay, so that a literal is not taken for nothing.
                code.push('"');
                code.push_str(&blank(&taken[1..]));
                comments.push_str(&blank(taken));
            }
        }
        rest = &rest[taken.len()..];
    }
    (code, comments)
}

enum Part {
    Code,
    Comment,
    Literal,
}

/// What stands at the start of the text, and how many bytes of it.
fn next_part(text: &str, before: Option<char>) -> (Part, usize) {
    let after_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with("//") {
        return (Part::Comment, text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return (Part::Comment, block_comment(text));
    }
    if !after_word {
        let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
            text.strip_prefix(prefix).is_some_and(|it| it.starts_with('"') || it.starts_with("#"))
        });
        if let Some(prefix) = prefix {
            let rest = &text[prefix.len()..];
            if prefix.ends_with('r') {
                if let Some(length) = raw_string(rest) {
                    return (Part::Literal, prefix.len() + length);
                }
            } else if rest.starts_with('"') {
                return (Part::Literal, prefix.len() + quoted(rest, '"'));
            }
        }
    }
    if text.starts_with('\'') && is_character(text) {
        return (Part::Literal, quoted(text, '\''));
    }
    (Part::Code, 1)
}

/// Whether the mark at the start of the text begins a character, and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut after = text.chars().skip(1);
    match after.next() {
        Some('\\') => true,
        Some(_) => after.next() == Some('\''),
        None => false,
    }
}

/// The length of a literal that starts and ends with the mark.
fn quoted(text: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == mark => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `#"…"#` with any number of `#`, or `None` if it is something else.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.len() - text.trim_start_matches('#').len();
    text[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let from = hashes + 1;
    Some(text[from..].find(&end).map_or(text.len(), |at| from + at + end.len()))
}

/// The length of a comment with an end, which may hold others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// Marks the lines of items under `#[cfg(test)]`, to the brace that closes them. It relies on
/// the indentation that rustfmt gives.
fn test_lines(code: &[String]) -> Vec<bool> {
    let mut marks = vec![false; code.len()];
    let mut index = 0;
    while index < code.len() {
        let is_test = code[index].trim_start().starts_with("#[cfg(test)]");
        let end = if is_test { item_end(code, index) } else { index };
        if is_test {
            marks[index..=end].fill(true);
        }
        index = end + 1;
    }
    marks
}

/// The last line of the item whose attribute is on the line at the index.
fn item_end(code: &[String], start: usize) -> usize {
    let depth = indent(&code[start]);
    for (index, line) in code.iter().enumerate().skip(start + 1) {
        let line = line.trim_end();
        if line.is_empty() || indent(line) != depth || line.trim_start().starts_with('#') {
            continue;
        }
        if line.ends_with(';') || line.ends_with('}') || line.trim_start().starts_with('}') {
            return index;
        }
    }
    code.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, code: &str, comments: &str) {
        let (found_code, found_comments) = split(text);
        assert_eq!(found_code.trim_end(), code, "code of {text:?}");
        assert_eq!(found_comments.trim(), comments, "comments of {text:?}");
    }

    #[test]
    fn code_comments_and_strings_are_told_apart() {
        check("a // b", "a", "// b");
        check("a /* b /* c */ d */ e", "a                   e", "/* b /* c */ d */");
        check(r#"f("a // b") // c"#, "f(\"       )", "// c");
        check(r#"f("a \" b")"#, "f(\"       )", "");
        check(r##"f(r#"a " b"#)"##, "f(\"         )", "");
        check(r#"f(b"a", c"b")"#, "f(\"   , \"   )", "");
        check("f('\"', '\\'', 'a')", "f(\"  , \"   , \"  )", "");
        check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)", "");
        check("r#type + 1", "r#type + 1", "");
        check("\"never ended", "\"", "");
    }

    #[test]
    fn a_word_is_found_only_by_itself() {
        assert!(has_word("use std::time::{Duration, Instant};", "Instant"));
        assert!(!has_word("InstantLike + my_Instant", "Instant"));
        assert!(has_word("std::env::var", "std::env"));
    }

    #[test]
    fn modules_of_tests_are_marked_to_their_end() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n\
                    #[cfg(test)]\nmod other;\nfn d() {}\n#[cfg(test)]\nuse x::{\n    y,\n};\nfn e() {}";
        let source = Source::new(Path::new("crates/model/src/lib.rs"), text);
        let product: Vec<&str> = source.product_code(false).map(|(_, line)| line).collect();
        assert_eq!(product, ["fn a() {}", "fn c() {}", "fn d() {}", "fn e() {}"]);
        assert_eq!(source.member(), Some("model"));
    }
}
