//! The output of a process, also while it is written.

use spawnery_model::Exit;
use spawnery_sandbox::log::{LogError, LogPage, LogReader, LogRecord};
use std::path::PathBuf;
use tokio::sync::watch;

/// The output of one process.
#[derive(Debug, Clone)]
pub struct Log {
    /// What there is.
    pub files: LogFiles,
    pub(crate) progress: watch::Receiver<LogProgress>,
}

/// The files of a log. Every method blocks on the disk and looks anew. While the process is still
/// being started, or after it was forgotten, there is nothing in them.
#[derive(Debug, Clone)]
pub struct LogFiles {
    dir: PathBuf,
}

/// How far a log is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogProgress {
    /// Grows when there may be more to read.
    pub news: u64,
    /// How the process ended, once it has. What the log holds then is all. `last_output` is
    /// empty.
    pub exit: Option<Exit>,
}

impl Log {
    pub(crate) fn new(dir: PathBuf, progress: watch::Receiver<LogProgress>) -> Log {
        Log { files: LogFiles { dir }, progress }
    }

    /// How far the log is now. What is written after this call makes [`Log::changed`] return.
    pub fn progress(&mut self) -> LogProgress {
        self.progress.borrow_and_update().clone()
    }

    /// Waits for something new since the last [`Log::progress`]; false if nothing ever comes.
    pub async fn changed(&mut self) -> bool {
        self.progress.changed().await.is_ok()
    }
}

impl LogFiles {
    /// Whether there is so little to read that a thread for it would cost more than the reading.
    pub fn is_short(&self) -> bool {
        // Where there is no log, there is nothing to read.
        LogReader::open(&self.dir).map_or(true, |reader| reader.is_short())
    }

    /// Records from `sequence` on, as many as hold `bytes_max` of output, but one at least.
    pub fn read_from(&self, sequence: u64, bytes_max: usize) -> Result<LogPage, LogError> {
        let nothing = || LogPage { next_seq: sequence, ..LogPage::default() };
        self.read(nothing, |reader| reader.read_from(sequence, bytes_max))
    }

    /// The records with the last `lines` lines.
    pub fn tail_lines(&self, lines: usize) -> Result<Vec<LogRecord>, LogError> {
        self.read(Vec::new, |reader| reader.tail_lines(lines))
    }

    /// Records from the first on that was written at `time_ms` (since 1970) or later, as many as
    /// hold `bytes_max`.
    pub fn since(&self, time_ms: u64, bytes_max: usize) -> Result<LogPage, LogError> {
        let nothing = || LogPage { next_seq: 1, ..LogPage::default() };
        self.read(nothing, |reader| reader.since(time_ms, bytes_max))
    }

    /// The sequence number that the next record will have.
    pub fn next_sequence(&self) -> Result<u64, LogError> {
        self.read(|| 1, LogReader::next_seq)
    }

    fn read<T>(
        &self,
        nothing: impl FnOnce() -> T,
        read: impl FnOnce(&LogReader) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        match LogReader::open(&self.dir).and_then(|reader| read(&reader)) {
            Err(LogError::NotFound(_)) => Ok(nothing()),
            Err(LogError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(nothing())
            }
            result => result,
        }
    }
}
