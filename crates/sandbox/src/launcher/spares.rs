//! Sandboxes that are made ahead, so that a start finds its namespaces and mounts ready.

use std::time::{Duration, Instant};

use super::core::Launcher;
use super::sandbox::{Phase, Sandbox, kill};
use crate::kind::Kind;
use crate::limits::{POOLED_MAX, POOLS_MAX, SPARES_MAX, SPARES_SURPLUS_MS};
use crate::protocol::{PoolInfo, Reply, WarmSpec};

/// Pause after the last activity before a spare is prepared, so that it delays no output.
const SPARE_AFTER: Duration = Duration::from_millis(1);
/// A start that has not written anything yet delays new spares by no more than this.
const SPARE_AFTER_START: Duration = Duration::from_millis(10);
/// When activity never pauses, a spare is prepared nevertheless after this. Making one ahead
/// saves no work, so during a burst it would only delay those who wait.
const SPARE_AFTER_MAX: Duration = Duration::from_millis(200);
/// Spares of a pool that may fail in a row before no more are tried until one succeeds in
/// another way, or the pools are named again.
const SPARE_FAILURES_MAX: u32 = 3;

/// Sandboxes of one kind that are kept ready.
#[derive(Debug)]
pub(super) struct Pool {
    kind: Kind,
    /// As many as were asked for.
    count: u32,
    /// As many more as a burst of starts missed.
    surplus: u32,
    failures: u32,
}

impl Pool {
    pub(super) fn new(kind: Kind, count: u32) -> Self {
        Self { kind, count, surplus: 0, failures: 0 }
    }

    fn wanted(&self) -> usize {
        (self.count + self.surplus) as usize
    }
}

impl Launcher {
    /// Names all pools besides the one of plain sandboxes, which is always there.
    pub(super) fn warm(&mut self, pools: Vec<WarmSpec>) -> Reply {
        let total: u64 = pools.iter().map(|pool| u64::from(pool.count)).sum();
        if pools.len() > POOLS_MAX || total > u64::from(POOLED_MAX) {
            let reason = format!("more than {POOLS_MAX} pools or {POOLED_MAX} sandboxes in them");
            return Reply::Refused { reason };
        }
        if let Some(reason) = pools.iter().find_map(|pool| pool.spec.check().err()) {
            return Reply::Refused { reason };
        }
        let mut named = vec![Pool::new(Kind::plain(), self.spares_configured)];
        for WarmSpec { spec, count } in pools {
            let kind = Kind::of(&spec, self.workshop.means());
            match named.iter_mut().find(|pool| pool.kind == kind) {
                Some(pool) => pool.count = pool.count.max(count),
                None => named.push(Pool::new(kind, count)),
            }
        }
        self.pools = named;
        self.spares_lack_since = Instant::now();
        self.end_unwanted();
        Reply::Done
    }

    /// How the pools are.
    pub(super) fn pool_infos(&self) -> Reply {
        let info = |pool: &Pool| {
            let ready = self.spares_of(&pool.kind).filter(|(_, it)| is_ready(it)).count();
            PoolInfo { wanted: pool.wanted() as u32, ready: ready as u32 }
        };
        Reply::Pools { pools: self.pools.iter().map(info).collect() }
    }

