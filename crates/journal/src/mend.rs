//! Opening a damaged journal when the operator has accepted the loss.

use rusqlite::{Connection, params};

use crate::chain::Link;
use crate::entries::{View, set_base, to_sql};
use crate::folder::Folder;
use crate::head::Head;
use crate::snapshot;
use crate::{OpenError, Position, ReadError};

/// How many entries are checked at once.
const PAGE_COUNT: usize = 1_000;

/// The largest position that the head file, or a valid snapshot beyond `last`, knows to have
/// been acknowledged; `last` if they know no more.
pub(crate) fn acknowledged(
    folder: &Folder,
    head: Head,
    last: Position,
) -> Result<Position, OpenError> {
    let head = match head {
        Head::Sound(link) => link.position,
        Head::Missing | Head::Damaged => 0,
    };
    let snapshot = newest_snapshot(folder, last + 1)?.map_or(0, |link| link.position);
    Ok(head.max(snapshot).max(last))
}

/// Cuts the journal so that what can still be replayed is kept, and notes that this was done.
///
/// There are two places from which to go on: the journal's beginning, and the newest snapshot
/// whose file is valid. Whichever reaches further wins. The entries behind its reach are
/// removed; and if it is the snapshot, so are those before it, with which it may not connect.
pub(crate) fn accept_loss(
    db: &mut Connection,
    folder: &Folder,
    head: Head,
) -> Result<Link, OpenError> {
    let sqlite_error = |error| OpenError::sqlite(&folder.path, error);
    let read_error = |error| OpenError::read(&folder.path, error);
    let last = stored_last(db).map_err(sqlite_error)?;
    let view = View { db, folder, last };
    let first = match view.base() {
        Ok(base) => base,
        // Right unless entries were pruned; if they were, nothing follows it, and it loses.
        Err(ReadError::Corrupt { .. }) => Link::GENESIS,
        Err(error) => return Err(read_error(error)),
    };
    let from_base = (first, reach(view, first).map_err(read_error)?);
    let from_snapshot = match newest_snapshot(folder, 0)? {
        Some(link) => Some((link, reach(view, link).map_err(read_error)?)),
        None => None,
    };
    // Of equals the beginning wins: it keeps more history.
    let (base, end) = match from_snapshot {
        Some(from_snapshot) if from_snapshot.1.position > from_base.1.position => from_snapshot,
        _ => from_base,
    };
    let acknowledged = acknowledged(folder, head, last)?;
    cut(db, base, end, acknowledged).map_err(sqlite_error)?;
    Ok(end)
}

/// How far the chain goes without damage when it starts from `link`.
fn reach(view: View<'_>, mut link: Link) -> Result<Link, ReadError> {
    while link.position < view.last {
        // One at a time near the damage, so that every sound entry before it counts.
        let read = match view.read_after(link, PAGE_COUNT) {
            Err(ReadError::Corrupt { .. }) => view.read_after(link, 1),
            read => read,
        };
        match read {
            Ok((_, next)) => link = next,
            Err(ReadError::Corrupt { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(link)
}

fn cut(db: &mut Connection, base: Link, end: Link, acknowledged: Position) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    transaction.execute(
        "DELETE FROM entries WHERE position <= ?1 OR position > ?2",
        [to_sql(base.position), to_sql(end.position)],
    )?;
    set_base(&transaction, base)?;
    transaction.execute(
        "INSERT INTO acceptances (accepted_at, journal_last, acknowledged)
         VALUES (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), ?1, ?2)",
        params![to_sql(end.position), to_sql(acknowledged)],
    )?;
    transaction.commit()
}

fn stored_last(db: &Connection) -> rusqlite::Result<Position> {
    let last: Option<i64> =
        db.query_row("SELECT max(position) FROM entries", [], |row| row.get(0))?;
    Ok(last.and_then(|last| Position::try_from(last).ok()).unwrap_or(0))
}

/// The link of the newest snapshot from `from` on whose file is valid.
fn newest_snapshot(folder: &Folder, from: Position) -> Result<Option<Link>, OpenError> {
    let positions = snapshot::list(folder).map_err(|error| OpenError::io(&folder.path, error))?;
    for position in positions.into_iter().filter(|position| *position >= from) {
        let loaded = snapshot::load(folder, position);
        if let Ok(loaded) = loaded.map_err(|error| OpenError::read(&folder.path, error))? {
            return Ok(Some(loaded.link));
        }
    }
    Ok(None)
}
