//! Bodies on their way from one side to the other, without being kept.

use super::head::{Framing, has_bare_line_feed};
use crate::headers;
use bytes::{Buf, BytesMut};

/// Bytes of the line that begins a chunk, with its extensions, which nobody uses.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

/// Hexadecimal digits of a chunk's size: more than any memory.
const CHUNK_DIGITS_MAX: usize = 15;

/// Bytes of the fields after the last chunk.
const TRAILERS_BYTES_MAX: usize = 16 << 10;

/// Bytes that wait to be written to one side. Beyond it nothing more is read for it, so that a
/// slow reader slows the writer down.
pub(crate) const WAITING_BYTES_MAX: usize = 64 << 10;

/// A body cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadBody(pub(crate) &'static str);

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As it is.
    Raw,
    /// In chunks.
    Chunked,
}

/// Where the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// So many bytes of plain body are left.
    Length(u64),
    /// Everything until the end of the connection.
    UntilClose,
    /// At the line that begins a chunk.
    ChunkLine,
    /// Within a chunk that has so many bytes left.
    Chunk(u64),
    /// At the end of the line of a chunk's data.
    ChunkEnd,
    /// After the last chunk.
    Trailers,
    Done,
}

/// Carries one body.
#[derive(Debug)]
pub(crate) struct Relay {
    stage: Stage,
    encoding: Encoding,
}

