//! Times, ages, amounts and phases in words, and times that a user gives.

use crate::error::CliError;
use owo_colors::Style;
use spawnery_model::{Bytes, CpuMillis, Phase};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time now, in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// How long ago a time was: `5s`, `3m`, `2h`, `9d`.
pub(crate) fn age(at_ms: u64) -> String {
    span(now_ms().saturating_sub(at_ms))
}

/// How long it is until a time.
pub(crate) fn until(at_ms: u64) -> String {
    span(at_ms.saturating_sub(now_ms()))
}

fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A time of the clock, by the machine's time zone being UTC: `2026-11-21T10:00:00Z`.
pub(crate) fn time(at_ms: u64) -> String {
    let ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => format!("{time:.0}"),
        Err(_) => format!("{at_ms} ms"),
    }
}

/// A time that a user gives, as `10m` (ago) or as `2026-11-21T10:00:00Z`, in milliseconds.
pub(crate) fn since(text: &str) -> Result<u64, CliError> {
    if let Ok(ago) = spawnery_manifest::parse_duration(text) {
        return Ok(now_ms().saturating_sub(ago.0));
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    let ms = time.ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
    ms.ok_or_else(|| {
        let message = format!("--since: `{text}` is not a time");
        CliError::usage(message).hint("give it as 10m, 2h, 1d or as 2026-11-21T10:00:00Z")
    })
}

/// A length of time that a user gives: `500ms`, `10s`, `5m`, `2h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let time = spawnery_manifest::parse_duration(text);
    let time =
        time.map_err(|_| "give it with its unit, such as 500ms, 10s, 5m or 2h".to_owned())?;
    Ok(Duration::from_millis(time.0))
}

/// How long processors were at work: as a span, with tenths while there are few.
pub(crate) fn processor_time(us: u64) -> String {
    match us {
        0..10_000_000 => format!("{}.{}s", us / 1_000_000, us / 100_000 % 10),
        _ => span(us / 1000),
    }
}

/// An amount of memory.
pub(crate) fn bytes(count: u64) -> String {
    Bytes(count).to_string()
}

/// A share of processors, in cores.
pub(crate) fn cores(millis: u32) -> String {
    CpuMillis(millis).to_string()
}

/// Some things, counted: `1 service`, `2 services`.
pub(crate) fn count(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// How a phase looks.
pub(crate) fn phase_style(phase: Phase) -> Style {
    match phase {
        Phase::Ready => Style::new().green(),
        Phase::Running => Style::new().cyan(),
        Phase::Pending | Phase::Assigned | Phase::Starting => Style::new().yellow(),
        Phase::Stopping => Style::new().magenta(),
        Phase::Ended => Style::new().dimmed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let check = |ms: u64, expected: &str| assert_eq!(span(ms), expected);
        check(0, "0s");
        check(119_999, "119s");
        check(120_000, "2m");
        check(7_200_000, "2h");
        check(172_800_000, "2d");
    }

    #[test]
    fn processor_times_have_tenths_while_they_are_short() {
        let check = |us: u64, expected: &str| assert_eq!(processor_time(us), expected);
        check(0, "0.0s");
        check(250_000, "0.2s");
        check(9_999_999, "9.9s");
        check(10_000_000, "10s");
        check(120_000_000, "2m");
    }

    #[test]
    fn a_time_is_given_by_age_or_by_the_clock() {
        assert_eq!(since("1970-01-01T00:00:01Z").unwrap(), 1000);
        assert!(since("10m").unwrap() < now_ms());
        assert!(since("yesterday").is_err());
        assert_eq!(time(1000), "1970-01-01T00:00:01Z");
    }
}
