//! The fields `files` and `directories` of a recipe: what is put in from beside the manifest.

use crate::error::{Problem, quoted};
use crate::local::{self, LocalKind, local};
use crate::path::{check_target, target_path};
use crate::place::Span;
use crate::reader::{Field, Reader};
use crate::recipe::RecipeDraft;
use crate::schema;
use crate::tree::{Node, Value};
use serde_json::Value as Json;
use spawnery_model::limits::RECIPE_FILES_MAX;
use spawnery_model::{EnvironmentFile, Local, Source};

#[derive(Default)]
struct PlacedDraft {
    from: Option<Local>,
    to: Option<(String, Span)>,
    is_directory: bool,
    locals: Vec<local::LocalDraft>,
}

const PLACED_FIELDS: &[Field<PlacedDraft>] = &[
    Field {
        name: "from",
        doc: "What is taken, from the manifest's folder.",
        schema: || local::json_schema("./app"),
        read: |reader, node, draft| {
            draft.from = local(reader, node, kind(draft.is_directory), &mut draft.locals);
        },
    },
    Field {
        name: "to",
        doc: "Where it is put, as an absolute path.",
        schema: || schema::text_like("/srv/app"),
        read: |reader, node, draft| {
            draft.to = target_path(reader, node).map(|path| (path, node.span));
        },
    },
];

/// The schema of either field.
pub(crate) fn json_schema() -> Json {
    let map = schema::object(&[PLACED_FIELDS], &["from", "to"]);
    schema::any_of(&[schema::map_of(local::json_schema("./app")), schema::list_of(map)])
}

/// Reads files, or folders.
pub(crate) fn placed(
    reader: &mut Reader,
    node: &Node,
    is_directory: bool,
    draft: &mut RecipeDraft,
) {
    const EXPECTED: &str = "a map such as {/srv/app: ./app}, or a list of maps";
    let count = match &node.value {
        Value::Map(map) => map.len(),
        Value::List(items) => items.len(),
        _ => {
            reader.report(Problem::new(node.span, node.describe(), EXPECTED));
            return;
        }
    };
    if count > RECIPE_FILES_MAX {
        let expected = format!("at most {RECIPE_FILES_MAX}");
        let problem = Problem::new(node.span, format!("{count} files or folders"), expected);
        reader.report(problem.hint("put what belongs together into one folder"));
        return;
    }
    match &node.value {
        Value::Map(map) => {
            for (key, value) in map {
                reader.within(&key.text, |reader| {
                    let is_right = check_target(reader, key.span, &key.text);
                    let from = local(reader, value, kind(is_directory), &mut draft.locals);
                    if let (true, Some(from)) = (is_right, from) {
                        let to = key.text.clone();
                        let file = EnvironmentFile { from, to, directory: is_directory };
                        draft.files.push((file, key.span));
                    }
                });
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                reader.within_item(index, |reader| entry(reader, item, is_directory, draft));
            }
        }
        _ => {}
    }
}

fn entry(reader: &mut Reader, node: &Node, is_directory: bool, recipe: &mut RecipeDraft) {
    if let Value::Text(text) = &node.value {
        let name = text.trim_matches('/').rsplit('/').next().unwrap_or_default();
        let problem = Problem::new(node.span, node.describe(), "a map with `from` and `to`");
        reader.report(problem.hint(format!("write {{from: {text}, to: /srv/{name}}}")));
        return;
    }
    let mut draft = PlacedDraft { is_directory, ..PlacedDraft::default() };
    let is_right = reader.fields(node, &[PLACED_FIELDS], |_| None, &mut draft);
    recipe.locals.append(&mut draft.locals);
    match (draft.from, draft.to) {
        (Some(from), Some((to, span))) => {
            let file = EnvironmentFile { from, to, directory: is_directory };
            recipe.files.push((file, span));
        }
        _ if is_right => {
            let found = "a file or folder without `from` or without `to`";
            reader.report(Problem::new(node.span, found, "both `from` and `to`"));
        }
        _ => {}
    }
}

fn kind(is_directory: bool) -> LocalKind {
    match is_directory {
        true => LocalKind::Folder,
        false => LocalKind::File,
    }
}

/// Checks that no two things are put at the same place, and none below a file.
pub(crate) fn check_targets(
    reader: &mut Reader,
    files: &[(EnvironmentFile, Span)],
    source: Option<&Source>,
) {
    for (index, (file, span)) in files.iter().enumerate() {
        let mut others = files[..index].iter().map(|(other, _)| other);
        let is_twice = others.any(|other| other.to == file.to)
            || source.is_some_and(|source| source.to == file.to);
        let is_below = |other: &&EnvironmentFile| !other.directory && is_below(&file.to, &other.to);
        let above = files.iter().map(|(other, _)| other).find(is_below);
        let problem = match above {
            _ if is_twice => {
                let found = format!("two things are put at {}", quoted(&file.to));
                Problem::new(*span, found, "each target once")
            }
            Some(above) => {
                let found = format!("{} is a file and a folder", quoted(&above.to));
                Problem::new(*span, found, "paths that can stand together")
            }
            None => continue,
        };
        reader.within(if file.directory { "directories" } else { "files" }, |reader| {
            reader.report(problem);
        });
    }
}

/// Whether `path` lies below `folder`.
pub(crate) fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}
