//! The append-only writer of a log.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};

use super::record::{HEADER_BYTES, Stream, header};
use crate::limits::{LAST_OUTPUT_BYTES_MAX, LOG_BYTES_MIN, LOG_RECORD_BYTES_MAX, LOG_SEGMENTS};

/// Writes the log of one process. Not durable against power loss: the process ends with it.
#[derive(Debug)]
pub(crate) struct LogWriter {
    dir: PathBuf,
    segment_bytes_max: u64,
    /// First sequence numbers of the segments on disk, oldest first.
    segments: VecDeque<u64>,
    /// The newest segment, opened at the first append.
    file: Option<File>,
    file_bytes: u64,
    next_seq: u64,
    /// The last output, for the exit report.
    tail: VecDeque<u8>,
}

impl LogWriter {
    /// A writer for a new log in the existing, empty folder `dir`.
    pub(crate) fn new(dir: PathBuf, log_bytes_max: u64) -> Self {
        Self {
            dir,
            segment_bytes_max: log_bytes_max.max(LOG_BYTES_MIN) / LOG_SEGMENTS,
            segments: VecDeque::new(),
            file: None,
            file_bytes: 0,
            next_seq: 1,
            tail: VecDeque::new(),
        }
    }

    /// The folder was renamed, and the limit is known now.
    pub(crate) fn adopt(&mut self, dir: PathBuf, log_bytes_max: u64) {
        self.dir = dir;
        self.segment_bytes_max = log_bytes_max.max(LOG_BYTES_MIN) / LOG_SEGMENTS;
    }

    /// Creates the first segment ahead of the first output.
    pub(crate) fn prepare(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.open_segment()?;
        }
        Ok(())
    }

    /// Sequence number of the next record.
    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The last output.
    pub(crate) fn tail(&self) -> Vec<u8> {
        self.tail.iter().copied().collect()
    }

    /// Appends one record. After an error the record is not in the log, its number is used
    /// for the next one, and a torn piece of it is cut off.
    pub(crate) fn append(&mut self, time_ms: u64, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(LOG_RECORD_BYTES_MAX) {
            self.append_record(time_ms, stream, piece)?;
            self.keep_tail(piece);
        }
        Ok(())
    }

    fn append_record(&mut self, time_ms: u64, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let len = (HEADER_BYTES + bytes.len()) as u64;
        if self.file_bytes > 0 && self.file_bytes + len > self.segment_bytes_max {
            self.file = None;
        }
        if self.file.is_none() {
            self.open_segment()?;
        }
        let file = self.file.as_mut().expect("opened above");
        let header = header(self.next_seq, time_ms, stream, bytes);
        let result = write_all(file, &header, bytes);
        if let Err(error) = result {
            let _ = file.set_len(self.file_bytes);
            return Err(error);
        }
        self.file_bytes += len;
        self.next_seq += 1;
        Ok(())
    }

    fn open_segment(&mut self) -> io::Result<()> {
        while self.segments.len() as u64 >= LOG_SEGMENTS {
            if let Some(oldest) = self.segments.pop_front() {
                std::fs::remove_file(segment_path(&self.dir, oldest))?;
            }
        }
        let path = segment_path(&self.dir, self.next_seq);
        self.file = Some(File::options().append(true).create(true).open(path)?);
        self.file_bytes = 0;
        if self.segments.back() != Some(&self.next_seq) {
            self.segments.push_back(self.next_seq);
        }
        Ok(())
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(LAST_OUTPUT_BYTES_MAX)..];
        let excess = (self.tail.len() + kept.len()).saturating_sub(LAST_OUTPUT_BYTES_MAX);
        self.tail.drain(..excess);
        self.tail.extend(kept);
    }
}

/// Path of the segment whose first record is `seq`.
pub(super) fn segment_path(dir: &Path, seq: u64) -> PathBuf {
    dir.join(format!("{seq:020}"))
}

fn write_all(file: &mut File, header: &[u8], bytes: &[u8]) -> io::Result<()> {
    let written = file.write_vectored(&[IoSlice::new(header), IoSlice::new(bytes)])?;
    if written < header.len() {
        file.write_all(&header[written..])?;
        return file.write_all(bytes);
    }
    file.write_all(&bytes[written - header.len()..])
}
