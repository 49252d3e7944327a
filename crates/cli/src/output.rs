//! What is printed, and how: for a person or for a program, with colour or without.

use crate::error::CliError;
use crate::table::Table;
use owo_colors::Style;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Columns when nobody says how many there are.
const COLUMNS_DEFAULT: usize = 80;

/// Where and how a command prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// Whether data is printed as JSON.
    pub(crate) is_json: bool,
    /// Whether standard output may be coloured.
    pub(crate) has_colour: bool,
    /// Columns of the terminal, if standard output is one.
    pub(crate) columns: Option<usize>,
}

impl Output {
    /// The output of this process. `color` is `auto`, `always` or `never`.
    pub(crate) fn new(is_json: bool, color: &str) -> Output {
        let is_terminal = io::stdout().is_terminal();
        // https://no-color.org: any value that is not empty.
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let has_colour = match color {
            "always" => true,
            "never" => false,
            _ => is_terminal && !is_unwanted && !is_json,
        };
        Output { is_json, has_colour, columns: is_terminal.then(columns) }
    }

    /// Prints a line.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_ref().as_bytes())?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// Prints a JSON document.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value);
        self.line(text.map_err(CliError::failed)?)
    }

    /// Prints one line of a stream of JSON documents.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value);
        self.line(text.map_err(CliError::failed)?)
    }

    /// Prints a table, or `none` if it has no rows.
    pub(crate) fn table(&self, table: &Table, none: &str) -> Result<(), CliError> {
        match table.is_empty() {
            true => self.line(none),
            false => self.bytes(table.render(self.columns, self.has_colour).as_bytes()),
        }
    }

    /// Prints data: as one JSON document, or as a table.
    pub(crate) fn data(
        &self,
        data: &impl Serialize,
        table: impl FnOnce() -> Table,
        none: &str,
    ) -> Result<(), CliError> {
        match self.is_json {
            true => self.json(data),
            false => self.table(&table(), none),
        }
    }

    /// Says what was done: as a JSON document, or in words.
    pub(crate) fn said(&self, data: &impl Serialize, words: &str) -> Result<(), CliError> {
        match self.is_json {
            true => self.json(data),
            false => self.line(words),
        }
    }

    /// `text` in a style, if there is colour.
    pub(crate) fn paint(&self, text: &str, style: Style) -> String {
        match self.has_colour {
            true => style.style(text).to_string(),
            false => text.to_owned(),
        }
    }
}

/// Says something beside the data, on standard error. Who does not listen misses it.
pub(crate) fn note(text: impl AsRef<str>) {
    let mut error = io::stderr().lock();
    let _ = error.write_all(text.as_ref().as_bytes());
    let _ = error.write_all(b"\n");
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { COLUMNS_DEFAULT } else { columns }
}
