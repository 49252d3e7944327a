//! Ending a node with all that runs on it, and then its server.

use super::Server;
use crate::error::CliError;
use spawnery_cluster::Command;
use spawnery_controller::Controller;
use spawnery_model::{InstanceId, NodeId, Phase};
use std::time::Duration;
use tokio::time::Instant;

/// How often the instances are looked at while they end.
const LOOK: Duration = Duration::from_millis(10);

/// How long killed instances may take to be gone: the kernel has to free their memory.
const KILL_WITHIN: Duration = Duration::from_secs(20);

/// Tells a server's own node to end all that it runs. Gives back the node, if there is one.
pub(crate) async fn begin(server: &Server) -> Result<Option<NodeId>, CliError> {
    let Some(node) = server.agent.as_ref().map(|agent| agent.node_id()) else {
        return Ok(None);
    };
    let told = server.controller.submit(Command::StopNode { node }, None).await;
    told.map_err(CliError::failed)?;
    Ok(Some(node))
}

/// The instances on a node that are not ended.
pub(crate) async fn live(
    controller: &Controller,
    node: NodeId,
) -> Result<Vec<InstanceId>, CliError> {
    let found = controller.query(move |state| {
        let all = state.instances_from(InstanceId(spawnery_model::Id::from_bits(0)));
        let here = all.filter(|it| it.node == Some(node) && it.phase != Phase::Ended);
        here.map(|instance| instance.id).collect()
    });
    found.await.map_err(CliError::failed)
}

/// Waits until nothing runs on a node any more. `told` hears how much is left.
pub(crate) async fn wait(
    controller: &Controller,
    node: NodeId,
    mut told: impl FnMut(usize),
) -> Result<(), CliError> {
    loop {
        let left = live(controller, node).await?.len();
        if left == 0 {
            return Ok(());
        }
        told(left);
        tokio::time::sleep(LOOK).await;
    }
}

/// Kills what runs on a node, without asking.
pub(crate) async fn kill(server: &Server, node: NodeId) -> Result<(), CliError> {
    let client = server.client()?;
    let signal = rustix::process::Signal::KILL.as_raw();
    for instance in live(&server.controller, node).await? {
        // It may have ended meanwhile.
        let _ = client.signal(&instance.to_string(), 0, signal).await;
    }
    Ok(())
}

/// Ends a server's node with all that it runs, at once, and then the server.
pub(crate) async fn kill_all(server: Server) -> Result<(), CliError> {
    let ended = kill_node(&server).await;
    finish(server).await;
    ended
}

async fn kill_node(server: &Server) -> Result<(), CliError> {
    let Some(node) = begin(server).await? else {
        return Ok(());
    };
    let until = Instant::now() + KILL_WITHIN;
    while !live(&server.controller, node).await?.is_empty() {
        if Instant::now() > until {
            return Err(CliError::failed("what ran could not be killed in time"));
        }
        kill(server, node).await?;
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Ends the launcher, which nothing needs any more, and then the server.
pub(crate) async fn finish(server: Server) {
    if let Some(agent) = &server.agent
        && let Err(error) = agent.stop_launcher().await
    {
        tracing::warn!("the launcher goes on: {error}");
    }
    server.stop().await;
}
