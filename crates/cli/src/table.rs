//! Tables: aligned columns without borders.

use owo_colors::Style;

/// Columns between two cells.
const GAP: usize = 2;

/// The least that the last column is cut to.
const LAST_COLUMN_MIN: usize = 12;

/// One cell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        let text = text.into();
        // What a terminal would obey is not for a table.
        let text = text.replace(|c: char| c.is_control(), " ");
        Cell { text, style: Style::new() }
    }
}

impl Cell {
    /// The same text in a style.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Cell {
        Cell { style, ..Cell::from(text) }
    }
}

/// Rows under a head.
#[derive(Debug, Default)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(head: &[&'static str]) -> Table {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn row<const COUNT: usize>(&mut self, cells: [Cell; COUNT]) {
        debug_assert_eq!(COUNT, self.head.len(), "a cell for each column");
        self.rows.push(cells.into());
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text. With `columns`, its last column is cut so that lines fit.
    pub(crate) fn render(&self, columns: Option<usize>, has_colour: bool) -> String {
        let bold = Style::new().bold();
        let head = self.head.iter().map(|text| Cell::styled(*text, bold));
        let head: Vec<Cell> = head.collect();
        let widths = self.widths();
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            line(&mut text, row, &widths, columns, has_colour);
        }
        text
    }

    /// The width of each column but the last.
    fn widths(&self) -> Vec<usize> {
        let count = self.head.len().saturating_sub(1);
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| length(&row[column].text));
            cells.max().unwrap_or(0).max(self.head[column].len())
        };
        (0..count).map(width).collect()
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn line(
    out: &mut String,
    row: &[Cell],
    widths: &[usize],
    columns: Option<usize>,
    has_colour: bool,
) {
    let before: usize = widths.iter().map(|width| width + GAP).sum();
    let mut padding = 0;
    for (column, cell) in row.iter().enumerate() {
        let mut text = cell.text.clone();
        let last = widths.get(column).is_none();
        if let (true, Some(columns)) = (last, columns) {
            text = cut(text, columns.saturating_sub(before).max(LAST_COLUMN_MIN));
        }
        if text.is_empty() {
            padding += widths.get(column).map_or(0, |width| width + GAP);
            continue;
        }
        out.extend(std::iter::repeat_n(' ', padding));
        padding = widths.get(column).map_or(0, |width| width + GAP - length(&text));
        match has_colour {
            true => out.push_str(&cell.style.style(&text).to_string()),
            false => out.push_str(&text),
        }
    }
    out.push('\n');
}

/// At most `width` characters of `text`.
fn cut(text: String, width: usize) -> String {
    match length(&text) > width {
        true => text.chars().take(width - 1).chain(['…']).collect(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "PHASE", "WHY"]);
        table.row(["web".into(), "ready".into(), "".into()]);
        table.row(["counter".into(), "".into(), "a long reason in words".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_text() {
        let expected =
            "NAME     PHASE  WHY\nweb      ready\ncounter         a long reason in words\n";
        assert_eq!(table().render(None, false), expected);
    }

    #[test]
    fn the_last_column_gives_way_to_the_terminal() {
        let expected = "NAME     PHASE  WHY\nweb      ready\ncounter         a long reas…\n";
        assert_eq!(table().render(Some(28), false), expected);
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        let mut table = Table::new(&["A"]);
        table.row(["a\u{1b}[2Jb\n".into()]);
        assert_eq!(table.render(None, false), "A\na [2Jb \n");
    }
}
