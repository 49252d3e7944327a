//! `spawnery apply`: declare what is to run.

use super::{Outcome, diff};
use crate::context::Context;
use crate::exit::ExitCode;
use crate::manifest_file::ManifestFile;
use std::path::PathBuf;

/// Declare the workloads of a manifest
///
/// What is new is added, what is different is changed, what is equal stays. Applying twice
/// changes nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct Apply {
    /// The manifest: YAML, TOML or JSON by the ending of its name
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Apply {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let file = ManifestFile::read(&self.file)?;
        let client = context.client()?;
        file.send(&client).await?;
        let reply = client.apply(file.json()?).await?;
        diff::show(context, &reply)?;
        Ok(ExitCode::OK)
    }
}
