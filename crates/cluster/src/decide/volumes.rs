//! Where may an instance go because of its volumes, and must it wait for one?

use crate::state::State;
use spawnery_model::{InstanceId, NodeId, Phase, VolumeMount, Workload};
use std::collections::BTreeSet;

/// What the volumes of an instance leave open.
pub(super) enum Room {
    /// Any node: it has no volumes, or none of them exists yet.
    Anywhere,
    /// One of these nodes: the volumes are there.
    Nodes(BTreeSet<NodeId>),
    /// None for now.
    Nowhere(String),
}

/// Looks at the volumes of an instance of `workload` that is to be placed, on `node` if that is said.
pub(super) fn room(state: &State, workload: &Workload, node: Option<NodeId>) -> Room {
    let mounts = mounts_of(workload);
    if mounts.is_empty() {
        return Room::Anywhere;
    }
    let nodes = match node {
        Some(node) => Some(BTreeSet::from([node])),
        None => match nodes_with_all(state, mounts) {
            Ok(nodes) => nodes,
            Err(reason) => return Room::Nowhere(reason),
        },
    };
    let Some(nodes) = nodes else {
        return Room::Anywhere;
    };
    let mut busy = None;
    let free = nodes.into_iter().filter(|node| match in_the_way(state, mounts, *node) {
        None => true,
        Some((mount, other)) => {
            busy = Some(format!("volume {} is in use by instance {other}", mount.name));
            false
        }
    });
    let free: BTreeSet<NodeId> = free.collect();
    match busy {
        Some(reason) if free.is_empty() => Room::Nowhere(reason),
        _ => Room::Nodes(free),
    }
}

/// The volumes that a workload mounts.
pub(crate) fn mounts_of(workload: &Workload) -> &[VolumeMount] {
    workload.surroundings.as_ref().map_or(&[], |surroundings| &surroundings.volumes)
}

/// The nodes that have all volumes that exist; `None` if none exists yet.
fn nodes_with_all(
    state: &State,
    mounts: &[VolumeMount],
) -> Result<Option<BTreeSet<NodeId>>, String> {
    let mut nodes: Option<BTreeSet<NodeId>> = None;
    for mount in mounts {
        let Some(volume) = state.volumes.get(&mount.name) else {
            continue;
        };
        nodes = Some(match nodes {
            None => volume.nodes.clone(),
            Some(nodes) => nodes.intersection(&volume.nodes).copied().collect(),
        });
    }
    match nodes {
        Some(nodes) if nodes.is_empty() => {
            let names: Vec<_> = mounts.iter().map(|mount| mount.name.as_str()).collect();
            Err(format!("its volumes {} are on different nodes", names.join(", ")))
        }
        nodes => Ok(nodes),
    }
}

/// A live instance on `node` that uses one of the volumes, where one of both wants it alone.
fn in_the_way<'a>(
    state: &State,
    mounts: &'a [VolumeMount],
    node: NodeId,
) -> Option<(&'a VolumeMount, InstanceId)> {
    let entry = state.node(node)?;
    let live = entry.instances.iter().filter_map(|id| state.instance(*id));
    live.filter(|other| other.phase != Phase::Ended && other.node == Some(node)).find_map(|other| {
        let theirs = mounts_of(state.definition_of(other));
        let clash = mounts.iter().find(|mine| {
            theirs
                .iter()
                .any(|their| their.name == mine.name && (their.exclusive || mine.exclusive))
        });
        clash.map(|mount| (mount, other.id))
    })
}
