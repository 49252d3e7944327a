//! From the text of a cron expression to a [`Calendar`].

use crate::calendar::{Calendar, Days};
use crate::error::CronError;
use crate::field::Field;

/// Characters in an expression: far more than one with every field spelled out for a reader. More:
/// refused.
pub const EXPRESSION_LENGTH_MAX: usize = 512;

/// The words that stand for an expression (`crontab(5)`).
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// Reads `expression`; an expression that never occurs is an error too.
pub(crate) fn parse(expression: &str) -> Result<Calendar, CronError> {
    if expression.len() > EXPRESSION_LENGTH_MAX {
        let length = expression.len();
        return Err(CronError::TooLong { length });
    }
    let trimmed = expression.trim();
    let fields: Vec<&str> = match trimmed.strip_prefix('@') {
        Some(_) => nickname(trimmed)?.split(' ').collect(),
        None => trimmed.split_whitespace().collect(),
    };
    let (second, rest) = match fields.as_slice() {
        [] => return Err(CronError::Empty),
        [second, rest @ ..] if rest.len() == 5 => (*second, rest),
        rest if rest.len() == 5 => ("0", rest),
        fields => {
            let count = fields.len();
            return Err(CronError::FieldCount { count });
        }
    };
    let [minute, hour, day, month, weekday] = rest else {
        unreachable!("both arms above have five");
    };
    let starts_with_star = |field: &str| field.starts_with(['*', '?']);
    let calendar = Calendar {
        seconds: numbers(Field::Second, second)?,
        minutes: numbers(Field::Minute, minute)?,
        hours: numbers(Field::Hour, hour)?,
        months: numbers(Field::Month, month)?,
        days: Days {
            both: starts_with_star(day) || starts_with_star(weekday),
            ..days(day, weekday)?
        },
        interval: [second, minute, hour].into_iter().any(starts_with_star),
    };
    if !calendar.occurs() {
        let expression = trimmed.to_owned();
        return Err(CronError::Never { expression });
    }
    Ok(calendar)
}

fn nickname(text: &str) -> Result<&'static str, CronError> {
    let named = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case(text);
    if let Some((_, expression)) = NICKNAMES.iter().find(named) {
        return Ok(expression);
    }
    let mend = if text.eq_ignore_ascii_case("@reboot") {
        "what is to run whenever a machine is up is a service".to_owned()
    } else {
        let lower = text.to_ascii_lowercase();
        let likeness = |name: &str| strsim::jaro_winkler(name, &lower);
        let names = NICKNAMES.iter().map(|(name, _)| *name);
        let nearest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        format!("did you mean `{}`?", nearest.expect("there are some"))
    };
    Err(CronError::Nickname { nickname: text.to_owned(), mend })
}

/// The values of a field that has nothing special, one bit each.
fn numbers(field: Field, text: &str) -> Result<u64, CronError> {
    let mut bits = 0;
    for item in items(field, text) {
        bits |= plain(field, item?)?;
    }
    Ok(bits)
}

/// The days of month and of week; `both` is left unset.
fn days(day: &str, weekday: &str) -> Result<Days, CronError> {
    let mut days = Days::default();
    for item in items(Field::DayOfMonth, day) {
        day_of_month(item?, day, &mut days)?;
    }
    for item in items(Field::DayOfWeek, weekday) {
        day_of_week(item?, weekday, &mut days)?;
    }
    Ok(days)
}

fn day_of_month(item: &str, all: &str, days: &mut Days) -> Result<(), CronError> {
    let field = Field::DayOfMonth;
    let upper = item.to_ascii_uppercase();
    match upper.as_str() {
        "?" if all == "?" => days.of_month |= plain(field, "*")? as u32,
        "L" => days.last = true,
        "LW" => days.last_working = true,
        _ => match upper.strip_suffix('W') {
            Some(day) => days.nearest_working |= 1 << field.value(day)?,
            None => days.of_month |= plain(field, item)? as u32,
        },
    }
    Ok(())
}

fn day_of_week(item: &str, all: &str, days: &mut Days) -> Result<(), CronError> {
    let field = Field::DayOfWeek;
    if item == "?" && all == "?" {
        days.of_week |= plain(field, "*")? as u8;
    } else if let Some((weekday, nth)) = item.split_once('#') {
        let weekday = field.value(weekday)? % 7;
        let Some(nth @ 1..=5) = nth.parse::<usize>().ok() else {
            return Err(CronError::Value {
                field,
                text: item.to_owned(),
                mend: "after `#` write 1 to 5: which one in the month".to_owned(),
            });
        };
        days.nth_of_week[nth - 1] |= 1 << weekday;
    } else if let Some(weekday) = item.strip_suffix(['L', 'l']) {
        if weekday.is_empty() {
            return Err(CronError::Value {
                field,
                text: item.to_owned(),
                mend: "write the day before it: `5L` is the last Friday of the month".to_owned(),
            });
        }
        days.last_of_week |= 1 << (field.value(weekday)? % 7);
    } else {
        let bits = plain(field, item)?;
        // 7 is Sunday, as 0 is.
        days.of_week |= (bits & 0x7f | bits >> 7) as u8;
    }
    Ok(())
}

/// The parts between the commas of a field.
fn items(field: Field, text: &str) -> impl Iterator<Item = Result<&str, CronError>> {
    text.split(',').map(move |item| match item {
        "" => Err(CronError::EmptyItem { field, text: text.to_owned() }),
        item => Ok(item),
    })
}

/// A value, a range or `*`, with a step or without.
fn plain(field: Field, item: &str) -> Result<u64, CronError> {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    let (first, last) = match range.split_once('-') {
        _ if range == "*" => (field.min(), field.max_distinct()),
        Some((first, last)) => bounds(field, range, first, last)?,
        None => {
            let value = field.value(range)?;
            if let Some(step) = step {
                return Err(CronError::StepWithoutRange {
                    field,
                    text: item.to_owned(),
                    mend: format!("{range}-{}/{step}", field.max_distinct()),
                });
            }
            (value, value)
        }
    };
    let step = match step {
        Some(step) => step_of(field, item, step, last - first)?,
        None => 1,
    };
    let values = (first..=last).step_by(step.into());
    Ok(values.fold(0, |bits, value| bits | 1 << value))
}

fn bounds(field: Field, range: &str, first: &str, last: &str) -> Result<(u8, u8), CronError> {
    let (low, mut high) = (field.value(first)?, field.value(last)?);
    if field == Field::DayOfWeek && high == 0 && low > 0 {
        high = 7;
    }
    if low <= high {
        return Ok((low, high));
    }
    let (min, max) = (field.min(), field.max_distinct());
    Err(CronError::Backwards {
        field,
        text: range.to_owned(),
        mend: format!("{first}-{max},{min}-{last}"),
    })
}

fn step_of(field: Field, item: &str, step: &str, span: u8) -> Result<u8, CronError> {
    let digits = !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
    match step.parse() {
        Ok(step) if digits && (1..=span).contains(&step) => Ok(step),
        _ => Err(CronError::Step { field, text: item.to_owned(), max: span.max(1) }),
    }
}
