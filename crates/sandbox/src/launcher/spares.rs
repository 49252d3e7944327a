//! Sandboxes that are made ahead, so that a start finds its namespaces and mounts ready.

use std::time::{Duration, Instant};

use super::core::Launcher;
use super::sandbox::{Phase, Sandbox, kill};
use crate::kind::Kind;
use crate::limits::{SPARES_MAX, SPARES_SURPLUS_MS};

/// Pause after the last activity before a spare is prepared, so that it delays no output.
const SPARE_AFTER: Duration = Duration::from_millis(1);
/// A start that has not written anything yet delays new spares by no more than this.
const SPARE_AFTER_START: Duration = Duration::from_millis(10);
/// When activity never pauses, a spare is prepared nevertheless after this.
const SPARE_AFTER_MAX: Duration = Duration::from_millis(20);
/// Spares that may fail in a row before no more are tried until a start succeeds.
const SPARE_FAILURES_MAX: u32 = 3;

impl Launcher {
    /// A spare of this kind that is set up, else one that is about to be.
    pub(super) fn take_spare(&mut self, kind: &Kind) -> Option<u64> {
        if self.spare_due().is_none() {
            self.spares_lack_since = Instant::now();
        }
        let ready = |sandbox: &Sandbox| matches!(sandbox.phase, Phase::Spare);
        let soon = |sandbox: &Sandbox| matches!(sandbox.phase, Phase::SettingUp(None));
        let fits = |it: &Sandbox| it.instance.is_none() && it.kind == *kind;
        let free = || self.sandboxes.iter().filter(|(_, it)| fits(it));
        free()
            .find(|(_, it)| ready(it))
            .or_else(|| free().find(|(_, it)| soon(it)))
            .map(|(number, _)| *number)
    }

    /// A start found no spare: more of them would have been better.
    pub(super) fn note_miss(&mut self) {
        if self.spares_configured > 0 {
            self.spares_wanted = (self.spares_wanted + 1).min(SPARES_MAX);
        }
    }

    /// When the surplus of a burst is to be ended, if there is one.
    pub(super) fn surplus_due(&self) -> Option<Instant> {
        let surplus = self.spares_wanted > self.spares_configured;
        surplus.then(|| self.last_start_at + Duration::from_millis(SPARES_SURPLUS_MS))
    }

    /// Ends what a burst of starts has left over.
    pub(super) fn end_surplus(&mut self, now: Instant) {
        if self.surplus_due().is_none_or(|due| due > now) {
            return;
        }
        self.spares_wanted = self.spares_configured;
        let spares = self.sandboxes.values_mut().filter(|it| it.instance.is_none());
        for sandbox in spares.skip(self.spares_configured as usize) {
            sandbox.phase = Phase::Ending;
            let _ = kill(&sandbox.init);
        }
    }

    pub(super) fn make_spare(&mut self) {
        if self.spare_due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        if self.spawn(Kind::plain()).is_err() {
            self.spare_failures += 1;
        }
        self.last_activity = Instant::now();
        self.spares_lack_since = self.last_activity;
    }

    /// When the next spare should be made, if one is wanted.
    pub(super) fn spare_due(&self) -> Option<Instant> {
        let spares = self.sandboxes.values().filter(|it| it.instance.is_none()).count();
        if self.ending.is_some()
            || self.spare_failures >= SPARE_FAILURES_MAX
            || spares as u64 >= u64::from(self.spares_wanted)
        {
            return None;
        }
        let calm = self.last_activity + SPARE_AFTER;
        let calm = calm.min(self.spares_lack_since + SPARE_AFTER_MAX);
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
