//! The occurrences of an expression in a time zone.

use crate::calendar::Calendar;
use crate::error::CronError;
use crate::{parse, zone};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use spawnery_model::Timestamp;

/// A cron expression in a time zone, compiled.
///
/// Expressions and the rule for clock changes are described at the [crate](crate). Occurrences
/// are at whole seconds and strictly increasing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    calendar: Calendar,
    zone: TimeZone,
}

/// Some occurrences of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// In the order of time; none is there twice.
    pub times: Vec<Timestamp>,
    /// Whether there are others up to the end that was asked for.
    pub more: bool,
}

impl Cron {
    /// Compiles `expression`, read in the IANA time zone `time_zone` (`UTC`, `Europe/Zurich`).
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with the field and what to write instead.
    pub fn parse(expression: &str, time_zone: &str) -> Result<Cron, CronError> {
        let calendar = parse::parse(expression)?;
        let zone = zone::find(time_zone)?;
        Ok(Cron { calendar, zone })
    }

    /// The first occurrence later than `after`, or `None` if there is none up to the year 9999.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let second = i64::try_from(after.0 / 1000).expect("a thousandth of 64 bits fits");
        let mut since = jiff::Timestamp::from_second(second).ok()?;
        let mut from = jiff::Timestamp::from_second(second + 1).ok()?;
        // From one change of the zone's offset to the next, wall clock and time run alike. The
        // first stretch is that of `since`, so that a change at `from` itself is seen.
        loop {
            let offset = self.zone.to_offset(since);
            let wanted = self.calendar.next(self.unseen(from, offset))?;
            let found = offset.to_timestamp(wanted).ok();
            let Some(change) = self.zone.following(since).next() else {
                return found.map(shared);
            };
            if let Some(found) = found
                && found < change.timestamp()
            {
                return Some(shared(found));
            }
            // The wall clock jumps over what is wanted, or sets out again from before it.
            let jumps = wanted < change.offset().to_datetime(change.timestamp());
            if jumps && !self.calendar.interval {
                return Some(shared(change.timestamp()));
            }
            since = change.timestamp();
            from = since;
        }
    }

    /// The occurrences later than `after` and not later than `until`, but at most `count_max`.
    pub fn between(&self, after: Timestamp, until: Timestamp, count_max: usize) -> Occurrences {
        let next = |after: &Timestamp| self.next_after(*after).filter(|time| *time <= until);
        let mut following = std::iter::successors(next(&after), next);
        let times = following.by_ref().take(count_max).collect();
        Occurrences { times, more: following.next().is_some() }
    }

    /// The wall clock at `from`; for times of day, put forward to the end of what it shows for
    /// the second time.
    fn unseen(&self, from: jiff::Timestamp, offset: Offset) -> DateTime {
        let wall = offset.to_datetime(from);
        if self.calendar.interval {
            return wall;
        }
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Fold { before, after } if after == offset => {
                let second = jiff::SignedDuration::from_secs(1);
                let later = from.checked_add(second).unwrap_or(from);
                let change = self.zone.preceding(later).next();
                let change = change.map_or(from, |change| change.timestamp());
                wall.max(before.to_datetime(change))
            }
            _ => wall,
        }
    }
}

/// To the unit of the model. What is found is later than something after the epoch.
fn shared(time: jiff::Timestamp) -> Timestamp {
    Timestamp(u64::try_from(time.as_second()).expect("it is after the epoch") * 1000)
}
