//! Labels, and the conditions on the labels of nodes.

use crate::draft::Draft;
use crate::error::{Problem, quoted};
use crate::nearest::nearest;
use crate::place::Span;
use crate::process::scalar;
use crate::reader::{Field, Reader};
use crate::schema;
use crate::tree::{Map, Node, Value};
use spawnery_model::limits::{LABEL_LENGTH_MAX, LABELS_MAX};
use spawnery_model::{Constraint, ConstraintOperator};

/// Fields of every kind: where it may run, and its labels.
pub(crate) const FIELDS: &[Field<Draft>] = &[
    Field {
        name: "constraints",
        doc: "On which nodes it may run, by their labels; all must hold. A list of conditions \
              (`zone == eu`, `zone != eu`, `disk in ssd, nvme`, `disk not in hdd`, `has gpu`, \
              `not has gpu`), or a map of labels and values. `node` is the node's name.",
        schema: || {
            let values = schema::any_of(&[schema::scalar(), schema::list_of(schema::scalar())]);
            let list = schema::list_of(schema::text_like("zone == eu"));
            schema::any_of(&[list, schema::map_of(values)])
        },
        read: |reader, node, draft| draft.constraints = constraints(reader, node),
    },
    Field {
        name: "labels",
        doc: "Words for people and their tools, to show and to filter by.",
        schema: || schema::map_of(schema::scalar()),
        read: labels,
    },
];

/// The operators, for errors.
const OPERATORS: &str = "`zone == eu`, `zone != eu`, `zone in eu, us`, `zone not in eu, us`, \
                         `has gpu` or `not has gpu`";

/// Words of the conditions, which no label can be called.
const RESERVED: &[&str] = &["has", "in", "not"];

/// Why a label or a condition on one cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found}; expected {expected}")]
pub struct LabelError {
    /// What was found.
    pub found: String,
    /// What would be right.
    pub expected: String,
    /// How to mend it, where that can be guessed.
    pub hint: Option<String>,
}

