//! `spawnery volume`: folders that are kept between instances.

use super::Outcome;
use crate::context::Context;
use crate::exit::ExitCode;
use crate::table::Table;
use crate::words::bytes;
use spawnery_client::api::VolumeView;

/// List volumes, and remove them with all that is in them
#[derive(Debug, clap::Args)]
pub(crate) struct Volume {
    #[command(subcommand)]
    command: VolumeCommand,
}

#[derive(Debug, clap::Subcommand)]
enum VolumeCommand {
    /// List volumes: where they are, how large, and which instances use them
    List,
    /// Remove volumes that no live instance uses, with all that is in them
    Remove {
        /// Their names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

impl Volume {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        match self.command {
            VolumeCommand::List => {
                let volumes = client.volumes().await?;
                let none = "There are no volumes: they are made by the first instance that has \
                            `volumes: [NAME]` in its manifest.";
                context.output.data(&volumes, || table(&volumes), none)?;
            }
            VolumeCommand::Remove { names } => {
                for name in &names {
                    client.remove_volume(name).await?;
                }
                let lines: Vec<String> =
                    names.iter().map(|name| format!("removed {name}")).collect();
                let data = serde_json::json!({ "removed": names });
                context.output.said(&data, &lines.join("\n"))?;
            }
        }
        Ok(ExitCode::OK)
    }
}

/// Volumes as a table, with a row for each node that has one.
fn table(volumes: &[VolumeView]) -> Table {
    let mut table = Table::new(&["VOLUME", "NODE", "SIZE", "USED BY"]);
    for volume in volumes {
        let used_by: Vec<String> = volume.used_by.iter().map(|id| id.short()).collect();
        let used_by = used_by.join(", ");
        for place in &volume.nodes {
            table.row([
                volume.name.as_str().into(),
                place.node.as_str().into(),
                place.size_bytes.map_or("unknown".to_owned(), bytes).into(),
                used_by.clone().into(),
            ]);
        }
        if volume.nodes.is_empty() {
            let none = String::new;
            table.row([volume.name.as_str().into(), none().into(), none().into(), none().into()]);
        }
    }
    table
}
