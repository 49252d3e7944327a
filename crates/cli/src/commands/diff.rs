//! `spawnery diff`: what would applying change?

use super::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::manifest_file::ManifestFile;
use crate::table::{Cell, Table};
use owo_colors::Style;
use spawnery_client::api::ManifestReply;
use std::path::PathBuf;

/// Show what applying a manifest would change
#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// The manifest: YAML, TOML or JSON by the ending of its name
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Exit with code 1 if it would change anything
    #[arg(long)]
    exit_code: bool,
}

impl Diff {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let file = ManifestFile::read(&self.file)?;
        let reply = context.client()?.diff(file.json()?).await?;
        show(context, &reply)?;
        let changes = reply.differences.iter().any(|it| it.verdict != "unchanged");
        match self.exit_code && changes {
            true => Ok(ExitCode::FAILED),
            false => Ok(ExitCode::OK),
        }
    }
}

/// Shows what applying changed, or would change.
pub(crate) fn show(context: &Context, reply: &ManifestReply) -> Result<(), CliError> {
    context.output.data(reply, || table(reply), "The manifest is empty.")
}

fn table(reply: &ManifestReply) -> Table {
    let mut table = Table::new(&["WORKLOAD", "KIND", "CHANGE", "FIELDS"]);
    for difference in &reply.differences {
        let style = match difference.verdict.as_str() {
            "added" => Style::new().green(),
            "changed" => Style::new().yellow(),
            _ => Style::new().dimmed(),
        };
        table.row([
            difference.name.as_str().into(),
            difference.kind.as_str().into(),
            Cell::styled(difference.verdict.as_str(), style),
            difference.fields.join(", ").into(),
        ]);
    }
    table
}
