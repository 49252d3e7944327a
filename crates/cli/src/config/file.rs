//! The configuration file: TOML, one key for each setting, and a table for each command.

use super::options::{CommandOption, Kind};
use super::settings::{SETTINGS, Setting, setting};
use crate::error::CliError;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a configuration file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {reason}")]
pub(crate) struct FileError {
    /// The line, from 1.
    pub(crate) line: usize,
    /// The column in characters, from 1.
    pub(crate) column: usize,
    /// What is wrong.
    pub(crate) reason: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl FileError {
    fn at(text: &str, offset: usize, reason: impl Into<String>) -> FileError {
        let before = text.get(..offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        FileError {
            line: line(text, offset),
            column: before[start..].chars().count() + 1,
            reason: reason.into(),
            hint: None,
        }
    }

    /// The error for the user of the file at `path`.
    pub(crate) fn shown(self, path: &Path) -> CliError {
        let error = CliError::usage(format!("{}:{self}", path.display()));
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

fn line(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

/// One value of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The setting, or the option with its command, such as `logs.tail`.
    pub(crate) name: String,
    /// One text, or those of a list.
    pub(crate) items: Vec<String>,
    /// Its line, from 1.
    pub(crate) line: usize,
}

/// Reads the settings and the options of commands in `text`.
pub(crate) fn read(text: &str, options: &[CommandOption]) -> Result<Vec<Entry>, FileError> {
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        FileError::at(text, offset, error.message())
    })?;
    let mut reader = Reader { text, options, entries: Vec::new() };
    for (key, value) in table.get_ref() {
        match setting(key.get_ref()) {
            Some(setting) => reader.entry(setting.name, value, items(setting, value))?,
            None => reader.below(&[], key, value)?,
        }
    }
    Ok(reader.entries)
}

type Items = Result<Vec<String>, &'static str>;

struct Reader<'a> {
    text: &'a str,
    options: &'a [CommandOption],
    entries: Vec<Entry>,
}

type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;

impl Reader<'_> {
    /// Takes `items`, or says what was expected at `value`.
    fn entry(
        &mut self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        items: Items,
    ) -> Result<(), FileError> {
        let start = value.span().start;
        let items = items.map_err(|expected| {
            FileError::at(self.text, start, format!("{name}: expected {expected}"))
        })?;
        let line = line(self.text, start);
        self.entries.push(Entry { name: name.to_owned(), items, line });
        Ok(())
    }

    /// Reads what is called `key` in the table of the command `path`.
    fn below(
        &mut self,
        path: &[String],
        key: &Key<'_>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), FileError> {
        let word = key.get_ref().as_ref();
        let is_it = |option: &&CommandOption| option.command == path && option.key == word;
        if let Some(option) = self.options.iter().find(is_it) {
            return self.entry(&option.name(), value, items_of(option, value));
        }
        let path_below: Vec<String> = path.iter().cloned().chain([word.to_owned()]).collect();
        if !self.options.iter().any(|option| option.command.starts_with(&path_below)) {
            return Err(self.unknown(path, key));
        }
        let DeValue::Table(table) = value.get_ref() else {
            let name = path_below.join(".");
            let reason = format!("{name}: expected a table with options of `spawnery {name}`");
            let mut error = FileError::at(self.text, value.span().start, reason.replace('.', " "));
            if name == "config" {
                error.hint = Some("a file cannot name another one: use --config".to_owned());
            }
            return Err(error);
        };
        for (key, value) in table {
            self.below(&path_below, key, value)?;
        }
        Ok(())
    }

    fn unknown(&self, path: &[String], key: &Key<'_>) -> FileError {
        let word = key.get_ref().as_ref();
        let reason = match path {
            [] => format!("there is no setting `{word}`"),
            _ => format!("`spawnery {}` has no option `{word}`", path.join(" ")),
        };
        let mut error = FileError::at(self.text, key.span().start, reason);
        error.hint = Some(self.mend(path, word));
        error
    }

    /// What was meant, or where all names are shown.
    fn mend(&self, path: &[String], word: &str) -> String {
        if setting(word).is_some() {
            return format!("`{word}` is a setting of its own: write it above the first [table]");
        }
        let elsewhere = self.options.iter().find(|option| option.key == word);
        if let (true, Some(option)) = (path.is_empty(), elsewhere) {
            let table = option.command.join(".");
            return format!("`{word}` is an option of a command: write it below [{table}]");
        }
        let mut words: Vec<&str> = Vec::new();
        if path.is_empty() {
            words.extend(SETTINGS.iter().map(|setting| setting.name));
        }
        for option in self.options.iter().filter(|option| option.command.starts_with(path)) {
            let next = option.command.get(path.len()).unwrap_or(&option.key);
            words.push(next);
        }
        match nearest(word, &words) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => "`spawnery config --all` shows all names".to_owned(),
        }
    }
}

/// The one of `words` that is so near to `word` that it may be meant.
fn nearest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    let distance = |other: &&str| strsim::damerau_levenshtein(other, word);
    let nearest = words.iter().copied().min_by_key(distance)?;
    (distance(&nearest) <= word.len().div_ceil(3)).then_some(nearest)
}

fn items(setting: &Setting, value: &Spanned<DeValue<'_>>) -> Items {
    match (setting.is_list, value.get_ref()) {
        (true, value) => list(value).ok_or("a table of labels, such as { zone = \"eu-1\" }")?,
        (false, DeValue::String(text)) => Ok(vec![text.to_string()]),
        (false, DeValue::Boolean(is_on)) if is_switch(setting) => Ok(vec![is_on.to_string()]),
        (false, DeValue::Integer(_) | DeValue::Float(_)) if is_amount(setting) => {
            Ok(vec![scalar(value.get_ref())?])
        }
        (false, _) if is_switch(setting) => Err("true or false"),
        (false, _) => Err("a text in quotes"),
    }
}

fn items_of(option: &CommandOption, value: &Spanned<DeValue<'_>>) -> Items {
    match (option.kind, value.get_ref()) {
        (Kind::List, value) => list(value).ok_or("a list of texts, such as [\"A=1\", \"B=2\"]")?,
        (Kind::Switch, DeValue::Boolean(is_on)) => Ok(vec![is_on.to_string()]),
        (Kind::Switch, _) => Err("true or false"),
        (Kind::One, DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_)) => {
            Ok(vec![scalar(value.get_ref())?])
        }
        (Kind::One, _) => Err("a text in quotes or a number"),
    }
}

/// The items of an array, or of a table as `KEY=VALUE`; none if it is something else.
fn list(value: &DeValue<'_>) -> Option<Items> {
    match value {
        DeValue::Array(array) => Some(array.iter().map(|item| scalar(item.get_ref())).collect()),
        DeValue::Table(table) => {
            let pair = |(key, value): (&Key<'_>, &Spanned<DeValue<'_>>)| {
                Ok(format!("{}={}", key.get_ref(), scalar(value.get_ref())?))
            };
            Some(table.iter().map(pair).collect())
        }
        _ => None,
    }
}

fn is_switch(setting: &Setting) -> bool {
    (setting.check)("true").is_ok() && (setting.check)("maybe").is_err()
}

fn is_amount(setting: &Setting) -> bool {
    matches!(setting.name, "memory" | "cpu" | "pids")
}

fn scalar(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.as_str().to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(is_on) => Ok(is_on.to_string()),
        _ => Err("a text in quotes"),
    }
}
