//! Files cut and bytes flipped: what was acknowledged is there, or its loss is reported.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use spawnery_journal::{
    Journal, OpenError, Position, Problem, ReadError, SqliteJournal, SqliteOptions, SqliteReader,
};
use tempfile::TempDir;

use crate::{accepting, append, assert_holds, copy, open, payload};

/// A folder as a power failure leaves it, with `last` acknowledged entries.
struct Fixture {
    files: TempDir,
    last: Position,
}

impl Fixture {
    /// Some entries in the database, more of them only in the WAL, snapshots of both.
    fn new() -> Fixture {
        let live = tempfile::tempdir().unwrap();
        let mut journal = open(live.path());
        for count in [30, 1, 40] {
            append(&mut journal, count);
        }
        journal.save_snapshot(40, &payload(40)).unwrap();
        drop(journal);
        let mut journal = open(live.path());
        for count in [1, 2, 9, 64, 1, 5] {
            append(&mut journal, count);
        }
        journal.save_snapshot(90, &payload(90)).unwrap();
        append(&mut journal, 8);
        let files = tempfile::tempdir().unwrap();
        copy(live.path(), files.path());
        Fixture { files, last: journal.last_position() }
    }

    /// Copies the files, lets `damage` change one of them, and judges what opening makes of it.
    fn check(&self, file: &str, damage: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        let folder = tempfile::tempdir().unwrap();
        copy(self.files.path(), folder.path());
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        judge(folder.path(), self.last)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.files.path())
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn size(&self, file: &str) -> usize {
        usize::try_from(fs::metadata(self.files.path().join(file)).unwrap().len()).unwrap()
    }
}

/// What became of the damage.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// All entries are there.
    Whole,
    /// Opening or reading told the position from which on they are not.
    LostAfter(Position),
    /// Opening was refused, with no position to name.
    Refused,
}

/// Asserts that nothing wrong is read and nothing lost goes unreported.
fn judge(folder: &Path, acknowledged: Position) -> Outcome {
    match SqliteJournal::open(folder, &SqliteOptions::default()) {
        Ok(journal) => judge_open(&journal, acknowledged),
        Err(OpenError::Truncated { journal_last, acknowledged: known, .. }) => {
            assert_eq!(known, acknowledged);
            assert!(journal_last < acknowledged);
            judge_refused(folder, journal_last);
            Outcome::LostAfter(journal_last)
        }
        Err(OpenError::Corrupt { position, .. }) => {
            assert!(position <= acknowledged);
            judge_accepted(folder);
            Outcome::LostAfter(position.saturating_sub(1))
        }
        Err(_) => Outcome::Refused,
    }
}

fn judge_open(journal: &SqliteJournal, acknowledged: Position) -> Outcome {
    assert_eq!(journal.last_position(), acknowledged);
    let bad = (1..=acknowledged).find(|position| match journal.read_from(*position, 1) {
        Ok(entries) => {
            assert_eq!(entries[0].payload, payload(*position));
            false
        }
        Err(ReadError::Corrupt { position: reported, .. }) => {
            assert!(reported == 0 || reported.abs_diff(*position) <= 1, "{reported} {position}");
            true
        }
        Err(error) => panic!("position {position}: {error}"),
    });
    let sound = bad.map_or(acknowledged, |position| position - 1);
    let report = journal.verify().unwrap();
    assert_eq!(report.entries_count >= sound, bad.is_none() || report.entries_count == sound);
    assert!(bad.is_none() || !report.is_sound(), "{report:?}");
    match bad {
        None => Outcome::Whole,
        Some(position) => Outcome::LostAfter(position - 1),
    }
}

/// A reader still opens what the server refuses, reads what is left, and names the loss.
fn judge_refused(folder: &Path, journal_last: Position) {
    let reader = SqliteReader::open(folder).unwrap();
    let report = reader.verify().unwrap();
    let is_truncated = |problem: &Problem| matches!(problem, Problem::Truncated { .. });
    assert!(report.problems.iter().any(is_truncated), "{report:?}");
    for position in 1..=journal_last {
        assert_eq!(reader.read_from(position, 1).unwrap()[0].payload, payload(position));
    }
    drop(reader);
    judge_accepted(folder);
}

