//! JSON (RFC 8259) to the tree.
//!
//! Written here because `serde_json` does not tell where a value stands.

use crate::error::{Problem, quoted};
use crate::place::Span;
use crate::tree::{Budget, Key, MapBuilder, Node, Value};

/// Reads a JSON text.
pub(crate) fn parse(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let mut reader = Reader {
        text,
        at: if text.starts_with('\u{feff}') { 3 } else { 0 },
        budget: Budget::default(),
        problems: Vec::new(),
    };
    let root = reader.document();
    problems.append(&mut reader.problems);
    match root {
        Ok(node) => Some(node),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    /// The byte that is read next; always the start of a character.
    at: usize,
    budget: Budget,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Node, Problem> {
        let node = self.value(0)?;
        self.skip_space();
        match self.peek() {
            None => Ok(node),
            Some(_) => Err(self.unexpected("the end of the manifest")),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Problem> {
        self.skip_space();
        let start = self.at;
        self.budget.take(self.here(), depth, 0)?;
        let value = match self.peek() {
            Some(b'{') => self.map(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => Value::Number(self.number()?),
            Some(b'a'..=b'z' | b'A'..=b'Z') => self.word()?,
            _ => return Err(self.unexpected("a value")),
        };
        let span = Span::from(start..self.at);
        Ok(Node { value, span })
    }

    fn map(&mut self, depth: usize) -> Result<Value, Problem> {
        self.at += 1;
        let mut map = MapBuilder::default();
        self.skip_space();
        if self.take(b'}') {
            return Ok(Value::Map(map.finish()));
        }
        loop {
            self.skip_space();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a name in double quotes"));
            }
            let text = self.string()?;
            let span = Span::from(start..self.at);
            self.budget.take(span, depth, text.len())?;
            self.skip_space();
            if !self.take(b':') {
                return Err(self.unexpected("`:` and a value"));
            }
            let value = self.value(depth + 1)?;
            map.insert(Key { text, span }, value, &mut self.problems);
            self.skip_space();
            if self.take(b'}') {
                return Ok(Value::Map(map.finish()));
            }
            if !self.take(b',') {
                return Err(self.unexpected("`,` or `}`"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Problem> {
        self.at += 1;
        let mut list = Vec::new();
        self.skip_space();
        if self.take(b']') {
            return Ok(Value::List(list));
        }
        loop {
            list.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Value::List(list));
            }
            if !self.take(b',') {
                return Err(self.unexpected("`,` or `]`"));
            }
        }
    }

    fn number(&mut self) -> Result<String, Problem> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.')) {
            let problem = self.unexpected("the end of the number");
            return Err(problem.hint("text such as \"512M\" or \"0644\" needs double quotes"));
        }
        Ok(self.text[start..self.at].to_owned())
    }

    fn digits(&mut self) -> Result<(), Problem> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        match self.at > start {
            true => Ok(()),
            false => Err(self.unexpected("a digit")),
        }
    }

    fn word(&mut self) -> Result<Value, Problem> {
        let rest = &self.text[self.at..];
        let length = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
            .unwrap_or(rest.len());
        let word = &rest[..length];
        let span = Span::from(self.at..self.at + length);
        self.at += length;
        match word {
            "null" => Ok(Value::Null),
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => {
                let found = format!("the word {} without quotes", quoted(word));
                Err(Problem::new(span, found, "a value").hint("put double quotes round text"))
            }
        }
    }

    fn string(&mut self) -> Result<String, Problem> {
        let opening = Span::from(self.at..self.at + 1);
        self.at += 1;
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
            self.budget.take_many(opening, 0, 0, plain)?;
            string.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(string);
                }
                Some(b'\\') => string.push(self.escape()?),
                Some(_) => {
                    let problem = self.unexpected("text without a control character");
                    return Err(problem.hint("write a line break as \\n and a tab as \\t"));
                }
                None => {
                    let found = "the text that starts here does not end";
                    return Err(Problem::new(opening, found, "a closing double quote"));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Problem> {
        let start = self.at;
        self.at += 1;
        let letter = self.peek();
        if letter.is_some_and(|letter| letter.is_ascii()) {
            self.at += 1;
        }
        let wrong = |reader: &Reader<'_>, found: &str| {
            let span = Span::from(start..reader.at);
            let expected = "one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX";
            Problem::new(span, found, expected)
        };
        Ok(match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.hexadecimal();
                let character = match unit {
                    Some(high @ 0xd800..0xdc00) => self.low_surrogate().and_then(|low| {
                        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
                    }),
                    Some(unit) => char::from_u32(unit),
                    None => None,
                };
                character.ok_or_else(|| wrong(self, "an escape that is no character"))?
            }
            _ => return Err(wrong(self, "an unknown escape")),
        })
    }

    /// The second half of a character beyond U+FFFF.
    fn low_surrogate(&mut self) -> Option<u32> {
        if !self.text[self.at..].starts_with("\\u") {
            return None;
        }
        self.at += 2;
        self.hexadecimal().filter(|low| (0xdc00..0xe000).contains(low))
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn here(&self) -> Span {
        Span::from(self.at..self.at + 1)
    }

    fn unexpected(&self, expected: &str) -> Problem {
        let next = self.text[self.at..].chars().next();
        let found = match next {
            Some(next) => format!("found {}", quoted(&next.to_string())),
            None => "found the end of the text".to_owned(),
        };
        let problem = Problem::new(self.here(), found, expected);
        match next {
            Some('\'') => problem.hint("JSON has double quotes only"),
            Some('/' | '#') => problem.hint("JSON has no comments; YAML and TOML do"),
            Some('}' | ']') => problem.hint("remove the comma before it"),
            _ => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(text: &str) -> Option<String> {
        match parse(text, &mut Vec::new())?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    #[test]
    fn strings_are_read_as_serde_json_reads_them() {
        let check = |text: &str| {
            let expected = serde_json::from_str::<String>(text).ok();
            assert_eq!(text_of(text), expected, "{text}");
        };
        check(r#""a\/b\"\\\b\f\n\r\t""#);
        check(r#""\ud83d\ude00 \u00e4 ä""#);
        check(r#""\ud83d""#);
        check(r#""\ude00""#);
        check(r#""\ud83dx""#);
        check(r#""\ud83d\u0041""#);
        check(r#""\u12""#);
        check(r#""\u+123""#);
        check(r#""\x""#);
        check("\"\\ä\"");
        check("\"a\nb\"");
        check("\"a");
        check("\"a\\");
    }

    #[test]
    fn numbers_are_read_as_serde_json_reads_them() {
        let check = |text: &str| {
            let is_number = serde_json::from_str::<serde_json::Number>(text).is_ok();
            let node = parse(text, &mut Vec::new());
            match node.map(|node| node.value) {
                Some(Value::Number(read)) => assert!(is_number && read == text, "{text}"),
                _ => assert!(!is_number, "{text}"),
            }
        };
        for text in [
            "0", "-0", "1.50", "1e5", "1E+5", "-1.5e-5", "01", "1.", ".5", "+1", "1e", "-", "0x1",
            "1a", "1 2", "1.2.3",
        ] {
            check(text);
        }
    }
}
