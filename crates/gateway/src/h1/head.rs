//! The head of a request, read strictly.
//!
//! Whatever two programs may read differently is refused here, because a proxy that lets it
//! through lets requests be smuggled past it (RFC 9112, section 11.2): a length given twice or
//! beside chunks, folded lines, spaces before colons, bytes that are no text.

use bytes::BytesMut;
use http::StatusCode;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Bytes of a head: browsers send up to 16 KiB, most of it cookies. More: 431.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;

/// Fields of a head. More: 431.
pub(crate) const FIELDS_MAX: usize = 128;

/// The longest length that is believed: more digits would not fit the number.
const LENGTH_DIGITS_MAX: usize = 18;

/// How much of a body follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// None.
    Empty,
    /// So many bytes.
    Length(u64),
    /// Chunks (RFC 9112, section 7.1).
    Chunked,
    /// All until the connection ends: only answers have this.
    UntilClose,
}

/// A head is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct BadHead {
    pub(crate) status: StatusCode,
    pub(crate) reason: &'static str,
}

fn bad(reason: &'static str) -> BadHead {
    BadHead { status: StatusCode::BAD_REQUEST, reason }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

/// The head of a request as its client wrote it, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    bytes: BytesMut,
    method: Range<usize>,
    target: Range<usize>,
    host: Option<Range<usize>>,
    fields: Vec<Field>,
    pub(crate) minor_version: u8,
    pub(crate) framing: Framing,
    /// Whether the client keeps its connection for further requests.
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    /// The protocol that the client wants to change to.
    upgrade: Option<Range<usize>>,
    pub(crate) accepts_trailers: bool,
}

