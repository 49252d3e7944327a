//! The fields that say what runs and within which limits.

use crate::draft::{Cpu, Draft};
use crate::error::{Problem, quoted};
use crate::path::absolute_path;
use crate::quantity::{self, AmountError};
use crate::reader::{Field, Reader, whole_number};
use crate::schema;
use crate::tree::{Node, Value};
use spawnery_model::limits::{CPU_MAX, MEMORY_MIN, PIDS_MAX, PORTS_MAX, RUN_WORDS_MAX};
use spawnery_model::{Bytes, CpuMillis, Name, Network, Port};
use std::collections::BTreeSet;

/// Fields of every kind: the process.
pub(crate) const FIELDS: &[Field<Draft>] = &[
    Field {
        name: "run",
        doc: "The program and its arguments as a list, or one line for `sh -c`.",
        schema: || schema::any_of(&[schema::text(), schema::list_of(schema::scalar())]),
        read: |reader, node, draft| {
            draft.run_given = true;
            draft.run = run(reader, node);
        },
    },
    Field {
        name: "env",
        doc: "Environment variables: names and values.",
        schema: || schema::map_of(schema::scalar()),
        read: env,
    },
    Field {
        name: "memory",
        doc: "Memory that is reserved, and the most that may be used: 256M, 4G. Units are powers \
              of 1024: B, K, M, G, T, also as KB or KiB. Default 512M.",
        schema: || schema::amount("256M"),
        read: |reader, node, draft| draft.memory = memory(reader, node),
    },
    Field {
        name: "cpu",
        doc: "Cores that are reserved, and the most that may be used: 2, 0.5. As a map the two \
              differ. Default 0.1 reserved and no limit.",
        schema: || {
            let map = schema::object(&[CPU_FIELDS], &["reserved"]);
            schema::any_of(&[schema::amount("0.5"), map])
        },
        read: |reader, node, draft| draft.cpu = cpu(reader, node),
    },
    Field {
        name: "cpuShares",
        doc: "Instead of `cpu`: shares of a core, 1024 a core.",
        schema: || schema::whole(1, CPU_SHARES_MAX),
        read: |reader, node, draft| {
            let shares = reader.whole(node, 1, CPU_SHARES_MAX);
            draft.cpu_shares = shares.map(|shares| (millis_of(shares), node.span));
        },
    },
    Field {
        name: "disk",
        doc: "The most that the instance's own files may hold: 1G. Default no limit.",
        schema: || schema::amount("1G"),
        read: |reader, node, draft| draft.disk = bytes(reader, node, Bytes(1), "1G"),
    },
    Field {
        name: "pids",
        doc: "The most processes and threads. Default 1024.",
        schema: || schema::whole(1, PIDS_MAX.into()),
        read: |reader, node, draft| {
            let pids = reader.whole(node, 1, PIDS_MAX.into());
            draft.pids = pids.map(|pids| pids as u32);
        },
    },
    Field {
        name: "ports",
        doc: "TCP ports on which it listens: numbers, or maps with a name. A single port without \
              a name is called `http`, several are called `port-` and their number.",
        schema: || {
            let map = schema::object(&[PORT_FIELDS], &["port"]);
            schema::list_of(schema::any_of(&[schema::whole(1, 65535), map]))
        },
        read: ports,
    },
    Field {
        name: "network",
        doc: "What it can reach: nothing (`none`, the default), what `egress` allows (`private`), or all \
              that its node can (`host`, which the node must allow).",
        schema: || schema::words(NETWORKS),
        read: |reader, node, draft| {
            draft.network = reader.word(node, NETWORKS).unwrap_or_default();
        },
    },
    Field {
        name: "working_directory",
        doc: "Where it starts, as an absolute path. Default its HOME.",
        schema: || schema::text_like("/srv"),
        read: |reader, node, draft| draft.working_directory = working_directory(reader, node),
    },
    Field {
        name: "stdin",
        doc: "Whether its standard input is kept open for a client. Default false: it is empty.",
        schema: schema::boolean,
        read: |reader, node, draft| draft.stdin = reader.boolean(node).unwrap_or_default(),
    },
];

/// What an instance can reach.
pub(crate) const NETWORKS: &[(&str, Network)] =
    &[("none", Network::None), ("private", Network::Private), ("host", Network::Host)];

/// The shell that reads `run` when it is one line.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Shares of [`CPU_MAX`], at 1024 a core.
const CPU_SHARES_MAX: u64 = CPU_MAX.0 as u64 * 1024 / 1000;

/// Shares as thousandths of a core, to the nearest, but never none.
fn millis_of(shares: u64) -> CpuMillis {
    CpuMillis(((shares * 1000 + 512) / 1024).max(1) as u32)
}

