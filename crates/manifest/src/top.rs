//! The top of a manifest: its sections and the workloads in them.

use crate::draft::{Draft, KindWord, SourceDraft};
use crate::error::{Problem, quoted};
use crate::kinds;
use crate::place::Span;
use crate::process::checked_name;
use crate::reader::{Field, Reader};
use crate::schema;
use crate::tree::{Node, Value};
use serde_json::Value as Json;
use spawnery_model::limits::WORKLOADS_MAX;
use spawnery_model::{Name, Workload};
use std::collections::BTreeMap;

/// The fields of a manifest.
pub(crate) const FIELDS: &[Field<Top>] = &[
    Field {
        name: "services",
        doc: "What is kept running, by name.",
        schema: || section_schema(KindWord::Service),
        read: |reader, node, top| section(reader, node, top, KindWord::Service),
    },
    Field {
        name: "jobs",
        doc: "What runs to an end, on a schedule or on demand, by name.",
        schema: || section_schema(KindWord::Job),
        read: |reader, node, top| section(reader, node, top, KindWord::Job),
    },
    Field {
        name: "sessions",
        doc: "Templates of what is started on demand for somebody, by name.",
        schema: || section_schema(KindWord::Session),
        read: |reader, node, top| section(reader, node, top, KindWord::Session),
    },
    Field {
        name: "$schema",
        doc: "The schema of this file, for editors; Spawnery does not read it.",
        schema: schema::text,
        read: |reader, node, _| {
            reader.text(node, "the address of a schema");
        },
    },
];

/// What has been read of a manifest so far.
#[derive(Default)]
pub(crate) struct Top {
    pub(crate) workloads: Vec<(Workload, Vec<SourceDraft>)>,
    /// Each name with the kind that has it, over all sections.
    names: BTreeMap<Name, KindWord>,
}

/// Reads a manifest from its tree; what is wrong is in the reader.
pub(crate) fn manifest(reader: &mut Reader, node: &Node) -> Top {
    let mut top = Top::default();
    if let Value::Null = node.value {
        nothing(reader);
        return top;
    }
    let is_right = reader.fields(node, &[FIELDS], mend, &mut top);
    if is_right && top.workloads.is_empty() {
        nothing(reader);
    }
    if top.workloads.len() > WORKLOADS_MAX {
        let found = format!("{} workloads", top.workloads.len());
        let expected = format!("at most {WORKLOADS_MAX}");
        reader.report(Problem::new(Span::START, found, expected));
    }
    top
}

/// Reports a manifest that declares nothing.
pub(crate) fn nothing(reader: &mut Reader) {
    let expected = "at least one service, job or session";
    let problem = Problem::new(Span::START, "the manifest declares nothing", expected);
    reader.report(problem.hint("start with `services:`, a name and `run:` below it"));
}

fn mend(name: &str) -> Option<String> {
    let kinds = [KindWord::Service, KindWord::Job, KindWord::Session];
    let tables = kinds.into_iter().flat_map(kinds::tables);
    let is_workload_field = tables.flatten().any(|field| field.name == name);
    is_workload_field.then(|| {
        "it belongs to a workload: below `services:`, `jobs:` or `sessions:` and a name".to_owned()
    })
}

fn section(reader: &mut Reader, node: &Node, top: &mut Top, kind: KindWord) {
    let expected = format!("a map of {}s by their names", kind.word());
    for (key, value) in reader.map(node, &expected).into_iter().flatten() {
        reader.within(&key.text, |reader| {
            let mut draft = Draft::default();
            let tables = kinds::tables(kind);
            reader.fields(value, &tables, |name| kinds::mend(kind, name), &mut draft);
            let Some(name) = checked_name(reader, key.span, &key.text) else {
                return;
            };
            if let Some(other) = top.names.insert(name.clone(), kind) {
                let found = format!("{} is the name of a {} too", quoted(&key.text), other.word());
                let expected = "names that differ over services, jobs and sessions";
                reader.report(Problem::new(key.span, found, expected));
            }
            if let Value::Map(_) = value.value {
                top.workloads.extend(draft.finish(kind, name, key.span, reader));
            }
        });
    }
}

fn section_schema(kind: KindWord) -> Json {
    let mut schema = schema::map_of(schema::object(&kinds::tables(kind), &["run"]));
    schema["propertyNames"] = serde_json::json!({
        "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        "maxLength": spawnery_model::limits::NAME_LENGTH_MAX,
    });
    schema
}
