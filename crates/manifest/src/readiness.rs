//! The field that says when an instance is ready.

use crate::draft::Draft;
use crate::error::Problem;
use crate::place::Span;
use crate::process::checked_name;
use crate::reader::{Field, Reader};
use crate::schema;
use crate::tree::{Node, Value};
use spawnery_model::{Name, Port, Readiness};

/// Bytes of a path or of a text that is looked for in the output. More: refused.
const TEXT_BYTES_MAX: usize = 1024;

/// Fields of every kind: readiness.
pub(crate) const FIELDS: &[Field<Draft>] = &[Field {
    name: "ready",
    doc: "When an instance counts as ready: a port is listened on (`port: NAME`), an HTTP path is \
          answered (`http: /health`), or a line of its output has a text in it (`output: TEXT`). \
          Default when all of its ports are listened on.",
    schema: || schema::object(&[READY_FIELDS], &[]),
    read: |reader, node, draft| {
        let mut ready = ReadyDraft::default();
        let is_right = reader.fields(node, &[READY_FIELDS], |_| None, &mut ready);
        draft.ready = ready.finish(node, is_right, reader);
    },
}];

#[derive(Default)]
struct ReadyDraft {
    http: Option<String>,
    port: Option<(Name, Span)>,
    output: Option<String>,
}

const READY_FIELDS: &[Field<ReadyDraft>] = &[
    Field {
        name: "http",
        doc: "The path of an HTTP GET that must be answered by a status below 400.",
        schema: || schema::text_like("/health"),
        read: |reader, node, draft| {
            let text = reader.text(node, "a path such as /health");
            draft.http = text.and_then(|text| http_path(reader, node, text));
        },
    },
    Field {
        name: "port",
        doc: "The name of the port that is listened on, or to which the GET goes.",
        schema: || schema::text_like("http"),
        read: |reader, node, draft| {
            let text = reader.text(node, "the name of one of its ports");
            let name = text.and_then(|text| checked_name(reader, node.span, text));
            draft.port = name.map(|name| (name, node.span));
        },
    },
    Field {
        name: "output",
        doc: "The text that a line of its output must have in it.",
        schema: || schema::text_like("listening on"),
        read: |reader, node, draft| {
            let text = reader.text(node, "a text such as `listening on`");
            let text = text.filter(|text| {
                let is_good =
                    !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains('\n');
                if !is_good {
                    let found = "a text that no line can have";
                    let expected = format!("1 to {TEXT_BYTES_MAX} bytes without a line break");
                    reader.report(Problem::new(node.span, found, expected));
                }
                is_good
            });
            draft.output = text.map(str::to_owned);
        },
    },
];

fn http_path(reader: &mut Reader, node: &Node, text: &str) -> Option<String> {
    let is_good = text.starts_with('/')
        && text.len() <= TEXT_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !is_good {
        let expected = "a path such as /health, in ASCII and without spaces";
        reader.report(Problem::new(node.span, node.describe(), expected));
    }
    is_good.then(|| text.to_owned())
}

impl ReadyDraft {
    fn finish(self, node: &Node, is_right: bool, reader: &mut Reader) -> Option<(Readiness, Span)> {
        let port_span = self.port.as_ref().map(|(_, span)| *span);
        let port = self.port.map(|(name, _)| name);
        let ready = match (self.http, port, self.output) {
            (Some(path), port, None) => Readiness::Http { path, port },
            (None, Some(port), None) => Readiness::Port { port },
            (None, None, Some(text)) => Readiness::Output { text },
            (None, None, None) => {
                if is_right && matches!(node.value, Value::Map(_)) {
                    let expected = "one of `http`, `port` and `output`";
                    reader.report(Problem::new(node.span, "no check", expected));
                }
                return None;
            }
            _ => {
                let found = "`output` beside another check";
                reader.report(Problem::new(node.span, found, "one check"));
                return None;
            }
        };
        Some((ready, port_span.unwrap_or(node.span)))
    }
}

/// Checks that the port of a check is one of the process.
pub(crate) fn finish(
    ready: Option<(Readiness, Span)>,
    ports: &[Port],
    reader: &mut Reader,
) -> Option<Readiness> {
    let (ready, span) = ready?;
    let has = |name: &Name| ports.iter().any(|port| port.name == *name);
    let found = match &ready {
        Readiness::Port { port } | Readiness::Http { port: Some(port), .. } if !has(port) => {
            format!("there is no port called `{port}`")
        }
        Readiness::Http { port: None, .. } if ports.is_empty() => "there are no `ports`".to_owned(),
        _ => return Some(ready),
    };
    reader.within("ready", |reader| {
        reader.report(Problem::new(span, found, "the name of one of `ports`"));
    });
    None
}