impl RequestHead {
    /// Takes a head off `input` if it is there as a whole.
    pub(crate) fn take(input: &mut BytesMut) -> Result<Option<RequestHead>, BadHead> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        let status = match parsed.parse_with_uninit_headers(input, &mut fields) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if input.len() > HEAD_BYTES_MAX => {
                return Err(too_large("the head of the request is too long"));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(of_parser(error)),
        };
        let base = input.as_ptr() as usize;
        let place = |part: &[u8]| {
            let start = part.as_ptr() as usize - base;
            start..start + part.len()
        };
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
            return Err(bad("the request line is incomplete"));
        };
        let mut head = RequestHead {
            bytes: BytesMut::new(),
            method: place(method.as_bytes()),
            target: place(target.as_bytes()),
            host: None,
            fields: Vec::with_capacity(parsed.headers.len()),
            minor_version: parsed.version.unwrap_or(1),
            framing: Framing::Empty,
            keep_alive: true,
            expects_continue: false,
            upgrade: None,
            accepts_trailers: false,
        };
        for field in parsed.headers.iter() {
            let name = place(field.name.as_bytes());
            head.fields.push(Field { name, value: place(field.value) });
        }
        if status > HEAD_BYTES_MAX {
            return Err(too_large("the head of the request is too long"));
        }
        head.bytes = input.split_to(status);
        head.check()?;
        Ok(Some(head))
    }

    /// Everything that is not the grammar of one line.
    fn check(&mut self) -> Result<(), BadHead> {
        if has_bare_line_feed(&self.bytes) {
            return Err(bad("a line of the head ends without a carriage return"));
        }
        let target = self.target();
        if target.is_empty() || !target.iter().all(|byte| (0x21..0x7f).contains(byte)) {
            return Err(bad("the target of the request has characters that must be encoded"));
        }
        if self.minor_version > 1 {
            let status = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
            return Err(BadHead { status, reason: "this version of HTTP is not spoken here" });
        }
        self.keep_alive = self.minor_version == 1;
        let (mut lengths, mut codings, mut wants_upgrade) = (0, 0, false);
        for index in 0..self.fields.len() {
            let field = self.fields[index].clone();
            let (name, value) = (&self.bytes[field.name], &self.bytes[field.value.clone()]);
            match name.len() {
                2 if name.eq_ignore_ascii_case(b"te") => {
                    self.accepts_trailers |= has_token(value, b"trailers");
                }
                4 if name.eq_ignore_ascii_case(b"host") => {
                    if self.host.is_some() {
                        return Err(bad("the request names its host more than once"));
                    }
                    check_host(value)?;
                    self.host = Some(field.value);
                }
                6 if name.eq_ignore_ascii_case(b"expect") => {
                    self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
                }
                7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = Some(field.value),
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    let is = |token| has_token(value, token);
                    wants_upgrade |= is(b"upgrade");
                    self.keep_alive = match self.minor_version {
                        1 => self.keep_alive && !is(b"close"),
                        _ => self.keep_alive || is(b"keep-alive"),
                    };
                }
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    lengths += 1;
                    self.framing = Framing::Length(length_of(value)?);
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    codings += 1;
                    check_coding(value)?;
                }
                _ => {}
            }
        }
        self.settle_framing(lengths, codings)?;
        self.settle_host()?;
        let upgrade = self.upgrade.take().filter(|_| wants_upgrade && self.minor_version == 1);
        self.upgrade = upgrade.filter(|place| may_upgrade(&self.bytes[place.clone()]));
        Ok(())
    }

    /// What follows, by how many fields say something of it.
    fn settle_framing(&mut self, lengths: usize, codings: usize) -> Result<(), BadHead> {
        match (lengths, codings) {
            (0, 0) => {}
            (1, 0) => {
                if self.framing == Framing::Length(0) {
                    self.framing = Framing::Empty;
                }
            }
            (0, 1) if self.minor_version == 0 => {
                return Err(bad("HTTP/1.0 has no transfer codings"));
            }
            (0, 1) => self.framing = Framing::Chunked,
            (0, _) => return Err(bad("the request gives its transfer coding more than once")),
            (_, 0) => return Err(bad("the request gives its length more than once")),
            _ => return Err(bad("the request has both a length and a transfer coding")),
        }
        Ok(())
    }

    /// The host may be part of the target, which then is the one that counts (RFC 9112, section
    /// 3.2.2).
    fn settle_host(&mut self) -> Result<(), BadHead> {
        let target = &self.bytes[self.target.clone()];
        if self.minor_version == 1 && self.host.is_none() {
            return Err(bad("the request names no host"));
        }
        if target[0] == b'/' || target == b"*" {
            return Ok(());
        }
        if self.method() == b"CONNECT" {
            let status = StatusCode::NOT_IMPLEMENTED;
            return Err(BadHead { status, reason: "this is no proxy for other hosts" });
        }
        let scheme = [&b"http://"[..], b"https://"];
        let scheme = scheme
            .iter()
            .find(|it| target.len() >= it.len() && target[..it.len()].eq_ignore_ascii_case(it));
        let Some(scheme) = scheme else {
            return Err(bad("the target of the request is neither a path nor a URL"));
        };
        let start = self.target.start + scheme.len();
        let rest = &self.bytes[start..self.target.end];
        let length = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
        check_host(&rest[..length])?;
        self.host = Some(start..start + length);
        self.target.start = start + length;
        Ok(())
    }

    /// Its method, such as `GET`.
    pub fn method(&self) -> &[u8] {
        &self.bytes[self.method.clone()]
    }

    /// Its path and query as they were written. Empty or without its first slash if the client
    /// wrote a whole URL that has no path.
    pub fn target(&self) -> &[u8] {
        &self.bytes[self.target.clone()]
    }

    /// The host that it is for, with the port if it was written; empty if none is named.
    pub fn host(&self) -> &str {
        let host = self.host.clone().map_or(&[][..], |place| &self.bytes[place]);
        // It was checked to be ASCII.
        std::str::from_utf8(host).unwrap_or_default()
    }

    /// The protocol that the client wants to change to, such as `websocket`.
    pub fn upgrade(&self) -> Option<&[u8]> {
        self.upgrade.clone().map(|place| &self.bytes[place])
    }

    /// All fields in their order, names as they were written.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let text = |place: &Range<usize>| &self.bytes[place.clone()];
        self.fields.iter().map(move |field| (text(&field.name), text(&field.value)))
    }

    /// The value of the first field with this name, if it is text.
    pub fn field(&self, name: &str) -> Option<&str> {
        let wanted = |found: &[u8]| found.eq_ignore_ascii_case(name.as_bytes());
        let value = self.fields().find(|(found, _)| wanted(found))?.1;
        std::str::from_utf8(value).ok()
    }

    /// Whether it is `HEAD`, whose answer has no body whatever it says.
    pub(crate) fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }

    /// The bytes as they came, for whoever reads them again.
    pub(crate) fn into_bytes(self) -> BytesMut {
        self.bytes
    }
}

