//! Reading a log, also while it is written.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::record::{LogRecord, Parsed, parse};
use super::writer::segment_path;

/// Bytes read from a segment at once.
const READ_BYTES: usize = 128 * 1024;

/// Bytes of a log that is read in less time than a thread for it takes to wake up.
const SHORT_BYTES: u64 = 64 * 1024;

/// A reader of one process's log. It holds no state of the log: each call looks at the disk.
#[derive(Debug, Clone)]
pub struct LogReader {
    dir: PathBuf,
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPage {
    /// Records in their order.
    pub records: Vec<LogRecord>,
    /// Ranges that were asked for but are not there any more, in their order, each before
    /// the records that follow it.
    pub gaps: Vec<Gap>,
    /// Where to go on.
    pub next_seq: u64,
}

/// Sequence numbers that are lost: dropped for the size limit, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first one lost.
    pub from: u64,
    /// The last one lost.
    pub to: u64,
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is no log in the folder.
    #[error("there is no log in {0}")]
    NotFound(PathBuf),
    /// Reading failed.
    #[error("cannot read the log in {dir}: {error}")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl LogReader {
    /// A reader of the log in `dir`.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, LogError> {
        let dir = dir.into();
        if dir.is_dir() { Ok(Self { dir }) } else { Err(LogError::NotFound(dir)) }
    }

    /// Whether the log is short enough to be read at once, wherever one is: its first segment is
    /// there and small, so that there are hardly any others.
    pub fn is_short(&self) -> bool {
        fs::metadata(segment_path(&self.dir, 1)).is_ok_and(|it| it.len() <= SHORT_BYTES)
    }

    /// Sequence number of the oldest record that is kept; 1 for an empty log.
    pub fn first_seq(&self) -> Result<u64, LogError> {
        Ok(self.segments()?.first().copied().unwrap_or(1))
    }

    /// Sequence number that the next record will have.
    pub fn next_seq(&self) -> Result<u64, LogError> {
        let Some(last) = self.segments()?.last().copied() else {
            return Ok(1);
        };
        let mut next = last;
        self.scan_segment(last, &mut |record, _| {
            next = record.seq + 1;
            true
        })?;
        Ok(next)
    }

    /// Records from `seq` on, as many as `max_bytes` of payload hold, but one at least. A
    /// record that is not complete yet, or damaged at the end of the log, is not there.
    pub fn read_from(&self, seq: u64, max_bytes: usize) -> Result<LogPage, LogError> {
        let mut page = LogPage { next_seq: seq.max(1), ..LogPage::default() };
        let mut bytes = 0usize;
        self.scan(seq.max(1), &mut |record| {
            if record.seq < page.next_seq {
                return true;
            }
            if !page.records.is_empty() && bytes + record.bytes.len() > max_bytes {
                return false;
            }
            if record.seq > page.next_seq {
                page.gaps.push(Gap { from: page.next_seq, to: record.seq - 1 });
            }
            bytes += record.bytes.len();
            page.next_seq = record.seq + 1;
            page.records.push(record);
            true
        })?;
        Ok(page)
    }

    /// The records that hold the last `lines` lines, cut at the first of these lines. A
    /// newline at the very end ends the last line and begins no new one.
    pub fn tail_lines(&self, lines: usize) -> Result<Vec<LogRecord>, LogError> {
        let mut kept: VecDeque<(LogRecord, usize)> = VecDeque::new();
        let mut newlines = 0usize;
        self.scan(1, &mut |record| {
            let count = record.bytes.iter().filter(|b| **b == b'\n').count();
            newlines += count;
            kept.push_back((record, count));
            while kept.front().is_some_and(|(_, first)| newlines - first > lines) {
                newlines -= kept.pop_front().map_or(0, |(_, first)| first);
            }
            true
        })?;
        let ends_line = kept.back().is_some_and(|(record, _)| record.bytes.ends_with(b"\n"));
        let wanted = lines + usize::from(ends_line && lines > 0);
        Ok(cut_to_lines(kept.into_iter().map(|(record, _)| record).collect(), wanted, lines))
    }

    /// Records that were read at `time_ms` or later, as many as `max_bytes` hold.
    pub fn since(&self, time_ms: u64, max_bytes: usize) -> Result<LogPage, LogError> {
        let mut first = None;
        self.scan(1, &mut |record| {
            if record.time_ms >= time_ms {
                first = Some(record.seq);
            }
            first.is_none()
        })?;
        match first {
            Some(seq) => self.read_from(seq, max_bytes),
            None => Ok(LogPage { next_seq: self.next_seq()?, ..LogPage::default() }),
        }
    }

    /// Visits the records from the segment that holds `seq` on, until `visit` says false.
    fn scan(&self, seq: u64, visit: &mut dyn FnMut(LogRecord) -> bool) -> Result<(), LogError> {
        let segments = self.segments()?;
        let start = segments.partition_point(|first| *first <= seq).saturating_sub(1);
        for segment in &segments[start.min(segments.len())..] {
            if !self.scan_segment(*segment, &mut |record, _| visit(record))? {
                break;
            }
        }
        Ok(())
    }

    /// Visits the records of one segment; false if `visit` wanted no more. Bytes that are no
    /// record end the segment. A segment that was just dropped has no records.
    fn scan_segment(
        &self,
        segment: u64,
        visit: &mut dyn FnMut(LogRecord, usize) -> bool,
    ) -> Result<bool, LogError> {
        let mut file = match fs::File::open(segment_path(&self.dir, segment)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(self.error(error)),
        };
        let mut buffer = Vec::new();
        let mut expected = segment;
        loop {
            let mut piece = (&mut file).take(READ_BYTES as u64);
            let read = piece.read_to_end(&mut buffer).map_err(|error| self.error(error))?;
            let mut used = 0;
            loop {
                match parse(&buffer[used..]) {
                    Parsed::Record(record, len) if record.seq == expected => {
                        used += len;
                        expected += 1;
                        if !visit(record, len) {
                            return Ok(false);
                        }
                    }
                    Parsed::Incomplete => break,
                    Parsed::Record(..) | Parsed::Damaged => return Ok(true),
                }
            }
            buffer.drain(..used);
            if read == 0 {
                return Ok(true);
            }
        }
    }

    /// First sequence numbers of the segments, in order. Other files are not looked at.
    fn segments(&self) -> Result<Vec<u64>, LogError> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|error| self.error(error))? {
            let entry = entry.map_err(|error| self.error(error))?;
            if let Some(seq) = segment_seq(Path::new(&entry.file_name())) {
                segments.push(seq);
            }
        }
        segments.sort_unstable();
        Ok(segments)
    }

    fn error(&self, error: io::Error) -> LogError {
        LogError::Io { dir: self.dir.clone(), error }
    }
}

