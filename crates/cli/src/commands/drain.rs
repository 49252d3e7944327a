//! `spawnery drain`: empty a node.

use super::Outcome;
use crate::context::Context;
use crate::exit::ExitCode;

/// Empty a node: it takes nothing new, and what it has moves elsewhere
#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    /// Its name or id
    #[arg(value_name = "NODE")]
    node: String,
    /// Let it take instances again
    #[arg(long)]
    undo: bool,
}

impl Drain {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        context.client()?.drain(&self.node, !self.undo).await?;
        let node = &self.node;
        context.output.line(match self.undo {
            true => format!("{node} takes instances again"),
            false => format!(
                "{node} is being drained; `spawnery instances --node {node}` shows what is left"
            ),
        })?;
        Ok(ExitCode::OK)
    }
}
