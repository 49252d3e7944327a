//! Environments: recipes of root filesystems.

use crate::base::{self, base};
use crate::error::{Problem, quoted};
use crate::git::source;
use crate::local::LocalDraft;
use crate::lock::{self, lock};
use crate::placed::{self, placed};
use crate::process::checked_name;
use crate::python::{self, python};
use crate::reader::{Field, Reader};
use crate::tree::{Node, Value};
use crate::{git, schema};
use serde_json::Value as Json;
use spawnery_model::limits::{RECIPE_BUILD_MAX, RECIPE_PACKAGES_MAX};
use spawnery_model::{Base, Environment, EnvironmentFile, EnvironmentLock, Name, Python, Source};

/// The fields of a recipe, in the order of its steps.
pub(crate) const FIELDS: &[Field<RecipeDraft>] = &[
    Field {
        name: "base",
        doc: "What everything else is put onto: `host` (the default: a read-only view of the \
              node's system folders), an `image`, a `debian` release or a `directory`.",
        schema: base::json_schema,
        read: |reader, node, draft| draft.base = base(reader, node, &mut draft.locals),
    },
    Field {
        name: "packages",
        doc: "Packages of the base's distribution.",
        schema: || schema::object(&[PACKAGES_FIELDS], &[]),
        read: |reader, node, draft| {
            reader.fields(node, &[PACKAGES_FIELDS], packages_mend, &mut draft.apt);
        },
    },
    Field {
        name: "python",
        doc: "A Python virtual environment at /opt/venv, first in PATH.",
        schema: python::json_schema,
        read: |reader, node, draft| draft.python = python(reader, node, &mut draft.locals),
    },
    Field {
        name: "source",
        doc: "A checkout of a git repository: its URL, or a map.",
        schema: git::json_schema,
        read: |reader, node, draft| draft.source = source(reader, node),
    },
    Field {
        name: "files",
        doc: "Files from beside the manifest: a map of targets and files, or a list of maps with \
              `from` and `to`.",
        schema: placed::json_schema,
        read: |reader, node, draft| placed(reader, node, false, draft),
    },
    Field {
        name: "directories",
        doc: "Folders from beside the manifest, with all that is in them: a map of targets and \
              folders, or a list of maps with `from` and `to`.",
        schema: placed::json_schema,
        read: |reader, node, draft| placed(reader, node, true, draft),
    },
    Field {
        name: "build",
        doc: "Shell commands that are run in order, where the source is if there is one: a list, \
              or a single line.",
        schema: || schema::any_of(&[schema::text(), schema::list_of(schema::text())]),
        read: |reader, node, draft| draft.build = build(reader, node),
    },
    Field {
        name: "build_network",
        doc: "Whether the commands of `build` may reach the network. Default false.",
        schema: schema::boolean,
        read: |reader, node, draft| {
            draft.build_network = reader.boolean(node).unwrap_or_default();
        },
    },
    Field {
        name: "lock",
        doc: "What pins all that the recipe leaves open. `spawnery environment lock` keeps it in \
              a file beside the manifest.",
        schema: lock::json_schema,
        read: |reader, node, draft| draft.lock = lock(reader, node),
    },
];

/// What only a recipe inside a workload has.
const INLINE_FIELDS: &[Field<RecipeDraft>] = &[Field {
    name: "name",
    doc: "What people call it. Default the name of the workload.",
    schema: || schema::text_like("tools"),
    read: |reader, node, draft| {
        let text = reader.text(node, "a name such as tools");
        draft.name = text.and_then(|text| checked_name(reader, node.span, text));
    },
}];

/// The schema of a recipe: of one in `environments`, or of one inside a workload.
pub(crate) fn json_schema(is_inline: bool) -> Json {
    match is_inline {
        true => schema::object(&[FIELDS, INLINE_FIELDS], &[]),
        false => schema::object(&[FIELDS], &[]),
    }
}

/// The fields of one recipe, as far as they were given.
#[derive(Default)]
pub(crate) struct RecipeDraft {
    name: Option<Name>,
    base: Option<Base>,
    apt: Vec<String>,
    python: Option<Python>,
    source: Option<Source>,
    /// What is put in, and the place of its target.
    pub(crate) files: Vec<(EnvironmentFile, crate::place::Span)>,
    build: Vec<String>,
    build_network: bool,
    lock: Option<EnvironmentLock>,
    pub(crate) locals: Vec<LocalDraft>,
}

