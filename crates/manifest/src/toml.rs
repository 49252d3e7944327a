//! TOML 1.0 to the tree.

use crate::error::Problem;
use crate::place::Span;
use crate::tree::{Budget, Key, MapBuilder, Node, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Reads a TOML document.
pub(crate) fn parse(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    parse_within(text, Budget::default(), problems)
}

/// Reads a TOML document with room for the text of a lock file.
pub(crate) fn parse_lock(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    parse_within(text, Budget::of_lock(), problems)
}

fn parse_within(text: &str, mut budget: Budget, problems: &mut Vec<Problem>) -> Option<Node> {
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(first) => {
            problems.extend(all_errors(text, first).iter().map(syntax));
            return None;
        }
    };
    let span = Span::from(table.span());
    match map(table.into_inner(), 0, &mut budget, problems) {
        Ok(value) => Some(Node { value, span }),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

/// All breaks of TOML's rules, or only the `first` of a text so large that the list of them could
/// be much larger still.
fn all_errors(text: &str, first: toml::de::Error) -> Vec<toml::de::Error> {
    const TEXT_BYTES_MAX: usize = 64 << 10;
    match text.len() {
        0..=TEXT_BYTES_MAX => DeTable::parse_recoverable(text).1,
        _ => vec![first],
    }
}

fn map(
    table: DeTable<'_>,
    depth: usize,
    budget: &mut Budget,
    problems: &mut Vec<Problem>,
) -> Result<Value, Problem> {
    let mut map = MapBuilder::default();
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let span = Span::from(key.span());
        budget.take(span, depth, key.get_ref().len())?;
        let key = Key { text: key.into_inner().into_owned(), span };
        let value = node(value, depth + 1, budget, problems)?;
        map.insert(key, value, problems);
    }
    Ok(Value::Map(map.finish()))
}

fn node(
    spanned: Spanned<DeValue<'_>>,
    depth: usize,
    budget: &mut Budget,
    problems: &mut Vec<Problem>,
) -> Result<Node, Problem> {
    let span = Span::from(spanned.span());
    budget.take(span, depth, 0)?;
    let value = match spanned.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => Value::Number(integer.to_string()),
        DeValue::Float(float) => Value::Number(float.to_string()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| node(item, depth + 1, budget, problems))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => map(table, depth, budget, problems)?,
    };
    Ok(Node { value, span })
}

fn syntax(error: &toml::de::Error) -> Problem {
    let span = Span::from(error.span().unwrap_or(0..0));
    let message = error.message().replace('\n', ", ");
    let problem = Problem::new(span, message, "valid TOML");
    if error.message().contains("duplicate key") {
        return problem.hint("keep one of the two");
    }
    problem
}
