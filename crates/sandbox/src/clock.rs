//! The clock by which leases are counted.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Milliseconds since the machine was started, also while it was suspended: `CLOCK_BOOTTIME` of
/// `clock_gettime(2)`. All processes of a machine see the same.
pub fn boottime_ms() -> u64 {
    let now = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
