//! The configuration file: TOML, one key for each setting.

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
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        FileError {
            line,
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

/// Reads the settings in `text`.
pub(crate) fn read(text: &str) -> Result<Vec<(&'static str, Vec<String>)>, FileError> {
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        FileError::at(text, offset, error.message())
    })?;
    let mut values = Vec::new();
    for (key, value) in table.get_ref() {
        let Some(setting) = setting(key.get_ref()) else {
            let reason = format!("there is no setting `{}`", key.get_ref());
            let mut error = FileError::at(text, key.span().start, reason);
            error.hint = Some(mend(key.get_ref()));
            return Err(error);
        };
        let items = items(setting, value).map_err(|expected| {
            let reason = format!("{}: expected {expected}", setting.name);
            FileError::at(text, value.span().start, reason)
        })?;
        values.push((setting.name, items));
    }
    Ok(values)
}

/// The name that was meant, or where all of them are shown.
fn mend(key: &str) -> String {
    let distance = |setting: &&Setting| strsim::damerau_levenshtein(setting.name, key);
    match SETTINGS.iter().min_by_key(distance) {
        Some(nearest) if distance(&nearest) <= key.len().div_ceil(3) => {
            format!("did you mean `{}`?", nearest.name)
        }
        _ => "`spawnery config` shows all settings".to_owned(),
    }
}

type Read = Result<Vec<String>, &'static str>;

fn items(setting: &Setting, value: &Spanned<DeValue<'_>>) -> Read {
    match (setting.is_list, value.get_ref()) {
        (true, DeValue::Array(array)) => array.iter().map(|item| scalar(item.get_ref())).collect(),
        (true, DeValue::Table(table)) => {
            let pairs = table.iter();
            let pair = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                Ok(format!("{}={}", key.get_ref(), scalar(value.get_ref())?))
            };
            pairs.map(pair).collect()
        }
        (true, _) => Err("a table of labels, such as { zone = \"eu-1\" }"),
        (false, DeValue::String(text)) => Ok(vec![text.to_string()]),
        (false, DeValue::Boolean(is_on)) if is_switch(setting) => Ok(vec![is_on.to_string()]),
        (false, DeValue::Integer(_) | DeValue::Float(_)) if is_amount(setting) => {
            Ok(vec![scalar(value.get_ref())?])
        }
        (false, _) if is_switch(setting) => Err("true or false"),
        (false, _) => Err("a text in quotes"),
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