impl LabelError {
    fn new(found: impl Into<String>, expected: impl Into<String>) -> LabelError {
        LabelError { found: found.into(), expected: expected.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> LabelError {
        self.hint = Some(hint.into());
        self
    }

    fn report(self, span: Span, reader: &mut Reader) {
        let problem = Problem::new(span, self.found, self.expected);
        reader.report(problem.hint_maybe(self.hint));
    }
}

/// Checks a label of a workload or a node: what passes can be named in a constraint.
///
/// A key has letters, digits, `.`, `_`, `-` and `/`, and is none of the words of the conditions;
/// a value has no comma, no control character and no space at its ends.
pub fn check_label(key: &str, value: &str) -> Result<(), LabelError> {
    check_key(key)?;
    check_value(value)
}

fn check_key(key: &str) -> Result<(), LabelError> {
    let expected = "letters, digits and any of . _ - /";
    if key.is_empty() {
        return Err(LabelError::new("an empty name of a label", expected));
    }
    if key.len() > LABEL_LENGTH_MAX {
        let found = format!("a name of a label with {} bytes", key.len());
        let expected = format!("at most {LABEL_LENGTH_MAX} bytes");
        return Err(LabelError::new(found, expected));
    }
    if let Some(wrong) = key.chars().find(|c| !is_key(*c)) {
        let found = format!("the label {} with {wrong:?} in its name", quoted(key));
        return Err(LabelError::new(found, expected));
    }
    if RESERVED.contains(&key) {
        let found = format!("a label that is called {}", quoted(key));
        let expected = format!("another name than {}", RESERVED.join(", "));
        return Err(LabelError::new(found, expected));
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), LabelError> {
    if value.len() > LABEL_LENGTH_MAX {
        let found = format!("a value of a label with {} bytes", value.len());
        let expected = format!("at most {LABEL_LENGTH_MAX} bytes");
        return Err(LabelError::new(found, expected));
    }
    let is_wrong = |c: char| c == ',' || c.is_control();
    if value.contains(is_wrong) || value.trim() != value {
        let found = format!("the value {} of a label", quoted(value));
        let expected = "text without commas, line breaks and outer spaces";
        return Err(LabelError::new(found, expected));
    }
    Ok(())
}

fn is_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/')
}

fn labels(reader: &mut Reader, node: &Node, draft: &mut Draft) {
    let Some(map) = reader.map(node, "a map such as {team: web}") else {
        return;
    };
    if map.len() > LABELS_MAX {
        let found = format!("{} labels", map.len());
        reader.report(Problem::new(node.span, found, format!("at most {LABELS_MAX} labels")));
        return;
    }
    for (key, value) in map {
        reader.within(&key.text, |reader| {
            let Some(text) = scalar(reader, value, "text") else {
                return;
            };
            if let Err(error) = check_key(&key.text) {
                error.report(key.span, reader);
            }
            if let Err(error) = check_value(&text) {
                error.report(value.span, reader);
            }
            draft.labels.insert(key.text.clone(), text);
        });
    }
}

fn constraints(reader: &mut Reader, node: &Node) -> Vec<Constraint> {
    let count = match &node.value {
        Value::List(items) => items.len(),
        Value::Map(map) => map.len(),
        _ => {
            let problem = Problem::new(node.span, node.describe(), "a list of conditions");
            reader.report(problem.hint("write for example [\"zone == eu\"]"));
            return Vec::new();
        }
    };
    if count > LABELS_MAX {
        let found = format!("{count} constraints");
        let expected = format!("at most {LABELS_MAX} constraints");
        reader.report(Problem::new(node.span, found, expected));
        return Vec::new();
    }
    match &node.value {
        Value::List(items) => conditions(reader, items),
        Value::Map(map) => equalities(reader, map),
        _ => Vec::new(),
    }
}

fn conditions(reader: &mut Reader, items: &[Node]) -> Vec<Constraint> {
    let mut constraints = Vec::new();
    for (index, item) in items.iter().enumerate() {
        reader.within_item(index, |reader| {
            let Some(text) = reader.text(item, "a condition such as `zone == eu`") else {
                return;
            };
            match parse(text) {
                Ok(constraint) => constraints.push(constraint),
                Err(error) => error.report(item.span, reader),
            }
        });
    }
    constraints
}

fn equalities(reader: &mut Reader, map: &Map) -> Vec<Constraint> {
    let mut constraints = Vec::new();
    for (key, value) in map {
        reader.within(&key.text, |reader| {
            let nodes = match &value.value {
                Value::List(nodes) => nodes.as_slice(),
                _ => std::slice::from_ref(value),
            };
            let mut values = Vec::new();
            for node in nodes {
                values.extend(scalar(reader, node, "text, or a list of texts"));
            }
            if let Err(error) = check_key(&key.text) {
                error.report(key.span, reader);
            }
            if values.len() != nodes.len() {
                return;
            }
            if let Err(error) = check_values(&values) {
                error.report(value.span, reader);
            }
            constraints.push(Constraint {
                label: key.text.clone(),
                operator: ConstraintOperator::In,
                values,
            });
        });
    }
    constraints
}

fn check_values(values: &[String]) -> Result<(), LabelError> {
    if values.is_empty() || values.iter().any(String::is_empty) {
        let error = LabelError::new("a condition without a value", "at least one value");
        return Err(error.hint("`has` asks whether a label is there at all"));
    }
    values.iter().try_for_each(|value| check_value(value))
}

/// Reads a condition on a label: `zone == eu`, `disk not in hdd, tape`, `has gpu`.
pub fn parse(text: &str) -> Result<Constraint, LabelError> {
    let text = text.trim();
    let (first, rest) = text.split_at(text.find(|c| !is_key(c)).unwrap_or(text.len()));
    let rest = rest.trim_start();
    let (word, after) = first_word(rest);
    let (second, after_second) = first_word(after);
    let values = |text: &str| text.split(',').map(|value| value.trim().to_owned()).collect();
    let (label, operator, values): (_, _, Vec<String>) =
        if let Some(value) = rest.strip_prefix("==") {
            (first, ConstraintOperator::In, vec![single(value)?])
        } else if let Some(value) = rest.strip_prefix("!=") {
            (first, ConstraintOperator::NotIn, vec![single(value)?])
        } else if first == "has" && after.is_empty() && !word.is_empty() {
            (word, ConstraintOperator::Exists, Vec::new())
        } else if first == "not" && word == "has" && after_second.is_empty() {
            (second, ConstraintOperator::NotExists, Vec::new())
        } else if word == "in" {
            (first, ConstraintOperator::In, values(after))
        } else if word == "not" && second == "in" {
            (first, ConstraintOperator::NotIn, values(after_second))
        } else {
            return Err(no_condition(text, first, word, after));
        };
    check_key(label)?;
    if !matches!(operator, ConstraintOperator::Exists | ConstraintOperator::NotExists) {
        check_values(&values)?;
    }
    Ok(Constraint { label: label.to_owned(), operator, values })
}

fn first_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

fn single(value: &str) -> Result<String, LabelError> {
    let value = value.trim();
    if value.contains(',') {
        let found = format!("several values {}", quoted(value));
        let error = LabelError::new(found, "one value after `==` or `!=`");
        return Err(error.hint("compare with several by `in` or `not in`"));
    }
    Ok(value.to_owned())
}

fn no_condition(text: &str, label: &str, word: &str, after: &str) -> LabelError {
    let symbols = word.find(|c: char| c.is_alphanumeric()).unwrap_or(word.len());
    let (symbols, value) = word.split_at(symbols);
    let operator = if symbols.is_empty() { word } else { symbols };
    let value = if value.is_empty() { after } else { value };
    if operator.is_empty() {
        let error = LabelError::new(format!("{} is no condition", quoted(text)), OPERATORS);
        return match check_key(label) {
            Ok(()) => error.hint(format!("write `has {label}` if the label must be there")),
            Err(_) => error,
        };
    }
    let found = format!("the unknown operator {}", quoted(operator));
    let error = LabelError::new(found, OPERATORS);
    match operator {
        "=" | "===" | ":" | "is" | "eq" if !value.is_empty() => {
            error.hint(format!("write `{label} == {value}`"))
        }
        "<>" | "ne" if !value.is_empty() => error.hint(format!("write `{label} != {value}`")),
        _ => LabelError { hint: nearest(operator, &["in", "not in", "has"]), ..error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_condition_is_read_as_it_is_shown() {
        let check = |text: &str, shown: &str| {
            let read = parse(text).map(|constraint| constraint.to_string());
            assert_eq!(read.as_deref(), Ok(shown), "{text}");
        };
        check("zone == eu", "zone == eu");
        check("zone==eu", "zone == eu");
        check(" zone != eu west ", "zone != eu west");
        check("disk in ssd, nvme", "disk in ssd, nvme");
        check("disk in ssd", "disk == ssd");
        check("disk not in ssd,nvme", "disk not in ssd, nvme");
        check("has gpu", "has gpu");
        check("not has gpu", "not has gpu");
        check("a/b.c_d-e == x==y", "a/b.c_d-e == x==y");
    }

    #[test]
    fn what_is_no_condition_is_refused_with_a_mend() {
        let check = |text: &str, hint: Option<&str>| {
            let error = parse(text).expect_err(text);
            assert_eq!(error.hint.as_deref(), hint, "{text}: {error}");
        };
        check("gpu", Some("write `has gpu` if the label must be there"));
        check("zone = eu", Some("write `zone == eu`"));
        check("zone=eu", Some("write `zone == eu`"));
        check("zone <> eu", Some("write `zone != eu`"));
        check("zone == eu, us", Some("compare with several by `in` or `not in`"));
        check("zone ==", Some("`has` asks whether a label is there at all"));
        check("zone in", Some("`has` asks whether a label is there at all"));
        check("memory > 4", None);
        check("not == eu", None);
        check("has", None);
        check("has has", None);
        check("has a b", None);
        check("not has", None);
        check("", None);
        check("ä == b", None);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(text in "(has |not has )?[a-z=! ]{0,6}( not)? (in|==|!=)? \\PC{0,9}") {
            if let Ok(constraint) = parse(&text) {
                prop_assert_eq!(parse(&constraint.to_string()), Ok(constraint));
            }
        }
    }
}
