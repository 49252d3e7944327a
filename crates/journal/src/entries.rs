//! Entries in the database: the layout, and reading them with every check.

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use crate::chain::{ChainHash, Link};
use crate::folder::Folder;
use crate::{Entry, Journal, Position, READ_SIZE_BYTES_MAX, ReadError};

/// `base` holds the link before the first entry, and a digest of it because no other hash covers
/// it once all entries are pruned. `acceptances` remembers each loss that was accepted.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE entries (
        position INTEGER PRIMARY KEY,
        hash BLOB NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;
    CREATE TABLE base (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        position INTEGER NOT NULL,
        hash BLOB NOT NULL,
        digest BLOB NOT NULL
    ) STRICT;
    CREATE TABLE acceptances (
        accepted_at TEXT NOT NULL,
        journal_last INTEGER NOT NULL,
        acknowledged INTEGER NOT NULL
    ) STRICT;
";

/// How many entries the iterator reads at once.
const PAGE_COUNT: usize = 1_000;

/// The read side of an open journal, as of one moment.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub db: &'a Connection,
    pub folder: &'a Folder,
    pub last: Position,
}

impl View<'_> {
    /// See [`Journal::read_from`].
    pub fn read_from(&self, from: Position, count_max: usize) -> Result<Vec<Entry>, ReadError> {
        let from = from.max(1);
        let base = self.base()?;
        if from <= base.position {
            return Err(ReadError::Pruned { position: from, first: base.position + 1 });
        }
        if from > self.last || count_max == 0 {
            return Ok(Vec::new());
        }
        Ok(self.read_after(self.link_at(from - 1)?, count_max)?.0)
    }

    /// Reads what follows `link`, checking that it does, and returns the link of the last too.
    pub fn read_after(
        &self,
        mut link: Link,
        count_max: usize,
    ) -> Result<(Vec<Entry>, Link), ReadError> {
        let fail = |link: Link, error| self.sqlite_error(link.position + 1, error);
        let mut statement = self
            .db
            .prepare_cached(
                "SELECT position, hash, payload FROM entries
                 WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3",
            )
            .map_err(|error| fail(link, error))?;
        let count_limit = i64::try_from(count_max).unwrap_or(i64::MAX);
        let mut rows = statement
            .query(params![to_sql(link.position), to_sql(self.last), count_limit])
            .map_err(|error| fail(link, error))?;
        let mut entries = Vec::new();
        let mut size_bytes = 0;
        while let Some(row) = rows.next().map_err(|error| fail(link, error))? {
            let (entry, next) = check_row(row, link).map_err(|fault| match fault {
                RowFault::Sqlite(error) => fail(link, error),
                RowFault::Corrupt(error) => error,
            })?;
            link = next;
            size_bytes += entry.payload.len();
            entries.push(entry);
            if size_bytes >= READ_SIZE_BYTES_MAX {
                return Ok((entries, link));
            }
        }
        if entries.len() < count_max && link.position < self.last {
            return Err(ReadError::Corrupt {
                position: link.position + 1,
                found: "no entry".to_owned(),
                expected: format!("an entry, since the last is {}", self.last),
            });
        }
        Ok((entries, link))
    }

    /// The link before the first entry.
    pub fn base(&self) -> Result<Link, ReadError> {
        let row = self
            .db
            .prepare_cached("SELECT position, hash, digest FROM base WHERE id = 1")
            .and_then(|mut statement| {
                statement
                    .query_row([], |row| {
                        Ok((
                            row.get::<_, i64>(0)?,
                            row.get::<_, Vec<u8>>(1)?,
                            row.get::<_, Vec<u8>>(2)?,
                        ))
                    })
                    .optional()
            })
            .map_err(|error| self.sqlite_error(0, error))?;
        let sound = row.and_then(|(position, hash, digest)| {
            let position = Position::try_from(position).ok()?;
            let link = Link { position, hash: ChainHash::from_slice(&hash)? };
            (digest == base_digest(link)).then_some(link)
        });
        sound.ok_or_else(|| ReadError::Corrupt {
            position: 0,
            found: "a damaged note of where the journal begins".to_owned(),
            expected: "one with a matching hash".to_owned(),
        })
    }

    /// The link of an entry, or of the base, as stored.
    pub fn link_at(&self, position: Position) -> Result<Link, ReadError> {
        let base = self.base()?;
        if position == base.position {
            return Ok(base);
        }
        let hash = self
            .db
            .prepare_cached("SELECT hash FROM entries WHERE position = ?1")
            .and_then(|mut statement| {
                statement.query_row([to_sql(position)], |row| row.get::<_, Vec<u8>>(0)).optional()
            })
            .map_err(|error| self.sqlite_error(position, error))?;
        let found = match &hash {
            None => "no entry".to_owned(),
            Some(bytes) => format!("a hash of {} bytes", bytes.len()),
        };
        hash.and_then(|bytes| ChainHash::from_slice(&bytes))
            .map(|hash| Link { position, hash })
            .ok_or_else(|| ReadError::Corrupt {
                position,
                found,
                expected: format!("an entry with a hash of {} bytes", ChainHash::SIZE_BYTES),
            })
    }

    /// Tells damage, which has a position, from any other failure.
    fn sqlite_error(&self, position: Position, error: rusqlite::Error) -> ReadError {
        use rusqlite::Error as E;
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let damage = matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            || matches!(
                error,
                E::InvalidColumnType(..)
                    | E::FromSqlConversionFailure(..)
                    | E::IntegralValueOutOfRange(..)
            );
        match damage {
            true => ReadError::Corrupt {
                position,
                found: error.to_string(),
                expected: "a readable database page".to_owned(),
            },
            false => ReadError::Failed { place: self.folder.database(), source: error.into() },
        }
    }
}

