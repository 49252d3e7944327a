//! The top of a manifest: its sections and the workloads in them.

use crate::draft::{Draft, KindWord, SourceDraft};
use crate::error::{Problem, quoted};
use crate::kinds;
use crate::local::LocalDraft;
use crate::nearest::nearest;
use crate::place::Span;
use crate::process::checked_name;
use crate::reader::{Field, Reader};
use crate::recipe::{self, recipe};
use crate::schema;
use crate::surroundings::EnvironmentDraft;
use crate::tree::{Node, Value};
use serde_json::Value as Json;
use spawnery_model::limits::WORKLOADS_MAX;
use spawnery_model::{Environment, Name, Workload};
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
        name: "environments",
        doc: "Recipes of root filesystems that workloads use by their names.",
        schema: environments_schema,
        // They are read first, because the other sections refer to them.
        read: |_, _, _| {},
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
    pub(crate) environments: Vec<Environment>,
    pub(crate) locals: Vec<LocalDraft>,
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
    let count = reader.problem_count();
    environments(reader, node, &mut top);
    reader.fields(node, &[FIELDS], mend, &mut top);
    let is_right = reader.problem_count() == count;
    if is_right && top.workloads.is_empty() && top.environments.is_empty() {
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
    let is_recipe_field = recipe::FIELDS.iter().any(|field| field.name == name);
    if is_recipe_field && !is_workload_field {
        return Some("it belongs to a recipe: below `environments:` and a name".to_owned());
    }
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
                let environment = look_up(reader, &mut draft, &name, top);
                let workload = draft.finish(kind, name, key.span, environment, reader);
                top.workloads.extend(workload);
            }
        });
    }
}

/// Reads the section `environments`.
fn environments(reader: &mut Reader, node: &Node, top: &mut Top) {
    let Value::Map(map) = &node.value else {
        return;
    };
    let Some((_, section)) = map.iter().find(|(key, _)| key.text == "environments") else {
        return;
    };
    reader.within("environments", |reader| {
        let map = reader.map(section, "a map of recipes by their names");
        for (key, value) in map.into_iter().flatten() {
            reader.within(&key.text, |reader| {
                if let Some(name) = checked_name(reader, key.span, &key.text) {
                    let environment = recipe(reader, value, Some(name), &mut top.locals);
                    top.environments.push(environment);
                }
            });
        }
        top.environments.sort_by(|a, b| a.name.cmp(&b.name));
    });
}

/// The environment that the workload `name` says it has.
fn look_up(
    reader: &mut Reader,
    draft: &mut Draft,
    name: &Name,
    top: &mut Top,
) -> Option<Box<Environment>> {
    let named = |name: &str| {
        let is_it =
            |other: &&Environment| other.name.as_ref().is_some_and(|own| own.as_str() == name);
        top.environments.iter().find(is_it)
    };
    match draft.around.environment.take()? {
        EnvironmentDraft::Named(text, span) => {
            if let Some(environment) = named(&text) {
                return Some(Box::new(environment.clone()));
            }
            let names = top.environments.iter().filter_map(|environment| environment.name.as_ref());
            let names: Vec<&str> = names.map(Name::as_str).collect();
            let found = format!("no environment is called {}", quoted(&text));
            let problem = match names.is_empty() {
                true => {
                    let hint = match text.as_str() {
                        "host" => "write {base: host}, or leave it out".to_owned(),
                        _ => format!("add `environments:` and {} at the top", quoted(&text)),
                    };
                    Problem::new(span, found, "one of `environments`, or a recipe").hint(hint)
                }
                false => {
                    let expected = format!("one of {}", names.join(", "));
                    Problem::new(span, found, expected).hint_maybe(nearest(&text, &names))
                }
            };
            reader.within("environment", |reader| reader.report(problem));
            draft.around.environment = Some(EnvironmentDraft::Wrong);
            None
        }
        EnvironmentDraft::Inline(environment, span, locals) => {
            let other = named(environment.name.as_ref().unwrap_or(name).as_str());
            if other.is_some_and(|other| environment.name.is_none() || *other != *environment) {
                let found = "the manifest calls another environment by this one's name";
                let problem = Problem::new(span, found, "names that differ");
                let hint = format!("give it a name of its own, such as name: {name}-environment");
                reader.within("environment", |reader| reader.report(problem.hint(hint)));
            }
            top.locals.extend(locals);
            Some(environment)
        }
        EnvironmentDraft::Wrong => {
            draft.around.environment = Some(EnvironmentDraft::Wrong);
            None
        }
    }
}

fn environments_schema() -> Json {
    with_names(schema::map_of(recipe::json_schema(false)))
}

fn section_schema(kind: KindWord) -> Json {
    let mut workload = schema::object(&kinds::tables(kind), &[]);
    // An image has a command of its own.
    workload["anyOf"] =
        serde_json::json!([{ "required": ["run"] }, { "required": ["environment"] }]);
    with_names(schema::map_of(workload))
}

/// A map whose names are names.
fn with_names(mut schema: Json) -> Json {
    schema["propertyNames"] = serde_json::json!({
        "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        "maxLength": spawnery_model::limits::NAME_LENGTH_MAX,
    });
    schema
}