/// After the operator's word it opens, holds nothing wrong, and remembers.
fn judge_accepted(folder: &Path) {
    let mut journal = match SqliteJournal::open(folder, &accepting()) {
        Ok(journal) => journal,
        Err(OpenError::Unreadable { .. } | OpenError::Corrupt { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let snapshot = journal.load_snapshot().unwrap();
    let from = match &snapshot {
        Some(snapshot) => {
            assert_eq!(snapshot.state, payload(snapshot.position));
            snapshot.position + 1
        }
        None => 1,
    };
    append(&mut journal, 1);
    for entry in journal.entries(from) {
        let entry = entry.unwrap();
        assert_eq!(entry.payload, payload(entry.position));
    }
    assert!(!journal.verify().unwrap().warnings.is_empty(), "the acceptance is remembered");
}

#[test]
fn undamaged_copy_is_whole() {
    let fixture = Fixture::new();
    assert_eq!(fixture.check("head", |_| {}), Outcome::Whole);
}

#[test]
fn wal_cut_anywhere_is_reported_with_its_position() {
    let fixture = Fixture::new();
    let size = fixture.size("journal.db-wal");
    let frame = 24 + 4096;
    let borders = (0..=size / frame).flat_map(|n| {
        let border = 32 + n * frame;
        [border.saturating_sub(1), border, border + 1, border + 24, border + 25]
    });
    let mut losses = Vec::new();
    for end in borders.chain((0..size).step_by(701)).filter(|end| *end < size) {
        match fixture.check("journal.db-wal", |bytes| bytes.truncate(end)) {
            Outcome::LostAfter(position) => losses.push(position),
            outcome => panic!("cut at {end} of {size}: {outcome:?}"),
        }
    }
    losses.sort_unstable();
    losses.dedup();
    // The database, and after it each batch but the last: no batch is ever there in part.
    assert_eq!(losses, [71, 72, 74, 83, 147, 148, 153]);
}

#[test]
fn removed_file_is_reported_unless_it_holds_no_entries() {
    let fixture = Fixture::new();
    for name in fixture.names() {
        let folder = tempfile::tempdir().unwrap();
        copy(fixture.files.path(), folder.path());
        fs::remove_file(folder.path().join(&name)).unwrap();
        let outcome = match name.as_str() {
            "journal.db" => {
                let refused = SqliteJournal::open(folder.path(), &SqliteOptions::default());
                assert!(
                    matches!(refused, Err(OpenError::Truncated { journal_last: 0, .. })),
                    "{refused:?}"
                );
                assert!(folder.path().join("journal.db-wal").exists(), "it may yet be rescued");
                continue;
            }
            _ => judge(folder.path(), fixture.last),
        };
        let expected = match name.as_str() {
            "journal.db-wal" => Outcome::LostAfter(71),
            _ => Outcome::Whole,
        };
        assert_eq!(outcome, expected, "{name}");
    }
}

#[test]
fn older_copy_of_the_database_is_reported() {
    let live = tempfile::tempdir().unwrap();
    let older = tempfile::tempdir().unwrap();
    let mut journal = open(live.path());
    append(&mut journal, 5);
    drop(journal);
    copy(live.path(), older.path());
    let mut journal = open(live.path());
    append(&mut journal, 5);
    drop(journal);
    fs::copy(older.path().join("journal.db"), live.path().join("journal.db")).unwrap();
    assert_eq!(judge(live.path(), 10), Outcome::LostAfter(5));
}

#[test]
fn another_history_of_the_same_length_is_reported() {
    let folders: Vec<PathBuf> = ["one", "two"]
        .into_iter()
        .map(|text| {
            let folder = tempfile::tempdir().unwrap().keep();
            open(&folder).append(&[text.into(), text.into()]).unwrap();
            folder
        })
        .collect();
    fs::copy(folders[1].join("journal.db"), folders[0].join("journal.db")).unwrap();
    let refused = SqliteJournal::open(&folders[0], &SqliteOptions::default());
    assert!(matches!(refused, Err(OpenError::Corrupt { position: 2, .. })), "{refused:?}");
    for folder in folders {
        fs::remove_dir_all(folder).unwrap();
    }
}

/// Changes the stored entries behind the journal's back, in ways that SQLite finds in order.
#[test]
fn changed_entries_are_reported_at_their_position() {
    let check = |change: &str, expected: Position| {
        let folder = tempfile::tempdir().unwrap();
        append(&mut open(folder.path()), 10);
        rusqlite::Connection::open(folder.path().join("journal.db"))
            .unwrap()
            .execute_batch(change)
            .unwrap();
        let journal = open(folder.path());
        let read = journal.read_from(1, 100);
        assert!(
            matches!(read, Err(ReadError::Corrupt { position, .. }) if position == expected),
            "{change}: {read:?}"
        );
        let problems = journal.verify().unwrap().problems;
        assert!(
            matches!(problems[..], [Problem::Corrupt { position, .. }] if position == expected),
            "{change}: {problems:?}"
        );
    };
    check("UPDATE entries SET payload = x'00' WHERE position = 4", 4);
    check("UPDATE entries SET hash = zeroblob(16) WHERE position = 4", 4);
    check("UPDATE entries SET hash = zeroblob(15) WHERE position = 4", 4);
    check("DELETE FROM entries WHERE position = 4", 4);
    check("DELETE FROM entries WHERE position = 1", 1);
    check(
        "UPDATE entries SET payload = (SELECT payload FROM entries WHERE position = 7) \
         WHERE position = 6",
        6,
    );
    check(
        "UPDATE entries SET position = -1 WHERE position = 3; \
         UPDATE entries SET position = 3 WHERE position = 4; \
         UPDATE entries SET position = 4 WHERE position = -1",
        3,
    );
}

#[test]
fn damaged_note_of_the_beginning_is_reported_and_mended_without_loss() {
    let folder = tempfile::tempdir().unwrap();
    append(&mut open(folder.path()), 10);
    rusqlite::Connection::open(folder.path().join("journal.db"))
        .unwrap()
        .execute_batch("UPDATE base SET hash = zeroblob(16)")
        .unwrap();
    let refused = SqliteJournal::open(folder.path(), &SqliteOptions::default());
    assert!(matches!(refused, Err(OpenError::Corrupt { position: 0, .. })), "{refused:?}");
    drop(SqliteJournal::open(folder.path(), &accepting()).unwrap());
    assert_holds(&open(folder.path()), 1, 10);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_lose_nothing_in_silence(
        places in prop::collection::vec((0..5_usize, any::<prop::sample::Index>(), 0..8_u8), 16),
    ) {
        let fixture = Fixture::new();
        let names = fixture.names();
        prop_assert_eq!(names.len(), 5);
        for (name, place, bit) in places {
            let outcome = fixture.check(&names[name], |bytes| {
                let offset = place.index(bytes.len());
                bytes[offset] ^= 1 << bit;
            });
            if !names[name].starts_with("journal") {
                prop_assert_eq!(outcome, Outcome::Whole, "in {}", names[name]);
            }
        }
    }

    #[test]
    fn overwritten_stretches_lose_nothing_in_silence(
        places in prop::collection::vec((any::<prop::sample::Index>(), 1..5_000_usize, any::<bool>(), any::<u8>()), 8),
    ) {
        let fixture = Fixture::new();
        for (place, count, in_wal, value) in places {
            let name = if in_wal { "journal.db-wal" } else { "journal.db" };
            fixture.check(name, |bytes| {
                let start = place.index(bytes.len());
                let end = bytes.len().min(start + count);
                bytes[start..end].fill(value);
            });
        }
    }
}
