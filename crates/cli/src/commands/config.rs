//! `spawnery config`: what is set, and who said so.

use super::Outcome;
use crate::config::{Choice, SETTINGS, Setting, Source, Value};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::output::Output;
use crate::table::Table;
use serde::Serialize;

/// Show each setting with its value and where it came from
///
/// Options beat the environment, which beats the configuration file: --config,
/// $XDG_CONFIG_HOME/spawnery/config.toml or /etc/spawnery/config.toml. It is TOML, with the names
/// shown here as keys, above a table for each command: `tail = 50` below [logs], or
/// `env = ["A=1"]` below [session.exec]. In the environment, the values of a list are separated
/// by commas, and a switch is true or false; on the command line, --NAME=false undoes a switch.
/// Only --config cannot be in the file. Secrets and the values of `env` are not shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Config {
    /// Show the options that nobody has set too
    #[arg(short, long)]
    all: bool,
}

/// What a value that is not shown is shown as.
const HIDDEN: &str = "********";

#[derive(Debug, Serialize)]
struct Row {
    /// The command, if it is an option of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    /// The key in the file, below that of the command.
    setting: String,
    value: Option<String>,
    source: Option<String>,
    variable: String,
    #[serde(skip)]
    is_set: bool,
    /// The same in a word, for a table whose next column says which variable.
    #[serde(skip)]
    source_word: String,
}

impl Config {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let settings = SETTINGS.iter().map(|setting| {
            let value = context.config.value(setting.name);
            Row::of_setting(setting, value)
        });
        let options = context.config.choices().iter().map(Row::of_option);
        // A program can choose for itself.
        let is_shown =
            |row: &Row| self.all || context.output.is_json || row.command.is_none() || row.is_set;
        let rows: Vec<Row> = settings.chain(options).filter(is_shown).collect();
        match context.output.is_json {
            true => context.output.json(&rows)?,
            false => show(&context.output, &rows)?,
        }
        Ok(ExitCode::OK)
    }
}

impl Row {
    fn of_setting(setting: &Setting, value: Option<&Value>) -> Row {
        Row::new(setting.name, setting.variable, setting.is_secret, value)
    }

    fn of_option(choice: &Choice) -> Row {
        let option = &choice.option;
        let row = Row::new(&option.key, &option.variable, option.is_secret, choice.value.as_ref());
        Row { command: Some(option.command.join(".")), ..row }
    }

    fn new(name: &str, variable: &str, is_secret: bool, value: Option<&Value>) -> Row {
        let source = value.map(|value| &value.source);
        Row {
            command: None,
            setting: name.to_owned(),
            value: value.map(|value| match is_secret {
                true => HIDDEN.to_owned(),
                false => value.items.join(","),
            }),
            source: source.map(Source::to_string),
            variable: variable.to_owned(),
            is_set: source.is_some_and(|source| *source != Source::Default),
            source_word: match source {
                Some(Source::Environment(_)) => "variable".to_owned(),
                Some(Source::File(..)) => "file".to_owned(),
                Some(other) => other.to_string(),
                None => "-".to_owned(),
            },
        }
    }
}

/// Shows the settings, and then the options of each command below the key of its table.
fn show(output: &Output, rows: &[Row]) -> Result<(), CliError> {
    for group in rows.chunk_by(|one, other| one.command == other.command) {
        if let Some(command) = group.first().and_then(|row| row.command.as_ref()) {
            output.line(format!("\n[{command}]"))?;
        }
        let mut table = Table::new(&["SETTING", "VALUE", "SOURCE", "VARIABLE"]);
        for row in group {
            table.row([
                row.setting.as_str().into(),
                row.value.as_deref().unwrap_or("-").into(),
                row.source_word.as_str().into(),
                row.variable.as_str().into(),
            ]);
        }
        output.table(&table, "")?;
    }
    let file = rows.iter().find(|row| row.source_word == "file");
    match file.and_then(|row| row.source.as_ref()) {
        Some(path) => output.line(format!("\nfile: {path}")),
        None => Ok(()),
    }
}
