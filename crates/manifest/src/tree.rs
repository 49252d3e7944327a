//! One tree for all formats: values with their places, before anybody knows what they mean.

use crate::error::{ERRORS_MAX, Problem, quoted};
use crate::place::Span;
use std::collections::BTreeSet;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// A value of any format.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As it was written, so that no digit is lost: `1.10` stays `1.10`.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

/// Keys with their values, in the order of the text; no key twice.
pub(crate) type Map = Vec<(Key, Node)>;

/// A key and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

impl Node {
    /// What was found, for an error.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Bool(value) => format!("found `{value}`"),
            Value::Text(text) if text.is_empty() => "found empty text".to_owned(),
            Value::Number(text) => format!("found the number {}", quoted(text)),
            Value::Text(text) => format!("found the text {}", quoted(text)),
            other => other.describe_kind(),
        }
    }

    /// Text, a number, true or false as text; nothing for what is none of them.
    pub(crate) fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Value::Text(text) | Value::Number(text) => Some(text.clone()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }
}

impl Value {
    /// What kind of value was found, for errors that must not repeat it.
    pub(crate) fn describe_kind(&self) -> String {
        let kind = match self {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        };
        format!("found {kind}")
    }
}

/// Names and values in one manifest, those that aliases repeat included: ten for each workload of
/// the largest cluster, and a bound on the work that a hostile manifest can cause.
pub(crate) const NODES_MAX: usize = 1_000_000;

/// How deep values may lie in each other. A manifest needs six; the rest is room for a mistake
/// to be reported where it stands, and small enough that recursion is safe.
pub(crate) const DEPTH_MAX: usize = 32;

/// Counts what a tree takes, so that no text becomes a tree much larger than itself.
#[derive(Debug)]
pub(crate) struct Budget {
    nodes: usize,
    text_bytes: usize,
    text_bytes_max: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            nodes: 0,
            text_bytes: 0,
            text_bytes_max: spawnery_model::limits::MANIFEST_BYTES_MAX,
        }
    }
}

impl Budget {
    /// For a lock file, which may be larger than a manifest.
    pub(crate) fn of_lock() -> Budget {
        Budget { text_bytes_max: spawnery_model::limits::LOCK_BYTES_MAX, ..Budget::default() }
    }

    /// Takes one value with `text_bytes` of text at `depth` (0 is the root).
    pub(crate) fn take(&mut self, span: Span, depth: usize, text_bytes: usize) -> Taken {
        self.take_many(span, depth, 1, text_bytes)
    }

    /// Takes `nodes` values at once, the deepest at `depth`.
    pub(crate) fn take_many(
        &mut self,
        span: Span,
        depth: usize,
        nodes: usize,
        text_bytes: usize,
    ) -> Taken {
        self.nodes += nodes;
        self.text_bytes += text_bytes;
        if depth > DEPTH_MAX {
            let found = format!("values lie more than {DEPTH_MAX} deep in each other");
            return Err(Problem::new(span, found, "a flat manifest"));
        }
        if self.nodes > NODES_MAX {
            let found = format!("the manifest has more than {NODES_MAX} values");
            return Err(Problem::new(span, found, "fewer values")
                .hint("split the manifest, and use fewer aliases"));
        }
        let bytes_max = self.text_bytes_max;
        if self.text_bytes > bytes_max {
            let found = format!("with its aliases the manifest has more than {bytes_max} bytes");
            return Err(Problem::new(span, found, "less text").hint("use fewer aliases"));
        }
        Ok(())
    }
}

/// The answer of a [`Budget`].
pub(crate) type Taken = Result<(), Problem>;

/// Collects a map and refuses keys that are there already.
#[derive(Debug, Default)]
pub(crate) struct MapBuilder {
    entries: Map,
    seen: BTreeSet<String>,
}

impl MapBuilder {
    /// Adds an entry; one whose key is there already is reported and left out.
    pub(crate) fn insert(&mut self, key: Key, value: Node, problems: &mut Vec<Problem>) {
        if !self.seen.insert(key.text.clone()) {
            if problems.len() < ERRORS_MAX {
                let found = format!("{} is given twice", quoted(&key.text));
                let problem = Problem::new(key.span, found, "each name once");
                problems.push(problem.hint("keep one of the two"));
            }
            return;
        }
        self.entries.push((key, value));
    }

    /// The entries, in the order of the text.
    pub(crate) fn finish(self) -> Map {
        self.entries
    }
}
