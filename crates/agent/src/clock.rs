//! The node's time.

use spawnery_model::{DurationMs, Timestamp};
use spawnery_sandbox::clock::boottime_ms;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Milliseconds since 1970 as the machine said when the agent started, and steady from then on,
/// also while the machine is suspended: neither a correction of its clock nor a rest may make a
/// lease seem newer than it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started_at: Timestamp,
    started_boottime_ms: u64,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let started_at = Timestamp(since.map_or(0, ms));
        Clock { started_at, started_boottime_ms: boottime_ms() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let passed = boottime_ms().saturating_sub(self.started_boottime_ms);
        self.started_at.plus(DurationMs(passed))
    }

    /// The instant at which [`Clock::now`] is `at`; now, if that has passed.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        Instant::now() + Duration::from_millis(at.since(self.now()).0)
    }

    /// What `CLOCK_BOOTTIME` was, in milliseconds, when [`Clock::now`] was `at`.
    pub(crate) fn boottime_ms(&self, at: Timestamp) -> u64 {
        self.started_boottime_ms.saturating_add(at.since(self.started_at).0)
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_in_the_future_is_as_far_away_as_its_time() {
        let clock = Clock::new();
        let hour = Duration::from_secs(3600);
        let (before, now) = (Instant::now(), clock.now());
        let at = clock.instant(now.plus(DurationMs::from_secs(3600)));
        let after = Instant::now();
        // Rounded to a millisecond.
        assert!(at + Duration::from_millis(2) >= before + hour && at <= after + hour);
        assert!(clock.instant(Timestamp(0)) <= Instant::now());
        assert!(now >= clock.started_at);
    }

    #[test]
    fn its_time_and_that_since_the_machine_was_started_are_as_far_apart_at_any_time() {
        let clock = Clock::new();
        let start = clock.boottime_ms(clock.started_at);
        assert_eq!(start, clock.started_boottime_ms);
        assert_eq!(clock.boottime_ms(clock.started_at.plus(DurationMs(1500))), start + 1500);
    }
}
