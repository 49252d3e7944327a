//! Looking at a journal beside the process that writes it.

use spawnery_journal::{Journal, OpenError, SqliteReader};

use crate::{append, copy, open, payload};

#[test]
fn reader_sees_one_moment_while_the_writer_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    append(&mut journal, 1_500);
    journal.save_snapshot(1_000, b"state").unwrap();
    let reader = SqliteReader::open(folder.path()).unwrap();
    append(&mut journal, 500);

    assert_eq!(reader.last_position(), 1_500);
    let entries: Vec<_> = reader.entries(0).collect::<Result<_, _>>().unwrap();
    assert_eq!(entries.len(), 1_500);
    assert!(entries.iter().all(|entry| entry.payload == payload(entry.position)));
    let report = reader.verify().unwrap();
    assert!(report.is_sound() && report.warnings.is_empty(), "{report:?}");
    assert_eq!(report.entries_count, 1_500);
    assert_eq!(reader.load_snapshot().unwrap().unwrap().position, 1_000);

    let stat = reader.stat().unwrap();
    assert_eq!((stat.first_position, stat.last_position), (1, 1_500));
    assert_eq!(stat.acknowledged, Some(1_500));
    assert!(stat.wal_size_bytes > 0);
    assert_eq!(journal.stat().unwrap().entries_count, 2_000);
    drop(reader);
    assert_eq!(SqliteReader::open(folder.path()).unwrap().last_position(), 2_000);
}

#[test]
fn reader_looks_at_a_stopped_and_at_a_crashed_journal() {
    let live = tempfile::tempdir().unwrap();
    let crashed = tempfile::tempdir().unwrap();
    let mut journal = open(live.path());
    append(&mut journal, 30);
    copy(live.path(), crashed.path());
    drop(journal);
    for folder in [&live, &crashed] {
        for _ in 0..2 {
            let reader = SqliteReader::open(folder.path()).unwrap();
            assert!(reader.verify().unwrap().is_sound());
            assert_eq!(reader.last_position(), 30);
        }
        assert_eq!(open(folder.path()).last_position(), 30);
    }
}

#[test]
fn folder_without_a_journal_is_told_so_and_stays_empty() {
    let folder = tempfile::tempdir().unwrap();
    let refused = SqliteReader::open(folder.path());
    assert!(matches!(refused, Err(OpenError::Missing { .. })), "{refused:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