fn run(reader: &mut Reader, node: &Node) -> Option<Vec<String>> {
    const EXPECTED: &str = "a list such as [sleep, 60], or a line for `sh -c`";
    let words = match &node.value {
        Value::Text(line) if line.trim().is_empty() => return reader.wrong(node, EXPECTED),
        Value::Text(line) => {
            no_nul(reader, node, line)?;
            let words = SHELL.into_iter().map(str::to_owned);
            return Some(words.chain([line.clone()]).collect());
        }
        Value::List(words) => words,
        _ => return reader.wrong(node, EXPECTED),
    };
    if words.is_empty() {
        reader.report(Problem::new(node.span, "found an empty list", "a program to run"));
        return None;
    }
    if words.len() > RUN_WORDS_MAX {
        let found = format!("{} words", words.len());
        let expected = format!("at most {RUN_WORDS_MAX} words");
        reader.report(Problem::new(node.span, found, expected).hint("put them into `files`"));
        return None;
    }
    let mut run = Vec::with_capacity(words.len());
    for (index, word) in words.iter().enumerate() {
        let text = reader.within_item(index, |reader| {
            let text = scalar(reader, word, "a word of text")?;
            no_nul(reader, word, &text)?;
            if index == 0 && text.is_empty() {
                reader.report(Problem::new(word.span, "found empty text", "a program to run"));
            }
            Some(text)
        });
        run.extend(text);
    }
    Some(run)
}

fn env(reader: &mut Reader, node: &Node, draft: &mut Draft) {
    let is_list = matches!(node.value, Value::List(_));
    let expected = match is_list {
        true => "a map such as {GREETING: hello}, not a list",
        false => "a map such as {GREETING: hello}",
    };
    for (key, value) in reader.map(node, expected).into_iter().flatten() {
        reader.within(&key.text, |reader| {
            if key.text.is_empty() || key.text.contains(['=', '\0']) {
                let found = format!("{} is not the name of a variable", quoted(&key.text));
                let expected = "a name without `=` and without a NUL";
                reader.report(Problem::new(key.span, found, expected));
            }
            // No value of a variable is ever repeated: it may be a secret.
            let Some(text) = value.scalar_text() else {
                let problem = Problem::new(value.span, value.value.describe_kind(), "text");
                reader.report(match value.value {
                    Value::Null => problem.hint("for an empty value write \"\""),
                    _ => problem,
                });
                return;
            };
            if no_nul(reader, value, &text).is_some() {
                draft.env.insert(key.text.clone(), text);
            }
        });
    }
}

fn memory(reader: &mut Reader, node: &Node) -> Option<Bytes> {
    bytes(reader, node, MEMORY_MIN, "512M")
}

/// Reads an amount of bytes, at least `least`.
pub(crate) fn bytes(
    reader: &mut Reader,
    node: &Node,
    least: Bytes,
    example: &str,
) -> Option<Bytes> {
    let expected = format!("an amount such as {example} or 4G, at least {least}");
    let text = match &node.value {
        Value::Text(text) | Value::Number(text) => text,
        _ => return reader.wrong(node, &expected),
    };
    match quantity::bytes(text) {
        Ok(amount) if amount >= least => Some(amount),
        Ok(amount) => {
            let problem = Problem::new(node.span, format!("{amount} is too little"), expected);
            let is_plain = matches!(whole_number(text), Some(1..));
            let hint = format!("a number without a unit is bytes; write {text}M");
            reader.report(problem.hint_maybe(is_plain.then_some(hint)));
            None
        }
        Err(error) => amount_error(reader, node, error, &expected),
    }
}

/// Reports that an amount cannot be read.
pub(crate) fn amount_error<T>(
    reader: &mut Reader,
    node: &Node,
    error: AmountError,
    expected: &str,
) -> Option<T> {
    let problem = Problem::new(node.span, error.found, expected);
    reader.report(problem.hint_maybe(error.hint));
    None
}

#[derive(Default)]
struct CpuDraft {
    reserved: Option<CpuMillis>,
    max: Option<CpuMillis>,
}

const CPU_FIELDS: &[Field<CpuDraft>] = &[
    Field {
        name: "reserved",
        doc: "Cores that are reserved.",
        schema: || schema::amount("0.1"),
        read: |reader, node, draft| draft.reserved = cores(reader, node),
    },
    Field {
        name: "max",
        doc: "The most cores that may be used. Default what is idle.",
        schema: || schema::amount("2"),
        read: |reader, node, draft| draft.max = cores(reader, node),
    },
];

fn cpu(reader: &mut Reader, node: &Node) -> Option<Cpu> {
    let Value::Map(_) = &node.value else {
        let reserved = cores(reader, node)?;
        let max = Some(reserved);
        return Some(Cpu { reserved, max });
    };
    let mut draft = CpuDraft::default();
    let is_right = reader.fields(node, &[CPU_FIELDS], |_| None, &mut draft);
    let Some(reserved) = draft.reserved else {
        if is_right {
            let problem = Problem::new(node.span, "no `reserved`", "`reserved`, and maybe `max`");
            reader.report(problem.hint("add for example reserved: 0.1"));
        }
        return None;
    };
    if draft.max.is_some_and(|max| max < reserved) {
        let found = "`max` is less than `reserved`";
        reader.report(Problem::new(node.span, found, "at least what is reserved"));
    }
    let max = draft.max;
    Some(Cpu { reserved, max })
}

