//! The fields of a cron expression and their values.

use crate::error::CronError;
use std::fmt;

/// One field of a cron expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// 0 to 59.
    Second,
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// 1 to 31.
    DayOfMonth,
    /// 1 to 12, or a name.
    Month,
    /// 0 to 7, where both 0 and 7 are Sunday, or a name.
    DayOfWeek,
}

/// How alike a name must be to be offered, from 0 to 1: one slip in three letters.
const LIKENESS_MIN: f64 = 0.6;

impl Field {
    /// The least value.
    pub fn min(self) -> u8 {
        match self {
            Field::Second | Field::Minute | Field::Hour | Field::DayOfWeek => 0,
            Field::DayOfMonth | Field::Month => 1,
        }
    }

    /// The greatest value.
    pub fn max(self) -> u8 {
        match self {
            Field::Second | Field::Minute => 59,
            Field::Hour => 23,
            Field::DayOfMonth => 31,
            Field::Month => 12,
            Field::DayOfWeek => 7,
        }
    }

    /// The greatest value that `*` stands for: Sunday is not counted twice.
    pub(crate) fn max_distinct(self) -> u8 {
        match self {
            Field::DayOfWeek => 6,
            _ => self.max(),
        }
    }

    /// The names of its values, from the least up.
    fn names(self) -> &'static [&'static str] {
        match self {
            Field::Month => &[
                "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
            ],
            Field::DayOfWeek => &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
            _ => &[],
        }
    }

    /// Reads a number or a name of this field.
    pub(crate) fn value(self, text: &str) -> Result<u8, CronError> {
        let named = |name: &&str| name.eq_ignore_ascii_case(text);
        if let Some(place) = self.names().iter().position(named) {
            return Ok(place as u8 + self.min());
        }
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CronError::Value {
                field: self,
                text: text.to_owned(),
                mend: self.mend(text),
            });
        }
        match text.parse() {
            Ok(value) if (self.min()..=self.max()).contains(&value) => Ok(value),
            _ => Err(CronError::OutOfRange { field: self, text: text.to_owned() }),
        }
    }

    /// What could have been meant by `text`.
    fn mend(self, text: &str) -> String {
        let wanted = text.to_ascii_uppercase();
        let names = self.names().iter();
        // Transposed letters are the commonest slip: they count as one, and before other slips.
        let letters = |text: &str| {
            let mut letters: Vec<char> = text.chars().collect();
            letters.sort_unstable();
            letters
        };
        let alike = names.map(|name| {
            let distance = strsim::osa_distance(&wanted, name) as f64;
            let transposed = letters(&wanted) == letters(name);
            let likeness = 1.0 - distance / name.len() as f64;
            (likeness, transposed, name)
        });
        let nearest = alike.max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        if let Some((likeness, _, name)) = nearest
            && likeness >= LIKENESS_MIN
        {
            return format!("did you mean `{name}`?");
        }
        let (min, max) = (self.min(), self.max());
        match self.names() {
            [] => format!("write {min} to {max}"),
            [first, .., last] => format!("write {min} to {max}, or {first} to {last}"),
            [only] => format!("write {only}"),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Second => "second",
            Field::Minute => "minute",
            Field::Hour => "hour",
            Field::DayOfMonth => "day of month",
            Field::Month => "month",
            Field::DayOfWeek => "day of week",
        })
    }
}
