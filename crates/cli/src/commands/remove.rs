//! `spawnery remove`: forget workloads.

use super::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::manifest_file::ManifestFile;
use spawnery_model::Name;
use std::path::PathBuf;

/// Remove workloads and end their instances
///
/// All of them or, if one is unknown, none.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// Their names
    #[arg(required_unless_present = "file", value_name = "NAME")]
    names: Vec<String>,
    /// Remove all workloads of this manifest
    #[arg(short, long, value_name = "FILE", conflicts_with = "names")]
    file: Option<PathBuf>,
}

impl Remove {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let names = match &self.file {
            Some(path) => {
                let workloads = ManifestFile::read(path)?.manifest.workloads;
                workloads.into_iter().map(|workload| workload.name).collect()
            }
            None => names(&self.names)?,
        };
        let reply = context.client()?.remove(names).await?;
        if context.output.is_json {
            context.output.json(&reply)?;
        } else {
            for name in &reply.removed {
                context.output.line(format!("removed {name}"))?;
            }
        }
        Ok(ExitCode::OK)
    }
}

fn names(texts: &[String]) -> Result<Vec<Name>, CliError> {
    let name = |text: &String| {
        let error = |error| CliError::usage(format!("`{text}` is not a name: {error}"));
        Name::new(text.as_str()).map_err(error)
    };
    texts.iter().map(name).collect()
}