    fn spares_of<'a>(&'a self, kind: &'a Kind) -> impl Iterator<Item = (u64, &'a Sandbox)> {
        let found = self.spares.iter().filter_map(|it| Some((*it, self.sandboxes.get(it)?)));
        found.filter(move |(_, it)| it.kind == *kind && !matches!(it.phase, Phase::Ending))
    }

    /// A spare of this kind that is set up, else one that is about to be.
    pub(super) fn take_spare(&mut self, kind: &Kind) -> Option<u64> {
        if self.spare_due().is_none() {
            self.spares_lack_since = Instant::now();
        }
        let found = self
            .spares_of(kind)
            .find(|(_, it)| is_ready(it))
            .or_else(|| self.spares_of(kind).next())
            .map(|(number, _)| number);
        if let Some(number) = found {
            self.spares.remove(&number);
        }
        found
    }

    /// A start found no spare: more of them would have been better.
    pub(super) fn note_miss(&mut self, kind: &Kind) {
        let total: u32 = self.pools.iter().map(|pool| pool.count + pool.surplus).sum();
        if let Some(pool) = self.pools.iter_mut().find(|pool| pool.kind == *kind)
            && pool.count > 0
            && pool.count + pool.surplus < SPARES_MAX
            && total < POOLED_MAX
        {
            pool.surplus += 1;
        }
    }

    /// When the surplus of a burst is to be ended, if there is one.
    pub(super) fn surplus_due(&self) -> Option<Instant> {
        let surplus = self.pools.iter().any(|pool| pool.surplus > 0);
        surplus.then(|| self.last_start_at + Duration::from_millis(SPARES_SURPLUS_MS))
    }

    /// Ends what a burst of starts has left over.
    pub(super) fn end_surplus(&mut self, now: Instant) {
        if self.surplus_due().is_none_or(|due| due > now) {
            return;
        }
        self.pools.iter_mut().for_each(|pool| pool.surplus = 0);
        self.end_unwanted();
    }

    /// Ends the spares that no pool wants.
    fn end_unwanted(&mut self) {
        let mut wanted: Vec<u64> = Vec::new();
        for pool in &self.pools {
            wanted.extend(self.spares_of(&pool.kind).take(pool.wanted()).map(|(number, _)| number));
        }
        for number in self.spares.iter().filter(|number| !wanted.contains(number)) {
            if let Some(sandbox) = self.sandboxes.get_mut(number) {
                sandbox.phase = Phase::Ending;
                let _ = kill(&sandbox.init);
            }
        }
    }

    pub(super) fn make_spare(&mut self) {
        if self.spare_due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let lacking = self.pools.iter().max_by_key(|pool| self.lack_of(pool));
        if let Some(kind) = lacking.map(|pool| pool.kind.clone())
            && self.spawn(kind.clone()).is_err()
        {
            self.note_spare(&kind, false);
        }
        self.last_activity = Instant::now();
        self.spares_lack_since = self.last_activity;
    }

    /// Whether a sandbox of this kind could be made.
    pub(super) fn note_spare(&mut self, kind: &Kind, good: bool) {
        if let Some(pool) = self.pools.iter_mut().find(|pool| pool.kind == *kind) {
            pool.failures = if good { 0 } else { pool.failures + 1 };
        }
    }

    /// How many spares a pool could still use.
    fn lack_of(&self, pool: &Pool) -> usize {
        if pool.failures >= SPARE_FAILURES_MAX {
            return 0;
        }
        pool.wanted().saturating_sub(self.spares_of(&pool.kind).count())
    }

    /// When the next spare should be made, if one is wanted.
    pub(super) fn spare_due(&self) -> Option<Instant> {
        if self.ending.is_some() || self.pools.iter().all(|pool| self.lack_of(pool) == 0) {
            return None;
        }
        let latest = self.spares_lack_since + SPARE_AFTER_MAX;
        if !self.starting.is_empty() {
            return Some(latest);
        }
        let calm = latest.min(self.last_activity + SPARE_AFTER);
        Some(self.last_start.map_or(calm, |(_, until)| calm.max(until)))
    }

    /// A main process has been asked for: nothing else shall disturb its first moments.
    pub(super) fn note_start(&mut self, number: u64) {
        let now = Instant::now();
        self.last_start_at = now;
        self.last_start = Some((number, now + SPARE_AFTER_START));
    }

    pub(super) fn note_sign_of_life(&mut self, number: u64) {
        if self.last_start.is_some_and(|(last, _)| last == number) {
            self.last_start = None;
        }
    }
}

fn is_ready(sandbox: &Sandbox) -> bool {
    matches!(sandbox.phase, Phase::Spare)
}
