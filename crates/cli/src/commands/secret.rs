//! `spawnery secret`: values that only instances see.

use super::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::hidden_input;
use crate::manifest_file::read_at_most;
use crate::table::Table;
use crate::words::age;
use spawnery_client::api::SecretView;
use spawnery_model::Name;
use spawnery_model::limits::SECRET_BYTES_MAX;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Set secrets, list them without their values, and remove them
#[derive(Debug, clap::Args)]
pub(crate) struct Secret {
    #[command(subcommand)]
    command: SecretCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SecretCommand {
    /// Give a secret a value: from standard input, from a file, or typed unseen
    ///
    /// The value is never an argument, because everybody can see those. Of standard input a line
    /// break at its end is left out if there is no other; a file is taken as it is. Instances that
    /// run keep the old value.
    Set {
        /// The secret's name
        #[arg(value_name = "NAME")]
        name: String,
        /// The file that holds the value
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List secrets, without their values
    List,
    /// Forget secrets that no workload uses
    Remove {
        /// Their names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

impl Secret {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self.command {
            SecretCommand::Set { name, file } => set(context, &name, file.as_deref()).await,
            SecretCommand::List => list(context).await,
            SecretCommand::Remove { names } => {
                let client = context.client()?;
                for name in &names {
                    client.remove_secret(name).await?;
                }
                let lines: Vec<String> =
                    names.iter().map(|name| format!("removed {name}")).collect();
                let data = serde_json::json!({ "removed": names });
                context.output.said(&data, &lines.join("\n"))?;
                Ok(ExitCode::OK)
            }
        }
    }
}

async fn set(context: &Context, name: &str, file: Option<&Path>) -> Outcome {
    let checked = Name::new(name);
    checked.map_err(|error| CliError::usage(format!("`{name}` is not a name: {error}")))?;
    let client = context.client()?;
    let value = match file {
        Some(path) => read_at_most(path, SECRET_BYTES_MAX).map_err(|error| {
            CliError::usage(format!("cannot read {}: {error}", path.display()))
                .hint("see that the path is right and that you may read it")
        })?,
        None if std::io::stdin().is_terminal() => {
            hidden_input::ask(&format!("Value of {name}"), SECRET_BYTES_MAX)?
        }
        None => piped()?,
    };
    if value.is_empty() || value.len() > SECRET_BYTES_MAX {
        let found = match value.is_empty() {
            true => "the value is empty".to_owned(),
            false => "the value is too long".to_owned(),
        };
        let message = format!("{found}; a secret has 1 to {SECRET_BYTES_MAX} bytes");
        return Err(CliError::usage(message));
    }
    let set = client.set_secret(name, value).await?;
    context.output.said(&set, &format!("set {name}, version {}", set.version))?;
    Ok(ExitCode::OK)
}

/// The value that stands on standard input.
fn piped() -> Result<Vec<u8>, CliError> {
    let mut value = Vec::new();
    let limited = std::io::stdin().lock().take(SECRET_BYTES_MAX as u64 + 2);
    let mut limited = limited;
    let read = limited.read_to_end(&mut value);
    read.map_err(|error| CliError::failed(format!("cannot read standard input: {error}")))?;
    Ok(without_last_break(value))
}

/// Without the line break at the end, if it is the only one: that of `echo` and of text files.
fn without_last_break(mut value: Vec<u8>) -> Vec<u8> {
    if value.iter().position(|byte| *byte == b'\n') == value.len().checked_sub(1) {
        value.pop();
    }
    value
}

async fn list(context: &Context) -> Outcome {
    let secrets = context.client()?.secrets().await?;
    let none = "There are no secrets: set one with `spawnery secret set NAME`.";
    context.output.data(&secrets, || table(&secrets), none)?;
    Ok(ExitCode::OK)
}

fn table(secrets: &[SecretView]) -> Table {
    let mut table = Table::new(&["SECRET", "VERSION", "SET", "BY", "USED BY"]);
    for secret in secrets {
        let used_by: Vec<&str> = secret.used_by.iter().map(Name::as_str).collect();
        table.row([
            secret.name.as_str().into(),
            secret.version.to_string().into(),
            age(secret.changed_at_ms).into(),
            secret.by.as_str().into(),
            used_by.join(", ").into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_break_of_a_single_line_is_left_out() {
        let check = |value: &str, expected: &str| {
            assert_eq!(without_last_break(value.as_bytes().to_vec()), expected.as_bytes());
        };
        check("a", "a");
        check("a\n", "a");
        check("a\n\n", "a\n\n");
        check("a\nb\n", "a\nb\n");
        check("\n", "");
        check("", "");
    }
}
