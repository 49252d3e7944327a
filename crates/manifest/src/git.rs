//! The field `source` of a recipe: a checkout of a git repository.

use crate::base::credentials;
use crate::error::{Problem, quoted};
use crate::path::target_path;
use crate::reader::{Field, Reader};
use crate::schema;
use crate::tree::{Node, Value};
use crate::url;
use serde_json::Value as Json;
use spawnery_model::{GitReference, Name, Source};

/// Where a source is put when its recipe does not say.
const TO_DEFAULT: &str = "/srv/source";

#[derive(Default)]
struct SourceDraft {
    git: Option<String>,
    reference: Option<GitReference>,
    /// How many of `branch`, `tag` and `commit` were given.
    references_given: usize,
    credentials: Option<Name>,
    to: Option<String>,
}

const SOURCE_FIELDS: &[Field<SourceDraft>] = &[
    Field {
        name: "git",
        doc: "The repository's URL: https://, ssh:// or file://.",
        schema: || schema::text_like("https://example.org/team/app.git"),
        read: |reader, node, draft| draft.git = url::read(reader, node, url::GIT),
    },
    Field {
        name: "branch",
        doc: "The branch whose head is checked out. Default the repository's own.",
        schema: || schema::text_like("main"),
        read: |reader, node, draft| {
            draft.references_given += 1;
            draft.reference = reference_name(reader, node).map(GitReference::Branch);
        },
    },
    Field {
        name: "tag",
        doc: "The tag that is checked out.",
        schema: || schema::text_like("v1.2"),
        read: |reader, node, draft| {
            draft.references_given += 1;
            draft.reference = reference_name(reader, node).map(GitReference::Tag);
        },
    },
    Field {
        name: "commit",
        doc: "The commit that is checked out, by its full id.",
        schema: schema::text,
        read: |reader, node, draft| {
            draft.references_given += 1;
            draft.reference = commit(reader, node).map(GitReference::Commit);
        },
    },
    Field {
        name: "credentials",
        doc: "The secret that holds USER:PASSWORD or a token, for https, or a private key, for \
              ssh.",
        schema: || schema::text_like("git"),
        read: |reader, node, draft| draft.credentials = credentials(reader, node),
    },
    Field {
        name: "to",
        doc: "Where it is put, as an absolute path. Default /srv/source.",
        schema: || schema::text_like(TO_DEFAULT),
        read: |reader, node, draft| draft.to = target_path(reader, node),
    },
];

/// The schema of a source.
pub(crate) fn json_schema() -> Json {
    let map = schema::object(&[SOURCE_FIELDS], &["git"]);
    schema::any_of(&[schema::text_like("https://example.org/team/app.git"), map])
}

/// Reads a source.
pub(crate) fn source(reader: &mut Reader, node: &Node) -> Option<Source> {
    let mut draft = SourceDraft::default();
    match &node.value {
        Value::Text(_) => draft.git = url::read(reader, node, url::GIT),
        _ => {
            let is_right = reader.fields(node, &[SOURCE_FIELDS], mend, &mut draft);
            if !is_right {
                return None;
            }
            if draft.git.is_none() {
                let problem = Problem::new(node.span, "no `git`", "the repository's URL as `git`");
                reader.report(problem);
            }
        }
    }
    if draft.references_given > 1 {
        let found = "more than one of `branch`, `tag` and `commit`";
        reader.report(Problem::new(node.span, found, "one of them"));
    }
    Some(Source {
        git: draft.git?,
        reference: draft.reference.unwrap_or(GitReference::Default),
        credentials: draft.credentials,
        to: draft.to.unwrap_or_else(|| TO_DEFAULT.to_owned()),
    })
}

fn mend(name: &str) -> Option<String> {
    match name {
        "url" | "repository" | "repo" => Some("did you mean `git`?".to_owned()),
        "ref" | "reference" | "revision" | "rev" | "version" => {
            Some("write `branch`, `tag` or `commit`".to_owned())
        }
        _ => None,
    }
}

/// Reads the name of a branch or a tag (`git-check-ref-format(1)`).
fn reference_name(reader: &mut Reader, node: &Node) -> Option<String> {
    let expected = "a name such as main or v1.2";
    let (Value::Text(text) | Value::Number(text)) = &node.value else {
        return reader.wrong(node, expected);
    };
    let is_wrong = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    let part_is_wrong =
        |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    if text.len() <= 255
        && !text.starts_with('-')
        && !text.ends_with('.')
        && !text.contains(is_wrong)
        && !text.contains("..")
        && !text.contains("@{")
        && text != "@"
        && !text.split('/').any(part_is_wrong)
    {
        return Some(text.clone());
    }
    let found = format!("{} is no branch or tag", quoted(text));
    reader.report(Problem::new(node.span, found, expected));
    None
}

/// Reads the full id of a commit: SHA-1, or SHA-256 in newer repositories.
pub(crate) fn commit(reader: &mut Reader, node: &Node) -> Option<String> {
    let expected = "the full id of a commit: 40 hexadecimal digits";
    let (Value::Text(text) | Value::Number(text)) = &node.value else {
        return reader.wrong(node, expected);
    };
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if matches!(text.len(), 40 | 64) && text.bytes().all(is_digit) {
        return Some(text.clone());
    }
    let hint = match (&node.value, text.len()) {
        (Value::Number(_), _) => Some("put quotes round it to make it text"),
        (_, 4..40) => Some("`git rev-parse ID` shows all of it"),
        _ => None,
    };
    let problem = Problem::new(node.span, format!("{} is no commit", quoted(text)), expected);
    reader.report(problem.hint_maybe(hint.map(str::to_owned)));
    None
}
