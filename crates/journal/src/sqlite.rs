//! The embedded journal: SQLite in WAL mode, synced at every commit, one transaction a batch.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, params};

use crate::chain::Link;
use crate::database::{is_no_space, open_database, refuse_to_replace};
use crate::entries::{View, tail, to_sql};
use crate::error::{AppendError, OpenError, ReadError};
use crate::folder::Folder;
use crate::head::{Head, HeadFile};
use crate::snapshot::{self, Snapshot};
use crate::{
    Entries, Entry, Journal, PAYLOAD_SIZE_BYTES_MAX, Position, Pruned, Stat, Verification, Warning,
    mend, prune,
};

/// How to open a journal.
#[derive(Debug, Clone, Default)]
pub struct SqliteOptions {
    /// Opens a journal that lost or damaged entries make unfit, by giving them up: as much as
    /// the entries and snapshots still give is kept, the rest is removed, and the acceptance is
    /// recorded in the journal. Changes nothing if the journal is sound.
    pub accept_truncation: bool,
    /// Limits the database to so many pages of 4 KiB; beyond it appends are refused for lack of
    /// space. `None`: only the disk limits it.
    pub page_count_max: Option<u32>,
}

/// A journal in a folder on this machine; see the crate's documentation.
///
/// While it is open, this process must not open and close the files of the database by other
/// means: that would drop the POSIX locks that SQLite holds for it.
#[derive(Debug)]
pub struct SqliteJournal {
    db: Connection,
    folder: Folder,
    tail: Link,
    head_file: HeadFile,
    /// What was wrong with the head file at opening, before it was written anew.
    head_warning: Option<Warning>,
    head_failure: Option<String>,
    /// While pruning has more to do: up to where, so that each step need not check the snapshots.
    prune_floor: Option<Position>,
    failure: Option<String>,
    /// Held for its lock; the last field, so that it is given up after the database is closed.
    _lock: File,
}

impl SqliteJournal {
    /// Opens the journal in the folder `path`, and makes it if there is none.
    ///
    /// The end of the journal is checked here; reading checks the rest.
    pub fn open(path: &Path, options: &SqliteOptions) -> Result<SqliteJournal, OpenError> {
        let folder = Folder::create(path)?;
        let lock = folder.lock()?;
        let place = folder.path.clone();
        let io_error = |error| OpenError::io(&place, error);
        snapshot::remove_temporaries(&folder).map_err(io_error)?;
        let head_found = read_head(&folder)?;
        if !options.accept_truncation {
            refuse_to_replace(&folder, head_found)?;
        }
        let mut db = open_database(&folder, options)?;
        let tail = match check_end(&db, &folder, head_found) {
            Err(OpenError::Truncated { .. } | OpenError::Corrupt { .. })
                if options.accept_truncation =>
            {
                mend::accept_loss(&mut db, &folder, head_found)?
            }
            checked => checked?,
        };
        let head_file = HeadFile::open(&folder.head()).map_err(io_error)?;
        head_file.write(tail).and_then(|()| head_file.sync()).map_err(io_error)?;
        folder.sync().map_err(io_error)?;
        Ok(SqliteJournal {
            db,
            folder,
            tail,
            head_file,
            head_warning: head_found.warning(tail.position),
            head_failure: None,
            prune_floor: None,
            failure: None,
            _lock: lock,
        })
    }

    /// Size and extent, without reading the entries.
    pub fn stat(&self) -> Result<Stat, ReadError> {
        self.view().stat(Head::Sound(self.tail))
    }

    /// All entries from `position` on (0 or 1: from the first ever).
    pub fn entries(&self, position: Position) -> Entries<'_> {
        Entries::of_view(self.view(), position)
    }

    fn view(&self) -> View<'_> {
        View { db: &self.db, folder: &self.folder, last: self.tail.position }
    }

    fn refuse_if_failed(&self) -> Result<(), AppendError> {
        match &self.failure {
            None => Ok(()),
            Some(text) => Err(AppendError::Failed {
                place: self.folder.path.clone(),
                source: format!("an earlier write failed ({text})").into(),
            }),
        }
    }

    fn commit(&self, batch: &[Vec<u8>]) -> rusqlite::Result<Link> {
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut link = self.tail;
        let mut insert = self
            .db
            .prepare_cached("INSERT INTO entries (position, hash, payload) VALUES (?1, ?2, ?3)")?;
        for payload in batch {
            link = link.next(payload);
            insert.execute(params![to_sql(link.position), link.hash.0, payload])?;
        }
        self.db.prepare_cached("COMMIT")?.execute([])?;
        Ok(link)
    }

    /// Takes back an unfinished transaction, and tells lack of space from all else. After any
    /// other failure nothing more is written: a commit that failed in its sync may or may not
    /// be on the disk, and only a replay after a restart can tell.
    fn fail(&mut self, error: rusqlite::Error) -> AppendError {
        let rolled_back = self.db.is_autocommit() || self.db.execute_batch("ROLLBACK").is_ok();
        let place = self.folder.path.clone();
        if rolled_back && is_no_space(&error, &self.folder) {
            return AppendError::NoSpace { place };
        }
        self.failure = Some(error.to_string());
        AppendError::Failed { place, source: error.into() }
    }

    fn plan_prune(&self, tail_count: u64) -> Result<prune::Plan, ReadError> {
        let floor = match self.prune_floor {
            Some(floor) => Some(floor),
            None => prune::floor(&prune::sort_snapshots(self.view())?.0),
        };
        prune::plan(self.view(), floor, tail_count)
    }

    /// Removes snapshots that two newer valid ones make needless. A file that cannot be removed
    /// now only takes space, and is tried again at the next snapshot.
    fn remove_old_snapshots(&self) -> Result<(), ReadError> {
        let (_, needless) = prune::sort_snapshots(self.view())?;
        for position in needless {
            let _ = snapshot::remove(&self.folder, position);
        }
        Ok(())
    }
}