fn cores(reader: &mut Reader, node: &Node) -> Option<CpuMillis> {
    let expected = "a number of cores such as 2 or 0.5, at least 0.001";
    let text = match &node.value {
        Value::Text(text) | Value::Number(text) => text,
        _ => return reader.wrong(node, expected),
    };
    match quantity::cores(text) {
        Ok(cores) => Some(cores),
        Err(error) => amount_error(reader, node, error, expected),
    }
}

#[derive(Default)]
struct PortDraft {
    name: Option<Name>,
    port: Option<u16>,
}

const PORT_FIELDS: &[Field<PortDraft>] = &[
    Field {
        name: "name",
        doc: "What people call it.",
        schema: || schema::text_like("http"),
        read: |reader, node, draft| {
            let text = reader.text(node, "a name such as http");
            draft.name = text.and_then(|text| checked_name(reader, node.span, text));
        },
    },
    Field {
        name: "port",
        doc: "The port number inside the instance.",
        schema: || schema::whole(1, 65535),
        read: |reader, node, draft| draft.port = port_number(reader, node),
    },
];

fn ports(reader: &mut Reader, node: &Node, draft: &mut Draft) {
    let Value::List(items) = &node.value else {
        reader.report(
            Problem::new(node.span, node.describe(), "a list of ports")
                .hint("write for example [8000]"),
        );
        return;
    };
    if items.len() > PORTS_MAX {
        let found = format!("{} ports", items.len());
        reader.report(Problem::new(node.span, found, format!("at most {PORTS_MAX} ports")));
        return;
    }
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        reader.within_item(index, |reader| {
            let Some(port) = port(reader, item, items.len() == 1) else {
                return;
            };
            if !numbers.insert(port.port) {
                let found = format!("port {} is given twice", port.port);
                reader.report(Problem::new(item.span, found, "each port once"));
            } else if !names.insert(port.name.clone()) {
                let found = format!("two ports are called `{}`", port.name);
                reader.report(Problem::new(item.span, found, "each name once"));
            }
            draft.ports.push(port);
        });
    }
}

fn port(reader: &mut Reader, node: &Node, is_only_one: bool) -> Option<Port> {
    let mut draft = PortDraft::default();
    match &node.value {
        Value::Map(_) => {
            let is_right = reader.fields(node, &[PORT_FIELDS], |_| None, &mut draft);
            if draft.port.is_none() && is_right {
                reader.report(Problem::new(node.span, "no `port`", "`port`, and maybe `name`"));
            }
        }
        _ => draft.port = port_number(reader, node),
    }
    let port = draft.port?;
    let name = draft.name.unwrap_or_else(|| {
        let name = match is_only_one {
            true => "http".to_owned(),
            false => format!("port-{port}"),
        };
        Name::new(name).expect("`port-` and a number is a name")
    });
    Some(Port { name, port })
}

fn port_number(reader: &mut Reader, node: &Node) -> Option<u16> {
    if let Value::Text(text) = &node.value
        && text.contains(':')
    {
        let problem = Problem::new(node.span, node.describe(), "a port from 1 to 65535");
        reader.report(problem.hint("write only the port on which it listens"));
        return None;
    }
    reader.whole(node, 1, 65535).map(|port| port as u16)
}

fn working_directory(reader: &mut Reader, node: &Node) -> Option<String> {
    let text = reader.text(node, "an absolute path such as /srv")?;
    match absolute_path(text) {
        _ if text == "/" => Some(text.to_owned()),
        Ok(()) => Some(text.to_owned()),
        Err(problem) => {
            reader.report(problem.at(node.span));
            None
        }
    }
}

/// A name, or a report of why it is none.
pub(crate) fn checked_name(
    reader: &mut Reader,
    span: crate::place::Span,
    text: &str,
) -> Option<Name> {
    match Name::new(text) {
        Ok(name) => Some(name),
        Err(error) => {
            let found = format!("{} is not a name: {error}", quoted(text));
            let expected = "lower-case letters, digits and hyphens, such as web-1";
            let problem = Problem::new(span, found, expected);
            reader.report(problem.hint_maybe(name_like(text)));
            None
        }
    }
}

/// The valid name that is most like `text`.
fn name_like(text: &str) -> Option<String> {
    let replaced: String = text
        .chars()
        .take(spawnery_model::limits::NAME_LENGTH_MAX)
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let name = Name::new(replaced.trim_matches('-')).ok()?;
    Some(format!("write `{name}`"))
}

/// Text, a number, true or false as text.
pub(crate) fn scalar(reader: &mut Reader, node: &Node, expected: &str) -> Option<String> {
    match node.scalar_text() {
        Some(text) => Some(text),
        None => {
            let problem = Problem::new(node.span, node.value.describe_kind(), expected);
            reader.report(match node.value {
                Value::Null => problem.hint("for empty text write \"\""),
                _ => problem,
            });
            None
        }
    }
}

/// Refuses what the kernel cannot pass on, because it ends text at a NUL (`execve(2)`).
fn no_nul(reader: &mut Reader, node: &Node, text: &str) -> Option<()> {
    if text.contains('\0') {
        reader.report(Problem::new(node.span, "a NUL character in text", "text without a NUL"));
        return None;
    }
    Some(())
}
