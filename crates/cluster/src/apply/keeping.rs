//! What is kept beside instances: volumes and secrets.

use super::{About, Applier};
use crate::decide::mounts_of;
use crate::state::{SealedSecret, Volume};
use spawnery_model::{InstanceId, Name, NodeId};
use std::collections::BTreeSet;

impl Applier<'_> {
    /// The volumes of an instance that is placed are on its node from now on.
    pub(super) fn bind_volumes(&mut self, id: InstanceId, node: NodeId) {
        let instance = &self.state.instances[&id];
        let mounts = mounts_of(self.state.definition_of(instance));
        let names: Vec<Name> = mounts.iter().map(|mount| mount.name.clone()).collect();
        for name in names {
            let created_at = self.at;
            let fresh = || Volume { nodes: BTreeSet::new(), created_at };
            let volume = self.state.volumes.entry(name.clone()).or_insert_with(fresh);
            if volume.nodes.insert(node) {
                let node_name = self.state.nodes[&node].node.name.clone();
                let message = format!("volume {name} is on node {node_name}");
                let about = About { node: Some(node), ..About::default() };
                self.event("volume.created", about, message);
            }
        }
    }

    pub(super) fn volume_removed(&mut self, name: &Name, by: &str) {
        self.state.volumes.remove(name);
        let message = format!("volume {name} was removed by {by}");
        self.event("volume.removed", About::default(), message);
        self.room_appeared();
    }

    /// The volumes of a node are gone with it.
    pub(super) fn forget_volumes_of(&mut self, node: NodeId) {
        for volume in self.state.volumes.values_mut() {
            volume.nodes.remove(&node);
        }
        self.state.volumes.retain(|_, volume| !volume.nodes.is_empty());
    }

    pub(super) fn secret_set(&mut self, name: &Name, sealed: &[u8], by: &str) {
        let version = self.state.secrets.get(name).map_or(0, |secret| secret.version) + 1;
        let secret = SealedSecret {
            sealed: sealed.to_vec(),
            version,
            changed_at: self.at,
            by: by.to_owned(),
        };
        self.state.secrets.insert(name.clone(), secret);
        let message = format!("secret {name} was set by {by}, version {version}");
        self.event("secret.set", About::default(), message);
    }

    pub(super) fn secret_removed(&mut self, name: &Name, by: &str) {
        self.state.secrets.remove(name);
        let message = format!("secret {name} was removed by {by}");
        self.event("secret.removed", About::default(), message);
    }
}
