//! Places in a text: byte spans while reading, lines and columns for people.

use std::ops::Range;

/// A stretch of a text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    /// Where it starts.
    pub(crate) start: usize,
    /// Where it ends; never before `start`.
    pub(crate) end: usize,
}

impl Span {
    /// The start of the text, for what is wrong with the text as a whole.
    pub(crate) const START: Span = Span { start: 0, end: 0 };
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Span {
        Span { start: range.start, end: range.end.max(range.start) }
    }
}

/// A place as an editor shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The line, from 1.
    pub(crate) line: usize,
    /// The column in characters, from 1.
    pub(crate) column: usize,
    /// Characters to underline: at least one, and none of the next line.
    pub(crate) width: usize,
}

/// The lines of a text. A line ends with `\n`, `\r\n` or a lone `\r`, as in YAML 1.2 (5.4).
pub(crate) struct Lines<'t> {
    text: &'t str,
    /// Where each line starts, in bytes.
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    /// Finds the lines of `text`.
    pub(crate) fn of(text: &'t str) -> Lines<'t> {
        let bytes = text.as_bytes();
        let ends_line = |at: &usize| match bytes[*at] {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        };
        let mut starts = vec![0];
        starts.extend((0..bytes.len()).filter(ends_line).map(|at| at + 1));
        Lines { text, starts }
    }

    /// The place of `span`; a span beyond the end is at the end.
    pub(crate) fn place(&self, span: Span) -> Place {
        let start = character_start(self.text, span.start);
        let line = self.starts.partition_point(|at| *at <= start);
        let line_text = self.line(line).unwrap_or_default();
        let before = start - self.starts[line - 1];
        let before = character_start(line_text, before);
        let until = character_start(line_text, before + (span.end - span.start));
        Place {
            line,
            column: line_text[..before].chars().count() + 1,
            width: line_text[before..until].trim_end().chars().count().max(1),
        }
    }

    /// The text of a line, from 1, without what ends it.
    pub(crate) fn line(&self, line: usize) -> Option<&'t str> {
        let start = *self.starts.get(line.checked_sub(1)?)?;
        let end = self.starts.get(line).copied().unwrap_or(self.text.len());
        Some(self.text[start..end].trim_end_matches(['\r', '\n']))
    }
}

/// The start of the character that the byte `at` belongs to, or the end of `text`.
fn character_start(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_characters_and_every_kind_of_line_end() {
        let check = |text: &str, span: Range<usize>, expected: (usize, usize, usize)| {
            let place = Lines::of(text).place(span.into());
            assert_eq!((place.line, place.column, place.width), expected, "{text:?}");
        };
        check("", 0..0, (1, 1, 1));
        check("", 9..12, (1, 1, 1));
        check("ab\ncd", 3..5, (2, 1, 2));
        check("ab\r\ncd", 4..5, (2, 1, 1));
        check("ab\rcd", 3..5, (2, 1, 2));
        check("äöü: 1", 6..7, (1, 4, 1));
        check("a: x\nb: y", 3..9, (1, 4, 1));
        check("a\n", 2..2, (2, 1, 1));
        check("ä", 1..2, (1, 1, 1));
    }
}
