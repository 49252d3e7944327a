//! Environments and volumes on the nodes, and the content that clients send for them.

use crate::handle::{Controller, SubmitError};
use crate::links::StreamError;
use crate::secrets::SecretError;
use spawnery_agent::link::{Stream, read_frame};
use spawnery_cluster::{Command, Rejection};
use spawnery_model::{ContentDigest, Environment, InstanceId, Name, NodeId, NodeStatus, Phase};
use spawnery_wire::link::{
    BuildFrame, EnvironmentInfo, EnvironmentList, Pruned, StreamRequest, VolumeList,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a node may take to say what it has.
const LISTED_WITHIN: Duration = Duration::from_secs(30);

/// An environment and the node that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEnvironment {
    /// The name of the node.
    pub node: Name,
    /// The environment.
    pub environment: EnvironmentInfo,
}

/// What a node removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePruned {
    /// The name of the node.
    pub node: Name,
    /// What it removed, or why it could not.
    pub result: Result<Pruned, String>,
}

/// A volume as the cluster and its nodes know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeView {
    /// Its name.
    pub name: Name,
    /// The names of the nodes that have it, each with what it takes there in bytes, if the node
    /// is there to say so.
    pub nodes: Vec<(Name, Option<u64>)>,
    /// The live instances that use it.
    pub used_by: Vec<InstanceId>,
}

/// The news of a build, in order.
#[derive(Debug)]
pub struct BuildStream {
    stream: Stream,
    done: bool,
}

impl BuildStream {
    /// The next piece. After [`BuildFrame::Done`], [`BuildFrame::Failed`] or an error there is
    /// nothing more.
    pub async fn next(&mut self) -> Option<Result<BuildFrame, StreamError>> {
        if self.done {
            return None;
        }
        let frame = read_frame::<BuildFrame, _>(&mut self.stream).await;
        let last = |frame: &BuildFrame| {
            matches!(frame, BuildFrame::Done { .. } | BuildFrame::Failed { .. })
        };
        self.done = frame.as_ref().map_or(true, last);
        Some(frame.map_err(StreamError::from))
    }
}

impl Controller {
    /// Builds an environment on a node, by default the first one that is up. With `resolve`, what
    /// the lock leaves open is looked up again.
    pub async fn build_environment(
        &self,
        recipe: Environment,
        node: Option<NodeId>,
        resolve: bool,
    ) -> Result<BuildStream, BuildError> {
        let node = match node {
            Some(node) => node,
            None => self.nodes_up().await?.into_iter().next().ok_or(BuildError::NoNode)?.0,
        };
        let names = recipe.secrets().cloned().collect();
        let secrets = self.secrets_named(names).await?;
        let request = StreamRequest::Build { recipe: Box::new(recipe), secrets, resolve };
        let (_, stream) = self.open_on(node, request).await?;
        Ok(BuildStream { stream, done: false })
    }

    /// The environments of all nodes that are up, and the names of those that did not answer.
    pub async fn environments(&self) -> Result<(Vec<NodeEnvironment>, Vec<Name>), SubmitError> {
        let (mut found, mut silent) = (Vec::new(), Vec::new());
        for (node, name) in self.nodes_up().await? {
            match self.ask::<EnvironmentList>(node, StreamRequest::Environments).await {
                Ok(list) => found.extend(
                    list.environments
                        .into_iter()
                        .map(|environment| NodeEnvironment { node: name.clone(), environment }),
                ),
                Err(_) => silent.push(name),
            }
        }
        Ok((found, silent))
    }

    /// Removes environments that are not in use from all nodes, the least recently used first,
    /// until what is left takes at most `bytes_max`; without it, each node's own limit.
    pub async fn prune(&self, bytes_max: Option<u64>) -> Result<Vec<NodePruned>, SubmitError> {
        let mut pruned = Vec::new();
        for (node, name) in self.nodes_up().await? {
            let result = self.ask::<Pruned>(node, StreamRequest::Prune { bytes_max }).await;
            pruned.push(NodePruned { node: name, result: result.map_err(|it| it.to_string()) });
        }
        Ok(pruned)
    }

