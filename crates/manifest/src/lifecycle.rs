//! The fields that say what happens at an instance's end, and how long things may take.

use crate::draft::Draft;
use crate::error::{Problem, quoted};
use crate::nearest::nearest;
use crate::place::Span;
use crate::process::amount_error;
use crate::quantity::{self, whole_duration};
use crate::reader::{Field, Reader, list, names, whole_number};
use crate::schema;
use crate::tree::{Node, Value};
use spawnery_model::limits::{
    DURATION_MAX, RESTART_DELAY_DEFAULT, RESTART_DELAY_MAX_DEFAULT, RESTART_RESET_AFTER_DEFAULT,
    STOP_GRACE_DEFAULT, STOP_GRACE_MAX,
};
use spawnery_model::{DurationMs, Restart, RestartPolicy, Stop};

/// Fields of every kind: the end of an instance.
pub(crate) const FIELDS: &[Field<Draft>] = &[
    Field {
        name: "restart",
        doc: "When an instance that ended is started anew: a policy, or a map with delays. \
              Default `always` for services, `never` for jobs and sessions.",
        schema: || {
            let map = schema::object(&[RESTART_FIELDS], &[]);
            schema::any_of(&[schema::words(POLICIES), map])
        },
        read: |reader, node, draft| match &node.value {
            Value::Map(_) => {
                reader.fields(node, &[RESTART_FIELDS], |_| None, &mut draft.restart);
            }
            _ => draft.restart.policy = policy(reader, node),
        },
    },
    Field {
        name: "stop",
        doc: "How an instance is ended: a signal, or a map with a signal and a grace.",
        schema: || {
            let map = schema::object(&[STOP_FIELDS], &[]);
            schema::any_of(&[signal_schema(), map])
        },
        read: |reader, node, draft| match &node.value {
            Value::Map(_) => {
                reader.fields(node, &[STOP_FIELDS], |_| None, &mut draft.stop);
            }
            _ => draft.stop.signal = signal(reader, node),
        },
    },
];

/// `restart`, as far as it was given.
#[derive(Default)]
pub(crate) struct RestartDraft {
    pub(crate) policy: Option<(RestartPolicy, Span)>,
    delay: Option<DurationMs>,
    delay_max: Option<(DurationMs, Span)>,
    reset_after: Option<DurationMs>,
    restarts_max: Option<u32>,
}

/// After which ends an instance is started anew.
pub(crate) const POLICIES: &[(&str, RestartPolicy)] = &[
    ("never", RestartPolicy::Never),
    ("on-failure", RestartPolicy::OnFailure),
    ("always", RestartPolicy::Always),
];

const RESTART_FIELDS: &[Field<RestartDraft>] = &[
    Field {
        name: "policy",
        doc: "After which ends it is started anew.",
        schema: || schema::words(POLICIES),
        read: |reader, node, draft| draft.policy = policy(reader, node),
    },
    Field {
        name: "delay",
        doc: "Before the first restart; doubled for each failure in a row. Default 500ms.",
        schema: || schema::text_like("500ms"),
        read: |reader, node, draft| draft.delay = time(reader, node, DurationMs(1), DURATION_MAX),
    },
    Field {
        name: "delay_max",
        doc: "The longest that the delay grows to. Default 1m.",
        schema: || schema::text_like("1m"),
        read: |reader, node, draft| {
            let delay = time(reader, node, DurationMs(1), DURATION_MAX);
            draft.delay_max = delay.map(|delay| (delay, node.span));
        },
    },
    Field {
        name: "reset_after",
        doc: "An instance that ran this long has its failures forgotten. Default 10m.",
        schema: || schema::text_like("10m"),
        read: |reader, node, draft| {
            draft.reset_after = time(reader, node, DurationMs(1), DURATION_MAX);
        },
    },
    Field {
        name: "max",
        doc: "How often in a row at most. Default any number of times.",
        schema: || schema::whole(1, u32::MAX.into()),
        read: |reader, node, draft| {
            let most = reader.whole(node, 1, u32::MAX.into());
            draft.restarts_max = most.map(|most| most as u32);
        },
    },
];

impl RestartDraft {
    /// Fills in the defaults; `policy_default` is that of the kind.
    pub(crate) fn finish(self, policy_default: RestartPolicy, reader: &mut Reader) -> Restart {
        let delay = self.delay.unwrap_or(RESTART_DELAY_DEFAULT);
        if let Some((delay_max, span)) = self.delay_max
            && delay_max < delay
        {
            reader.within("restart", |reader| {
                reader.within("delay_max", |reader| {
                    let found = format!("the delay starts at {delay} and may grow to {delay_max}");
                    let expected = format!("`delay_max` of at least {delay}");
                    reader.report(Problem::new(span, found, expected));
                });
            });
        }
        let delay_max_default = RESTART_DELAY_MAX_DEFAULT.max(delay);
        Restart {
            policy: self.policy.map_or(policy_default, |(policy, _)| policy),
            delay,
            delay_max: self.delay_max.map_or(delay_max_default, |(delay, _)| delay),
            reset_after: self.reset_after.unwrap_or(RESTART_RESET_AFTER_DEFAULT),
            restarts_max: self.restarts_max,
        }
    }
}

