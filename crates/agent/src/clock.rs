//! The node's time.

use spawnery_model::{DurationMs, Timestamp};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Milliseconds since 1970 as the machine said when the agent started, and steady from then on:
/// a correction of the machine's clock must not delay a heartbeat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started_at: Timestamp,
    started: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Clock { started_at: Timestamp(since.map_or(0, ms)), started: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.started_at.plus(DurationMs(ms(self.started.elapsed())))
    }

    /// The instant at which [`Clock::now`] is `at`; now, if that has passed.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        self.started + Duration::from_millis(at.since(self.started_at).0)
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
        let at = clock.started_at.plus(DurationMs(1500));
        assert_eq!(clock.instant(at), clock.started + Duration::from_millis(1500));
        assert_eq!(clock.instant(Timestamp(0)), clock.started);
        assert!(clock.now() >= clock.started_at);
    }
}
