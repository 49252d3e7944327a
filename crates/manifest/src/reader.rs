//! Reads the tree: fields by table, values by kind, every problem with its field.

use crate::error::{ERRORS_MAX, Problem, quoted};
use crate::nearest::nearest;
use crate::tree::{Map, Node, Value};
use serde_json::Value as Json;

/// A field that a user can write. One table of fields drives the reader, the nearest valid name
/// and the schema, so that these cannot differ.
pub(crate) struct Field<D: 'static> {
    /// As the user writes it.
    pub(crate) name: &'static str,
    /// What it means, for the schema.
    pub(crate) doc: &'static str,
    /// The JSON Schema of its value.
    pub(crate) schema: fn() -> Json,
    /// Reads its value into the draft, or reports why not.
    pub(crate) read: fn(&mut Reader, &Node, &mut D),
}

/// Collects problems while the tree is read, and knows the field that is being read.
#[derive(Default)]
pub(crate) struct Reader {
    problems: Vec<Problem>,
    /// Of those that were not kept too.
    problem_count: usize,
    path: Vec<String>,
}

impl Reader {
    /// The problems that were found.
    pub(crate) fn finish(self) -> Vec<Problem> {
        self.problems
    }

    /// How many problems there are so far.
    pub(crate) fn problem_count(&self) -> usize {
        self.problem_count
    }

    /// Reports a problem of the field that is being read.
    pub(crate) fn report(&mut self, mut problem: Problem) {
        self.problem_count += 1;
        if !self.is_full() {
            problem.field = self.field();
            self.problems.push(problem);
        }
    }

    /// Reports a problem of another `field` than the one that is being read.
    pub(crate) fn report_in(&mut self, field: &str, mut problem: Problem) {
        self.problem_count += 1;
        if !self.is_full() {
            problem.field = field.to_owned();
            self.problems.push(problem);
        }
    }

    /// Whether no more problems are kept: a few more than are shown, because the text's first ones
    /// are chosen later.
    fn is_full(&self) -> bool {
        self.problems.len() >= 4 * ERRORS_MAX
    }

    /// The field that is being read, such as `services.web.ports[0]`.
    pub(crate) fn field(&self) -> String {
        let mut field = String::new();
        for segment in &self.path {
            if !field.is_empty() && !segment.starts_with('[') {
                field.push('.');
            }
            field.push_str(segment);
        }
        field
    }

    /// Reads with `name` added to the field's path.
    pub(crate) fn within<T>(&mut self, name: &str, read: impl FnOnce(&mut Reader) -> T) -> T {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$');
        let segment = match !name.is_empty() && name.chars().all(is_plain) {
            true => name.to_owned(),
            false => quoted(name).replace('`', "\""),
        };
        self.path.push(segment);
        let result = read(self);
        self.path.pop();
        result
    }

    /// Reads with the place in a list added to the field's path.
    pub(crate) fn within_item<T>(
        &mut self,
        index: usize,
        read: impl FnOnce(&mut Reader) -> T,
    ) -> T {
        self.path.push(format!("[{index}]"));
        let result = read(self);
        self.path.pop();
        result
    }

    /// Reads a map whose names are the fields of `tables`, and says whether all of it is right.
    /// `mend` knows more about a name that is not among them.
    pub(crate) fn fields<D>(
        &mut self,
        node: &Node,
        tables: &[&[Field<D>]],
        mend: impl Fn(&str) -> Option<String>,
        draft: &mut D,
    ) -> bool {
        let count = self.problem_count();
        let names: Vec<&str> = tables.iter().flat_map(|t| t.iter()).map(|f| f.name).collect();
        let expected = || match names.len() {
            1..=4 => format!("a map with {}", list(&names)),
            _ => "a map of fields".to_owned(),
        };
        let Some(map) = self.map(node, &expected()) else {
            return false;
        };
        for (key, value) in map {
            if self.is_full() {
                break;
            }
            let mut fields = tables.iter().flat_map(|table| table.iter());
            let field = fields.find(|field| field.name == key.text);
            self.within(&key.text, |reader| match field {
                Some(field) => (field.read)(reader, value, draft),
                None => {
                    let hint = mend(&key.text).or_else(|| nearest(&key.text, &names));
                    let found = format!("unknown field {}", quoted(&key.text));
                    let expected = format!("one of {}", names.join(", "));
                    reader.report(Problem::new(key.span, found, expected).hint_maybe(hint));
                }
            });
        }
        self.problem_count() == count
    }

