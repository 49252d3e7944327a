//! What is wrong with a manifest: the place, the reason and the mend.

use crate::place::{Lines, Place, Span};
use std::fmt;

/// One thing that is wrong with a manifest.
///
/// It never holds a value of `env` or the content of a file, so it may be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters are meant, from `column`; at least 1.
    pub width: usize,
    /// The field, such as `services.web.memory`; empty when the text as a whole is meant.
    pub field: String,
    /// What was found.
    pub found: String,
    /// What would be right.
    pub expected: String,
    /// How to mend it, where that can be guessed: the nearest valid name, the right spelling.
    pub hint: Option<String>,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}; expected {}", self.found, self.expected)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// All that is wrong with a manifest, in the order of the text; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestErrors(Vec<ManifestError>);

/// Errors that are kept for one manifest: more than anybody mends at once, and few enough that a
/// hostile manifest cannot make a large answer.
pub const ERRORS_MAX: usize = 50;

/// Columns of a rendered error: what every terminal has.
const COLUMNS_MAX: usize = 80;

impl ManifestErrors {
    /// Puts `problems` into the order of the text and finds their lines.
    pub(crate) fn of(mut problems: Vec<Problem>, text: &str) -> ManifestErrors {
        debug_assert!(!problems.is_empty(), "an error needs a reason");
        problems.sort_by_key(|problem| problem.span);
        problems.truncate(ERRORS_MAX);
        let lines = Lines::of(text);
        let errors = problems.into_iter().map(|problem| problem.placed(&lines));
        ManifestErrors(errors.collect())
    }

    /// Errors whose places are known already.
    pub(crate) fn from_errors(errors: Vec<ManifestError>) -> ManifestErrors {
        ManifestErrors(errors)
    }

    /// The errors, in the order of the text.
    pub fn errors(&self) -> &[ManifestError] {
        &self.0
    }

    /// Shows the errors to a person, with the lines of `text` that they are about.
    ///
    /// Plain text without colour, at most 80 columns where words allow it. It quotes the
    /// manifest, so it is for its author's eyes only.
    pub fn render(&self, file_name: &str, text: &str) -> String {
        let lines = Lines::of(text);
        let mut shown = String::new();
        for error in &self.0 {
            error.render(file_name, &lines, &mut shown);
            shown.push('\n');
        }
        shown.push_str(&match self.0.len() {
            1 => "1 error\n".to_owned(),
            ERRORS_MAX.. => format!("{ERRORS_MAX} errors or more\n"),
            count => format!("{count} errors\n"),
        });
        shown
    }
}

impl fmt::Display for ManifestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestErrors {}

impl ManifestError {
    /// The place of an error that is not known yet.
    pub(crate) fn at(place: Place, field: String) -> ManifestError {
        ManifestError {
            line: place.line,
            column: place.column,
            width: place.width,
            field,
            found: String::new(),
            expected: String::new(),
            hint: None,
        }
    }

    fn render(&self, file_name: &str, lines: &Lines<'_>, shown: &mut String) {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let place = format!("{file_name}:{}:{}: {}", self.line, self.column, self.found);
        wrap(shown, "", "    ", &place);
        if let Some(line) = lines.line(self.line) {
            let (line, before, width) = window(line, self.column - 1, self.width);
            if !line.is_empty() {
                let carets = "^".repeat(width);
                shown.push_str(&format!("{margin} |\n{number} | {line}\n"));
                shown.push_str(&format!("{margin} | {}{carets}\n", " ".repeat(before)));
            }
        }
        let mut note = |word: &str, text: &str| {
            wrap(shown, &format!("  {word}: "), "            ", text);
        };
        if !self.field.is_empty() {
            note("field", &self.field);
        }
        note("expected", &self.expected);
        if let Some(hint) = &self.hint {
            note("hint", hint);
        }
    }
}

/// The part of a long line that shows `width` characters from `before`; then how many characters
/// stand before them, and how many of them are shown.
fn window(line: &str, before: usize, width: usize) -> (String, usize, usize) {
    const SHOWN_MAX: usize = 66;
    const BEFORE_MAX: usize = 40;
    let printable = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let skipped = match line.chars().count() {
        length if length <= SHOWN_MAX => 0,
        _ => before.saturating_sub(BEFORE_MAX),
    };
    let mut rest = line.chars().skip(skipped).map(printable);
    let mut shown: String = rest.by_ref().take(SHOWN_MAX).collect();
    if rest.next().is_some() {
        shown.push('…');
    }
    let left = if skipped > 0 { "…" } else { "" };
    let before = before - skipped;
    let width = width.min(SHOWN_MAX.saturating_sub(before)).max(1);
    (format!("{left}{}", shown.trim_end()), before + left.chars().count(), width)
}

/// Adds `text` in lines of at most [`COLUMNS_MAX`] columns, broken between words.
fn wrap(shown: &mut String, first: &str, rest: &str, text: &str) {
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in text.split(' ') {
        let columns = line.chars().count() + 1 + word.chars().count();
        if !is_empty && columns > COLUMNS_MAX {
            shown.push_str(&line);
            shown.push('\n');
            line = rest.to_owned();
        } else if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    shown.push_str(&line);
    shown.push('\n');
}

/// One thing that is wrong, while the text is still being read.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) span: Span,
    pub(crate) field: String,
    pub(crate) found: String,
    pub(crate) expected: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    /// A problem at `span`; the reader adds the field.
    pub(crate) fn new(
        span: Span,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Problem {
        Problem {
            span,
            field: String::new(),
            found: found.into(),
            expected: expected.into(),
            hint: None,
        }
    }

    /// Adds how to mend it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Problem {
        self.hint_maybe(Some(hint.into()))
    }

    /// Adds how to mend it, if that is known.
    pub(crate) fn hint_maybe(mut self, hint: Option<String>) -> Problem {
        self.hint = hint.or(self.hint);
        self
    }

    fn placed(self, lines: &Lines<'_>) -> ManifestError {
        let place = lines.place(self.span);
        ManifestError {
            line: place.line,
            column: place.column,
            width: place.width,
            field: self.field,
            found: printable(&self.found),
            expected: printable(&self.expected),
            hint: self.hint.as_deref().map(printable),
        }
    }
}

/// Without control characters, which a terminal would obey: a user's text is in it.
pub(crate) fn printable(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Characters of a user's text that an error repeats.
const QUOTED_LENGTH_MAX: usize = 40;

/// A user's text for an error: in backquotes, without control characters, not too long.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED_LENGTH_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("`{}`", printable(&shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_shown_around_its_error() {
        let line = format!("{}HERE{}", "x".repeat(100), "y".repeat(100));
        let (shown, before, width) = window(&line, 100, 4);
        let marked: String = shown.chars().skip(before).take(width).collect();
        assert_eq!(marked, "HERE");
        assert!(shown.chars().count() < 72, "{shown}");
        assert!(shown.starts_with('…') && shown.ends_with('…'));
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_shown() {
        assert_eq!(window("a\u{1b}[2Jb", 0, 1).0, "a\u{fffd}[2Jb");
        assert_eq!(quoted("a\u{1b}b"), "`a\\u{1b}b`");
    }

    #[test]
    fn words_are_wrapped_within_eighty_columns() {
        let mut shown = String::new();
        wrap(&mut shown, "  expected: ", "    ", &"word ".repeat(40));
        assert!(shown.lines().count() > 2);
        assert!(shown.lines().all(|line| line.chars().count() <= COLUMNS_MAX));
    }
}
