//! The SQLite database of a journal: its settings, its layout, and what its errors mean.

use std::fs;
use std::io;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, ffi};

use crate::chain::Link;
use crate::entries::{SCHEMA, set_base};
use crate::folder::{Folder, open_private};
use crate::head::Head;
use crate::{OpenError, SqliteOptions};

/// "SPWJ": tells our database from any other (<https://www.sqlite.org/pragma.html>).
const APPLICATION_ID: i32 = 0x5350_574a;

/// The version of the layout. A newer one is refused, since its rules are unknown.
const FORMAT_VERSION: i32 = 1;

/// How long to wait for a reader that is opening or closing at this moment.
pub(crate) const BUSY_TIMEOUT_MS: u64 = 5_000;

/// Pages in the WAL before SQLite copies them into the database: 16 MiB of 4 KiB pages. The
/// copy costs two syncs, so the default of 1000 pages is spread over four times as many commits;
/// recovery of 16 MiB after a crash still takes some tens of milliseconds.
const CHECKPOINT_PAGE_COUNT: u32 = 4_096;

/// A WAL that grew beyond this, because a reader kept it from being emptied, is cut back to it.
const WAL_SIZE_BYTES_MAX: i64 = 64 << 20;

/// Statements that stay prepared: all that this crate has.
const STATEMENT_CACHE_COUNT: usize = 32;

/// Opens the database file, made with the layout if it is new.
pub(crate) fn open_database(
    folder: &Folder,
    options: &SqliteOptions,
) -> Result<Connection, OpenError> {
    let path = folder.database();
    if !path.exists() {
        // SQLite gives its WAL and shared memory the permissions of this file.
        open_private(&path).map_err(|error| OpenError::io(&path, error))?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(&path, flags)
        .and_then(|db| configure(&db, options).map(|()| db));
    let db = opened.map_err(|error| classify_open(folder, error))?;
    if is_new(&db).map_err(|error| classify_open(folder, error))? {
        create_layout(&db).map_err(|error| classify_open(folder, error))?;
        folder.sync().map_err(|error| OpenError::io(&folder.path, error))?;
    }
    check_format(&db, folder)?;
    Ok(db)
}

fn configure(db: &Connection, options: &SqliteOptions) -> rusqlite::Result<()> {
    db.busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS))?;
    db.set_prepared_statement_cache_capacity(STATEMENT_CACHE_COUNT);
    harden(db)?;
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::InvalidParameterName(format!(
            "the file system does not support the WAL mode of SQLite (it stays in {mode} mode)"
        )));
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGE_COUNT)?;
    db.query_row(&format!("PRAGMA journal_size_limit = {WAL_SIZE_BYTES_MAX}"), [], |_| Ok(()))?;
    if let Some(count) = options.page_count_max {
        db.query_row(&format!("PRAGMA max_page_count = {count}"), [], |_| Ok(()))?;
    }
    Ok(())
}

/// Settings against damaged or hostile files, for every connection.
pub(crate) fn harden(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cell_size_check", true)
}

/// Whether the database has no tables yet: made just now, or left by a crash while making it.
fn is_new(db: &Connection) -> rusqlite::Result<bool> {
    let count: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(count == 0)
}

fn create_layout(db: &Connection) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT_VERSION)?;
    set_base(&transaction, Link::GENESIS)?;
    transaction.commit()
}

/// Checks that the database is a journal of a version that is known here.
pub(crate) fn check_format(db: &Connection, folder: &Folder) -> Result<(), OpenError> {
    let number = |name| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let application = number("application_id").map_err(|error| classify_open(folder, error))?;
    let version = number("user_version").map_err(|error| classify_open(folder, error))?;
    let reason = if application != APPLICATION_ID {
        "it was made by another program".to_owned()
    } else if version != FORMAT_VERSION {
        format!("its layout has version {version}, this program knows {FORMAT_VERSION}")
    } else {
        return Ok(());
    };
    Err(OpenError::Foreign { path: folder.database(), reason })
}

/// Refuses to make a new database where one must have been: SQLite would also delete a WAL
/// whose database is gone, and with it what might be rescued.
pub(crate) fn refuse_to_replace(folder: &Folder, head: Head) -> Result<(), OpenError> {
    match head {
        Head::Sound(link) if link.position > 0 && is_database_empty(folder)? => {
            Err(OpenError::Truncated {
                folder: folder.path.clone(),
                journal_last: 0,
                acknowledged: link.position,
            })
        }
        _ => Ok(()),
    }
}

pub(crate) fn is_database_empty(folder: &Folder) -> Result<bool, OpenError> {
    let path = folder.database();
    match fs::metadata(&path) {
        Ok(metadata) => Ok(metadata.len() == 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(OpenError::io(&path, error)),
    }
}

pub(crate) fn classify_open(folder: &Folder, error: rusqlite::Error) -> OpenError {
    if is_no_space(&error, folder) {
        return OpenError::NoSpace { folder: folder.path.clone() };
    }
    OpenError::sqlite(&folder.path, error)
}

/// Whether SQLite failed for lack of space. It says so for ENOSPC in most writes; for others,
/// and for EDQUOT, the folder is probed. A failed sync is never taken for lack of space: the
/// kernel may have dropped the data, and a later sync would wrongly succeed.
pub(crate) fn is_no_space(error: &rusqlite::Error, folder: &Folder) -> bool {
    match error.sqlite_error().map(|error| (error.code, error.extended_code)) {
        Some((rusqlite::ErrorCode::DiskFull, _)) => true,
        Some((_, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE)) => folder.is_full(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lack_of_space_may_be_repeated() {
        let guard = tempfile::tempdir().unwrap();
        let folder = Folder { path: guard.path().to_owned() };
        let check = |extended_code, expected| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(extended_code), None);
            assert_eq!(is_no_space(&error, &folder), expected, "{error}");
        };
        check(ffi::SQLITE_FULL, true);
        // The folder has space, so these are failures of another kind.
        check(ffi::SQLITE_IOERR_WRITE, false);
        check(ffi::SQLITE_IOERR_SHMSIZE, false);
        check(ffi::SQLITE_IOERR_FSYNC, false);
        check(ffi::SQLITE_CORRUPT, false);
    }
}
