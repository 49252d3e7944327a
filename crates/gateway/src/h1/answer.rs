//! The head of an answer, as an instance writes it and as its client gets it.

use super::body::Encoding;
use super::head::{FIELDS_MAX, Framing, HEAD_BYTES_MAX, has_bare_line_feed, has_token, length_of};
use crate::headers;
use bytes::{Buf, BytesMut};
use std::mem::MaybeUninit;

/// An answer cannot be understood, or could be understood in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadAnswer(pub(crate) &'static str);

/// What the rest of the exchange depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnswerHead {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    pub(crate) encoding: Encoding,
    /// Whether the instance takes further requests on its connection.
    pub(crate) keep_upstream: bool,
    /// Whether the client's connection goes on after this answer.
    pub(crate) keep_client: bool,
}

/// What of the request decides how the answer is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) is_head: bool,
    pub(crate) minor_version: u8,
    pub(crate) keep_alive: bool,
    pub(crate) wants_upgrade: bool,
    /// Lines that the answer gets besides.
    pub(crate) lines: &'a [u8],
}

impl AnswerHead {
    /// Takes a head off `input` if it is there as a whole, and writes it for the client.
    pub(crate) fn pass(
        asked: Asked<'_>,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<Option<AnswerHead>, BadAnswer> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let found = config.parse_response_with_uninit_headers(&mut parsed, input, &mut fields);
        let length = match found {
            Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
            Ok(httparse::Status::Partial) if input.len() <= HEAD_BYTES_MAX => return Ok(None),
            Ok(_) => return Err(BadAnswer("the head of the answer is too long")),
            Err(_) => return Err(BadAnswer("the head of the answer is malformed")),
        };
        if has_bare_line_feed(&input[..length]) {
            return Err(BadAnswer("a line of the answer's head ends without a carriage return"));
        }
        let status = parsed.code.unwrap_or_default();
        if !(100..1000).contains(&status) || status == 101 && !asked.wants_upgrade {
            return Err(BadAnswer("the status of the answer is none that was asked for"));
        }
        let head = settle(status, asked, &parsed)?;
        write(&head, asked, &parsed, output);
        input.advance(length);
        Ok(Some(head))
    }
}

fn settle(
    status: u16,
    asked: Asked<'_>,
    parsed: &httparse::Response<'_, '_>,
) -> Result<AnswerHead, BadAnswer> {
    let is_new = parsed.version == Some(1);
    let (mut length, mut chunked, mut keep_upstream) = (None, false, is_new);
    for field in parsed.headers.iter() {
        match field.name.len() {
            10 if field.name.eq_ignore_ascii_case("connection") => {
                keep_upstream = match is_new {
                    true => keep_upstream && !has_token(field.value, b"close"),
                    false => keep_upstream || has_token(field.value, b"keep-alive"),
                };
            }
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let found = length_of(field.value);
                let found = found.map_err(|_| BadAnswer("the answer's length is no number"))?;
                if length.replace(found).is_some_and(|earlier| earlier != found) {
                    return Err(BadAnswer("the answer gives two different lengths"));
                }
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                if chunked || !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(BadAnswer("the answer's transfer coding is not chunked"));
                }
                chunked = true;
            }
            _ => {}
        }
    }
    if chunked && length.is_some() {
        return Err(BadAnswer("the answer has both a length and a transfer coding"));
    }
    let has_no_body = asked.is_head || matches!(status, 100..200 | 204 | 304);
    let framing = match (has_no_body, chunked, length) {
        (true, ..) => Framing::Empty,
        (_, true, _) => Framing::Chunked,
        (_, _, Some(0)) => Framing::Empty,
        (_, _, Some(length)) => Framing::Length(length),
        (_, _, None) => Framing::UntilClose,
    };
    let is_open = matches!(framing, Framing::Chunked | Framing::UntilClose);
    let encoding = match is_open && asked.minor_version == 1 {
        true => Encoding::Chunked,
        false => Encoding::Raw,
    };
    let ends_with_connection = is_open && encoding == Encoding::Raw;
    Ok(AnswerHead {
        status,
        framing,
        encoding,
        keep_upstream: keep_upstream && framing != Framing::UntilClose,
        keep_client: asked.keep_alive && !ends_with_connection,
    })
}

