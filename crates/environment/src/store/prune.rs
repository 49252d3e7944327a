//! Makes room: what was used least recently goes first, and never what is in use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use spawnery_model::ContentDigest;

use super::{Store, StoreError};
use crate::layer::LayerRecord;

/// What was removed, and what is left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Environments that were removed.
    pub environments: Vec<ContentDigest>,
    /// Keys of layers that were removed.
    pub layers: Vec<ContentDigest>,
    /// Files of the content that were removed.
    pub content: Vec<ContentDigest>,
    /// The space that is free now, in bytes.
    pub freed_bytes: u64,
    /// What the store still holds, in bytes.
    pub left_bytes: u64,
}

/// What the store holds, while it is decided what goes.
struct Inventory {
    environments: BTreeMap<ContentDigest, (BTreeSet<ContentDigest>, u64)>,
    layers: BTreeMap<ContentDigest, (LayerRecord, u64)>,
    content: BTreeMap<ContentDigest, (u64, u64)>,
    in_use: BTreeSet<ContentDigest>,
}

/// Something that may go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Environment(ContentDigest),
    Layer(ContentDigest),
    Content(ContentDigest),
}

impl Store {
    /// Removes what was used least recently until the store holds at most `size_bytes_max`, or
    /// only what is in use. In use is what has a lease and what `in_use` names: environments with
    /// their layers, layers with those below them, files of the content.
    ///
    /// # Errors
    ///
    /// When something cannot be read or removed.
    pub fn prune(
        &self,
        size_bytes_max: u64,
        in_use: &BTreeSet<ContentDigest>,
    ) -> Result<Pruned, StoreError> {
        let _changes = self.inner.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inventory = self.inventory(in_use)?;
        let mut pruned = Pruned { left_bytes: inventory.size_bytes(), ..Pruned::default() };
        while pruned.left_bytes > size_bytes_max {
            let Some(item) = inventory.least_recently_used() else { break };
            let size_bytes = self.remove(&item, &mut inventory)?;
            pruned.freed_bytes += size_bytes;
            pruned.left_bytes -= size_bytes;
            match item {
                Item::Environment(digest) => pruned.environments.push(digest),
                Item::Layer(key) => pruned.layers.push(key),
                Item::Content(digest) => pruned.content.push(digest),
            }
        }
        Ok(pruned)
    }

    /// [`Store::prune`] to the limit with which the store was opened.
    ///
    /// # Errors
    ///
    /// As [`Store::prune`].
    pub fn prune_to_limit(&self, in_use: &BTreeSet<ContentDigest>) -> Result<Pruned, StoreError> {
        self.prune(self.inner.size_bytes_max, in_use)
    }

    /// What the store holds, in bytes.
    ///
    /// # Errors
    ///
    /// When something cannot be read.
    pub fn size_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.inventory(&BTreeSet::new())?.size_bytes())
    }

    fn inventory(&self, in_use: &BTreeSet<ContentDigest>) -> Result<Inventory, StoreError> {
        let environments = self.environments()?.into_iter();
        let content = self.content().list()?.into_iter();
        let layers = self.layers_by_use()?.into_iter();
        let mut inventory = Inventory {
            environments: environments
                .map(|it| (it.record.digest, (it.record.layers.into_iter().collect(), it.used_ms)))
                .collect(),
            layers: layers.map(|(record, used)| (record.key.clone(), (record, used))).collect(),
            content: content.map(|it| (it.digest, (it.size_bytes, it.used_ms))).collect(),
            in_use: in_use.clone(),
        };
        inventory.in_use.extend(self.inner.leases.all());
        inventory.spread_use();
        Ok(inventory)
    }

    fn remove(&self, item: &Item, inventory: &mut Inventory) -> Result<u64, StoreError> {
        match item {
            Item::Environment(digest) => {
                inventory.environments.remove(digest);
                self.remove_environment(digest)?;
                Ok(0)
            }
            Item::Layer(key) => {
                self.discard(&self.layer_folder(key))?;
                Ok(inventory.layers.remove(key).map_or(0, |(record, _)| record.size_bytes))
            }
            Item::Content(digest) => {
                self.content().remove(digest)?;
                Ok(inventory.content.remove(digest).map_or(0, |(size_bytes, _)| size_bytes))
            }
        }
    }
}

impl Inventory {
    fn size_bytes(&self) -> u64 {
        let layers = self.layers.values().map(|(record, _)| record.size_bytes);
        layers.chain(self.content.values().map(|(size_bytes, _)| *size_bytes)).sum()
    }

    /// Who uses an environment uses its layers, and who uses a layer those below it.
    fn spread_use(&mut self) {
        let mut used = self.in_use.clone();
        for digest in &self.in_use {
            if let Some((layers, _)) = self.environments.get(digest) {
                used.extend(layers.iter().cloned());
            }
        }
        // The parents of a layer are all that are below it.
        for key in used.clone() {
            if let Some((record, _)) = self.layers.get(&key) {
                used.extend(record.parents.iter().cloned());
            }
        }
        self.in_use = used;
    }

    /// What goes next. A layer can go only when no environment and no other layer rests on it:
    /// one that is built again need not be the same to the last bit.
    fn least_recently_used(&self) -> Option<Item> {
        let mut needed: BTreeSet<&ContentDigest> = BTreeSet::new();
        needed.extend(self.environments.values().flat_map(|(layers, _)| layers));
        needed.extend(self.layers.values().flat_map(|(record, _)| &record.parents));
        let environments = self
            .environments
            .iter()
            .map(|(digest, (_, used))| (*used, digest, Item::Environment(digest.clone())));
        let layers = self
            .layers
            .iter()
            .filter(|(key, _)| !needed.contains(key))
            .map(|(key, (_, used))| (*used, key, Item::Layer(key.clone())));
        let content = self
            .content
            .iter()
            .map(|(digest, (_, used))| (*used, digest, Item::Content(digest.clone())));
        environments
            .chain(layers)
            .chain(content)
            .filter(|(_, digest, _)| !self.in_use.contains(*digest))
            .min_by(|a, b| (a.0, &a.2).cmp(&(b.0, &b.2)))
            .map(|(_, _, item)| item)
    }
}
