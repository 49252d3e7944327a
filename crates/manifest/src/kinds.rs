//! The fields that only services, jobs or sessions have.

use crate::draft::{Draft, KindWord};
use crate::error::Problem;
use crate::lifecycle::time;
use crate::reader::{Field, Reader};
use crate::tree::{Node, Value};
use crate::{
    constraint, cron, files, lifecycle, process, readiness, schema, session, surroundings,
};
use spawnery_model::limits::{DURATION_MAX, REPLICAS_MAX};
use spawnery_model::{DurationMs, Missed, Overlap, Replicas};

/// The most attempts that one run of a job may have: at the default delays they take a week.
const ATTEMPTS_MAX: u64 = 10_000;

/// All fields of a kind.
pub(crate) fn tables(kind: KindWord) -> [&'static [Field<Draft>]; 7] {
    let own = match kind {
        KindWord::Service => SERVICE_FIELDS,
        KindWord::Job => JOB_FIELDS,
        KindWord::Session => session::FIELDS,
    };
    [
        process::FIELDS,
        readiness::FIELDS,
        own,
        lifecycle::FIELDS,
        files::FIELDS,
        constraint::FIELDS,
        surroundings::FIELDS,
    ]
}

/// What to do about a name that is no field of `kind`.
pub(crate) fn mend(kind: KindWord, name: &str) -> Option<String> {
    if name == "<<" {
        return Some("YAML 1.2 does not merge maps; repeat the fields".to_owned());
    }
    let owners =
        [("services", SERVICE_FIELDS), ("jobs", JOB_FIELDS), ("sessions", session::FIELDS)];
    let owner = owners.iter().find(|(_, fields)| fields.iter().any(|field| field.name == name));
    match owner {
        Some((owner, _)) => Some(format!("only {owner} have it, not a {}", kind.word())),
        None => surroundings::mend(name),
    }
}

const SERVICE_FIELDS: &[Field<Draft>] = &[Field {
    name: "replicas",
    doc: "How many instances are kept running, or `every-node`. Default 1.",
    schema: || {
        let count = schema::whole(0, REPLICAS_MAX.into());
        schema::any_of(&[count, schema::words(&[(EVERY_NODE, ())])])
    },
    read: |reader, node, draft| draft.replicas = replicas(reader, node),
}];

/// The word for one replica on each node.
pub(crate) const EVERY_NODE: &str = "every-node";

fn replicas(reader: &mut Reader, node: &Node) -> Option<Replicas> {
    if let Value::Text(text) = &node.value {
        if text == EVERY_NODE {
            return Some(Replicas::EveryNode);
        }
        let expected = format!("a number up to {REPLICAS_MAX} or `{EVERY_NODE}`");
        let problem = Problem::new(node.span, node.describe(), expected);
        let hint = match crate::reader::whole_number(text) {
            Some(_) => Some("remove the quotes".to_owned()),
            None => crate::nearest::nearest(text, &[EVERY_NODE]),
        };
        reader.report(problem.hint_maybe(hint));
        return None;
    }
    let count = reader.whole(node, 0, REPLICAS_MAX.into())?;
    Some(Replicas::Count(count as u32))
}

/// What happens to an occurrence while an earlier run is not finished.
pub(crate) const OVERLAPS: &[(&str, Overlap)] =
    &[("skip", Overlap::Skip), ("allow", Overlap::Allow)];

/// What happens to occurrences that could not start.
pub(crate) const MISSED: &[(&str, Missed)] =
    &[("skip", Missed::Skip), ("run-latest", Missed::RunLatest)];

const JOB_FIELDS: &[Field<Draft>] = &[
    Field {
        name: "schedule",
        doc: "When it runs by itself: a cron expression, read in UTC, or a map. Without, only on \
              demand.",
        schema: cron::json_schema,
        read: |reader, node, draft| draft.schedule = cron::schedule(reader, node),
    },
    Field {
        name: "overlap",
        doc: "What happens to an occurrence while an earlier run is not finished. Default `skip`.",
        schema: || schema::words(OVERLAPS),
        read: |reader, node, draft| draft.overlap = reader.word(node, OVERLAPS),
    },
    Field {
        name: "missed",
        doc: "What happens to occurrences when nothing could start: all are skipped (the \
              default), or the latest runs late.",
        schema: || schema::words(MISSED),
        read: |reader, node, draft| draft.missed = reader.word(node, MISSED),
    },
    Field {
        name: "start_deadline",
        doc: "How late an occurrence may still start. Default 1m.",
        schema: || schema::text_like("1m"),
        read: |reader, node, draft| {
            draft.start_deadline = time(reader, node, DurationMs(1), DURATION_MAX);
        },
    },
    Field {
        name: "attempts",
        doc: "How often one run is tried in all. Default 1, or 4 with `restart: on-failure`.",
        schema: || schema::whole(1, ATTEMPTS_MAX),
        read: |reader, node, draft| {
            let attempts = reader.whole(node, 1, ATTEMPTS_MAX);
            draft.attempts = attempts.map(|attempts| (attempts as u32, node.span));
        },
    },
    Field {
        name: "timeout",
        doc: "When an attempt is ended because it takes too long. Default never.",
        schema: || schema::text_like("10m"),
        read: |reader, node, draft| draft.timeout = time(reader, node, DurationMs(1), DURATION_MAX),
    },
];