fn write(
    head: &AnswerHead,
    asked: Asked<'_>,
    parsed: &httparse::Response<'_, '_>,
    output: &mut BytesMut,
) {
    let status = head.status;
    let digits = [100, 10, 1].map(|place| b'0' + (status / place % 10) as u8);
    output.extend_from_slice(b"HTTP/1.1 ");
    output.extend_from_slice(&digits);
    output.extend_from_slice(b" ");
    output.extend_from_slice(parsed.reason.unwrap_or_default().as_bytes());
    output.extend_from_slice(b"\r\n");
    let all = || parsed.headers.iter().map(|field| (field.name.as_bytes(), field.value));
    let has_connection = all().any(|(name, _)| name.eq_ignore_ascii_case(b"connection"));
    for (name, value) in all() {
        let is_named = || headers::named(all()).any(|named| named.eq_ignore_ascii_case(name));
        if !(headers::is_hop_by_hop(name) || has_connection && is_named()) {
            headers::line(output, name, value);
        }
    }
    let is_interim = (100..200).contains(&status);
    if status == 101 {
        output.extend_from_slice(b"connection: upgrade\r\n");
        let protocols = all().filter(|(name, _)| name.eq_ignore_ascii_case(b"upgrade"));
        protocols.for_each(|(_, value)| headers::line(output, b"upgrade", value));
    }
    if !is_interim {
        if head.encoding == Encoding::Chunked {
            output.extend_from_slice(b"transfer-encoding: chunked\r\n");
        } else if status != 204 {
            let mut lengths =
                all().filter(|(name, _)| name.eq_ignore_ascii_case(b"content-length"));
            if let Some((_, value)) = lengths.next() {
                headers::line(output, b"content-length", value);
            }
        }
        if !head.keep_client {
            output.extend_from_slice(b"connection: close\r\n");
        } else if asked.minor_version == 0 {
            output.extend_from_slice(b"connection: keep-alive\r\n");
        }
        output.extend_from_slice(asked.lines);
    }
    output.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'static> = Asked {
        is_head: false,
        minor_version: 1,
        keep_alive: true,
        wants_upgrade: false,
        lines: b"",
    };

    fn pass(asked: Asked<'_>, text: &str) -> Result<(AnswerHead, String), BadAnswer> {
        let (mut input, mut output) = (BytesMut::from(text.as_bytes()), BytesMut::new());
        let head = AnswerHead::pass(asked, &mut input, &mut output)?.expect("all of it");
        Ok((head, String::from_utf8(output.to_vec()).unwrap()))
    }

    #[test]
    fn answers_are_written_for_the_client() {
        let check = |asked, text: &str, expected: &str, framing| {
            let (head, written) = pass(asked, &format!("{text}\r\n")).unwrap();
            assert_eq!((written, head.framing), (format!("{expected}\r\n"), framing), "{text}");
        };
        check(
            ASKED,
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nKeep-Alive: a\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n",
            Framing::Length(3),
        );
        check(
            ASKED,
            "HTTP/1.1 200 \r\nConnection: close, X-A\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n",
            "HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n",
            Framing::Chunked,
        );
        check(
            ASKED,
            "HTTP/1.0 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n",
            Framing::UntilClose,
        );
        check(
            ASKED,
            "HTTP/1.1 304 No\r\nContent-Length: 3\r\n",
            "HTTP/1.1 304 No\r\ncontent-length: 3\r\n",
            Framing::Empty,
        );
        let head = Asked { is_head: true, ..ASKED };
        check(
            head,
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n",
            Framing::Empty,
        );
        let old = Asked { minor_version: 0, ..ASKED };
        check(
            old,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
            "HTTP/1.1 200 OK\r\nconnection: close\r\n",
            Framing::Chunked,
        );
        check(
            old,
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\n",
            Framing::Length(3),
        );
        let upgrade = Asked { wants_upgrade: true, ..ASKED };
        check(
            upgrade,
            "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-X: 1\r\n",
            "HTTP/1.1 101 S\r\nSec-X: 1\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
            Framing::Empty,
        );
        check(ASKED, "HTTP/1.1 100 Continue\r\n", "HTTP/1.1 100 Continue\r\n", Framing::Empty);
        let more = Asked { lines: b"x-a: b\r\n", ..ASKED };
        check(more, "HTTP/1.1 204 No\r\n", "HTTP/1.1 204 No\r\nx-a: b\r\n", Framing::Empty);
    }

    #[test]
    fn answers_that_mean_two_things_are_refused() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n",
            "HTTP/1.1 101 S\r\n",
            "HTTP/1.1 200 OK\nA: b\r\n",
            "SSH-2.0-x\r\n",
        ] {
            assert!(pass(ASKED, &format!("{text}\r\n")).is_err(), "{text}");
        }
    }

    #[test]
    fn an_answer_may_keep_or_end_its_connection() {
        let check = |text: &str, keep| {
            assert_eq!(
                pass(ASKED, &format!("{text}\r\n")).unwrap().0.keep_upstream,
                keep,
                "{text}"
            );
        };
        check("HTTP/1.1 204 OK\r\n", true);
        check("HTTP/1.1 204 OK\r\nConnection: close\r\n", false);
        check("HTTP/1.1 200 OK\r\n", false);
        check("HTTP/1.0 204 OK\r\n", false);
        check("HTTP/1.0 204 OK\r\nConnection: keep-alive\r\n", true);
    }
}
