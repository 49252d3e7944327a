//! When a job runs: cron expressions, time zones and daylight saving.
//!
//! Invariant: the occurrences follow from the expression, the time zone and the instants that the
//! caller gives. Nothing here reads the clock, the environment or a file; the time zones are those
//! that were built in.
//!
//! # Expressions
//!
//! Five fields as in `crontab(5)`, or six with the second first:
//!
//! | field        | values          | names     | besides                                         |
//! |--------------|-----------------|-----------|-------------------------------------------------|
//! | second       | 0-59            |           |                                                 |
//! | minute       | 0-59            |           |                                                 |
//! | hour         | 0-23            |           |                                                 |
//! | day of month | 1-31            |           | `?`, `L` last day, `15W` nearest working day, `LW` last working day |
//! | month        | 1-12            | `JAN`-`DEC` |                                               |
//! | day of week  | 0-7, 0 and 7 are Sunday | `SUN`-`SAT` | `?`, `5#2` second Friday, `5L` last Friday |
//!
//! Each field is a list of values, ranges `a-b`, `*`, and steps `a-b/n` and `*/n`. Instead of
//! fields: `@hourly`, `@daily` or `@midnight`, `@weekly`, `@monthly`, `@yearly` or `@annually`.
//!
//! If neither the day of month nor the day of week starts with `*` or `?`, a day on which either
//! matches will do; else both must match, as in `crontab(5)`.
//!
//! # When the clocks change
//!
//! An expression with a `*` at the start of its second, minute or hour is an *interval*: `*/15 * *
//! * *`. Any other names *times of day*: `30 2 * * *`, `0 9,17 * * 1-5`. (The rule is that of
//! `cron(8)` by Vixie.)
//!
//! | the clock         | times of day                                    | interval                   |
//! |-------------------|-------------------------------------------------|----------------------------|
//! | is put forward    | those left out run once, right after the change | what is left out does not run |
//! | is put back       | those repeated run the first time only          | runs both times            |
//!
//! So a daily job runs each day exactly once, and a quarter-hourly job each quarter of an hour.
//! Every change of a zone's offset counts, whatever its cause and size.

mod calendar;
mod cron;
mod error;
mod field;
mod parse;
mod zone;

pub use cron::{Cron, Occurrences};
pub use error::CronError;
pub use field::Field;
