//! `spawnery environment`: root filesystems, built once and used by many.

mod build;
mod export;
mod show;

use super::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::output::note;
use crate::table::Table;
use crate::words::{age, bytes, count};
use owo_colors::Style;
use spawnery_client::ExportFormat;
use spawnery_client::api::{EnvironmentView, PruneReply, PruneRequest};
use std::path::PathBuf;

/// Build environments, pin them by a lock, see what there is, and remove what is not used
#[derive(Debug, clap::Args)]
pub(crate) struct Environment {
    #[command(subcommand)]
    command: EnvironmentCommand,
}

#[derive(Debug, clap::Subcommand)]
enum EnvironmentCommand {
    /// Build the environments of a manifest, and show what their steps write
    Build {
        /// The manifest
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Only these; without, all of the manifest
        #[arg(value_name = "ENVIRONMENT")]
        names: Vec<String>,
        /// The node to build on; without, any
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
    },
    /// List environments: where they are, how large, and when they were last used
    List,
    /// Show an environment: its steps, layers, lock and what its build wrote
    Show {
        /// Its name or digest, or the digest's first four characters or more
        #[arg(value_name = "ENVIRONMENT")]
        environment: String,
    },
    /// Pin what a manifest's environments leave open, in a lock file beside it
    ///
    /// Digests of images, versions of packages and commits go into NAME.lock beside NAME.yaml, and
    /// stay the same wherever the manifest is used, until this command is run again. Everything is
    /// built on the way.
    Lock {
        /// The manifest
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Only these; without, all of the manifest
        #[arg(value_name = "ENVIRONMENT")]
        names: Vec<String>,
        /// The node to build on; without, any
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
    },
    /// Remove environments that nothing uses, the least recently used first
    Prune {
        /// What may stay on each node, such as 10G; without, each node's own limit
        #[arg(long, value_name = "AMOUNT", conflicts_with = "unused")]
        limit: Option<String>,
        /// Remove all that nothing uses
        #[arg(long)]
        unused: bool,
    },
    /// Write an environment as one archive, to a file or to standard output
    Export {
        /// Its name or digest, or the digest's first four characters or more
        #[arg(value_name = "ENVIRONMENT")]
        environment: String,
        /// Where it is written; `-` is standard output
        #[arg(short, long, value_name = "FILE", default_value = "-")]
        output: PathBuf,
        /// The root filesystem as a tar archive, or an OCI image
        #[arg(long, value_name = "FORMAT", default_value = "tar",
            value_parser = crate::args::word_of(&["tar", "oci"]))]
        format: String,
    },
}

impl Environment {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self.command {
            EnvironmentCommand::Build { file, names, node } => {
                build::build(context, &file, &names, node.as_deref()).await
            }
            EnvironmentCommand::Lock { file, names, node } => {
                build::lock(context, &file, &names, node.as_deref()).await
            }
            EnvironmentCommand::List => list(context).await,
            EnvironmentCommand::Show { environment } => show::show(context, &environment).await,
            EnvironmentCommand::Prune { limit, unused } => prune(context, limit, unused).await,
            EnvironmentCommand::Export { environment, output, format } => {
                let format = match format.as_str() {
                    "oci" => ExportFormat::Oci,
                    _ => ExportFormat::Tar,
                };
                export::export(context, &environment, &output, format).await
            }
        }
    }
}

/// The characters of a digest that are enough to name it.
fn short(digest: &spawnery_model::ContentDigest) -> String {
    digest.as_str().chars().take(12).collect()
}

async fn list(context: &Context) -> Outcome {
    let reply = context.client()?.environments().await?;
    let none = "There are no environments: they are built when an instance first needs them, or \
                with `spawnery environment build FILE`.";
    context.output.data(&reply, || table(&reply.environments), none)?;
    for node in reply.silent_nodes.iter().filter(|_| !context.output.is_json) {
        note(format!("{node} did not answer: what it has is missing here"));
    }
    Ok(ExitCode::OK)
}

fn table(environments: &[EnvironmentView]) -> Table {
    let mut table = Table::new(&["ENVIRONMENT", "DIGEST", "NODE", "SIZE", "USED", "USERS"]);
    for environment in environments {
        let name = environment.name.as_ref().map(ToString::to_string);
        let node = environment.node.as_ref().map(ToString::to_string);
        table.row([
            name.unwrap_or_else(|| "-".to_owned()).into(),
            short(&environment.digest).into(),
            node.unwrap_or_default().into(),
            bytes(environment.size_bytes).into(),
            age(environment.used_at_ms).into(),
            environment.users.to_string().into(),
        ]);
    }
    table
}

async fn prune(context: &Context, limit: Option<String>, unused: bool) -> Outcome {
    let limit = limit.as_deref().map(spawnery_manifest::parse_bytes).transpose();
    let limit = limit.map_err(|error| {
        CliError::usage(format!("--limit: {}", error.found)).hint("give it as 10G or 500M")
    })?;
    let request = PruneRequest { limit_bytes: limit.map(|limit| limit.0), unused };
    let reply = context.client()?.prune(&request).await?;
    context.output.data(&reply, || pruned_table(&reply), "No node is up.")?;
    match reply.nodes.iter().any(|node| node.error.is_some()) {
        true => Ok(ExitCode::FAILED),
        false => Ok(ExitCode::OK),
    }
}

fn pruned_table(reply: &PruneReply) -> Table {
    let mut table = Table::new(&["NODE", "FREED", "LEFT", "REMOVED"]);
    for node in &reply.nodes {
        let removed = match &node.error {
            Some(error) => crate::table::Cell::styled(error.clone(), Style::new().red()),
            None => count(node.environments as usize, "environment").into(),
        };
        table.row([
            node.node.as_str().into(),
            bytes(node.freed_bytes).into(),
            bytes(node.left_bytes).into(),
            removed,
        ]);
    }
    table
}