    /// The entries of a map.
    pub(crate) fn map<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n Map> {
        match &node.value {
            Value::Map(map) => Some(map),
            _ => self.wrong(node, expected),
        }
    }

    /// The items of a list of `what`, such as `example`, of which at most `most` are taken.
    pub(crate) fn items<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        example: &str,
        most: usize,
    ) -> Option<&'n [Node]> {
        let Value::List(items) = &node.value else {
            let expected = format!("a list of {what}");
            let problem = Problem::new(node.span, node.value.describe_kind(), expected);
            self.report(problem.hint(format!("write for example {example}")));
            return None;
        };
        if items.len() > most {
            let found = format!("{} {what}", items.len());
            self.report(Problem::new(node.span, found, format!("at most {most}")));
            return None;
        }
        Some(items)
    }

    /// Text.
    pub(crate) fn text<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::Bool(_) => {
                let problem = Problem::new(node.span, node.describe(), expected);
                self.report(problem.hint("put quotes round it to make it text"));
                None
            }
            _ => self.wrong(node, expected),
        }
    }

    /// True or false.
    pub(crate) fn boolean(&mut self, node: &Node) -> Option<bool> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            Value::Text(text) => {
                let hint = match text.as_str() {
                    "yes" | "on" | "y" | "True" | "true" => Some("write true".to_owned()),
                    "no" | "off" | "n" | "False" | "false" => Some("write false".to_owned()),
                    _ => None,
                };
                let problem = Problem::new(node.span, node.describe(), "true or false");
                self.report(problem.hint_maybe(hint));
                None
            }
            _ => self.wrong(node, "true or false"),
        }
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn whole(&mut self, node: &Node, least: u64, most: u64) -> Option<u64> {
        let expected = format!("a whole number from {least} to {most}");
        match &node.value {
            Value::Number(text) => match whole_number(text) {
                Some(number) if (least..=most).contains(&number) => Some(number),
                _ => self.wrong(node, &expected),
            },
            Value::Text(text) if whole_number(text).is_some() => {
                let problem = Problem::new(node.span, node.describe(), expected);
                self.report(problem.hint("remove the quotes"));
                None
            }
            _ => self.wrong(node, &expected),
        }
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&mut self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let names = names(words);
        let expected = list(&names);
        let Value::Text(text) = &node.value else {
            return self.wrong(node, &expected);
        };
        let found = words.iter().find(|(name, _)| name == text);
        if found.is_none() {
            let problem = Problem::new(node.span, format!("found {}", quoted(text)), expected);
            self.report(problem.hint_maybe(nearest(text, &names)));
        }
        found.map(|(_, value)| *value)
    }

    /// Reports that `node` is something else than `expected`.
    pub(crate) fn wrong<T>(&mut self, node: &Node, expected: &str) -> Option<T> {
        self.report(Problem::new(node.span, node.describe(), expected));
        None
    }
}

/// The words of a table.
pub(crate) fn names<'w, T>(words: &[(&'w str, T)]) -> Vec<&'w str> {
    words.iter().map(|(name, _)| *name).collect()
}

/// The word for a value, from a table that has all values.
pub(crate) fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    let found = words.iter().find(|(_, other)| other == value);
    found.expect("a table of words has all values").0
}

/// `a`, `a or b`, `a, b or c`, each in backquotes.
pub(crate) fn list(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// A whole number as any of the formats writes it.
pub(crate) fn whole_number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.get(..2) {
        Some("0x") => (&text[2..], 16),
        Some("0o") => (&text[2..], 8),
        Some("0b") => (&text[2..], 2),
        _ => (text, 10),
    };
    match digits.starts_with('+') {
        true => None,
        false => u64::from_str_radix(digits, radix).ok(),
    }
}
