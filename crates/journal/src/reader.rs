//! Looking at a journal without changing it, also beside the server that writes it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::database;
use crate::entries::View;
use crate::folder::Folder;
use crate::head::Head;
use crate::sqlite;
use crate::{Entries, Entry, OpenError, Position, ReadError, Snapshot, Stat, Verification};

/// A look at a journal's folder as of the moment of opening.
///
/// It takes no part in the lock, so it works beside a live server, and it also opens a journal
/// that [`SqliteJournal`](crate::SqliteJournal) refuses as truncated or damaged. While it is
/// open, the server's write-ahead log can not be emptied and grows: drop it soon.
///
/// It writes nothing to the journal. SQLite needs to lock, and if need be create,
/// `journal.db-shm`, so the folder must be writable for the user that looks
/// (<https://www.sqlite.org/wal.html>, section 6).
#[derive(Debug)]
pub struct SqliteReader {
    db: Connection,
    folder: Folder,
    last: Position,
    head: Head,
}

impl SqliteReader {
    /// Opens the journal in the folder `path`.
    pub fn open(path: &Path) -> Result<SqliteReader, OpenError> {
        let folder = Folder { path: path.to_owned() };
        if database::is_database_empty(&folder)? {
            return Err(OpenError::Missing { folder: folder.path });
        }
        // Before the database, which may grow meanwhile: so head is never ahead by a race.
        let head = sqlite::read_head(&folder)?;
        let db = open_read_only(&folder)?;
        database::check_format(&db, &folder)?;
        let last = last_position(&db).map_err(|error| OpenError::sqlite(&folder.path, error))?;
        Ok(SqliteReader { db, folder, last, head })
    }

    /// See [`Journal::read_from`](crate::Journal::read_from).
    pub fn read_from(&self, from: Position, count_max: usize) -> Result<Vec<Entry>, ReadError> {
        self.view().read_from(from, count_max)
    }

    /// All entries from `position` on (0 or 1: from the first ever).
    pub fn entries(&self, position: Position) -> Entries<'_> {
        Entries::of_view(self.view(), position)
    }

    /// See [`Journal::load_snapshot`](crate::Journal::load_snapshot).
    pub fn load_snapshot(&self) -> Result<Option<Snapshot>, ReadError> {
        self.view().load_snapshot()
    }

    /// See [`Journal::last_position`](crate::Journal::last_position).
    pub fn last_position(&self) -> Position {
        self.last
    }

    /// See [`Journal::verify`](crate::Journal::verify).
    pub fn verify(&self) -> Result<Verification, ReadError> {
        self.view().verify(self.head)
    }

    /// Size and extent, without reading the entries.
    pub fn stat(&self) -> Result<Stat, ReadError> {
        self.view().stat(self.head)
    }

    fn view(&self) -> View<'_> {
        View { db: &self.db, folder: &self.folder, last: self.last }
    }
}

fn open_read_only(folder: &Folder) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(folder.database(), flags)
        .and_then(|db| {
            db.busy_timeout(Duration::from_millis(database::BUSY_TIMEOUT_MS))?;
            database::harden(&db)?;
            // One transaction for the reader's whole life: everything is as of one moment.
            db.execute_batch("BEGIN")?;
            Ok(db)
        })
        .map_err(|error| OpenError::sqlite(&folder.path, error))
}

/// The last entry without any check: a damaged one is for `verify` to report.
fn last_position(db: &Connection) -> rusqlite::Result<Position> {
    let last: i64 = db.query_row(
        "SELECT coalesce(max(position), (SELECT position FROM base), 0) FROM entries",
        [],
        |row| row.get(0),
    )?;
    Ok(Position::try_from(last).unwrap_or(0))
}
