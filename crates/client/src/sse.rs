//! Server-Sent Events, as far as a client needs them (WHATWG HTML, section 9.2.6).

/// Bytes of one message: output records are far smaller, and a server that sends rubbish cannot
/// make us hold more.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// One message of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// What kind of message it is; empty if the server named none.
    pub event: String,
    /// Its content; several lines are joined by line feeds.
    pub data: String,
    /// The last id that the server gave, also by an earlier message.
    pub id: Option<String>,
}

/// A message is longer than any that a server of ours sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of more than {MESSAGE_BYTES_MAX} bytes")]
pub struct TooLong;

/// Turns bytes into messages. Give it bytes by [`push`](Parser::push), then take messages by
/// [`next`](Parser::next) until there is none.
#[derive(Debug, Default)]
pub struct Parser {
    input: Vec<u8>,
    /// Where in `input` the next line starts; what is before was read.
    start: usize,
    /// Where in `input` to go on looking for the end of that line.
    looked: usize,
    /// Whether the last line ended with a carriage return, so that a line feed belongs to it.
    after_return: bool,
    event: String,
    data: String,
    has_data: bool,
    id: Option<String>,
}

impl Parser {
    /// Goes on after the message with the id `last_id`.
    pub fn resume(&mut self, last_id: Option<String>) {
        self.id = last_id;
    }

    /// Takes in what came.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.start > 0 {
            self.input.drain(..self.start);
            self.looked -= self.start;
            self.start = 0;
        }
        if self.input.len() + self.data.len() + bytes.len() > 2 * MESSAGE_BYTES_MAX {
            return Err(TooLong);
        }
        self.input.extend_from_slice(bytes);
        Ok(())
    }

    /// The next message that is complete.
    pub fn next(&mut self) -> Option<Message> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                if let Some(message) = self.dispatch() {
                    return Some(message);
                }
            } else {
                self.field(&line);
            }
        }
        None
    }

    /// The next line that is complete: it ends with LF, CR or CR LF.
    fn line(&mut self) -> Option<String> {
        if self.after_return && self.input.get(self.start) == Some(&b'\n') {
            self.start += 1;
            self.looked = self.looked.max(self.start);
            self.after_return = false;
        }
        let rest = &self.input[self.looked..];
        let Some(length) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.looked = self.input.len();
            return None;
        };
        let end = self.looked + length;
        let line = String::from_utf8_lossy(&self.input[self.start..end]).into_owned();
        self.after_return = self.input[end] == b'\r';
        self.start = end + 1;
        self.looked = self.start;
        Some(line)
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => self.event = value.to_owned(),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments have an empty name; other fields are for browsers.
            _ => {}
        }
    }

    fn dispatch(&mut self) -> Option<Message> {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        Some(Message { event, data, id: self.id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(chunks: &[&[u8]]) -> Vec<Message> {
        let mut parser = Parser::default();
        let mut messages = Vec::new();
        for chunk in chunks {
            parser.push(chunk).unwrap();
            while let Some(message) = parser.next() {
                messages.push(message);
            }
        }
        messages
    }

    fn message(event: &str, data: &str, id: Option<&str>) -> Message {
        Message { event: event.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) }
    }

    #[test]
    fn messages_are_read_as_the_standard_says() {
        let check = |text: &str, expected: &[Message]| {
            assert_eq!(parse(&[text.as_bytes()]), expected, "{text:?}");
        };
        check("data: a\n\n", &[message("", "a", None)]);
        check("data:a\ndata: b\n\n", &[message("", "a\nb", None)]);
        check("event: e\r\nid: 7\r\ndata: a\r\n\r\n", &[message("e", "a", Some("7"))]);
        check("event: e\rdata\r\r", &[message("e", "", None)]);
        // A comment keeps a connection alive, and an event without data is none.
        check(": ping\n\nevent: e\n\n", &[]);
        // The id stays until another is given.
        check(
            "id: 1\ndata: a\n\ndata: b\n\n",
            &[message("", "a", Some("1")), message("", "b", Some("1"))],
        );
        // A message without its end may not be complete.
        check("data: a\n", &[]);
    }

    #[test]
    fn a_message_that_never_ends_is_refused() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; MESSAGE_BYTES_MAX];
        let refused = (0..4).any(|_| parser.push(&chunk).is_err());
        assert!(refused);
    }

    proptest! {
        #[test]
        fn where_the_network_cuts_does_not_matter(
            text in "(data: [a-c]{0,3}(\r\n|\n|\r)|id: [0-9](\n|\r\n)|:x\n|\n|\r\n|\r){0,12}",
            cut in 0usize..80,
        ) {
            let bytes = text.as_bytes();
            let (left, right) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(parse(&[left, right]), parse(&[bytes]));
        }

        #[test]
        fn rubbish_never_panics(chunks: Vec<Vec<u8>>) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            parse(&chunks);
        }
    }
}
