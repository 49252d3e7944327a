//! The field `files`: what is there before a workload starts.

use crate::draft::{Draft, SourceDraft};
use crate::error::{Problem, quoted};
use crate::path::absolute_path;
use crate::reader::{Field, Reader};
use crate::schema;
use crate::tree::{Node, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use spawnery_model::File;
use std::collections::BTreeSet;

/// Fields of every kind: its files.
pub(crate) const FIELDS: &[Field<Draft>] = &[Field {
    name: "files",
    doc: "Files that are there before it starts, by absolute path: their content as text, or a \
          map with `content`, `content_base64` or `source`, and `mode`.",
    schema: || {
        let map = schema::object(&[FILE_FIELDS], &[]);
        schema::map_of(schema::any_of(&[schema::text(), map]))
    },
    read: files,
}];

/// Permission bits of a file whose manifest names none.
const MODE_DEFAULT: u32 = 0o644;

/// The permission bits that can be asked for. The bits above (set-user-id and so on) would do
/// nothing: an instance cannot gain privileges.
pub(crate) const MODE_MAX: u32 = 0o777;

#[derive(Default)]
struct FileDraft {
    content: Option<Vec<u8>>,
    source: Option<String>,
    mode: Option<u32>,
    /// How many of the three ways to give the content were used.
    contents_given: usize,
}

const FILE_FIELDS: &[Field<FileDraft>] = &[
    Field {
        name: "content",
        doc: "What is in it, as text.",
        schema: schema::text,
        read: |reader, node, draft| {
            draft.contents_given += 1;
            draft.content = content(reader, node);
        },
    },
    Field {
        name: "content_base64",
        doc: "What is in it, in base 64.",
        schema: schema::text,
        read: |reader, node, draft| {
            draft.contents_given += 1;
            draft.content = content_base64(reader, node);
        },
    },
    Field {
        name: "source",
        doc: "The file beside the manifest that has the content.",
        schema: || schema::text_like("./app.conf"),
        read: |reader, node, draft| {
            draft.contents_given += 1;
            draft.source = source(reader, node);
        },
    },
    Field {
        name: "mode",
        doc: "Permission bits in octal digits. Default 0644, or those of the source.",
        schema: || schema::amount("0644"),
        read: |reader, node, draft| draft.mode = mode(reader, node),
    },
];

fn files(reader: &mut Reader, node: &Node, draft: &mut Draft) {
    let expected = "a map such as {/etc/app.conf: {source: ./app.conf}}";
    let mut paths = BTreeSet::new();
    for (key, value) in reader.map(node, expected).into_iter().flatten() {
        reader.within(&key.text, |reader| {
            if let Err(problem) = absolute_path(&key.text) {
                reader.report(problem.at(key.span));
            }
            paths.insert(key.text.as_str());
            file(reader, value, &key.text, draft);
        });
    }
    for (key, _) in reader.map(node, expected).into_iter().flatten() {
        let mut parent = key.text.as_str();
        while let Some((above, _)) = parent.rsplit_once('/') {
            parent = above;
            if paths.contains(parent) {
                reader.within(&key.text, |reader| {
                    let found = format!("{} is a file and a folder", quoted(parent));
                    reader.report(Problem::new(key.span, found, "paths that can stand together"));
                });
                break;
            }
        }
    }
}

fn file(reader: &mut Reader, node: &Node, path: &str, draft: &mut Draft) {
    let mut file = FileDraft::default();
    match &node.value {
        Value::Map(_) => {
            let is_right = reader.fields(node, &[FILE_FIELDS], |_| None, &mut file);
            if file.contents_given != 1 && is_right {
                let found = match file.contents_given {
                    0 => "a file without content",
                    _ => "a file with more than one content",
                };
                let expected = "one of `content`, `content_base64` and `source`";
                reader.report(Problem::new(node.span, found, expected));
            }
        }
        _ => file.content = content(reader, node),
    }
    if let Some(content) = file.content {
        draft.files.push(File {
            path: path.to_owned(),
            mode: file.mode.unwrap_or(MODE_DEFAULT),
            content,
        });
    } else if let Some(source) = file.source {
        draft.sources.push(SourceDraft {
            path: path.to_owned(),
            source,
            mode: file.mode,
            field: reader.field(),
            span: node.span,
        });
    }
}

fn content(reader: &mut Reader, node: &Node) -> Option<Vec<u8>> {
    // The content is not repeated in an error: it may be a secret.
    match &node.value {
        Value::Text(text) => Some(text.clone().into_bytes()),
        other => {
            let problem = Problem::new(node.span, other.describe_kind(), "text");
            reader.report(match other {
                Value::Null => problem.hint("for an empty file write \"\""),
                Value::Number(_) | Value::Bool(_) => problem.hint("put quotes round it"),
                _ => problem,
            });
            None
        }
    }
}

fn content_base64(reader: &mut Reader, node: &Node) -> Option<Vec<u8>> {
    let Value::Text(text) = &node.value else {
        reader.report(Problem::new(node.span, node.value.describe_kind(), "text in base 64"));
        return None;
    };
    let packed: String = text.split_ascii_whitespace().collect();
    match STANDARD.decode(packed) {
        Ok(content) => Some(content),
        Err(_) => {
            let problem = Problem::new(node.span, "text that is not in base 64", "base 64");
            reader.report(problem.hint("`base64 FILE` makes it; plain text goes into `content`"));
            None
        }
    }
}

fn source(reader: &mut Reader, node: &Node) -> Option<String> {
    let expected = "a path from the manifest's folder, such as ./app.conf";
    let text = reader.text(node, expected)?;
    if text.trim().is_empty() || text.starts_with(['/', '~']) || text.contains('\0') {
        let found = match text.trim() {
            "" => "empty text".to_owned(),
            text => format!("{} is not beside the manifest", quoted(text)),
        };
        reader.report(Problem::new(node.span, found, expected));
        return None;
    }
    Some(text.to_owned())
}

fn mode(reader: &mut Reader, node: &Node) -> Option<u32> {
    let expected = "permission bits in octal digits, such as \"0644\" or \"0755\"";
    let (text, is_plain_number) = match &node.value {
        Value::Text(text) => (text, false),
        Value::Number(text) => (text, !text.starts_with('0')),
        _ => return reader.wrong(node, expected),
    };
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal = !digits.is_empty() && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let bits = u32::from_str_radix(digits, 8).ok().filter(|_| is_octal);
    match bits {
        Some(_) if is_plain_number => {
            let problem = Problem::new(node.span, node.describe(), expected);
            reader.report(problem.hint("write the octal digits as text, in quotes"));
            None
        }
        Some(bits) if bits > MODE_MAX => {
            let found = format!("{} has more than the permission bits", quoted(text));
            let problem = Problem::new(node.span, found, expected);
            reader.report(problem.hint("an instance cannot gain privileges; write \"0755\""));
            None
        }
        Some(bits) => Some(bits),
        None => reader.wrong(node, expected),
    }
}
