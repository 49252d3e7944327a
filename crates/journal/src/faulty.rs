//! A journal on a simulated disk that fails when told to.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    AppendError, Entry, Journal, MemoryJournal, OpenError, Position, Problem, Pruned, ReadError,
    Snapshot, Verification,
};

/// A journal in memory, on a simulated disk that can be full, fail, lie about syncs, lose its
/// tail and return damaged entries.
///
/// Clones share one disk: give one to the controller and steer the disk through another.
/// A simulated process ends with [`crash`](FaultyJournal::crash), after which every existing
/// clone only fails, and the next process begins with [`reopen`](FaultyJournal::reopen). All is
/// deterministic.
#[derive(Debug, Clone, Default)]
pub struct FaultyJournal {
    disk: Arc<Mutex<Disk>>,
    generation: u64,
}

#[derive(Debug, Default)]
struct Disk {
    content: MemoryJournal,
    /// What survives a crash.
    synced: Position,
    /// What the head file of a real journal would know.
    acknowledged: Position,
    /// The ends of batches that were written but not synced, in order.
    unsynced_ends: Vec<Position>,
    damaged: BTreeSet<Position>,
    is_full: bool,
    is_lying: bool,
    /// The next append fails; the batch is on the disk anyway if true.
    failing: Option<bool>,
    /// Grows at each crash and opening, so that older handles are refused.
    generation: u64,
}

impl FaultyJournal {
    /// An empty journal on a disk without faults.
    pub fn new() -> FaultyJournal {
        FaultyJournal::default()
    }

    /// While `full`, appends and snapshots are refused with [`AppendError::NoSpace`].
    pub fn set_full(&self, full: bool) {
        self.disk().is_full = full;
    }

    /// While `lying`, appends are acknowledged but only [`sync`](FaultyJournal::sync) makes
    /// them durable: a disk that ignores flushes.
    pub fn set_lying(&self, lying: bool) {
        self.disk().is_lying = lying;
    }

    /// Makes durable what was appended while the disk was lying.
    pub fn sync(&self) {
        let mut disk = self.disk();
        disk.synced = disk.content.last_position();
        disk.unsynced_ends.clear();
    }

    /// Lets the next append fail as a failed sync does: the caller cannot know whether the batch
    /// is there. It is after the restart if `kept`.
    pub fn fail_next_append(&self, kept: bool) {
        self.disk().failing = Some(kept);
    }

    /// Ends the process and cuts the power: what was not synced is lost, except the first
    /// `unsynced_batches_kept` batches, which had reached the disk by themselves.
    pub fn crash(&self, unsynced_batches_kept: usize) {
        let mut disk = self.disk();
        let kept = disk.unsynced_ends.len().min(unsynced_batches_kept);
        let end = disk.unsynced_ends[..kept].last().copied().unwrap_or(disk.synced);
        disk.truncate(end);
        disk.failing = None;
        disk.generation += 1;
    }

    /// Destroys the last `count` entries although they were synced: a torn tail. The process
    /// ends too, as it does not read what it wrote.
    pub fn tear_tail(&self, count: u64) {
        let mut disk = self.disk();
        let end = disk.content.last_position().saturating_sub(count);
        disk.truncate(end);
        disk.generation += 1;
    }

    /// Damages the entry at `position`: reading it fails from now on.
    pub fn damage_entry(&self, position: Position) {
        self.disk().damaged.insert(position);
    }

    /// Opens the journal as the next process does. Older handles are refused from then on.
    ///
    /// As with the real one, a journal that ends before what it acknowledged is refused, unless
    /// `accept_truncation`.
    pub fn reopen(&self, accept_truncation: bool) -> Result<FaultyJournal, OpenError> {
        let mut disk = self.disk();
        let journal_last = disk.content.last_position();
        let acknowledged = disk.acknowledged;
        if journal_last < acknowledged && !accept_truncation {
            return Err(OpenError::Truncated { folder: place(), journal_last, acknowledged });
        }
        disk.acknowledged = journal_last;
        disk.generation += 1;
        Ok(FaultyJournal { disk: Arc::clone(&self.disk), generation: disk.generation })
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk, for a handle whose process still lives.
    fn writable(&self) -> Result<MutexGuard<'_, Disk>, AppendError> {
        let disk = self.disk();
        if disk.generation != self.generation {
            return Err(failed("the process of this handle has ended"));
        }
        match disk.is_full {
            true => Err(AppendError::NoSpace { place: place() }),
            false => Ok(disk),
        }
    }
}

impl Disk {
    fn truncate(&mut self, end: Position) {
        self.content.truncate(end);
        self.synced = end;
        self.unsynced_ends.clear();
        self.damaged.retain(|position| *position <= end);
    }

    fn first_damaged(&self, from: Position, count: usize) -> Option<Position> {
        let end = from.saturating_add(count as u64).min(self.content.last_position() + 1);
        (from < end).then(|| self.damaged.range(from..end).next().copied()).flatten()
    }
}

impl Journal for FaultyJournal {
    fn append(&mut self, batch: &[Vec<u8>]) -> Result<Position, AppendError> {
        let mut disk = self.writable()?;
        let failing = disk.failing.take();
        if failing == Some(false) {
            disk.generation += 1;
            return Err(failed("the disk failed before the batch was written"));
        }
        let last = disk.content.append(batch)?;
        if disk.is_lying {
            disk.unsynced_ends.push(last);
        } else {
            disk.synced = last;
            disk.unsynced_ends.clear();
        }
        if failing == Some(true) {
            disk.generation += 1;
            return Err(failed("the disk failed after the batch was written"));
        }
        disk.acknowledged = last;
        Ok(last)
    }

    fn read_from(&self, position: Position, count_max: usize) -> Result<Vec<Entry>, ReadError> {
        let disk = self.disk();
        let entries = disk.content.read_from(position, count_max)?;
        match disk.first_damaged(position.max(1), entries.len()) {
            None => Ok(entries),
            Some(position) => Err(ReadError::Corrupt {
                position,
                found: DAMAGE_FOUND.to_owned(),
                expected: DAMAGE_EXPECTED.to_owned(),
            }),
        }
    }

    fn save_snapshot(&mut self, position: Position, state: &[u8]) -> Result<(), AppendError> {
        self.writable()?.content.save_snapshot(position, state)
    }

    fn load_snapshot(&self) -> Result<Option<Snapshot>, ReadError> {
        self.disk().content.load_snapshot()
    }

    fn last_position(&self) -> Position {
        self.disk().content.last_position()
    }

    fn verify(&self) -> Result<Verification, ReadError> {
        let disk = self.disk();
        let mut report = disk.content.verify()?;
        let (journal_last, acknowledged) = (report.last_position, disk.acknowledged);
        if let Some(position) = disk.first_damaged(report.first_position, usize::MAX) {
            report.entries_count = position - report.first_position;
            report.problems.push(Problem::Corrupt {
                position,
                found: DAMAGE_FOUND.to_owned(),
                expected: DAMAGE_EXPECTED.to_owned(),
            });
        }
        if journal_last < acknowledged {
            report.problems.push(Problem::Truncated { journal_last, acknowledged });
        }
        Ok(report)
    }

    fn prune(&mut self, tail_count: u64) -> Result<Pruned, AppendError> {
        self.writable()?.content.prune(tail_count)
    }
}

const DAMAGE_FOUND: &str = "simulated damage";
const DAMAGE_EXPECTED: &str = "the entry as appended";

fn place() -> PathBuf {
    PathBuf::from("simulated disk")
}

fn failed(reason: &str) -> AppendError {
    AppendError::Failed { place: place(), source: reason.into() }
}
