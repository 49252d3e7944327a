//! Counters that the engine keeps, for metrics and the status page.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What has happened since the controller started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    /// The number of this controller process.
    pub reign: u64,
    /// The position of the last durable record.
    pub position: u64,
    /// Commands that came in, reports of agents not counted.
    pub commands_total: u64,
    /// Reports of agents that came in.
    pub reports_total: u64,
    /// Reports that were refused because they were older than what is known.
    pub reports_refused_total: u64,
    /// Records that became durable.
    pub records_total: u64,
    /// Batches that became durable: each is one synced write.
    pub batches_total: u64,
    /// Time spent in appending, in microseconds.
    pub append_us_total: u64,
    /// Snapshots that were saved.
    pub snapshots_total: u64,
    /// Links to agents that are up.
    pub links_up: u64,
    /// Why nothing can be changed at the moment, if so.
    pub journal_full: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) reign: AtomicU64,
    pub(crate) position: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) reports: AtomicU64,
    pub(crate) reports_refused: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) append_us: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    pub(crate) journal_full: Mutex<Option<String>>,
}

impl Counters {
    pub(crate) fn read(&self, links_up: u64) -> Statistics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            reign: get(&self.reign),
            position: get(&self.position),
            commands_total: get(&self.commands),
            reports_total: get(&self.reports),
            reports_refused_total: get(&self.reports_refused),
            records_total: get(&self.records),
            batches_total: get(&self.batches),
            append_us_total: get(&self.append_us),
            snapshots_total: get(&self.snapshots),
            links_up,
            journal_full: self.journal_full.lock().expect("no holder panics").clone(),
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
