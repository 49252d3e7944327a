//! What is in use by this process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use spawnery_model::ContentDigest;

/// How many leases there are of what.
#[derive(Debug, Default)]
pub(super) struct Leases {
    counts: Mutex<BTreeMap<ContentDigest, usize>>,
}

impl Leases {
    /// All that is leased.
    pub(super) fn all(&self) -> BTreeSet<ContentDigest> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

/// Keeps layers and environments in the store until it is dropped.
#[derive(Debug)]
#[must_use = "what is leased may be pruned when the lease is dropped"]
pub struct Lease {
    leases: Arc<Leases>,
    digests: BTreeSet<ContentDigest>,
}

impl Lease {
    pub(super) fn new(leases: &Arc<Leases>, digests: BTreeSet<ContentDigest>) -> Lease {
        let mut counts = leases.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in &digests {
            *counts.entry(digest.clone()).or_default() += 1;
        }
        drop(counts);
        Lease { leases: leases.clone(), digests }
    }

    /// What it keeps.
    pub fn digests(&self) -> &BTreeSet<ContentDigest> {
        &self.digests
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut counts = self.leases.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for digest in &self.digests {
            if let Some(count) = counts.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(digest);
                }
            }
        }
    }
}
