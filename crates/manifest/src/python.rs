//! The field `python` of a recipe: a virtual environment.

use crate::base::credentials;
use crate::error::{Problem, quoted};
use crate::local::{self, LocalDraft, LocalKind, local};
use crate::reader::{Field, Reader};
use crate::schema;
use crate::tree::{Node, Value};
use crate::url;
use serde_json::Value as Json;
use spawnery_model::Python;
use spawnery_model::limits::RECIPE_PACKAGES_MAX;

#[derive(Default)]
struct PythonDraft {
    python: Python,
    locals: Vec<LocalDraft>,
}

const PYTHON_FIELDS: &[Field<PythonDraft>] = &[
    Field {
        name: "version",
        doc: "The version of the interpreter: 3, 3.11 or 3.11.2. Default what the base has.",
        schema: || schema::amount("3.11"),
        read: |reader, node, draft| draft.python.version = version(reader, node),
    },
    Field {
        name: "packages",
        doc: "Requirements: requests, requests>=2.31.",
        schema: || schema::list_of(schema::text_like("requests>=2.31")),
        read: |reader, node, draft| draft.python.packages = packages(reader, node),
    },
    Field {
        name: "requirements",
        doc: "A file of requirements beside the manifest.",
        schema: || local::json_schema("./requirements.txt"),
        read: |reader, node, draft| {
            let file = local(reader, node, LocalKind::File, &mut draft.locals);
            draft.python.requirements = file;
        },
    },
    Field {
        name: "index",
        doc: "The URL of the package index. Default the public one.",
        schema: || schema::text_like("https://pypi.example.org/simple"),
        read: |reader, node, draft| {
            let url = url::read(reader, node, url::INDEX);
            draft.python.index = url;
        },
    },
    Field {
        name: "credentials",
        doc: "The secret that holds USER:PASSWORD for the index.",
        schema: || schema::text_like("index"),
        read: |reader, node, draft| draft.python.credentials = credentials(reader, node),
    },
];

/// The schema of a virtual environment.
pub(crate) fn json_schema() -> Json {
    schema::object(&[PYTHON_FIELDS], &[])
}

/// Reads a virtual environment.
pub(crate) fn python(
    reader: &mut Reader,
    node: &Node,
    locals: &mut Vec<LocalDraft>,
) -> Option<Python> {
    if let Value::List(_) = &node.value {
        let problem = Problem::new(node.span, node.describe(), "a map with `packages`");
        reader.report(problem.hint("write {packages: […]}"));
        return None;
    }
    let mut draft = PythonDraft::default();
    let is_right = reader.fields(node, &[PYTHON_FIELDS], |_| None, &mut draft);
    locals.append(&mut draft.locals);
    if is_right && draft.python.credentials.is_some() && draft.python.index.is_none() {
        let problem = Problem::new(node.span, "credentials without an index", "`index`");
        reader.report(problem.hint("the public index needs no credentials"));
    }
    is_right.then_some(draft.python)
}

fn version(reader: &mut Reader, node: &Node) -> Option<String> {
    let expected = "a version such as 3.11 or 3.11.2";
    let (Value::Text(text) | Value::Number(text)) = &node.value else {
        return reader.wrong(node, expected);
    };
    let parts: Vec<&str> = text.split('.').collect();
    let is_number =
        |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if parts.len() <= 3 && parts.iter().all(is_number) {
        return Some(text.clone());
    }
    let hint = text.contains(['<', '>', '=', '*', '~', '^']);
    let hint = hint.then(|| "write the version alone; the lock pins it".to_owned());
    let found = format!("{} is no version", quoted(text));
    reader.report(Problem::new(node.span, found, expected).hint_maybe(hint));
    None
}

fn packages(reader: &mut Reader, node: &Node) -> Vec<String> {
    let items = reader.items(node, "requirements", "[requests]", RECIPE_PACKAGES_MAX);
    let mut packages = Vec::new();
    for (index, item) in items.into_iter().flatten().enumerate() {
        packages.extend(reader.within_item(index, |reader| requirement(reader, item)));
    }
    packages
}

/// Reads one requirement (PEP 508), as far as it must be known here: it is a line, and no option.
fn requirement(reader: &mut Reader, node: &Node) -> Option<String> {
    let expected = "a requirement such as requests or requests>=2.31";
    let text = reader.text(node, expected)?.trim();
    let problem = match text.bytes().next() {
        // Repeated nowhere: a URL may hold a password.
        _ if url::has_credentials(text) => {
            let problem = Problem::new(node.span, "a URL with credentials in it", expected);
            problem.hint("put them into a secret, and name it as `credentials`")
        }
        Some(b'-') => {
            let found = format!("the option {} of another tool", quoted(text));
            let problem = Problem::new(node.span, found, expected);
            problem.hint("options such as the index have fields of their own")
        }
        Some(b'.' | b'/') => {
            let found = format!("the path {}", quoted(text));
            let problem = Problem::new(node.span, found, expected);
            problem.hint("put the folder in by `directories` and install it in `build`")
        }
        Some(first)
            if first.is_ascii_alphanumeric()
                && text.len() <= 1024
                && !text.contains(char::is_control) =>
        {
            return Some(text.to_owned());
        }
        _ => Problem::new(node.span, format!("{} is no requirement", quoted(text)), expected),
    };
    reader.report(problem);
    None
}
