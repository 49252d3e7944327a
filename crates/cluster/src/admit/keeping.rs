//! Are secrets and volumes there, and may they change?

use super::Outcome;
use crate::command::{Rejection, Reply};
use crate::decide::mounts_of;
use crate::record::Change;
use crate::state::State;
use spawnery_model::{Environment, Name, Phase, Workload, limits};

/// Every secret that `workloads` name exists.
pub(super) fn secrets_exist<'a>(
    state: &State,
    workloads: impl IntoIterator<Item = &'a Workload>,
) -> Result<(), Rejection> {
    for workload in workloads {
        if let Some(name) = secrets_of(workload).find(|name| !state.secrets.contains_key(*name)) {
            let workload = workload.name.clone();
            return Err(Rejection::SecretUnknown { name: name.clone(), workload: Some(workload) });
        }
    }
    Ok(())
}

/// The secrets that a workload uses, for its instances or for building its environment.
pub fn secrets_of(workload: &Workload) -> impl Iterator<Item = &Name> {
    let surroundings = workload.surroundings.as_deref();
    let uses = surroundings.into_iter().flat_map(|s| s.secrets.iter().map(|it| &it.name));
    let environment = surroundings.and_then(|s| s.environment.as_deref());
    uses.chain(environment.into_iter().flat_map(Environment::secrets))
}

pub(super) fn set_secret(state: &State, name: Name, sealed: Vec<u8>, by: String) -> Outcome {
    let known = state.secrets.contains_key(&name);
    if !known && state.secrets.len() >= limits::SECRETS_MAX {
        return Err(Rejection::Limit { what: "too many secrets", limit: limits::SECRETS_MAX });
    }
    Ok((Some(Change::SecretSet { name, sealed, by }), Reply::Done))
}

pub(super) fn remove_secret(state: &State, name: Name, by: String) -> Outcome {
    if !state.secrets.contains_key(&name) {
        return Err(Rejection::SecretUnknown { name, workload: None });
    }
    let uses = |workload: &&Workload| secrets_of(workload).any(|used| *used == name);
    if let Some(workload) = state.workloads().map(|entry| &entry.workload).find(uses) {
        return Err(Rejection::SecretInUse { workload: workload.name.clone(), name });
    }
    Ok((Some(Change::SecretRemoved { name, by }), Reply::Done))
}

pub(super) fn remove_volume(state: &State, name: Name, by: String) -> Outcome {
    let Some(volume) = state.volumes.get(&name) else {
        return Err(Rejection::VolumeUnknown { name });
    };
    let on = volume.nodes.iter().filter_map(|node| state.node(*node));
    let instances = on.flat_map(|entry| entry.instances.iter());
    let mut live = instances.filter_map(|id| state.instance(*id));
    let user = live.find(|instance| {
        let mounts = mounts_of(state.definition_of(instance));
        instance.phase != Phase::Ended && mounts.iter().any(|mount| mount.name == name)
    });
    match user {
        Some(instance) => Err(Rejection::VolumeInUse { name, instance: instance.id }),
        None => Ok((Some(Change::VolumeRemoved { name, by }), Reply::Done)),
    }
}