/// Reads a recipe, called `name` if it stands in `environments`. What it takes from beside the
/// manifest is added to `locals`.
pub(crate) fn recipe(
    reader: &mut Reader,
    node: &Node,
    name: Option<Name>,
    locals: &mut Vec<LocalDraft>,
) -> Environment {
    let mut draft = RecipeDraft { name: name.clone(), ..RecipeDraft::default() };
    match name {
        Some(_) => reader.fields(node, &[FIELDS], mend, &mut draft),
        None => reader.fields(node, &[FIELDS, INLINE_FIELDS], mend, &mut draft),
    };
    locals.append(&mut draft.locals);
    placed::check_targets(reader, &draft.files, draft.source.as_ref());
    draft.files.sort_by(|(a, _), (b, _)| a.to.cmp(&b.to));
    Environment {
        name: draft.name,
        base: draft.base.unwrap_or(Base::Host),
        apt: draft.apt,
        python: draft.python,
        source: draft.source,
        files: draft.files.into_iter().map(|(file, _)| file).collect(),
        build: draft.build,
        build_network: draft.build_network,
        lock: draft.lock,
    }
}

fn mend(name: &str) -> Option<String> {
    let is_variable = name.len() > 1
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    Some(match name {
        "image" => "write `base: {image: …}`".to_owned(),
        "debian" => "write `base: {debian: …}`".to_owned(),
        "directory" => "write `base: {directory: …}`".to_owned(),
        "apt" | "aptRequires" => "write `packages: {apt: […]}`".to_owned(),
        "pip" | "requirements" => "write `python: {packages: […], requirements: …}`".to_owned(),
        "git" => "write `source: {git: …}`".to_owned(),
        "includedFiles" => "write `files`".to_owned(),
        "includedDirectories" => "write `directories`".to_owned(),
        _ if is_variable => "variables go into `env` of the workload".to_owned(),
        "run" | "env" | "user" | "volumes" | "secrets" | "mounts" | "devices" | "network" => {
            format!("`{name}` belongs to the workload, beside `environment`")
        }
        _ => return None,
    })
}

const PACKAGES_FIELDS: &[Field<Vec<String>>] = &[Field {
    name: "apt",
    doc: "Debian packages: names, or NAME=VERSION.",
    schema: || schema::list_of(schema::text_like("git")),
    read: |reader, node, draft| *draft = apt(reader, node),
}];

fn packages_mend(name: &str) -> Option<String> {
    match name {
        "pip" | "python" => Some("write `python: {packages: […]}` beside `packages`".to_owned()),
        "deb" | "debian" => Some("write `apt`".to_owned()),
        _ => None,
    }
}

fn apt(reader: &mut Reader, node: &Node) -> Vec<String> {
    let items = reader.items(node, "Debian packages", "[git, curl]", RECIPE_PACKAGES_MAX);
    let mut packages: Vec<String> = Vec::new();
    for (index, item) in items.into_iter().flatten().enumerate() {
        reader.within_item(index, |reader| {
            let expected = "a Debian package such as git or git=1:2.39.5-0";
            let Some(text) = reader.text(item, expected) else {
                return;
            };
            if !is_debian_package(text) {
                let found = format!("{} is no Debian package", quoted(text));
                let hint = text.contains(' ').then(|| "write each package apart".to_owned());
                reader.report(Problem::new(item.span, found, expected).hint_maybe(hint));
            } else if packages.iter().any(|other| name_of(other) == name_of(text)) {
                let found = format!("{} is given twice", quoted(name_of(text)));
                reader.report(Problem::new(item.span, found, "each package once"));
            }
            packages.push(text.to_owned());
        });
    }
    packages
}

fn name_of(package: &str) -> &str {
    package.split('=').next().unwrap_or_default()
}

/// Whether `text` is a package's name (Debian policy, section 5.6.1), maybe with `=` and a version
/// (5.6.12).
fn is_debian_package(text: &str) -> bool {
    let (name, version) = match text.split_once('=') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    let is_name_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let name_is_right = name.len() >= 2
        && name.bytes().next().is_some_and(is_name_byte)
        && name.bytes().all(|b| is_name_byte(b) || matches!(b, b'+' | b'-' | b'.'));
    let is_version_byte =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-' | b':' | b'~');
    let version_is_right = version.is_none_or(|version| {
        version.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && version.bytes().all(is_version_byte)
    });
    name_is_right && version_is_right && text.len() <= 255
}

fn build(reader: &mut Reader, node: &Node) -> Vec<String> {
    const EXPECTED: &str = "a list of shell commands, or a single line";
    let items = match &node.value {
        Value::Text(_) => std::slice::from_ref(node),
        Value::List(_) => {
            let items = reader.items(node, "shell commands", "[make]", RECIPE_BUILD_MAX);
            items.unwrap_or_default()
        }
        _ => {
            reader.report(Problem::new(node.span, node.describe(), EXPECTED));
            return Vec::new();
        }
    };
    let is_list = matches!(node.value, Value::List(_));
    let mut commands = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let command = |reader: &mut Reader| {
            let text = reader.text(item, "a shell command")?;
            if text.trim().is_empty() || text.contains('\0') {
                let found = match text.contains('\0') {
                    true => "a NUL character in a command",
                    false => "found an empty command",
                };
                reader.report(Problem::new(item.span, found, "a shell command"));
                return None;
            }
            Some(text.to_owned())
        };
        commands.extend(match is_list {
            true => reader.within_item(index, command),
            false => command(reader),
        });
    }
    commands
}
