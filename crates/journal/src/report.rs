//! What is told about a journal: its extent, and what is wrong with it, in words.

use std::fmt;

use crate::Position;

/// What [`verify`](crate::Journal::verify) found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// The first entry that is kept (one more than the last if there is none).
    pub first_position: Position,
    /// The last entry, 0 if there never was one.
    pub last_position: Position,
    /// How many entries were found sound, counted from the first on.
    pub entries_count: u64,
    /// Valid snapshots, newest first.
    pub snapshots: Vec<SnapshotStat>,
    /// What makes the journal unfit for use.
    pub problems: Vec<Problem>,
    /// What is worth knowing, but lost nothing.
    pub warnings: Vec<Warning>,
}

impl Verification {
    /// Whether nothing is lost or damaged.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Something lost or damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// An entry is missing, changed or out of order; later ones were not checked.
    Corrupt {
        /// Where the damage is.
        position: Position,
        /// What was found there.
        found: String,
        /// What should have been there.
        expected: String,
    },
    /// The journal ends before something that it acknowledged.
    Truncated {
        /// The last entry that there is.
        journal_last: Position,
        /// The last entry that is known to have been acknowledged.
        acknowledged: Position,
    },
    /// SQLite's own check of the database's structure complains.
    Structure(String),
    /// Entries were pruned, but no snapshot that replaces them is readable.
    NoSnapshot {
        /// The first entry that there is.
        first: Position,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Corrupt { position, found, expected } => {
                write!(f, "damaged at position {position}: found {found}, expected {expected}")
            }
            Problem::Truncated { journal_last, acknowledged } => write!(
                f,
                "ends at position {journal_last}, but position {acknowledged} was acknowledged"
            ),
            Problem::Structure(text) => write!(f, "the database's structure is damaged: {text}"),
            Problem::NoSnapshot { first } => write!(
                f,
                "begins at position {first}, and no snapshot that holds what came before is readable"
            ),
        }
    }
}

/// Something odd that lost nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// There is no head file although there are entries: a lost tail would go unnoticed.
    HeadMissing,
    /// The head file is not what was written: a lost tail would go unnoticed.
    HeadDamaged,
    /// The head file could not be written: a lost tail may go unnoticed.
    HeadNotWritten(String),
    /// A snapshot cannot be used; an older one, or the entries, serve instead.
    SnapshotDamaged {
        /// Its position.
        position: Position,
        /// What is wrong with it.
        reason: String,
    },
    /// An operator accepted that entries were lost.
    LossAccepted {
        /// When, in RFC 3339 form, UTC.
        accepted_at: String,
        /// The last sound position at that time.
        journal_last: Position,
        /// The last position known to have been acknowledged at that time.
        acknowledged: Position,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::HeadMissing => {
                write!(f, "the head file is missing: a lost tail would not have been noticed")
            }
            Warning::HeadDamaged => {
                write!(f, "the head file is damaged: a lost tail would not have been noticed")
            }
            Warning::HeadNotWritten(error) => {
                write!(f, "the head file cannot be written ({error}): a lost tail may go unnoticed")
            }
            Warning::SnapshotDamaged { position, reason } => write!(
                f,
                "the snapshot at position {position} cannot be used: {reason}; an older one or \
                 the entries serve instead"
            ),
            Warning::LossAccepted { accepted_at, journal_last, acknowledged } => write!(
                f,
                "at {accepted_at} the loss of entries after position {journal_last} was accepted; \
                 {acknowledged} had been acknowledged"
            ),
        }
    }
}

/// A snapshot, by its outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotStat {
    /// The last entry whose effect is in it.
    pub position: Position,
    /// The size of its file.
    pub size_bytes: u64,
}

/// The size and extent of a journal, found without reading its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The first entry that is kept (one more than the last if there is none).
    pub first_position: Position,
    /// The last entry, 0 if there never was one.
    pub last_position: Position,
    /// How many entries are kept.
    pub entries_count: u64,
    /// The last acknowledged position according to the head file, if it is readable.
    pub acknowledged: Option<Position>,
    /// The size of the database file. It does not shrink: freed pages are used again.
    pub database_size_bytes: u64,
    /// The size of the write-ahead log.
    pub wal_size_bytes: u64,
    /// The snapshots that there are, newest first; their content was not checked.
    pub snapshots: Vec<SnapshotStat>,
}
