//! YAML 1.2 (core schema) to the tree.
//!
//! It stands on the event parser below `serde-saphyr`, because events keep the place of every
//! value, the text of every number and both of two equal keys.

use crate::error::{Problem, quoted};
use crate::place::Span;
use crate::tree::{Budget, Key, MapBuilder, Node, Value};
use granit_parser::{Event, Parser, ScalarStyle, Tag};
use std::collections::BTreeMap;

/// Reads one YAML document.
pub(crate) fn parse(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let mut builder = Builder::default();
    match builder.read(text) {
        Ok(()) => {}
        Err(problem) => {
            problems.append(&mut builder.problems);
            problems.push(problem);
            return None;
        }
    }
    problems.append(&mut builder.problems);
    builder.root
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    /// The lists and maps that are not finished, the root first.
    open: Vec<Open>,
    anchors: BTreeMap<usize, Anchor>,
    budget: Budget,
    problems: Vec<Problem>,
}

/// A list or map that is not finished.
struct Open {
    collection: Collection,
    span: Span,
    anchor: usize,
    /// What it holds so far, itself included.
    size: Size,
}

enum Collection {
    List(Vec<Node>),
    Map(MapBuilder, Option<Key>),
}

/// A value that aliases repeat.
struct Anchor {
    node: Node,
    size: Size,
}

/// What a value takes of the budget when it is repeated.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    text_bytes: usize,
    height: usize,
}

impl Builder {
    fn read(&mut self, text: &str) -> Result<(), Problem> {
        let options =
            granit_parser::options! { emit_comments: false, emit_unresolved_aliases: true };
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, span) = next.map_err(|error| syntax(&error, text))?;
            let range = span.byte_range().unwrap_or(0..0);
            self.event(event, range.into())?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => Err(Problem::new(
                span,
                "a second document starts here",
                "one document in a manifest",
            )
            .hint("remove the `---`, or make two manifests")),
            Event::Scalar(text, style, anchor, tag) => {
                let size = Size { nodes: 1, text_bytes: text.len(), height: 0 };
                self.budget.take(span, self.open.len(), text.len())?;
                let value = self.scalar(&text, style, tag.as_deref(), span);
                self.finished(Node { value, span }, anchor, size)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.begin(Collection::List(Vec::new()), anchor, tag.as_deref(), span)
            }
            Event::MappingStart(_, anchor, tag) => {
                let map = Collection::Map(MapBuilder::default(), None);
                self.begin(map, anchor, tag.as_deref(), span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::UnresolvedAlias(name) => {
                let found = format!("no anchor is called {}", quoted(&name));
                let name: String = name.chars().take(20).collect();
                Err(Problem::new(span, found, "the name of an anchor above").hint(format!(
                    "mark the value that is meant with `&{name}`, or put quotes round text \
                         that starts with `*`"
                )))
            }
            _ => Ok(()),
        }
    }

    fn begin(
        &mut self,
        collection: Collection,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(), Problem> {
        self.budget.take(span, self.open.len(), 0)?;
        if tag.is_some_and(|tag| !tag.is_yaml_core_schema()) {
            self.refuse_tag(span);
        }
        self.open.push(Open {
            collection,
            span,
            anchor,
            size: Size { nodes: 1, text_bytes: 0, height: 0 },
        });
        Ok(())
    }

    fn end(&mut self, end: Span) -> Result<(), Problem> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.collection {
            Collection::List(list) => Value::List(list),
            Collection::Map(map, _) => Value::Map(map.finish()),
        };
        let span = Span { start: open.span.start, end: end.end.max(open.span.start) };
        self.finished(Node { value, span }, open.anchor, open.size)
    }

    /// Puts a finished value into the list or map that holds it.
    fn finished(&mut self, node: Node, anchor: usize, size: Size) -> Result<(), Problem> {
        if anchor != 0 {
            // The copy that aliases repeat takes its room too: anchors can lie in each other.
            let depth = self.open.len();
            self.budget.take_many(node.span, depth, size.nodes, size.text_bytes)?;
            let node = node.clone();
            self.anchors.insert(anchor, Anchor { node, size });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.size.nodes += size.nodes;
        open.size.text_bytes += size.text_bytes;
        open.size.height = open.size.height.max(size.height + 1);
        match &mut open.collection {
            Collection::List(list) => list.push(node),
            Collection::Map(map, pending) => match pending.take() {
                Some(key) => map.insert(key, node, &mut self.problems),
                None => *pending = Some(key_of(node)?),
            },
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Problem> {
        let Some(Anchor { node, size }) = self.anchors.get(&anchor) else {
            let found = "an alias inside the value that it repeats";
            return Err(Problem::new(span, found, "an alias of a finished value"));
        };
        let size = *size;
        let depth = self.open.len() + size.height;
        self.budget.take_many(span, depth, size.nodes, size.text_bytes)?;
        let value = node.value.clone();
        self.finished(Node { value, span }, 0, size)
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Value {
        let Some(tag) = tag else {
            return match style {
                ScalarStyle::Plain => resolve(text),
                _ => Value::Text(text.to_owned()),
            };
        };
        let is = |suffix| tag.is_yaml_core_schema_tag(suffix);
        if is("str") {
            return Value::Text(text.to_owned());
        }
        if !is("int") && !is("float") && !is("bool") && !is("null") {
            self.refuse_tag(span);
        }
        resolve(text)
    }

    fn refuse_tag(&mut self, span: Span) {
        let problem = Problem::new(span, "a tag that means nothing here", "a value without a tag");
        self.problems.push(problem.hint("remove the word that starts with `!`"));
    }
}

/// Makes a key of a value.
fn key_of(node: Node) -> Result<Key, Problem> {
    match node.scalar_text() {
        Some(text) => Ok(Key { text, span: node.span }),
        None => {
            let found = format!("{} where a name stands", node.value.describe_kind());
            Err(Problem::new(node.span, found, "a name before the colon"))
        }
    }
}

/// What a plain scalar means in the core schema (YAML 1.2.2, 10.3.2).
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_number(text) => Value::Number(text.to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}

fn is_number(text: &str) -> bool {
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8);
    }
    if let Some(hexadecimal) = text.strip_prefix("0x") {
        return digits(hexadecimal, 16);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, exponent.strip_prefix(['-', '+']).unwrap_or(exponent))
        }
        None => (unsigned, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    digits(exponent, 10)
        && all_digits(whole)
        && all_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
}

fn syntax(error: &granit_parser::ScanError, text: &str) -> Problem {
    let at = error.marker().byte_offset().unwrap_or(text.len());
    let problem = Problem::new(Span::from(at..at), error.info(), "valid YAML");
    let line = text.get(..at).unwrap_or(text).rsplit(['\n', '\r']).next();
    let rest = text.get(at..).unwrap_or_default();
    let indent = line.is_some_and(|line| line.trim().is_empty());
    if rest.starts_with('\t') || (indent && line.is_some_and(|line| line.contains('\t'))) {
        return problem.hint("indent with spaces; YAML does not take tabs");
    }
    problem
}
