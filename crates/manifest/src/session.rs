//! The fields that only sessions have.

use crate::draft::Draft;
use crate::error::{Problem, quoted};
use crate::lifecycle::{signal, signal_schema, time};
use crate::path::absolute_path;
use crate::place::Span;
use crate::process::checked_name;
use crate::quantity::whole_duration;
use crate::reader::{Field, Reader};
use crate::tree::{Node, Value};
use crate::{schema, url};
use spawnery_model::limits::{DURATION_MAX, KEY_LEASE_MIN};
use spawnery_model::{Access, DurationMs, Name, Port, SessionSettings, Warnings};

/// The most clients that a template may let attach at once.
const CLIENTS_MAX: u64 = 100_000;

/// Fields of sessions only.
pub(crate) const FIELDS: &[Field<Draft>] = &[
    Field {
        name: "duration",
        doc: "When a session is ended because it has lived long enough. Default never.",
        schema: || schema::text_like("6h"),
        read: |reader, node, draft| draft.session.duration = long(reader, node),
    },
    Field {
        name: "duration_limit",
        doc: "The longest duration that may be asked for, also by extending it. Default `duration`.",
        schema: || schema::text_like("24h"),
        read: |reader, node, draft| draft.session.duration_limit = long(reader, node),
    },
    Field {
        name: "idle_timeout",
        doc: "When a session is ended because nobody uses it. Default never.",
        schema: || schema::text_like("1h"),
        read: |reader, node, draft| draft.session.idle_timeout = long(reader, node),
    },
    Field {
        name: "idle_timeout_limit",
        doc: "The longest idle timeout that may be asked for. Default `idle_timeout`.",
        schema: || schema::text_like("4h"),
        read: |reader, node, draft| draft.session.idle_timeout_limit = long(reader, node),
    },
    Field {
        name: "clients",
        doc: "The most clients that are attached at once. Default any number.",
        schema: || schema::whole(1, CLIENTS_MAX),
        read: |reader, node, draft| {
            let clients = reader.whole(node, 1, CLIENTS_MAX);
            draft.session.clients = clients.map(|clients| clients as u32);
        },
    },
    Field {
        name: "client_grace",
        doc: "How long a client that lost its connection keeps its place. Default 30s.",
        schema: || schema::text_like("30s"),
        read: |reader, node, draft| {
            draft.session.client_grace = time(reader, node, DurationMs(0), DURATION_MAX);
        },
    },
    Field {
        name: "warnings",
        doc: "How a session is warned before it ends: times, and how the program inside is told.",
        schema: || schema::object(&[WARNING_FIELDS], &[]),
        read: |reader, node, draft| {
            let mut warnings = Warnings::default();
            if reader.fields(node, &[WARNING_FIELDS], |_| None, &mut warnings) {
                draft.session.warnings = Some(warnings);
            }
        },
    },
    Field {
        name: "access",
        doc: "Who may come through the gateway: who shows a token of somebody that may see the \
              session (`token`, the default), everybody (`public`), or whom an HTTP server lets \
              through (`forward: URL`).",
        schema: || {
            let map = schema::object(&[ACCESS_FIELDS], &["forward"]);
            schema::any_of(&[schema::words(ACCESS), map])
        },
        read: |reader, node, draft| draft.session.access = access(reader, node),
    },
    Field {
        name: "port",
        doc: "The name of the port to which the gateway leads. Default the first one.",
        schema: || schema::text_like("http"),
        read: |reader, node, draft| {
            let text = reader.text(node, "the name of one of its ports");
            let name = text.and_then(|text| checked_name(reader, node.span, text));
            draft.session.port = name.map(|name| (name, node.span));
        },
    },
    Field {
        name: "queue_deadline",
        doc: "How long a session may wait for room. Default 5m.",
        schema: || schema::text_like("5m"),
        read: |reader, node, draft| draft.session.queue_deadline = long(reader, node).map(first),
    },
    Field {
        name: "stale_period",
        doc: "How long an ended session stays listed. Default 1h.",
        schema: || schema::text_like("1h"),
        read: |reader, node, draft| draft.session.stale_period = long(reader, node).map(first),
    },
    Field {
        name: "key_lease",
        doc: "How long a session with a key goes on while its node hears nothing of the \
              controller; after it, another node may take the key. Default 10m.",
        schema: || schema::text_like("10m"),
        read: |reader, node, draft| {
            draft.session.key_lease = time(reader, node, KEY_LEASE_MIN, DURATION_MAX);
        },
    },
];

/// What is said about sessions, as far as it was given.
#[derive(Default)]
pub(crate) struct SessionDraft {
    duration: Option<(DurationMs, Span)>,
    duration_limit: Option<(DurationMs, Span)>,
    idle_timeout: Option<(DurationMs, Span)>,
    idle_timeout_limit: Option<(DurationMs, Span)>,
    clients: Option<u32>,
    client_grace: Option<DurationMs>,
    warnings: Option<Warnings>,
    access: Option<Access>,
    port: Option<(Name, Span)>,
    queue_deadline: Option<DurationMs>,
    stale_period: Option<DurationMs>,
    key_lease: Option<DurationMs>,
}