fn segment_seq(name: &Path) -> Option<u64> {
    let name = name.to_str().filter(|name| name.len() == 20)?;
    name.parse().ok().filter(|seq| *seq > 0 && *seq < u64::MAX)
}

/// Drops everything before the last `newlines` newlines' first line.
fn cut_to_lines(mut records: Vec<LogRecord>, newlines: usize, lines: usize) -> Vec<LogRecord> {
    if lines == 0 {
        return Vec::new();
    }
    let mut seen = 0;
    for index in (0..records.len()).rev() {
        let bytes = &records[index].bytes;
        for at in (0..bytes.len()).rev().filter(|at| bytes[*at] == b'\n') {
            seen += 1;
            if seen == newlines {
                records[index].bytes.drain(..=at);
                records.drain(..index);
                records.retain(|record| !record.bytes.is_empty());
                return records;
            }
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::super::{LogWriter, Stream};
    use super::*;
    use crate::limits::LOG_BYTES_MIN;
    use proptest::prelude::*;

    fn log(pieces: &[&[u8]]) -> (tempfile::TempDir, LogReader) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut writer = LogWriter::new(dir.path().to_owned(), 0);
        for (time, piece) in pieces.iter().enumerate() {
            writer.append(time as u64, Stream::Stdout, piece).expect("appended");
        }
        let reader = LogReader::open(dir.path()).expect("opened");
        (dir, reader)
    }

    #[test]
    fn what_was_written_is_read() {
        let (_dir, reader) = log(&[b"a", b"bc", b"d"]);
        let page = reader.read_from(2, usize::MAX).expect("read");
        let bytes: Vec<_> = page.records.iter().map(|r| (r.seq, r.bytes.clone())).collect();
        assert_eq!(bytes, [(2, b"bc".to_vec()), (3, b"d".to_vec())]);
        assert_eq!((page.next_seq, page.gaps), (4, vec![]));
        assert_eq!(reader.next_seq().expect("read"), 4);
        assert!(reader.is_short());
        assert_eq!(reader.read_from(1, 1).expect("read").records.len(), 1);
        let since = reader.since(1, usize::MAX).expect("read");
        assert_eq!(since.records.first().map(|r| r.seq), Some(2));
    }

    #[test]
    fn an_empty_log_begins_at_one() {
        let (_dir, reader) = log(&[]);
        assert_eq!(reader.first_seq().expect("read"), 1);
        assert_eq!(reader.next_seq().expect("read"), 1);
        assert_eq!(reader.read_from(0, 10).expect("read").next_seq, 1);
    }

    #[test]
    fn the_oldest_records_are_dropped_and_the_gap_is_told() {
        let piece = vec![b'x'; 1000];
        let pieces = vec![piece.as_slice(); (LOG_BYTES_MIN as usize / 1000) * 3];
        let (dir, reader) = log(&pieces);
        let first = reader.first_seq().expect("read");
        assert!(first > 1);
        let page = reader.read_from(1, usize::MAX).expect("read");
        assert_eq!(page.gaps, [Gap { from: 1, to: first - 1 }]);
        assert_eq!(page.next_seq, pieces.len() as u64 + 1);
        assert_eq!(page.records.len() as u64, page.next_seq - first);
        let on_disk: u64 = fs::read_dir(dir.path())
            .expect("listed")
            .map(|entry| entry.and_then(|entry| entry.metadata()).expect("metadata").len())
            .sum();
        assert!(on_disk <= LOG_BYTES_MIN, "{on_disk}");
        assert!(!reader.is_short());
    }

    #[test]
    fn the_last_lines_are_found_across_records() {
        type Row = (&'static [&'static [u8]], usize, &'static [u8]);
        let table: [Row; 7] = [
            (&[b"one\ntw", b"o\nthree\n"], 2, b"two\nthree\n"),
            (&[b"one\ntw", b"o\nthree"], 2, b"two\nthree"),
            (&[b"one\ntw", b"o\nthree\n"], 9, b"one\ntwo\nthree\n"),
            (&[b"one\n", b"two\n"], 1, b"two\n"),
            (&[b"one\n"], 0, b""),
            (&[], 3, b""),
            (&[b"\n\n\n"], 2, b"\n\n"),
        ];
        for (pieces, lines, expected) in table {
            let (_dir, reader) = log(pieces);
            let records = reader.tail_lines(lines).expect("read");
            let bytes: Vec<u8> = records.into_iter().flat_map(|r| r.bytes).collect();
            assert_eq!(bytes, expected, "{lines} lines of {pieces:?}");
        }
    }

    #[test]
    fn a_torn_last_record_is_not_there() {
        let (dir, reader) = log(&[b"whole", b"torn"]);
        let path = segment_path(dir.path(), 1);
        let len = fs::metadata(&path).expect("metadata").len();
        fs::File::options().write(true).open(&path).expect("open").set_len(len - 1).expect("cut");
        let page = reader.read_from(1, usize::MAX).expect("read");
        assert_eq!((page.records.len(), page.next_seq), (1, 2));
    }

    proptest! {
        #[test]
        fn rubbish_gives_no_panic_and_only_records_that_were_written(
            at in 0usize..200, rubbish in proptest::collection::vec(any::<u8>(), 1..60)
        ) {
            let (dir, reader) = log(&[b"first", b"second", b"third\nline", b"fourth"]);
            let path = segment_path(dir.path(), 1);
            let mut bytes = fs::read(&path).expect("read");
            let at = at.min(bytes.len());
            bytes.splice(at..(at + rubbish.len()).min(bytes.len()), rubbish);
            fs::write(&path, bytes).expect("written");
            fs::write(dir.path().join("00000000000000000009"), b"junk").expect("written");
            let page = reader.read_from(1, usize::MAX).expect("read");
            let known: [&[u8]; 4] = [b"first", b"second", b"third\nline", b"fourth"];
            for record in &page.records {
                prop_assert_eq!(&record.bytes, known[record.seq as usize - 1]);
            }
            reader.next_seq().expect("read");
            reader.tail_lines(2).expect("read");
            reader.since(1, 10).expect("read");
        }
    }
}
