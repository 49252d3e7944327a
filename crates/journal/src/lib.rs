//! The journal: a durable, ordered log of opaque records, with snapshots beside it.
//!
//! [`Journal`] is the small trait that the controller writes through. [`SqliteJournal`] is the
//! embedded implementation, [`SqliteReader`] looks at the same folder without changing it, also
//! while a server is writing. [`MemoryJournal`] and [`FaultyJournal`] serve tests and the
//! simulator.
//!
//! # What is promised
//!
//! - `append` returns `Ok` only after the whole batch has been synced to the disk.
//! - Positions start at 1 and have no gap. A batch is there as a whole or not at all.
//! - Each entry holds a hash over the previous entry's hash, its position and its payload, and
//!   every read checks it: a changed, missing, doubled or moved entry is
//!   [`ReadError::Corrupt`] with its position, never a wrong payload.
//! - A journal that ends before something it acknowledged is not opened:
//!   [`OpenError::Truncated`] tells both positions. See below.
//! - A full disk is [`AppendError::NoSpace`]: nothing of the batch was kept, the journal stays
//!   usable, and the same batch may be appended again later.
//!
//! # The head file
//!
//! SQLite ends its write-ahead log (WAL) at the first frame whose checksum is wrong, without a
//! word (<https://www.sqlite.org/fileformat2.html#wal_file_format>). That is right for a commit
//! that was cut short, but a WAL damaged later loses acknowledged commits in silence. So the
//! position and hash of the last acknowledged batch are written to the small file `head` after
//! each commit has returned. It is not synced, and needs not be:
//!
//! - *The process dies* (`kill -9`): what was written lies in the kernel's page cache and
//!   survives. `head` names the last acknowledged batch, or the one before it if the process
//!   died between the commit and the write; in that case nobody was told of the last batch.
//! - *The power fails*: whichever version of `head` reached the disk was written after the
//!   commit it names had been synced. So `head` may be behind the journal, but never ahead of
//!   what is durable: a healthy journal is never refused.
//! - *The WAL or database is damaged or replaced by an older copy*: the journal ends before
//!   `head`, or holds another hash at its position, and opening fails with both positions.
//!   After a power failure `head` may be as old as the kernel's last write-back (30 s by
//!   default on Linux), and damage to entries newer than that is not noticed by this check.
//!   Snapshots are synced, and count as a second such witness.
//! - *`head` itself is damaged*: a warning in [`Verification`], nothing more.
//!
//! # What lies in the folder
//!
//! | file | what it is |
//! |---|---|
//! | `journal.db`, `-wal`, `-shm` | the SQLite database with the entries |
//! | `head` | position and hash of the last acknowledged batch |
//! | `lock` | locked by the one process that may write; holds its process id |
//! | `snapshot-<position>` | the newest two states, each with its hash |
//!
//! There is no reserve file to be given up when the disk is full: any other writer on the same
//! disk could take the freed space first, so it would promise what it cannot hold.

mod chain;
mod database;
mod entries;
mod error;
mod faulty;
mod folder;
mod head;
mod memory;
mod mend;
mod prune;
mod reader;
mod report;
mod snapshot;
mod sqlite;
mod verify;

pub use chain::ChainHash;
pub use entries::Entries;
pub use error::{AppendError, OpenError, ReadError};
pub use faulty::FaultyJournal;
pub use memory::MemoryJournal;
pub use prune::{Pruned, TAIL_COUNT_DEFAULT};
pub use reader::SqliteReader;
pub use report::{Problem, SnapshotStat, Stat, Verification, Warning};
pub use snapshot::Snapshot;
pub use sqlite::{SqliteJournal, SqliteOptions};

/// The place of an entry in the order: 1 for the first, without a gap. 0 is before all entries.
pub type Position = u64;

/// The largest payload of one entry, in bytes.
///
/// Far above any record (hundreds of bytes), and far below what SQLite stores in one value
/// (10^9 bytes), so that a runaway record is refused here and not by a failing commit.
pub const PAYLOAD_SIZE_BYTES_MAX: usize = 16 << 20;

/// One `read_from` ends early after this many bytes of payload, so that its memory is bounded
/// even when entries are large. At least one entry is always returned.
pub const READ_SIZE_BYTES_MAX: usize = 64 << 20;

/// One record and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the order.
    pub position: Position,
    /// The bytes that were appended.
    pub payload: Vec<u8>,
}

/// A durable, ordered log of opaque records, written by one process at a time.
///
/// Calling order after opening: [`load_snapshot`](Journal::load_snapshot), then
/// [`read_from`](Journal::read_from) the position after it until the answer is empty, then
/// [`append`](Journal::append).
pub trait Journal: Send {
    /// Appends all payloads in order, as one unit, and returns the position of the last.
    ///
    /// On `Ok` they are durable. An empty batch changes nothing. On [`AppendError::NoSpace`]
    /// and [`AppendError::TooLarge`] nothing was kept and the journal stays usable; after
    /// [`AppendError::Failed`] it is not known whether the batch was kept, every later append
    /// is refused, and the process must stop and replay.
    fn append(&mut self, batch: &[Vec<u8>]) -> Result<Position, AppendError>;

    /// Reads entries from `position` (0 means 1), at most `count_max`, each checked.
    ///
    /// May return fewer (see [`READ_SIZE_BYTES_MAX`]); an empty answer means that there is
    /// nothing at or after `position`.
    fn read_from(&self, position: Position, count_max: usize) -> Result<Vec<Entry>, ReadError>;

    /// Saves the state that results from all entries up to and with `position`. Durable on
    /// `Ok`. The newest two valid snapshots are kept. A failure leaves all entries, and the
    /// older snapshots, as they were.
    fn save_snapshot(&mut self, position: Position, state: &[u8]) -> Result<(), AppendError>;

    /// The newest valid snapshot, or `None` if the state is to be rebuilt from position 1.
    ///
    /// A damaged snapshot is passed over in favour of an older one; [`verify`](Journal::verify)
    /// reports it.
    fn load_snapshot(&self) -> Result<Option<Snapshot>, ReadError>;

    /// The position of the last entry, 0 if there never was one.
    fn last_position(&self) -> Position;

    /// Reads and checks everything. `Err` only if it could not be read at all; what is wrong
    /// with it is in the [`Verification`].
    fn verify(&self) -> Result<Verification, ReadError>;

    /// Drops entries that two valid snapshots make unnecessary, except the last `tail_count` of
    /// them. Bounded: call again while [`Pruned::more`].
    fn prune(&mut self, tail_count: u64) -> Result<Pruned, AppendError>;
}
