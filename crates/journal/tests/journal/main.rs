//! The journal's promises, kept against kills, cuts, flipped bytes and full disks.

mod contract;
mod damage;
mod kill;
mod open;
mod reader;
mod snapshots;
mod space;

use std::path::Path;

use spawnery_journal::{Journal, Position, SqliteJournal, SqliteOptions};

/// Opens a journal that must open.
fn open(folder: &Path) -> SqliteJournal {
    SqliteJournal::open(folder, &SqliteOptions::default()).unwrap()
}

fn accepting() -> SqliteOptions {
    SqliteOptions { accept_truncation: true, ..SqliteOptions::default() }
}

/// The payload that tests append at `position`: different everywhere, of different sizes.
fn payload(position: Position) -> Vec<u8> {
    let size_bytes = 20 + (position * 37 % 200) as usize;
    format!("payload {position} ").into_bytes().into_iter().cycle().take(size_bytes).collect()
}

/// Appends `count` entries after the last, in one batch.
fn append(journal: &mut dyn Journal, count: u64) -> Position {
    let first = journal.last_position() + 1;
    let batch: Vec<Vec<u8>> = (first..first + count).map(payload).collect();
    journal.append(&batch).unwrap()
}

/// Asserts that entries `first` to `last` are all there, right, and nothing after them.
fn assert_holds(journal: &dyn Journal, first: Position, last: Position) {
    assert_eq!(journal.last_position(), last);
    let entries = spawnery_journal::Entries::of(journal, first);
    let mut expected = first;
    for entry in entries {
        let entry = entry.unwrap();
        assert_eq!((entry.position, entry.payload), (expected, payload(expected)));
        expected += 1;
    }
    assert_eq!(expected, last + 1);
}

/// Copies the journal's files as a power failure would leave them: without the shared memory.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let name = item.file_name();
        if name != "lock" && name != "journal.db-shm" {
            std::fs::copy(item.path(), to.join(name)).unwrap();
        }
    }
}