impl SessionDraft {
    /// Checks what concerns several fields. `ports` are those of the process.
    pub(crate) fn finish(self, ports: &[Port], reader: &mut Reader) -> SessionSettings {
        check_limit("duration_limit", self.duration_limit, self.duration, reader);
        check_limit("idle_timeout_limit", self.idle_timeout_limit, self.idle_timeout, reader);
        if let Some((name, span)) = &self.port
            && !ports.iter().any(|port| port.name == *name)
        {
            reader.within("port", |reader| {
                let found = format!("there is no port called `{name}`");
                reader.report(Problem::new(*span, found, "the name of one of `ports`"));
            });
        }
        SessionSettings {
            duration_max: self.duration.map(first),
            idle_timeout: self.idle_timeout.map(first),
            duration_limit: self.duration_limit.map(first),
            idle_timeout_limit: self.idle_timeout_limit.map(first),
            clients_max: self.clients,
            client_grace: self.client_grace,
            warnings: self.warnings.filter(|it| *it != Warnings::default()).map(Box::new),
            access: self.access.filter(|access| *access != Access::Token).map(Box::new),
            port: self.port.map(|(name, _)| name),
            queue_deadline: self.queue_deadline,
            stale_period: self.stale_period,
            key_lease: self.key_lease,
        }
    }
}

fn check_limit(
    name: &str,
    limit: Option<(DurationMs, Span)>,
    value: Option<(DurationMs, Span)>,
    reader: &mut Reader,
) {
    if let (Some((limit, span)), Some((value, _))) = (limit, value)
        && limit < value
    {
        reader.within(name, |reader| {
            let value = whole_duration(value);
            let found = format!("{} is less than what it limits", whole_duration(limit));
            reader.report(Problem::new(span, found, format!("at least {value}")));
        });
    }
}

fn first<T>((value, _): (T, Span)) -> T {
    value
}

fn long(reader: &mut Reader, node: &Node) -> Option<(DurationMs, Span)> {
    let time = time(reader, node, DurationMs(1), DURATION_MAX)?;
    Some((time, node.span))
}

const WARNING_FIELDS: &[Field<Warnings>] = &[
    Field {
        name: "duration",
        doc: "How long before the longest duration is reached. Default 10m.",
        schema: || schema::text_like("10m"),
        read: |reader, node, warnings| {
            warnings.before_duration = long(reader, node).map(first);
        },
    },
    Field {
        name: "idle",
        doc: "How long before it is ended for being idle. Default 1m.",
        schema: || schema::text_like("1m"),
        read: |reader, node, warnings| warnings.before_idle = long(reader, node).map(first),
    },
    Field {
        name: "signal",
        doc: "The signal that tells its main process. Default none.",
        schema: signal_schema,
        read: |reader, node, warnings| warnings.signal = signal(reader, node),
    },
    Field {
        name: "file",
        doc: "The file inside into which the warning is written, as an absolute path. Default none.",
        schema: || schema::text_like("/tmp/warning"),
        read: |reader, node, warnings| {
            let text = reader.text(node, "an absolute path such as /tmp/warning");
            warnings.file = text.and_then(|text| match absolute_path(text) {
                Ok(()) => Some(text.to_owned()),
                Err(problem) => {
                    reader.report(problem.at(node.span));
                    None
                }
            });
        },
    },
];

/// Who may come through the gateway, where one word says it.
pub(crate) const ACCESS: &[(&str, ())] = &[("token", ()), ("public", ())];

#[derive(Default)]
struct AccessDraft {
    forward: Option<String>,
}

const ACCESS_FIELDS: &[Field<AccessDraft>] = &[Field {
    name: "forward",
    doc: "The URL of the server that is asked; any answer but 2xx refuses.",
    schema: || schema::text_like("https://auth.example.org/check"),
    read: |reader, node, draft| draft.forward = url::read(reader, node, url::FORWARD),
}];

fn access(reader: &mut Reader, node: &Node) -> Option<Access> {
    if let Value::Map(_) = &node.value {
        let mut draft = AccessDraft::default();
        let is_right = reader.fields(node, &[ACCESS_FIELDS], |_| None, &mut draft);
        if draft.forward.is_none() && is_right {
            reader.report(Problem::new(node.span, "no `forward`", "`forward` with a URL"));
        }
        return Some(Access::Forward { url: draft.forward? });
    }
    let expected = "`token`, `public` or `{forward: URL}`";
    match reader.text(node, expected)? {
        "token" => Some(Access::Token),
        "public" => Some(Access::Public),
        other => {
            let found = format!("the unknown access {}", quoted(other));
            let hint = crate::nearest::nearest(other, &["token", "public"]);
            reader.report(Problem::new(node.span, found, expected).hint_maybe(hint));
            None
        }
    }
}
