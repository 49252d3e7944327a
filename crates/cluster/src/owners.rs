//! What is counted for each owner of sessions.

use crate::command::Rejection;
use crate::state::State;
use minicbor::{Decode, Encode};
use spawnery_model::{DurationMs, Instance, Origin, OwnerLimits, Phase, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// The window in which creations are counted.
const WINDOW: DurationMs = DurationMs::from_secs(60);

/// What is counted for each owner. Who has nothing is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Owners {
    /// Sessions that live, wait, or come back by themselves.
    #[n(0)]
    live: BTreeMap<String, u32>,
    /// Creations since the beginning of the owner's window.
    #[n(1)]
    creates: BTreeMap<String, (Timestamp, u32)>,
    /// The windows, oldest first.
    #[n(2)]
    windows: BTreeSet<(Timestamp, String)>,
    /// The turn of the last session that waits, for owners that have some in the queue.
    #[n(3)]
    turns: BTreeMap<String, (u64, u32)>,
}

impl Owners {
    /// Refuses what `limits` do not allow `owner` at the time `now`.
    pub(crate) fn check(
        &self,
        owner: &str,
        limits: &OwnerLimits,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        let live = self.live.get(owner).copied().unwrap_or_default();
        if let Some(limit) = limits.sessions.filter(|limit| live >= *limit) {
            return Err(Rejection::SessionsOfOwner { owner: owner.to_owned(), limit });
        }
        let window = self.creates.get(owner).copied();
        let window = window.filter(|(began, _)| began.plus(WINDOW) > now);
        let (began, count) = window.unwrap_or((now, 0));
        match limits.creates_per_minute.filter(|limit| count >= *limit) {
            Some(limit) => Err(too_fast(owner, limit, began.plus(WINDOW).since(now))),
            None => Ok(()),
        }
    }

    /// How many sessions live or wait.
    pub(crate) fn live_total(&self) -> u64 {
        self.live.values().map(|count| u64::from(*count)).sum()
    }

    /// How many sessions of `owner` live, wait, or come back by themselves.
    pub fn live(&self, owner: &str) -> u32 {
        self.live.get(owner).copied().unwrap_or_default()
    }

    /// A session was created, by a request or as the successor of one that ended by itself.
    pub(crate) fn created(&mut self, owner: &str, now: Timestamp, by_request: bool) {
        *self.live.entry(owner.to_owned()).or_default() += 1;
        while self.windows.first().is_some_and(|(began, _)| began.plus(WINDOW) <= now) {
            let (_, owner) = self.windows.pop_first().expect("it was just looked at");
            self.creates.remove(&owner);
        }
        if !by_request {
            return;
        }
        let (began, count) = self.creates.entry(owner.to_owned()).or_insert((now, 0));
        *count = count.saturating_add(1);
        self.windows.insert((*began, owner.to_owned()));
    }

    /// A session ended and does not come back, or its successor was created.
    pub(crate) fn ended(&mut self, owner: &str) {
        let live = self.live.get_mut(owner).expect("its creation was counted");
        *live -= 1;
        if *live == 0 {
            self.live.remove(owner);
        }
    }

    /// The turn of the next session of `owner` in a queue whose first turn is `first`: owners take
    /// turns, so that many sessions of one do not keep those of others waiting.
    pub(crate) fn take_turn(&mut self, owner: &str, first: u64) -> u64 {
        let (last, waiting) = self.turns.entry(owner.to_owned()).or_default();
        *last = if *waiting == 0 { first } else { (*last + 1).max(first) };
        *waiting += 1;
        *last
    }

    /// A session of `owner` left the queue.
    pub(crate) fn leave_queue(&mut self, owner: &str) {
        let (_, waiting) = self.turns.get_mut(owner).expect("it took a turn");
        *waiting -= 1;
        if *waiting == 0 {
            self.turns.remove(owner);
        }
    }
}

fn too_fast(owner: &str, limit: u32, retry_after: DurationMs) -> Rejection {
    Rejection::CreatesTooFast { owner: owner.to_owned(), limit, retry_after }
}

impl State {
    /// How many sessions live or wait.
    pub fn sessions_live(&self) -> u64 {
        self.owners.live_total()
    }

    /// What is counted for each owner.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    pub(crate) fn assert_owners_consistent(&self) {
        let mut live: BTreeMap<String, u32> = BTreeMap::new();
        let mut waiting: BTreeMap<String, u32> = BTreeMap::new();
        let is_over = |it: &&Instance| it.phase == Phase::Ended && it.restarts_at.is_none();
        for instance in self.instances.values().filter(|it| !is_over(it)) {
            if let Origin::Session { owner, .. } = &instance.origin {
                *live.entry(owner.clone()).or_default() += 1;
                if instance.session.as_ref().is_some_and(|session| session.turn.is_some()) {
                    *waiting.entry(owner.clone()).or_default() += 1;
                }
            }
        }
        assert_eq!(live, self.owners.live);
        let turns = self.owners.turns.iter().map(|(owner, (_, count))| (owner.clone(), *count));
        assert_eq!(waiting, turns.collect());
        assert_eq!(
            waiting.values().map(|count| *count as usize).sum::<usize>(),
            self.agenda.queue.len()
        );
    }
}