    /// An environment as one archive, from a node that has it.
    pub async fn export(&self, digest: ContentDigest, oci: bool) -> Result<Stream, StreamError> {
        let mut refused = None;
        for (node, _) in self.nodes_up().await? {
            let request = StreamRequest::Export { digest: digest.clone(), oci };
            match self.open_on(node, request).await {
                Ok((_, stream)) => return Ok(stream),
                Err(error) => refused = Some(error),
            }
        }
        let unknown = || StreamError::Unknown(format!("no node has the environment {digest}"));
        Err(refused.unwrap_or_else(unknown))
    }

    /// All volumes, by name.
    pub async fn volumes(&self) -> Result<Vec<VolumeView>, SubmitError> {
        let mut sizes = BTreeMap::new();
        for (node, _) in self.nodes_up().await? {
            if let Ok(list) = self.ask::<VolumeList>(node, StreamRequest::Volumes).await {
                let of_node = list.volumes.into_iter();
                sizes.extend(of_node.map(|volume| ((node, volume.name), volume.size_bytes)));
            }
        }
        self.query(move |state| {
            let view = |(name, volume): (&Name, &spawnery_cluster::state::Volume)| {
                let on = volume.nodes.iter().filter_map(|node| state.node(*node));
                let size = |node: NodeId| sizes.get(&(node, name.clone())).copied();
                let mounts = |id: &InstanceId| {
                    let found = state.instance(*id)?;
                    let surroundings = state.definition_of(found).surroundings.as_ref()?;
                    let uses = surroundings.volumes.iter().any(|mount| mount.name == *name);
                    (uses && found.phase != Phase::Ended).then_some(*id)
                };
                VolumeView {
                    name: name.clone(),
                    nodes: on.clone().map(|it| (it.node.name.clone(), size(it.node.id))).collect(),
                    used_by: on.flat_map(|it| it.instances.iter().filter_map(mounts)).collect(),
                }
            };
            state.volumes().map(view).collect()
        })
        .await
    }

    /// Removes a volume that no live instance uses, with all that is in it.
    pub async fn remove_volume(&self, name: Name, by: String) -> Result<(), StreamError> {
        let asked = name.clone();
        let nodes = self.query(move |state| {
            state.volume(&asked).map(|volume| volume.nodes.iter().copied().collect::<Vec<_>>())
        });
        let unknown = || SubmitError::Rejected(Rejection::VolumeUnknown { name: name.clone() });
        let nodes = nodes.await?.ok_or_else(unknown)?;
        // First it is taken out of use, so that no instance gets it while its data goes.
        self.submit(Command::RemoveVolume { name: name.clone(), by }, None).await?;
        for node in nodes {
            self.open_on(node, StreamRequest::RemoveVolume { name: name.clone() }).await?;
        }
        Ok(())
    }

    /// Asks a node something that it answers with one frame.
    pub(crate) async fn ask<T>(
        &self,
        node: NodeId,
        request: StreamRequest,
    ) -> Result<T, StreamError>
    where
        T: for<'b> minicbor::Decode<'b, ()>,
    {
        let (_, mut stream) = self.open_on(node, request).await?;
        let read = tokio::time::timeout(LISTED_WITHIN, read_frame::<T, _>(&mut stream)).await;
        Ok(read.map_err(|_| StreamError::NodeAway { node })??)
    }

    async fn nodes_up(&self) -> Result<Vec<(NodeId, Name)>, SubmitError> {
        self.query(|state| {
            let up = state.nodes().filter(|entry| entry.node.status == NodeStatus::Up);
            up.map(|entry| (entry.node.id, entry.node.name.clone())).collect()
        })
        .await
    }
}

/// An environment cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is nowhere to build it.
    #[error("no node is up that could build it")]
    NoNode,
    /// A secret that it needs cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The node refused, or cannot be reached.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl From<SubmitError> for BuildError {
    fn from(error: SubmitError) -> BuildError {
        BuildError::Stream(error.into())
    }
}
