//! One record and its bytes.

use crate::limits::LOG_RECORD_BYTES_MAX;

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Position in the log, from 1 on.
    pub seq: u64,
    /// When it was read, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Where it was written to.
    pub stream: Stream,
    /// What was written: at most [`LOG_RECORD_BYTES_MAX`], cut at no particular place.
    pub bytes: Vec<u8>,
}

/// The stream that a record was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

/// Bytes of a record's header.
pub(super) const HEADER_BYTES: usize = 28;

/// Encodes a record's header for `bytes`.
pub(super) fn header(seq: u64, time_ms: u64, stream: Stream, bytes: &[u8]) -> [u8; HEADER_BYTES] {
    let len = u32::try_from(bytes.len()).expect("the writer cuts at LOG_RECORD_BYTES_MAX");
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&len.to_le_bytes());
    header[8..16].copy_from_slice(&seq.to_le_bytes());
    header[16..24].copy_from_slice(&time_ms.to_le_bytes());
    header[24..28].copy_from_slice(&(stream as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[8..]), bytes);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What the beginning of some bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A record, and how many bytes it takes.
    Record(LogRecord, usize),
    /// The beginning of a record, or of nothing.
    Incomplete,
    /// No record.
    Damaged,
}

/// Reads the record at the beginning of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Parsed::Incomplete;
    };
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let len = word(0) as usize;
    if len > LOG_RECORD_BYTES_MAX {
        return Parsed::Damaged;
    }
    let stream = match word(24) {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return Parsed::Damaged,
    };
    let Some(payload) = rest.get(..len) else {
        return Parsed::Incomplete;
    };
    if crc32c::crc32c_append(crc32c::crc32c(&header[8..]), payload) != word(4) {
        return Parsed::Damaged;
    }
    let record = LogRecord { seq: long(8), time_ms: long(16), stream, bytes: payload.to_vec() };
    Parsed::Record(record, HEADER_BYTES + len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(seq: u64, bytes: &[u8]) -> Vec<u8> {
        let mut out = header(seq, 5, Stream::Stderr, bytes).to_vec();
        out.extend_from_slice(bytes);
        out
    }

    proptest! {
        #[test]
        fn a_record_comes_back_and_every_cut_is_incomplete(
            seq in any::<u64>(), bytes in proptest::collection::vec(any::<u8>(), 0..50)
        ) {
            let encoded = encode(seq, &bytes);
            let record = LogRecord { seq, time_ms: 5, stream: Stream::Stderr, bytes };
            prop_assert_eq!(parse(&encoded), Parsed::Record(record, encoded.len()));
            for cut in 0..encoded.len() {
                prop_assert_eq!(parse(&encoded[..cut]), Parsed::Incomplete);
            }
        }

        #[test]
        fn a_flipped_bit_never_gives_a_record(at in 0usize..32, bit in 0u8..8) {
            let mut encoded = encode(9, b"four");
            encoded[at] ^= 1 << bit;
            prop_assert!(!matches!(parse(&encoded), Parsed::Record(..)));
        }
    }
}
