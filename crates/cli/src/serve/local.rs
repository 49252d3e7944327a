//! The agent of this machine, in the same process as its controller.

use super::{NodeOptions, VERSION};
use crate::error::CliError;
use crate::place::Place;
use spawnery_agent::{Agent, Local, SavedIdentity};
use spawnery_cluster::Command;
use spawnery_controller::{Controller, Secret};
use spawnery_model::DurationMs;
use std::path::PathBuf;
use std::sync::Arc;

/// How long the agent of this machine has to join, which it does at once.
const JOIN_WITHIN: DurationMs = DurationMs::from_secs(60);

/// Who made the token of the agent of this machine.
const BY: &str = "server";

/// Starts the agent of this machine. At its first start it joins by a token that nobody sees.
pub(crate) async fn local_agent(
    controller: &Controller,
    place: &Place,
    node: NodeOptions,
) -> Result<Agent, CliError> {
    let data_dir = place.agent();
    let identity = SavedIdentity::load(&data_dir).map_err(CliError::failed)?;
    let join_secret = match identity {
        Some(_) => None,
        None => Some(join_secret(controller).await?),
    };
    let config = agent_config(data_dir, node)?;
    let local = controller.clone();
    let connector = Local::new(move |far| {
        let controller = local.clone();
        tokio::spawn(async move { controller.serve_link(far).await });
        Ok(())
    });
    let started = Agent::start(config, Arc::new(connector), join_secret).await;
    started.map_err(|error| {
        CliError::failed(format!("the node cannot be started: {error}"))
            .hint("`spawnery doctor` says what this machine lacks")
    })
}

/// How an agent is started whose data is in `data_dir`.
pub(crate) fn agent_config(
    data_dir: PathBuf,
    node: NodeOptions,
) -> Result<spawnery_agent::Config, CliError> {
    let launcher_exe = std::env::current_exe().map_err(|error| {
        CliError::failed(format!("cannot find this program to start the launcher: {error}"))
    })?;
    Ok(spawnery_agent::Config {
        data_dir,
        name: node.name,
        labels: node.labels,
        capacity: node.capacity,
        launcher_exe,
        version: VERSION.to_owned(),
        allowances: node.allowances,
        build: node.build,
        runtimes: node.runtimes,
        environments_bytes_max: node.environments_bytes_max,
    })
}

async fn join_secret(controller: &Controller) -> Result<String, CliError> {
    let secret = Secret::generate();
    let command =
        Command::CreateJoinToken { hash: secret.hash(), life: JOIN_WITHIN, by: BY.to_owned() };
    let made = controller.submit(command, None).await;
    made.map_err(CliError::failed)?;
    Ok(secret.reveal().to_owned())
}
