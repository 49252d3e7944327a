//! The controller's disk: a journal of encoded records and snapshots, with what a crash does.

use crate::random::Random;
use spawnery_cluster::{Record, State, apply};

/// Snapshots that are kept; a restart begins from any of them, or from none.
const SNAPSHOTS_KEPT_MAX: usize = 3;

/// The disk of the controller. It outlives the controller.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    /// What is durable: the record at position `n` is at index `n - 1`.
    records: Vec<Vec<u8>>,
    /// A torn record after the last durable one.
    torn: Option<Vec<u8>>,
    /// What is being appended.
    in_flight: Vec<Vec<u8>>,
    snapshots: Vec<(u64, Vec<u8>)>,
    /// Until when there is no space.
    pub(crate) full_until: u64,
    /// Until when appends take long.
    pub(crate) slow_until: u64,
    /// The next append fails for another reason than space.
    pub(crate) fails_next: bool,
}

/// What a restart found.
pub(crate) struct Recovered {
    pub(crate) state: State,
    /// From which position the snapshot was, 0 without.
    pub(crate) snapshot: u64,
    /// Whether there was half a record after the last whole one.
    pub(crate) torn: bool,
}

impl Storage {
    /// Begins to write `records`; they are not durable yet.
    pub(crate) fn begin(&mut self, records: &[Record]) {
        let encoded = records
            .iter()
            .map(|record| minicbor::to_vec(record).expect("writing to memory does not fail"));
        self.in_flight = encoded.collect();
    }

    /// What was begun is durable. Returns the encoded records and the first position.
    pub(crate) fn complete(&mut self) -> (u64, Vec<Vec<u8>>) {
        let first = self.position() + 1;
        let batch = std::mem::take(&mut self.in_flight);
        self.records.extend(batch.iter().cloned());
        (first, batch)
    }

    /// What was begun is given up: there is no space.
    pub(crate) fn give_up(&mut self) {
        self.in_flight.clear();
    }

    /// The position of the last durable record.
    pub(crate) fn position(&self) -> u64 {
        self.records.len() as u64
    }

    /// The power goes, or the process. Of what was being written, all, nothing, or a part of it
    /// is there afterwards, maybe with half a record after it. Returns what became durable.
    pub(crate) fn crash(&mut self, random: &mut Random) -> (u64, Vec<Vec<u8>>) {
        let first = self.position() + 1;
        let mut batch = std::mem::take(&mut self.in_flight);
        let kept = match random.below(3) {
            0 => 0,
            1 => batch.len(),
            _ => random.below(batch.len() as u64 + 1) as usize,
        };
        let lost = batch.split_off(kept);
        self.records.extend(batch.iter().cloned());
        self.torn = lost.into_iter().next().filter(|_| random.chance(500));
        if let Some(torn) = &mut self.torn {
            torn.truncate(random.below(torn.len() as u64) as usize);
        }
        (first, batch)
    }

    /// Loses records that were durable; only sabotage does this.
    pub(crate) fn lose(&mut self, count: usize) {
        let kept = self.records.len().saturating_sub(count);
        self.records.truncate(kept);
        let position = self.position();
        self.snapshots.retain(|(at, _)| *at <= position);
    }

    pub(crate) fn save_snapshot(&mut self, state: &State) {
        if self.snapshots.len() == SNAPSHOTS_KEPT_MAX {
            self.snapshots.remove(0);
        }
        self.snapshots.push((state.position(), state.encode()));
    }

    /// Reads everything back, from one of the snapshots or from the beginning.
    pub(crate) fn recover(&mut self, random: &mut Random) -> Result<Recovered, String> {
        let torn = self.torn.take();
        if let Some(torn) = &torn
            && minicbor::decode::<Record>(torn).is_ok()
        {
            return Err("half a record was taken for a whole one".to_owned());
        }
        let choice = random.below(self.snapshots.len() as u64 + 1) as usize;
        let (snapshot, state) = match self.snapshots.get(choice) {
            Some((at, bytes)) => {
                let state = State::decode(bytes);
                (*at, state.map_err(|error| format!("a snapshot: {error}"))?)
            }
            None => (0, State::default()),
        };
        let state = self.replay(state)?;
        Ok(Recovered { state, snapshot, torn: torn.is_some() })
    }

    /// Applies all records after `state` to it.
    pub(crate) fn replay(&self, mut state: State) -> Result<State, String> {
        for bytes in &self.records[state.position() as usize..] {
            let record: Record =
                minicbor::decode(bytes).map_err(|error| format!("a record: {error}"))?;
            apply(&mut state, &record);
        }
        Ok(state)
    }
}
