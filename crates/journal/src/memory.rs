//! A journal in memory, for tests that need order but no durability.

use crate::{
    AppendError, Entry, Journal, PAYLOAD_SIZE_BYTES_MAX, Position, Pruned, READ_SIZE_BYTES_MAX,
    ReadError, Snapshot, SnapshotStat, Verification,
};

/// As many as the embedded journal keeps.
const SNAPSHOTS_COUNT_MAX: usize = crate::snapshot::KEPT_COUNT;

/// A journal that forgets everything when dropped, and otherwise keeps the contract.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal {
    /// The position before the first kept payload.
    base: Position,
    payloads: Vec<Vec<u8>>,
    /// Oldest first.
    snapshots: Vec<Snapshot>,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> MemoryJournal {
        MemoryJournal::default()
    }

    /// Forgets all entries and snapshots after `last`.
    pub(crate) fn truncate(&mut self, last: Position) {
        self.payloads.truncate(index(last.saturating_sub(self.base)));
        self.snapshots.retain(|snapshot| snapshot.position <= last);
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, batch: &[Vec<u8>]) -> Result<Position, AppendError> {
        let size_bytes_max = PAYLOAD_SIZE_BYTES_MAX;
        if let Some(large) = batch.iter().find(|payload| payload.len() > size_bytes_max) {
            return Err(AppendError::TooLarge { size_bytes: large.len(), size_bytes_max });
        }
        self.payloads.extend_from_slice(batch);
        Ok(self.last_position())
    }

    fn read_from(&self, position: Position, count_max: usize) -> Result<Vec<Entry>, ReadError> {
        let from = position.max(1);
        if from <= self.base {
            return Err(ReadError::Pruned { position: from, first: self.base + 1 });
        }
        if from > self.last_position() {
            return Ok(Vec::new());
        }
        let mut size_bytes = 0;
        let payloads = self.payloads.iter().skip(index(from - self.base - 1));
        let numbered = (from..).zip(payloads).take(count_max);
        let bounded = numbered.take_while(|(_, payload)| {
            let is_wanted = size_bytes < READ_SIZE_BYTES_MAX;
            size_bytes += payload.len();
            is_wanted
        });
        Ok(bounded
            .map(|(position, payload)| Entry { position, payload: payload.clone() })
            .collect())
    }

    fn save_snapshot(&mut self, position: Position, state: &[u8]) -> Result<(), AppendError> {
        let (first, last) = (self.base + 1, self.last_position());
        if position < self.base || position > last {
            return Err(AppendError::NoSuchPosition { position, first, last });
        }
        self.snapshots.retain(|snapshot| snapshot.position != position);
        self.snapshots.push(Snapshot { position, state: state.to_vec() });
        self.snapshots.sort_by_key(|snapshot| snapshot.position);
        let excess = self.snapshots.len().saturating_sub(SNAPSHOTS_COUNT_MAX);
        self.snapshots.drain(..excess);
        Ok(())
    }

    fn load_snapshot(&self) -> Result<Option<Snapshot>, ReadError> {
        Ok(self.snapshots.last().cloned())
    }

    fn last_position(&self) -> Position {
        self.base + self.payloads.len() as u64
    }

    fn verify(&self) -> Result<Verification, ReadError> {
        Ok(Verification {
            first_position: self.base + 1,
            last_position: self.last_position(),
            entries_count: self.payloads.len() as u64,
            snapshots: self.snapshots.iter().rev().map(stat_of).collect(),
            ..Verification::default()
        })
    }

    fn prune(&mut self, tail_count: u64) -> Result<Pruned, AppendError> {
        let newest_first: Vec<Position> =
            self.snapshots.iter().rev().map(|snapshot| snapshot.position).collect();
        let pruned = Pruned::decide(self.base, crate::prune::floor(&newest_first), tail_count);
        self.payloads.drain(..index(pruned.entries_count));
        self.base += pruned.entries_count;
        Ok(pruned)
    }
}

fn stat_of(snapshot: &Snapshot) -> SnapshotStat {
    SnapshotStat { position: snapshot.position, size_bytes: snapshot.state.len() as u64 }
}

/// A count of payloads as an index. What does not fit in memory is after everything.
fn index(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
