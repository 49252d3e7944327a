//! Paths and query strings.

use std::fmt::Write;

/// A path with its query string, built piece by piece; values are percent-encoded.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    text: String,
    has_query: bool,
}

impl Target {
    /// Starts at `path`, which needs no encoding.
    pub(crate) fn new(path: &str) -> Target {
        Target { text: path.to_owned(), has_query: false }
    }

    /// Adds a segment such as a name that a user gave.
    pub(crate) fn segment(mut self, segment: &str) -> Target {
        self.text.push('/');
        encode(&mut self.text, segment);
        self
    }

    /// Adds a parameter, if it has a value.
    pub(crate) fn query(mut self, name: &str, value: Option<impl ToString>) -> Target {
        let Some(value) = value else {
            return self;
        };
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(name);
        self.text.push('=');
        encode(&mut self.text, &value.to_string());
        self
    }

    /// The path and query.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
fn encode(text: &mut String, value: &str) {
    // A segment of dots would be taken for a step upwards.
    let is_dots = value == "." || value == "..";
    for byte in value.bytes() {
        match byte {
            b'.' if is_dots => text.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => write!(text, "%{byte:02X}").expect("writing to a string does not fail"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_gives_cannot_leave_its_place() {
        let target = Target::new("/v1/services").segment("../a b?c");
        assert_eq!(target.as_str(), "/v1/services/..%2Fa%20b%3Fc");
        assert_eq!(Target::new("/v1").segment("..").as_str(), "/v1/%2E%2E");
        let target = Target::new("/v1/runs")
            .query("job", Some("a&b"))
            .query("none", None::<u32>)
            .query("limit", Some(5));
        assert_eq!(target.as_str(), "/v1/runs?job=a%26b&limit=5");
    }
}
