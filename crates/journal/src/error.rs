//! What can go wrong: one enum for each operation.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use crate::Position;
use crate::folder::DATABASE_NAME;

/// Why a journal was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process is writing to this folder.
    #[error(
        "the journal in {} is in use by {}: stop that server first, or use another data folder",
        folder.display(), holder(*.process)
    )]
    InUse {
        /// The journal's folder.
        folder: PathBuf,
        /// The process that holds the lock, if it could be read.
        process: Option<u32>,
    },
    /// The journal ends before something that it acknowledged.
    #[error(
        "the journal in {} ends at position {journal_last}, but position {acknowledged} was \
         acknowledged: entries were lost by damage or by restoring an older copy. See `spawnery \
         journal verify`, restore the folder from a backup, or start with `--accept-loss`",
        folder.display()
    )]
    Truncated {
        /// The journal's folder.
        folder: PathBuf,
        /// The last position that the journal has.
        journal_last: Position,
        /// The last position that it is known to have acknowledged.
        acknowledged: Position,
    },
    /// An entry that opening looks at is not what it should be.
    #[error(
        "the journal in {} is damaged at position {position}: found {found}, expected {expected}. \
         See `spawnery journal verify`, restore the folder from a backup, or start with \
         `--accept-loss`",
        folder.display()
    )]
    Corrupt {
        /// The journal's folder.
        folder: PathBuf,
        /// Where the damage is.
        position: Position,
        /// What was found there.
        found: String,
        /// What should have been there.
        expected: String,
    },
    /// There is no journal in the folder.
    #[error("there is no journal in {}: is this the data folder of a server?", folder.display())]
    Missing {
        /// The folder that was looked at.
        folder: PathBuf,
    },
    /// The database is not one of ours, or was made by a newer version.
    #[error("{} is not a journal that this version reads: {reason}", path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
        /// How it differs.
        reason: String,
    },
    /// SQLite cannot make sense of the database.
    #[error(
        "the database {} is damaged beyond reading ({source}): restore the folder from a backup, \
         or move journal.db and journal.db-wal away and start with `--accept-loss`, which goes \
         on from the newest snapshot",
        path.display()
    )]
    Unreadable {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The disk is full.
    #[error("there is no space left for the journal in {}: free some, then start again", folder.display())]
    NoSpace {
        /// The journal's folder.
        folder: PathBuf,
    },
    /// Anything else.
    #[error("the journal in {} could not be opened: {source}", place.display())]
    Failed {
        /// The file or folder.
        place: PathBuf,
        /// What the system or SQLite said.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Why a batch or snapshot was not stored.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk or a quota is full. Nothing was kept, and the same call may be repeated.
    #[error(
        "there is no space left for the journal in {}: free some, and work goes on",
        place.display()
    )]
    NoSpace {
        /// The journal's folder.
        place: PathBuf,
    },
    /// A payload is larger than [`PAYLOAD_SIZE_BYTES_MAX`](crate::PAYLOAD_SIZE_BYTES_MAX).
    /// Nothing was kept.
    #[error(
        "a record of {size_bytes} bytes is too large for the journal, which takes {size_bytes_max}"
    )]
    TooLarge {
        /// The size of the payload.
        size_bytes: usize,
        /// The limit.
        size_bytes_max: usize,
    },
    /// A snapshot was to be saved at a position whose entry the journal does not have.
    #[error(
        "no snapshot can be saved at position {position}: the journal goes from {first} to {last}"
    )]
    NoSuchPosition {
        /// The position that was asked for.
        position: Position,
        /// The first entry.
        first: Position,
        /// The last entry.
        last: Position,
    },
    /// Anything else. Whether the batch was kept is unknown: stop, start again and replay.
    #[error("the journal in {} failed and takes nothing more until a restart: {source}", place.display())]
    Failed {
        /// The file or folder.
        place: PathBuf,
        /// What the system or SQLite said.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// An entry is missing, changed or out of order.
    #[error(
        "the journal is damaged at position {position}: found {found}, expected {expected}. See \
         `spawnery journal verify`, and restore the folder from a backup"
    )]
    Corrupt {
        /// Where the damage is. All entries before it are sound.
        position: Position,
        /// What was found there.
        found: String,
        /// What should have been there.
        expected: String,
    },
    /// The entries before `first` were dropped, because snapshots hold their result.
    #[error("position {position} was pruned: the journal begins at {first}; start from a snapshot")]
    Pruned {
        /// The position that was asked for.
        position: Position,
        /// The first entry that there is.
        first: Position,
    },
    /// The entries before `first` were dropped, and no snapshot is readable.
    #[error(
        "no snapshot is readable ({damage}), and the journal begins at {first}: the state cannot \
         be rebuilt; restore the folder from a backup"
    )]
    NoSnapshot {
        /// The first entry that there is.
        first: Position,
        /// What is wrong with the snapshots.
        damage: String,
    },
    /// Anything else.
    #[error("the journal in {} could not be read: {source}", place.display())]
    Failed {
        /// The file or folder.
        place: PathBuf,
        /// What the system or SQLite said.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl OpenError {
    pub(crate) fn io(place: &Path, error: io::Error) -> OpenError {
        if is_no_space(&error) {
            let folder = place.parent().unwrap_or(place).to_owned();
            return OpenError::NoSpace { folder };
        }
        OpenError::Failed { place: place.to_owned(), source: error.into() }
    }

    pub(crate) fn sqlite(folder: &Path, error: rusqlite::Error) -> OpenError {
        use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
        match error.sqlite_error_code() {
            Some(DiskFull) => OpenError::NoSpace { folder: folder.to_owned() },
            Some(DatabaseCorrupt | NotADatabase) => {
                OpenError::Unreadable { path: folder.join(DATABASE_NAME), source: error }
            }
            _ => OpenError::Failed { place: folder.to_owned(), source: error.into() },
        }
    }

    pub(crate) fn read(folder: &Path, error: ReadError) -> OpenError {
        let folder = folder.to_owned();
        match error {
            ReadError::Corrupt { position, found, expected } => {
                OpenError::Corrupt { folder, position, found, expected }
            }
            ReadError::Failed { place, source } => OpenError::Failed { place, source },
            other => OpenError::Failed { place: folder, source: other.into() },
        }
    }
}

impl AppendError {
    pub(crate) fn io(place: &Path, error: io::Error) -> AppendError {
        let place = place.to_owned();
        match is_no_space(&error) {
            true => AppendError::NoSpace { place },
            false => AppendError::Failed { place, source: error.into() },
        }
    }

    pub(crate) fn read(folder: &Path, error: ReadError) -> AppendError {
        match error {
            ReadError::Failed { place, source } => AppendError::Failed { place, source },
            other => AppendError::Failed { place: folder.to_owned(), source: other.into() },
        }
    }
}

impl ReadError {
    pub(crate) fn io(place: &Path, error: io::Error) -> ReadError {
        ReadError::Failed { place: place.to_owned(), source: error.into() }
    }
}

/// Whether the system refused for lack of space: ENOSPC or EDQUOT.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn holder(process: Option<u32>) -> String {
    match process {
        Some(id) => format!("process {id}"),
        None => "another process".to_owned(),
    }
}
