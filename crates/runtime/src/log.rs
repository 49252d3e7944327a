//! The output of a process, also while it is written.

use spawnery_model::Exit;
use spawnery_sandbox::log::LogReader;
use tokio::sync::watch;

/// The output of one process.
#[derive(Debug, Clone)]
pub struct Log {
    /// Reads what there is; it blocks on the disk.
    pub reader: LogReader,
    pub(crate) progress: watch::Receiver<LogProgress>,
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
    /// How far the log is now. What is written after this call makes [`Log::changed`] return.
    pub fn progress(&mut self) -> LogProgress {
        self.progress.borrow_and_update().clone()
    }

    /// Waits for something new since the last [`Log::progress`]; false if nothing ever comes.
    pub async fn changed(&mut self) -> bool {
        self.progress.changed().await.is_ok()
    }
}
