//! `spawnery config`: what is set, and who said so.

use super::Outcome;
use crate::config::SETTINGS;
use crate::context::Context;
use crate::exit::ExitCode;
use crate::table::Table;
use serde::Serialize;

/// Show each setting with its value and where it came from
///
/// Options beat the environment, which beats the configuration file: --config,
/// $XDG_CONFIG_HOME/spawnery/config.toml or /etc/spawnery/config.toml. It is TOML, with the names
/// shown here as keys. Secrets are not shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Config {}

#[derive(Debug, Serialize)]
struct Row {
    setting: &'static str,
    value: Option<String>,
    source: Option<String>,
    variable: &'static str,
}

impl Config {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let rows: Vec<Row> = SETTINGS
            .iter()
            .map(|setting| {
                let value = context.config.value(setting.name);
                Row {
                    setting: setting.name,
                    value: value.map(|value| match setting.is_secret {
                        true => "********".to_owned(),
                        false => value.items.join(","),
                    }),
                    source: value.map(|value| value.source.to_string()),
                    variable: setting.variable,
                }
            })
            .collect();
        let table = || {
            let mut table = Table::new(&["SETTING", "VALUE", "SOURCE", "VARIABLE"]);
            for row in &rows {
                table.row([
                    row.setting.into(),
                    row.value.clone().unwrap_or_else(|| "-".to_owned()).into(),
                    row.source.clone().unwrap_or_else(|| "-".to_owned()).into(),
                    row.variable.into(),
                ]);
            }
            table
        };
        context.output.data(&rows, table, "")?;
        Ok(ExitCode::OK)
    }
}
