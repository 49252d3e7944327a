//! `spawnery drain`: empty a node.

use super::Outcome;
use crate::context::Context;
use crate::exit::ExitCode;
use serde_json::json;
use std::time::Duration;

/// Empty a node: it takes nothing new, and what it has moves elsewhere
#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    /// Its name or id
    #[arg(value_name = "NODE")]
    node: String,
    /// How long sessions may stay; they are warned, and end earlier when nobody uses them
    /// [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = crate::words::duration, conflicts_with = "undo")]
    deadline: Option<Duration>,
    /// Let it take instances again
    #[arg(long)]
    undo: bool,
}

impl Drain {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        context.client()?.drain(&self.node, !self.undo, self.deadline).await?;
        let node = &self.node;
        let text = match self.undo {
            true => format!("{node} takes instances again"),
            false => format!(
                "{node} is being drained; `spawnery instances --node {node}` shows what is left"
            ),
        };
        let data = json!({ "node": node, "draining": !self.undo });
        context.output.said(&data, &text)?;
        Ok(ExitCode::OK)
    }
}
