//! Answers of the gateway itself.

use crate::h1::head::RequestHead;
use bytes::BytesMut;
use http::StatusCode;
use std::fmt::Write;

/// The field that names the reason, so that a program can tell the gateway's answer from an
/// instance's.
pub const REASON_FIELD: &str = "spawnery-reason";

/// An answer of the gateway itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Further fields, each a line with its end.
    pub lines: String,
    /// The type of its body.
    pub content_type: &'static str,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A text.
    pub fn text(status: StatusCode, body: impl Into<String>) -> Answer {
        let content_type = "text/plain; charset=utf-8";
        Answer { status, lines: String::new(), content_type, body: body.into().into_bytes() }
    }

    /// A page.
    pub fn html(status: StatusCode, body: impl Into<String>) -> Answer {
        Answer { content_type: "text/html; charset=utf-8", ..Answer::text(status, body) }
    }

    /// To another place. `location` must be what may stand in a field.
    pub fn redirect(status: StatusCode, location: &str) -> Answer {
        Answer::text(status, format!("{location}\n")).with("location", location)
    }

    /// With a field. What must not stand in one is left out.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Answer {
        let sound = value.chars().filter(|it| !it.is_control());
        let _ = write!(self.lines, "{name}: {}\r\n", sound.collect::<String>());
        self
    }

    /// Why something is not there, as a page for a person who looks at it in a browser and as a
    /// line for everybody else.
    pub fn reason(
        status: StatusCode,
        word: &str,
        text: &str,
        head: Option<&RequestHead>,
    ) -> Answer {
        Answer::reason_to(status, word, text, head.is_some_and(wants_html))
    }

    pub(crate) fn reason_to(status: StatusCode, word: &str, text: &str, html: bool) -> Answer {
        let answer = match html {
            true => Answer::html(status, page(status, text)),
            false => Answer::text(status, format!("{text}\n")),
        };
        let answer = answer.with(REASON_FIELD, word).with("cache-control", "no-store");
        match status {
            StatusCode::SERVICE_UNAVAILABLE => answer.with("retry-after", "1"),
            _ => answer,
        }
    }

    pub(crate) fn write(&self, is_head: bool, keep_alive: bool, output: &mut BytesMut) {
        let reason = self.status.canonical_reason().unwrap_or_default();
        let connection = if keep_alive { "" } else { "connection: close\r\n" };
        let length = match self.status {
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => String::new(),
            _ => format!(
                "content-type: {}\r\ncontent-length: {}\r\n",
                self.content_type,
                self.body.len()
            ),
        };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\n{}{length}{connection}\r\n",
            self.status.as_u16(),
            self.lines
        );
        output.extend_from_slice(head.as_bytes());
        if !is_head {
            output.extend_from_slice(&self.body);
        }
    }
}

/// Whether a browser asks for a page.
pub(crate) fn wants_html(head: &RequestHead) -> bool {
    head.field("accept").is_some_and(|accept| accept.contains("text/html"))
}

/// Text as it may stand in a page.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
}

fn page(status: StatusCode, text: &str) -> String {
    let title = status.canonical_reason().unwrap_or("Sorry");
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style>\
         <main><h1>{title}</h1><p>{}</p></main></html>\n",
        escaped(text)
    )
}

/// The looks of all pages of the gateway: those of the browser, with some room.
pub(crate) const STYLE: &str = ":root{color-scheme:light dark;font:17px/1.5 system-ui,sans-serif}\
    main{max-width:36rem;margin:18vh auto;padding:0 1.5rem}h1{font-size:1.25rem}\
    p{overflow-wrap:anywhere}pre{white-space:pre-wrap;opacity:.75;font-size:.85rem}";

#[cfg(test)]
mod tests {
    use super::*;

    fn written(answer: &Answer, is_head: bool) -> String {
        let mut output = BytesMut::new();
        answer.write(is_head, true, &mut output);
        String::from_utf8(output.to_vec()).unwrap()
    }

    #[test]
    fn a_reason_is_a_line_or_a_page() {
        let head = |accept: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n");
            RequestHead::take(&mut BytesMut::from(text.as_bytes())).unwrap().unwrap()
        };
        let gone = |head: &RequestHead| {
            Answer::reason(StatusCode::BAD_GATEWAY, "unreachable", "<gone>", Some(head))
        };
        let text = written(&gone(&head("*/*")), false);
        assert!(
            text.starts_with("HTTP/1.1 502 Bad Gateway\r\nspawnery-reason: unreachable\r\n"),
            "{text}"
        );
        assert!(text.ends_with("content-length: 7\r\n\r\n<gone>\n"), "{text}");
        let page = written(&gone(&head("text/html,*/*;q=0.8")), false);
        assert!(page.contains("text/html") && page.contains("&lt;gone&gt;"), "{page}");
        assert!(written(&gone(&head("*/*")), true).ends_with("\r\n\r\n"));
    }

    #[test]
    fn no_value_makes_a_second_field() {
        let answer = Answer::text(StatusCode::OK, "").with("x", "a\r\nset-cookie: b");
        assert!(written(&answer, false).contains("x: aset-cookie: b\r\n"));
    }
}
