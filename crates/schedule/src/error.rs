//! What is wrong with a schedule, and what to write instead.

use crate::field::Field;
use crate::parse::EXPRESSION_LENGTH_MAX;

/// Why a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Nothing was written.
    #[error(
        "a cron expression has five or six fields, this one is empty; write for example `0 3 * * *` or `@daily`"
    )]
    Empty,
    /// Longer than anybody would write.
    #[error(
        "a cron expression has at most {EXPRESSION_LENGTH_MAX} characters, this one has {length}"
    )]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Neither five nor six fields.
    #[error(
        "a cron expression has five fields (minute, hour, day of month, month, day of week) or \
         six (second first), this one has {count}"
    )]
    FieldCount {
        /// How many it has.
        count: usize,
    },
    /// A word after `@` that is none.
    #[error("`{nickname}` is not a schedule; {mend}")]
    Nickname {
        /// What was written.
        nickname: String,
        /// What to write instead.
        mend: String,
    },
    /// Nothing before, between or after commas.
    #[error(
        "{field}: `{text}` has nothing on one side of a comma; remove the comma or add a value"
    )]
    EmptyItem {
        /// The field.
        field: Field,
        /// All of it.
        text: String,
    },
    /// Neither a number nor a name of the field.
    #[error("{field}: `{text}` is not a value; {mend}")]
    Value {
        /// The field.
        field: Field,
        /// What was written.
        text: String,
        /// What to write instead.
        mend: String,
    },
    /// A number that the field does not have.
    #[error("{field}: {text} is out of range; write {} to {}", field.min(), field.max())]
    OutOfRange {
        /// The field.
        field: Field,
        /// What was written.
        text: String,
    },
    /// A range whose end is before its start.
    #[error("{field}: the range `{text}` ends before it starts; write `{mend}`")]
    Backwards {
        /// The field.
        field: Field,
        /// What was written.
        text: String,
        /// What to write instead.
        mend: String,
    },
    /// A step that is no number, zero or leaves only the first value.
    #[error(
        "{field}: the step of `{text}` must be a number from 1 to {max}; any larger one would leave only the first value"
    )]
    Step {
        /// The field.
        field: Field,
        /// What was written.
        text: String,
        /// The largest step that makes sense.
        max: u8,
    },
    /// A step after a single value.
    #[error("{field}: `{text}` has a step but no range; write `{mend}`")]
    StepWithoutRange {
        /// The field.
        field: Field,
        /// What was written.
        text: String,
        /// What to write instead.
        mend: String,
    },
    /// No day is meant, as with 30 February.
    #[error("`{expression}` never occurs: no year has such a day; check day of month and month")]
    Never {
        /// All of it.
        expression: String,
    },
    /// Not the name of a time zone.
    #[error("`{name}` is not a time zone; {mend}")]
    TimeZone {
        /// What was written.
        name: String,
        /// What to write instead.
        mend: String,
    },
}