fn policy(reader: &mut Reader, node: &Node) -> Option<(RestartPolicy, Span)> {
    let hint = match &node.value {
        Value::Bool(false) => "no",
        Value::Text(text) => text,
        _ => "",
    };
    let hint = match hint {
        "no" | "none" => "write never",
        "unless-stopped" | "yes" => "write always",
        _ => return Some((reader.word(node, POLICIES)?, node.span)),
    };
    let expected = list(&names(POLICIES));
    reader.report(Problem::new(node.span, node.describe(), expected).hint(hint));
    None
}

/// `stop`, as far as it was given.
#[derive(Default)]
pub(crate) struct StopDraft {
    signal: Option<i32>,
    grace: Option<DurationMs>,
}

const STOP_FIELDS: &[Field<StopDraft>] = &[
    Field {
        name: "signal",
        doc: "The signal that is sent first, by name or number. Default TERM.",
        schema: signal_schema,
        read: |reader, node, draft| draft.signal = signal(reader, node),
    },
    Field {
        name: "grace",
        doc: "How long after it all of its processes are killed. Default 10s.",
        schema: || schema::text_like("10s"),
        read: |reader, node, draft| {
            draft.grace = time(reader, node, DurationMs(0), STOP_GRACE_MAX);
        },
    },
];

impl StopDraft {
    /// Fills in the defaults.
    pub(crate) fn finish(self) -> Stop {
        Stop {
            signal: self.signal.unwrap_or(SIGNAL_DEFAULT),
            grace: self.grace.unwrap_or(STOP_GRACE_DEFAULT),
        }
    }
}

/// SIGTERM.
const SIGNAL_DEFAULT: i32 = 15;

/// The highest signal number: SIGRTMAX (`signal(7)`).
const SIGNAL_MAX: i32 = 64;

/// Signal names and numbers of Linux on x86 and ARM (`signal(7)`).
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

pub(crate) fn signal_schema() -> serde_json::Value {
    let number = schema::whole(1, SIGNAL_MAX as u64);
    schema::any_of(&[schema::text_like("TERM"), number])
}

pub(crate) fn signal(reader: &mut Reader, node: &Node) -> Option<i32> {
    let expected = "a signal such as TERM, INT or 15";
    match &node.value {
        Value::Number(text) => {
            let number = whole_number(text).and_then(|number| i32::try_from(number).ok());
            match number {
                Some(number @ 1..=SIGNAL_MAX) => Some(number),
                _ => reader.wrong(node, expected),
            }
        }
        Value::Text(text) => {
            let upper = text.to_ascii_uppercase();
            let name = upper.strip_prefix("SIG").unwrap_or(&upper);
            let known = SIGNALS.iter().find(|(known, _)| *known == name);
            if known.is_none() {
                let found = format!("the unknown signal {}", quoted(text));
                let hint = nearest(name, &names(SIGNALS));
                reader.report(Problem::new(node.span, found, expected).hint_maybe(hint));
            }
            known.map(|(_, number)| *number)
        }
        _ => reader.wrong(node, expected),
    }
}

/// The name of a signal, or its number where it has none.
pub(crate) fn signal_json(signal: i32) -> serde_json::Value {
    match SIGNALS.iter().find(|(_, number)| *number == signal) {
        Some((name, _)) => (*name).into(),
        None => signal.into(),
    }
}

/// A length of time from `least` to `most`.
pub(crate) fn time(
    reader: &mut Reader,
    node: &Node,
    least: DurationMs,
    most: DurationMs,
) -> Option<DurationMs> {
    let expected = "a time with its unit, such as 500ms, 10s, 5m, 1h or 2d";
    let text = match &node.value {
        Value::Text(text) => text,
        Value::Number(text) => {
            let found = format!("the number {} without a unit", quoted(text));
            let hint = format!("write {text}s if seconds are meant");
            reader.report(Problem::new(node.span, found, expected).hint(hint));
            return None;
        }
        _ => return reader.wrong(node, expected),
    };
    match quantity::duration(text) {
        Ok(time) if time < least => {
            let found = format!("{} is too short", quoted(text));
            let expected = format!("at least {}", whole_duration(least));
            reader.report(Problem::new(node.span, found, expected));
            None
        }
        Ok(time) if time > most => {
            let found = format!("{} is too long", quoted(text));
            let expected = format!("at most {}", whole_duration(most));
            reader.report(Problem::new(node.span, found, expected));
            None
        }
        Ok(time) => Some(time),
        Err(error) => amount_error(reader, node, error, expected),
    }
}