fn too_large(reason: &'static str) -> BadHead {
    BadHead { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason }
}

fn of_parser(error: httparse::Error) -> BadHead {
    match error {
        httparse::Error::HeaderName => bad("the name of a field is malformed"),
        httparse::Error::HeaderValue => bad("the value of a field is malformed"),
        httparse::Error::TooManyHeaders => too_large("the request has too many fields"),
        httparse::Error::Version => bad("the request line names no version of HTTP"),
        httparse::Error::Token => bad("the request line is malformed"),
        _ => bad("the head of the request is malformed"),
    }
}

/// Whether a line ends with a line feed only, which some programs take for an end and others do
/// not.
pub(crate) fn has_bare_line_feed(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|place| place == 0 || bytes[place - 1] != b'\r')
}

/// Whether a list of tokens has one.
pub(crate) fn has_token(list: &[u8], token: &[u8]) -> bool {
    tokens(list).any(|found| found.eq_ignore_ascii_case(token))
}

/// The tokens of a list.
pub(crate) fn tokens(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// A length in decimal digits and nothing else.
pub(crate) fn length_of(value: &[u8]) -> Result<u64, BadHead> {
    let value = value.trim_ascii();
    if value.is_empty() || value.len() > LENGTH_DIGITS_MAX || !value.iter().all(u8::is_ascii_digit)
    {
        return Err(bad("the length of the body is no number"));
    }
    Ok(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn check_coding(value: &[u8]) -> Result<(), BadHead> {
    if value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let reason = "the only transfer coding that is understood here is chunked";
    Err(BadHead { status: StatusCode::NOT_IMPLEMENTED, reason })
}

/// What may be in a host name, an address or a port; whether it is one is for who looks it up.
fn check_host(value: &[u8]) -> Result<(), BadHead> {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]%~!$&'()*+,;=".contains(byte);
    if value.is_empty() || !value.iter().all(known) {
        return Err(bad("the host of the request is malformed"));
    }
    Ok(())
}

/// Whether to let a protocol through: another version of HTTP or TLS inside would hide all further
/// requests from the gateway.
fn may_upgrade(protocols: &[u8]) -> bool {
    !tokens(protocols).any(|token| {
        let name = token.split(|byte| *byte == b'/').next().unwrap_or_default();
        [&b"h2c"[..], b"h2", b"http", b"tls"].iter().any(|it| name.eq_ignore_ascii_case(it))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;
    use proptest::prelude::*;

    fn take(text: &str) -> Result<Option<RequestHead>, BadHead> {
        RequestHead::take(&mut BytesMut::from(text.as_bytes()))
    }

    fn head(fields: &str) -> RequestHead {
        take(&format!("POST /a?b=%20 HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).unwrap().unwrap()
    }

    #[test]
    fn a_head_is_taken_off_its_input() {
        let mut input =
            BytesMut::from(&b"GET /p?q=1 HTTP/1.1\r\nHost: a.b:1\r\nX: y\r\n\r\nrest"[..]);
        let head = RequestHead::take(&mut input).unwrap().unwrap();
        assert_eq!(
            (head.method(), head.target(), head.host()),
            (&b"GET"[..], &b"/p?q=1"[..], "a.b:1")
        );
        assert_eq!(
            (head.field("x"), head.framing, head.keep_alive),
            (Some("y"), Framing::Empty, true)
        );
        assert_eq!(&input[..], b"rest");
    }

    #[test]
    fn the_host_of_a_whole_url_counts() {
        let head = take("GET http://a.b/p HTTP/1.1\r\nHost: other\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.host(), head.target()), ("a.b", &b"/p"[..]));
    }

    #[test]
    fn framing_and_connection_are_read() {
        let check = |fields: &str, framing, keep_alive, upgrade: Option<&[u8]>| {
            let head = head(fields);
            assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{fields}");
            assert_eq!(head.upgrade(), upgrade, "{fields}");
        };
        check("", Framing::Empty, true, None);
        check("Content-Length: 12\r\n", Framing::Length(12), true, None);
        check("Content-Length: 0\r\n", Framing::Empty, true, None);
        check("Transfer-Encoding: Chunked\r\n", Framing::Chunked, true, None);
        check("Connection: a, Close\r\n", Framing::Empty, false, None);
        check(
            "Connection: x, Upgrade\r\nUpgrade: websocket\r\n",
            Framing::Empty,
            true,
            Some(b"websocket"),
        );
        check("Upgrade: websocket\r\n", Framing::Empty, true, None);
        check("Connection: upgrade\r\nUpgrade: h2c\r\n", Framing::Empty, true, None);
        check("Connection: upgrade\r\nUpgrade: x, TLS/1.0\r\n", Framing::Empty, true, None);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let check = |rest: &str, status: u16| {
            let found = take(&format!("POST / HTTP/1.1\r\n{rest}\r\n"));
            assert_eq!(found.map(drop).map_err(|bad| bad.status.as_u16()), Err(status), "{rest:?}");
        };
        check("Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400);
        check("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n", 400);
        check("Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n", 400);
        check("Host: a\r\nContent-Length: 1, 1\r\n", 400);
        check("Host: a\r\nContent-Length: +1\r\n", 400);
        check("Host: a\r\nContent-Length: 0x1\r\n", 400);
        check("Host: a\r\nContent-Length: 9999999999999999999\r\n", 400);
        check("Host: a\r\nContent-Length:\r\n", 400);
        check("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n", 501);
        check("Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400);
        check("Host: a\r\nTransfer-Encoding: \x0bchunked\r\n", 400);
        check("Host: a\r\nX: 1\r\n folded\r\n", 400);
        check("Host: a\r\nX : 1\r\n", 400);
        check("Host: a\r\nContent Length: 1\r\n", 400);
        check("Host: a\r\nX: 1\n", 400);
        check("Host: a\r\nX: a\rb\r\n", 400);
        check("Host: a\r\nX: a\0b\r\n", 400);
        check("Host: a\r\nHost: b\r\n", 400);
        check("Host: a b\r\n", 400);
        check("Host:\r\n", 400);
        check("X: 1\r\n", 400);
        check(&format!("Host: a\r\n{}", "X: 1\r\n".repeat(FIELDS_MAX)), 431);
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(HEAD_BYTES_MAX));
        assert_eq!(take(&long).map_err(|bad| bad.status.as_u16()), Err(431));
        for line in [
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET /\u{e9} HTTP/1.1",
            "GET / HTTP/2.0",
            "GET a HTTP/1.1",
            "GET ftp://a/ HTTP/1.1",
            "G{T / HTTP/1.1",
        ] {
            assert!(take(&format!("{line}\r\nHost: a\r\n\r\n")).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_it_fail_otherwise(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut input = BytesMut::from(&b"GET / HTTP/1.1\r\n"[..]);
            input.extend_from_slice(&bytes);
            let before = input.len();
            if let Ok(Some(head)) = RequestHead::take(&mut input) {
                prop_assert_eq!(head.into_bytes().len() + input.remaining(), before);
            }
        }
    }
}
