//! The field `schedule`: when a job runs by itself.

use crate::error::{Problem, quoted};
use crate::place::Span;
use crate::quantity;
use crate::reader::{Field, Reader};
use crate::schema;
use crate::tree::{Node, Value};
use serde_json::Value as Json;
use spawnery_model::Schedule;
use spawnery_schedule::{Cron, CronError};

/// The time zone in which an expression is read when the manifest names none.
const TIME_ZONE_DEFAULT: &str = "UTC";

const CRON_EXPECTED: &str = "a cron expression such as \"*/5 * * * *\"";

/// The JSON Schema of a schedule.
pub(crate) fn json_schema() -> Json {
    let map = schema::object(&[SCHEDULE_FIELDS], &[]);
    schema::any_of(&[schema::text_like("*/5 * * * *"), map])
}

#[derive(Default)]
struct ScheduleDraft {
    cron: Option<(String, Span)>,
    every: Option<(String, Span)>,
    time_zone: Option<(String, Span)>,
}

const SCHEDULE_FIELDS: &[Field<ScheduleDraft>] = &[
    Field {
        name: "cron",
        doc: "Five fields: minute, hour, day of the month, month, day of the week; or six with \
              seconds first.",
        schema: || schema::text_like("*/5 * * * *"),
        read: |reader, node, draft| {
            let text = reader.text(node, CRON_EXPECTED);
            draft.cron = text.map(|text| (text.to_owned(), node.span));
        },
    },
    Field {
        name: "every",
        doc: "Instead of `cron`: a time that divides a minute, an hour or a day evenly, counted \
              from midnight UTC.",
        schema: || schema::text_like("15m"),
        read: |reader, node, draft| draft.every = every(reader, node).map(|it| (it, node.span)),
    },
    Field {
        name: "time_zone",
        doc: "The IANA time zone in which `cron` is read. Default UTC.",
        schema: || schema::text_like("Europe/Zurich"),
        read: |reader, node, draft| {
            let text = reader.text(node, "a time zone such as Europe/Zurich");
            draft.time_zone = text.map(|text| (text.to_owned(), node.span));
        },
    },
];

/// Reads a schedule: an expression, or a map.
pub(crate) fn schedule(reader: &mut Reader, node: &Node) -> Option<Schedule> {
    let mut draft = ScheduleDraft::default();
    let is_right = match &node.value {
        Value::Map(_) => reader.fields(node, &[SCHEDULE_FIELDS], |_| None, &mut draft),
        _ => {
            let text = reader.text(node, CRON_EXPECTED);
            draft.cron = text.map(|text| (text.to_owned(), node.span));
            draft.cron.is_some()
        }
    };
    if !is_right {
        return None;
    }
    let wrong = |reader: &mut Reader, span, found: &str, expected: &str| {
        reader.report(Problem::new(span, found, expected));
        None
    };
    let (cron, span) = match (draft.cron, draft.every) {
        (Some(cron), None) => cron,
        (None, Some((_, span))) if draft.time_zone.is_some() => {
            let found = "`every` with a time zone";
            return wrong(reader, span, found, "`cron` with a time zone, or `every` alone");
        }
        (None, Some(every)) => every,
        (None, None) => {
            return wrong(reader, node.span, "a schedule without times", "`cron` or `every`");
        }
        (Some(_), Some((_, span))) => {
            let found = "`cron` and `every` are both given";
            return wrong(reader, span, found, "one of the two");
        }
    };
    let (time_zone, time_zone_span) = match draft.time_zone {
        Some(given) => given,
        None => (TIME_ZONE_DEFAULT.to_owned(), span),
    };
    check(reader, &cron, span, &time_zone, time_zone_span);
    Some(Schedule { cron, time_zone })
}

fn check(reader: &mut Reader, cron: &str, span: Span, time_zone: &str, time_zone_span: Span) {
    let Err(error) = Cron::parse(cron, time_zone) else {
        return;
    };
    let (span, expected) = match error {
        CronError::TimeZone { .. } => (time_zone_span, "a time zone such as Europe/Zurich"),
        _ => (span, CRON_EXPECTED),
    };
    // Its errors say what is wrong, and after a semicolon how to mend it.
    let message = error.to_string();
    let (found, hint) = match message.split_once("; ") {
        Some((found, hint)) => (found, Some(hint.to_owned())),
        None => (message.as_str(), None),
    };
    reader.report(Problem::new(span, found, expected).hint_maybe(hint));
}

/// Makes a cron expression of an interval, where one says the same.
fn every(reader: &mut Reader, node: &Node) -> Option<String> {
    let expected = "a time such as 30s, 5m, 2h or 1d";
    let text = reader.text(node, expected)?;
    let ms = match quantity::duration(text) {
        Ok(time) => time.0,
        Err(error) => return crate::process::amount_error(reader, node, error, expected),
    };
    const SECOND: u64 = 1000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    // An interval that divides the next larger unit starts anew with it, as cron does.
    let step = |unit: u64, whole: u64| {
        let is_even = ms >= unit && ms.is_multiple_of(unit) && whole.is_multiple_of(ms);
        (is_even && ms < whole).then_some(ms / unit)
    };
    let cron = match (step(SECOND, MINUTE), step(MINUTE, HOUR), step(HOUR, DAY)) {
        (Some(seconds), _, _) => format!("*/{seconds} * * * * *"),
        (_, Some(minutes), _) => format!("*/{minutes} * * * *"),
        (_, _, Some(hours)) => format!("0 */{hours} * * *"),
        _ if ms == DAY => "0 0 * * *".to_owned(),
        _ => {
            let found = format!("{} does not divide a minute, an hour or a day", quoted(text));
            let problem = Problem::new(node.span, found, expected);
            reader.report(problem.hint("write the times that you mean as `cron`"));
            return None;
        }
    };
    Some(cron)
}
