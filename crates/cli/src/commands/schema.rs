//! `spawnery schema`: what an editor needs to help with manifests.

use super::Outcome;
use crate::context::Context;
use crate::exit::ExitCode;

/// Print the JSON Schema of manifests, for editors
#[derive(Debug, clap::Args)]
pub(crate) struct Schema {}

impl Schema {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        context.output.line(spawnery_manifest::schema().trim_end())?;
        Ok(ExitCode::OK)
    }
}