/// The last entry of the database, checked against the one before it; the base if there is none.
pub(crate) fn tail(db: &Connection, folder: &Folder) -> Result<Link, ReadError> {
    let unbounded = View { db, folder, last: Position::MAX };
    let base = unbounded.base()?;
    let last: Option<i64> = db
        .query_row("SELECT max(position) FROM entries", [], |row| row.get(0))
        .map_err(|error| unbounded.sqlite_error(base.position + 1, error))?;
    let Some(last) = last else { return Ok(base) };
    let last =
        Position::try_from(last).ok().filter(|last| *last > base.position).ok_or_else(|| {
            ReadError::Corrupt {
                position: base.position + 1,
                found: format!("an entry at position {last}"),
                expected: "only entries after the pruned ones".to_owned(),
            }
        })?;
    let view = View { db, folder, last };
    Ok(view.read_after(view.link_at(last - 1)?, 1)?.1)
}

/// Replaces the note of where the journal begins.
pub(crate) fn set_base(db: &Connection, link: Link) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO base (id, position, hash, digest) VALUES (1, ?1, ?2, ?3)",
    )?
    .execute(params![to_sql(link.position), link.hash.0, base_digest(link)])?;
    Ok(())
}

/// As SQLite stores integers. Positions grow by one from 1, so 2^63 is never reached; a larger
/// one that somebody asks for reads as "after everything".
pub(crate) fn to_sql(position: Position) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

enum RowFault {
    Sqlite(rusqlite::Error),
    Corrupt(ReadError),
}

fn check_row(row: &rusqlite::Row<'_>, link: Link) -> Result<(Entry, Link), RowFault> {
    let position: i64 = row.get(0).map_err(RowFault::Sqlite)?;
    let hash = row.get_ref(1).map_err(RowFault::Sqlite)?;
    let payload: Vec<u8> = row.get(2).map_err(RowFault::Sqlite)?;
    let next = link.next(&payload);
    let corrupt = |found: String, expected: String| {
        RowFault::Corrupt(ReadError::Corrupt { position: next.position, found, expected })
    };
    if position != to_sql(next.position) {
        return Err(corrupt(format!("entry {position}"), format!("entry {}", next.position)));
    }
    match hash.as_blob().ok().and_then(ChainHash::from_slice) {
        Some(hash) if hash == next.hash => Ok((Entry { position: next.position, payload }, next)),
        Some(hash) => Err(corrupt(
            format!("hash {hash}"),
            format!("hash {}, made from the entry before it, its position and payload", next.hash),
        )),
        None => Err(corrupt("no readable hash".to_owned(), format!("hash {}", next.hash))),
    }
}

fn base_digest(link: Link) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"base");
    hasher.update(link.position.to_le_bytes());
    hasher.update(link.hash.0);
    hasher.finalize().into()
}

/// All entries from a position on, read in pages; ends after the first error.
pub struct Entries<'a> {
    read: Box<dyn Fn(Position) -> Result<Vec<Entry>, ReadError> + 'a>,
    next: Position,
    page: std::vec::IntoIter<Entry>,
    ended: bool,
}

impl<'a> Entries<'a> {
    /// The entries of any journal from `position` on.
    pub fn of(journal: &'a dyn Journal, position: Position) -> Entries<'a> {
        Entries::new(position, move |from| journal.read_from(from, PAGE_COUNT))
    }

    pub(crate) fn of_view(view: View<'a>, position: Position) -> Entries<'a> {
        Entries::new(position, move |from| view.read_from(from, PAGE_COUNT))
    }

    fn new(
        position: Position,
        read: impl Fn(Position) -> Result<Vec<Entry>, ReadError> + 'a,
    ) -> Entries<'a> {
        let page = Vec::new().into_iter();
        Entries { read: Box::new(read), next: position, page, ended: false }
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.len() == 0 && !self.ended {
            match (self.read)(self.next) {
                Ok(page) => self.page = page.into_iter(),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        let Some(entry) = self.page.next() else {
            self.ended = true;
            return None;
        };
        self.next = entry.position + 1;
        Some(Ok(entry))
    }
}
