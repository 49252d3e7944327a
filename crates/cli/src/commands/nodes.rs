//! `spawnery nodes`: the machines, and how another one joins.

use super::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::{Cell, Table};
use crate::words::{age, bytes, cores, until};
use owo_colors::Style;
use spawnery_client::api::NodeView;
use spawnery_model::NodeStatus;
use std::time::Duration;

/// List nodes, invite another machine, or forget one that is lost
#[derive(Debug, clap::Args)]
pub(crate) struct Nodes {
    #[command(subcommand)]
    command: Option<NodesCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum NodesCommand {
    /// Make a token by which one machine can join, and print what to run there
    Invite {
        /// For how long it can be used
        #[arg(long, value_name = "TIME", default_value = "1h")]
        life: String,
    },
    /// Forget a node that is lost
    Remove {
        /// Its name or id
        #[arg(value_name = "NODE")]
        node: String,
    },
}

impl Nodes {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self.command {
            None => list(context).await,
            Some(NodesCommand::Invite { life }) => invite(context, &life).await,
            Some(NodesCommand::Remove { node }) => {
                context.client()?.remove_node(&node).await?;
                let data = serde_json::json!({ "removed": node });
                context.output.said(&data, &format!("removed {node}"))?;
                Ok(ExitCode::OK)
            }
        }
    }
}

async fn list(context: &Context) -> Outcome {
    let nodes = context.client()?.nodes().await?;
    let none = "There are no nodes: add this machine with `spawnery server`, or another one with \
                `spawnery nodes invite`.";
    context.output.data(&nodes, || table(&nodes), none)?;
    Ok(ExitCode::OK)
}

fn table(nodes: &[NodeView]) -> Table {
    let head = ["NODE", "STATUS", "INSTANCES", "MEMORY", "CPU", "SINCE", "LABELS"];
    let mut table = Table::new(&head);
    for node in nodes {
        let style = match node.status {
            NodeStatus::Up if !node.draining => Style::new().green(),
            NodeStatus::Lost => Style::new().red(),
            _ => Style::new().yellow(),
        };
        let status = match node.draining {
            true => format!("{}, draining", node.status.word()),
            false => node.status.word().to_owned(),
        };
        let memory = format!("{}/{}", bytes(node.memory_reserved_bytes), bytes(node.memory_bytes));
        let cpu = format!("{}/{}", cores(node.cpu_reserved_millis), cores(node.cpu_millis));
        let labels = node.labels.iter().map(|(key, value)| format!("{key}={value}"));
        table.row([
            node.name.as_str().into(),
            Cell::styled(status, style),
            node.instances_live.to_string().into(),
            memory.into(),
            cpu.into(),
            age(node.changed_at_ms).into(),
            labels.collect::<Vec<_>>().join(" ").into(),
        ]);
    }
    table
}

async fn invite(context: &Context, life: &str) -> Outcome {
    let life = spawnery_manifest::parse_duration(life).map_err(|_| {
        CliError::usage(format!("--life: `{life}` is not a time")).hint("give it as 30m or 2h")
    })?;
    let client = context.client()?;
    let reply = client.join_token(Some(Duration::from_millis(life.0))).await?;
    if context.output.is_json {
        context.output.json(&reply)?;
        return Ok(ExitCode::OK);
    }
    let place = crate::place::Place::new(context.config.data()?);
    let link = place.server().filter(|server| server.url == client.url());
    let join = link.and_then(|server| server.link);
    let lines = [
        format!("Run this on the machine that is to join, within {}:", until(reply.expires_at_ms)),
        String::new(),
        format!(
            "  spawnery agent --join {} --token {}",
            join.as_deref().unwrap_or("HOST:PORT"),
            reply.token
        ),
    ];
    context.output.line(lines.join("\n"))?;
    if join.is_none() {
        crate::output::note(
            "HOST:PORT is where this server takes agents in: what it was given as --link-listen.",
        );
    }
    Ok(ExitCode::OK)
}
