//! Which wall clock times an expression means, whatever the time zone.

use jiff::civil::{Date, DateTime};

/// Years after which the calendar repeats, weekdays and all.
const YEARS_CYCLE: i16 = 400;

/// The first year of the cycle that is looked at to tell whether anything occurs at all.
const YEAR_FIRST: i16 = 2000;

/// The wall clock times of an expression. One bit for each value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Calendar {
    pub(crate) seconds: u64,
    pub(crate) minutes: u64,
    pub(crate) hours: u64,
    pub(crate) months: u64,
    pub(crate) days: Days,
    /// Whether it is an interval; else it names times of day.
    pub(crate) interval: bool,
}

/// The days of an expression. Bit 1 is the first of the month; bit 0 of a week is Sunday.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Days {
    pub(crate) of_month: u32,
    /// The last day of the month.
    pub(crate) last: bool,
    /// The last day of the month from Monday to Friday.
    pub(crate) last_working: bool,
    /// The days from Monday to Friday that are nearest to these, in the same month.
    pub(crate) nearest_working: u32,
    pub(crate) of_week: u8,
    /// The first to fifth of a weekday in the month.
    pub(crate) nth_of_week: [u8; 5],
    /// The last of a weekday in the month.
    pub(crate) last_of_week: u8,
    /// Whether the days of month and of week must both match; else either will do.
    pub(crate) both: bool,
}

impl Calendar {
    /// The first time that it means at or after `from`, to the second; `None` after year 9999.
    pub(crate) fn next(&self, from: DateTime) -> Option<DateTime> {
        let (year, month, day) = (from.year(), from.month(), from.day());
        let days = self.days_of(year, month);
        if days & (1 << day) != 0
            && let Some(found) = self.next_in_day(from)
        {
            return Some(found);
        }
        let first = (lowest(self.hours), lowest(self.minutes), lowest(self.seconds));
        let at_first = |year, month, day| {
            let date = Date::new(year, month, day as i8).ok()?;
            Some(date.at(first.0 as i8, first.1 as i8, first.2 as i8, 0))
        };
        if let Some(day) = next_bit(days.into(), day as u32 + 1) {
            return at_first(year, month, day);
        }
        let (mut year, mut month) = (year, month);
        // Beyond one cycle there is nothing that was not in it.
        for _ in 0..=i32::from(YEARS_CYCLE) * 12 {
            (year, month) = match month {
                12 => (year.checked_add(1)?, 1),
                _ => (year, month + 1),
            };
            let days = self.days_of(year, month);
            if days != 0 {
                return at_first(year, month, lowest(days.into()));
            }
        }
        None
    }

    /// Whether it means any time at all.
    pub(crate) fn occurs(&self) -> bool {
        let start = Date::new(YEAR_FIRST, 1, 1).expect("it is a date");
        self.next(start.at(0, 0, 0, 0)).is_some()
    }

    fn next_in_day(&self, from: DateTime) -> Option<DateTime> {
        let (hour, minute, second) = (from.hour(), from.minute(), from.second());
        let at = |hour: u32, minute: u32, second: u32| {
            Some(from.date().at(hour as i8, minute as i8, second as i8, 0))
        };
        let (first_minute, first_second) = (lowest(self.minutes), lowest(self.seconds));
        if self.hours & (1 << hour) != 0 {
            if self.minutes & (1 << minute) != 0
                && let Some(second) = next_bit(self.seconds, second as u32)
            {
                return at(hour as u32, minute as u32, second);
            }
            if let Some(minute) = next_bit(self.minutes, minute as u32 + 1) {
                return at(hour as u32, minute, first_second);
            }
        }
        let hour = next_bit(self.hours, hour as u32 + 1)?;
        at(hour, first_minute, first_second)
    }

    fn days_of(&self, year: i16, month: i8) -> u32 {
        if self.months & (1 << month) == 0 {
            return 0;
        }
        match Date::new(year, month, 1) {
            Ok(first) => self.days.of(first),
            Err(_) => 0,
        }
    }
}

impl Days {
    /// The days of the month that starts with `first`.
    fn of(&self, first: Date) -> u32 {
        let length = first.days_in_month() as u32;
        let all = (2u32 << length).wrapping_sub(2);
        let first_weekday = first.weekday().to_sunday_zero_offset() as u32;
        let by_month = self.by_month(length, first_weekday) & all;
        let by_week = self.by_week(length, first_weekday) & all;
        match self.both {
            true => by_month & by_week,
            false => by_month | by_week,
        }
    }

    fn by_month(&self, length: u32, first_weekday: u32) -> u32 {
        let weekday = |day: u32| (first_weekday + day - 1) % 7;
        let mut days = self.of_month;
        if self.last {
            days |= 1 << length;
        }
        if self.last_working {
            let back = match weekday(length) {
                0 => 2,
                6 => 1,
                _ => 0,
            };
            days |= 1 << (length - back);
        }
        let mut nearest = self.nearest_working;
        while nearest != 0 {
            let day = nearest.trailing_zeros();
            nearest &= nearest - 1;
            if day > length {
                continue;
            }
            days |= 1
                << match weekday(day) {
                    6 if day == 1 => 3,
                    6 => day - 1,
                    0 if day == length => day - 2,
                    0 => day + 1,
                    _ => day,
                };
        }
        days
    }

    fn by_week(&self, length: u32, first_weekday: u32) -> u32 {
        /// The same weekday from a day on: bits 0, 7, 14, 21 and 28.
        const WEEKLY: u64 = 0x1020_4081;
        let mut days = 0u64;
        for weekday in 0..7 {
            let bit = 1u8 << weekday;
            let first = 1 + (7 + weekday - first_weekday) % 7;
            if self.of_week & bit != 0 {
                days |= WEEKLY << first;
            }
            for (place, nth) in self.nth_of_week.iter().enumerate() {
                if nth & bit != 0 {
                    days |= 1 << (first + 7 * place as u32);
                }
            }
            if self.last_of_week & bit != 0 {
                days |= 1 << (first + 7 * ((length - first) / 7));
            }
        }
        days as u32
    }
}

/// The lowest bit that is set in `bits`, which are not 0: each field has a value.
fn lowest(bits: u64) -> u32 {
    bits.trailing_zeros()
}

/// The lowest bit that is set at or above `from`, which is below 64.
fn next_bit(bits: u64, from: u32) -> Option<u32> {
    let rest = bits >> from;
    (rest != 0).then(|| from + rest.trailing_zeros())
}