impl Relay {
    pub(crate) fn new(framing: Framing, encoding: Encoding) -> Relay {
        let stage = match framing {
            Framing::Empty => Stage::Done,
            Framing::Length(length) => Stage::Length(length),
            Framing::Chunked => Stage::ChunkLine,
            Framing::UntilClose => Stage::UntilClose,
        };
        Relay { stage, encoding }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// How many bytes may be read right into the output, because they stay as they are.
    pub(crate) fn plain_bytes(&self) -> Option<usize> {
        match (self.stage, self.encoding) {
            (Stage::Length(left), Encoding::Raw) => {
                Some(usize::try_from(left).unwrap_or(usize::MAX))
            }
            (Stage::UntilClose, Encoding::Raw) => Some(usize::MAX),
            _ => None,
        }
    }

    /// So many bytes were read right into the output.
    pub(crate) fn passed(&mut self, bytes: usize) {
        if let Stage::Length(left) = &mut self.stage {
            *left = left.saturating_sub(bytes as u64);
            if *left == 0 {
                self.stage = Stage::Done;
            }
        }
    }

    /// The input has ended; whether that is the end of the body.
    pub(crate) fn end(&mut self, output: &mut BytesMut) -> bool {
        if self.stage == Stage::UntilClose {
            if self.encoding == Encoding::Chunked {
                output.extend_from_slice(b"0\r\n\r\n");
            }
            self.stage = Stage::Done;
        }
        self.is_done()
    }

    /// Moves what it can. Says whether anything moved.
    pub(crate) fn pass(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<bool, BadBody> {
        let mut moved = false;
        while output.len() < WAITING_BYTES_MAX && self.step(input, output)? {
            moved = true;
        }
        Ok(moved)
    }

    fn step(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<bool, BadBody> {
        match self.stage {
            Stage::Done => return Ok(false),
            _ if input.is_empty() => return Ok(false),
            Stage::Length(left) => {
                let moved = self.data(left, input, output);
                self.stage = match left - moved {
                    0 => Stage::Done,
                    left => Stage::Length(left),
                };
                if self.is_done() && self.encoding == Encoding::Chunked {
                    output.extend_from_slice(b"0\r\n\r\n");
                }
            }
            Stage::UntilClose => {
                self.data(u64::MAX, input, output);
            }
            Stage::Chunk(left) => {
                let moved = self.data(left, input, output);
                self.stage = match left - moved {
                    0 => Stage::ChunkEnd,
                    left => Stage::Chunk(left),
                };
            }
            Stage::ChunkEnd => {
                if input[0] != b'\r' || input.get(1).is_some_and(|byte| *byte != b'\n') {
                    return Err(BadBody("a chunk is longer than it says"));
                }
                if input.len() < 2 {
                    return Ok(false);
                }
                input.advance(2);
                self.stage = Stage::ChunkLine;
            }
            Stage::ChunkLine => match chunk_size(input)? {
                None => return Ok(false),
                Some(0) => self.stage = Stage::Trailers,
                Some(size) => self.stage = Stage::Chunk(size),
            },
            Stage::Trailers => return self.trailers(input, output),
        }
        Ok(true)
    }

    /// Moves up to `left` bytes.
    fn data(&self, left: u64, input: &mut BytesMut, output: &mut BytesMut) -> u64 {
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        match self.encoding {
            Encoding::Raw => output.extend_from_slice(&input[..size]),
            Encoding::Chunked => {
                write_hexadecimal(size, output);
                output.extend_from_slice(b"\r\n");
                output.extend_from_slice(&input[..size]);
                output.extend_from_slice(b"\r\n");
            }
        }
        input.advance(size);
        size as u64
    }

    fn trailers(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<bool, BadBody> {
        let length = if input.starts_with(b"\r\n") {
            2
        } else if let Some(place) = memchr::memmem::find(input, b"\r\n\r\n") {
            place + 4
        } else if input.len() > TRAILERS_BYTES_MAX {
            return Err(BadBody("the fields after the last chunk are too long"));
        } else {
            return Ok(false);
        };
        let block = input.split_to(length);
        if has_bare_line_feed(&block) {
            return Err(BadBody("a line after the last chunk ends without a carriage return"));
        }
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let parsed = httparse::parse_headers(&block, &mut fields);
        let Ok(httparse::Status::Complete((_, fields))) = parsed else {
            return Err(BadBody("the fields after the last chunk are malformed"));
        };
        if self.encoding == Encoding::Chunked {
            output.extend_from_slice(b"0\r\n");
            for field in fields.iter().filter(|it| headers::may_trail(it.name.as_bytes())) {
                headers::line(output, field.name.as_bytes(), field.value);
            }
            output.extend_from_slice(b"\r\n");
        }
        self.stage = Stage::Done;
        Ok(true)
    }
}

/// Takes the line that begins a chunk, if it is there, and says the chunk's size.
fn chunk_size(input: &mut BytesMut) -> Result<Option<u64>, BadBody> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        if input.len() > CHUNK_LINE_BYTES_MAX {
            return Err(BadBody("the line of a chunk's size is too long"));
        }
        return Ok(None);
    };
    if end == 0 || end > CHUNK_LINE_BYTES_MAX || input[end - 1] != b'\r' {
        return Err(BadBody("the line of a chunk's size is malformed"));
    }
    let line = &input[..end - 1];
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let extensions = line[digits..].trim_ascii_start();
    let is_sound = extensions.is_empty() && digits == line.len() || extensions.starts_with(b";");
    let is_text = extensions.iter().all(|byte| *byte == b'\t' || (0x20..0x7f).contains(byte));
    if digits == 0 || digits > CHUNK_DIGITS_MAX || !is_sound || !is_text {
        return Err(BadBody("the size of a chunk is no hexadecimal number"));
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map_or(0, u64::from);
    let size = line[..digits].iter().fold(0, |number, byte| number << 4 | digit(byte));
    input.advance(end + 1);
    Ok(Some(size))
}

fn write_hexadecimal(number: usize, output: &mut BytesMut) {
    let mut shift = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    while shift > 0 {
        shift -= 1;
        output.extend_from_slice(&[b"0123456789abcdef"[number >> (shift * 4) & 15]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What comes out when `text` arrives in pieces of a size, and what is left of it.
    fn pass(
        framing: Framing,
        encoding: Encoding,
        text: &[u8],
        size: usize,
    ) -> Result<(Vec<u8>, usize, bool), BadBody> {
        let mut relay = Relay::new(framing, encoding);
        let (mut input, mut output, mut all) = (BytesMut::new(), BytesMut::new(), Vec::new());
        for piece in text.chunks(size) {
            input.extend_from_slice(piece);
            while relay.pass(&mut input, &mut output)? {
                all.extend_from_slice(&output.split());
            }
        }
        Ok((all, input.len(), relay.is_done()))
    }

    #[test]
    fn bodies_pass_in_their_framing() {
        let check = |framing, encoding, text: &str, expected: &str, left| {
            let (out, rest, done) = pass(framing, encoding, text.as_bytes(), usize::MAX).unwrap();
            assert_eq!(
                (String::from_utf8(out).unwrap().as_str(), rest, done),
                (expected, left, true)
            );
        };
        use {
            Encoding::{Chunked, Raw},
            Framing::Length,
        };
        check(Length(3), Raw, "abcd", "abc", 1);
        check(Length(3), Chunked, "abcd", "3\r\nabc\r\n0\r\n\r\n", 1);
        let text = "3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\n\r\nGET";
        check(Framing::Chunked, Raw, text, "abc0123456789", 3);
        check(Framing::Chunked, Chunked, text, "3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n", 3);
        let text = "1\r\na\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\nX-Verified-User: me\r\n\r\n";
        check(Framing::Chunked, Chunked, text, "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n", 0);
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for text in [
            "x\r\n",
            "\r\n",
            "1\na\r\n",
            "-1\r\n",
            "0x1\r\n",
            "1 \r\na\r\n",
            "1\r\nab",
            "1\r\na\n0",
            "1;\0\r\na\r\n",
            "1111111111111111\r\n",
            "0\r\nX : 1\r\n\r\n",
            "0\r\nX: 1\n\r\n\r\n",
            "0\r\n folded\r\n\r\n",
            " 1\r\na\r\n",
        ] {
            for size in [1, usize::MAX] {
                let found = pass(Framing::Chunked, Encoding::Raw, text.as_bytes(), size);
                assert!(found.is_err(), "{text:?} in {size}: {found:?}");
            }
        }
        let endless = "a".repeat(CHUNK_LINE_BYTES_MAX + 2);
        assert!(pass(Framing::Chunked, Encoding::Raw, endless.as_bytes(), 100).is_err());
    }

    proptest! {
        #[test]
        fn chunks_come_out_as_they_went_in(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..20),
            size in 1_usize..400,
        ) {
            let mut wire = Vec::new();
            for part in &parts {
                wire.extend_from_slice(format!("{:X}\r\n", part.len()).as_bytes());
                wire.extend_from_slice(part);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let (plain, left, done) = pass(Framing::Chunked, Encoding::Raw, &wire, size).unwrap();
            prop_assert_eq!((&plain, left, done), (&parts.concat(), 0, true));
            let (again, _, _) = pass(Framing::Chunked, Encoding::Chunked, &wire, size).unwrap();
            let (plain, _, _) = pass(Framing::Chunked, Encoding::Raw, &again, 7).unwrap();
            prop_assert_eq!(plain, parts.concat());
        }
    }
}