impl Journal for SqliteJournal {
    fn append(&mut self, batch: &[Vec<u8>]) -> Result<Position, AppendError> {
        self.refuse_if_failed()?;
        check_sizes(batch)?;
        if batch.is_empty() {
            return Ok(self.tail.position);
        }
        self.tail = self.commit(batch).map_err(|error| self.fail(error))?;
        // The batch is durable whether or not this witness of it can be written.
        self.head_failure = self.head_file.write(self.tail).err().map(|error| error.to_string());
        Ok(self.tail.position)
    }

    fn read_from(&self, position: Position, count_max: usize) -> Result<Vec<Entry>, ReadError> {
        self.view().read_from(position, count_max)
    }

    fn save_snapshot(&mut self, position: Position, state: &[u8]) -> Result<(), AppendError> {
        self.refuse_if_failed()?;
        let view = self.view();
        let read_error = |error| AppendError::read(&self.folder.path, error);
        let base = view.base().map_err(read_error)?.position;
        if position < base || position > view.last {
            let (first, last) = (base + 1, view.last);
            return Err(AppendError::NoSuchPosition { position, first, last });
        }
        let link = view.link_at(position).map_err(read_error)?;
        snapshot::save(&self.folder, link, state)?;
        self.remove_old_snapshots().map_err(|error| AppendError::read(&self.folder.path, error))
    }

    fn load_snapshot(&self) -> Result<Option<Snapshot>, ReadError> {
        self.view().load_snapshot()
    }

    fn last_position(&self) -> Position {
        self.tail.position
    }

    fn verify(&self) -> Result<Verification, ReadError> {
        let mut report = self.view().verify(Head::Sound(self.tail))?;
        report.warnings.extend(self.head_warning.clone());
        report.warnings.extend(self.head_failure.clone().map(Warning::HeadNotWritten));
        Ok(report)
    }

    fn prune(&mut self, tail_count: u64) -> Result<Pruned, AppendError> {
        self.refuse_if_failed()?;
        let plan = self.plan_prune(tail_count);
        let plan = plan.map_err(|error| AppendError::read(&self.folder.path, error))?;
        prune::execute(&self.db, &plan).map_err(|error| self.fail(error))?;
        self.prune_floor = plan.floor.filter(|_| plan.outcome.more);
        Ok(plan.outcome)
    }
}

pub(crate) fn read_head(folder: &Folder) -> Result<Head, OpenError> {
    let path = folder.head();
    Head::read(&path).map_err(|error| OpenError::io(&path, error))
}

/// Checks the last entry, and the journal's end against both witnesses of what was acknowledged.
fn check_end(db: &Connection, folder: &Folder, head: Head) -> Result<Link, OpenError> {
    let read_error = |error| OpenError::read(&folder.path, error);
    let tail = tail(db, folder).map_err(read_error)?;
    let acknowledged = mend::acknowledged(folder, head, tail.position)?;
    if acknowledged > tail.position {
        return Err(OpenError::Truncated {
            folder: folder.path.clone(),
            journal_last: tail.position,
            acknowledged,
        });
    }
    if let Head::Sound(link) = head {
        View { db, folder, last: tail.position }.check_witness(link).map_err(read_error)?;
    }
    Ok(tail)
}

fn check_sizes(batch: &[Vec<u8>]) -> Result<(), AppendError> {
    match batch.iter().map(Vec::len).find(|size| *size > PAYLOAD_SIZE_BYTES_MAX) {
        None => Ok(()),
        Some(size_bytes) => {
            Err(AppendError::TooLarge { size_bytes, size_bytes_max: PAYLOAD_SIZE_BYTES_MAX })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No test can cut the power, so the setting that promises durability is checked itself.
    #[test]
    fn every_commit_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(folder.path(), &SqliteOptions::default()).unwrap();
        let value = |name| -> rusqlite::types::Value {
            journal.db.pragma_query_value(None, name, |row| row.get(0)).unwrap()
        };
        const FULL: i64 = 2;
        assert_eq!(value("synchronous"), FULL.into());
        assert_eq!(value("journal_mode"), "wal".to_owned().into());
    }
}
