//! Snapshots of the embedded journal when files are damaged.

use std::fs;
use std::path::Path;

use spawnery_journal::{Journal, OpenError, Problem, ReadError, SqliteJournal, SqliteOptions};

use crate::{accepting, append, assert_holds, open, payload};

fn snapshot_path(folder: &Path, position: u64) -> std::path::PathBuf {
    folder.join(format!("snapshot-{position:020}"))
}

fn damage(folder: &Path, position: u64) {
    let path = snapshot_path(folder, position);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

fn with_snapshots(folder: &Path, positions: &[u64]) -> SqliteJournal {
    let mut journal = open(folder);
    for position in positions {
        let missing_count = position - journal.last_position();
        append(&mut journal, missing_count);
        journal.save_snapshot(*position, &payload(*position)).unwrap();
    }
    journal
}

#[test]
fn damaged_newest_gives_way_to_the_older_one_and_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let journal = with_snapshots(folder.path(), &[5, 10]);
    damage(folder.path(), 10);
    let snapshot = journal.load_snapshot().unwrap().unwrap();
    assert_eq!((snapshot.position, snapshot.state), (5, payload(5)));
    assert_holds(&journal, 6, 10);
    let report = journal.verify().unwrap();
    assert!(report.is_sound());
    assert!(report.warnings[0].to_string().contains("position 10"), "{report:?}");
}

#[test]
fn only_valid_snapshots_count_as_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = with_snapshots(folder.path(), &[5, 10]);
    damage(folder.path(), 10);
    append(&mut journal, 5);
    journal.save_snapshot(15, &payload(15)).unwrap();
    assert!(snapshot_path(folder.path(), 5).exists());
    assert_eq!(journal.prune(0).unwrap().first_position, 6);
    damage(folder.path(), 15);
    assert_eq!(journal.load_snapshot().unwrap().unwrap().position, 5);
}

#[test]
fn all_damaged_means_replay_from_one_or_a_clear_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = with_snapshots(folder.path(), &[5, 10]);
    damage(folder.path(), 10);
    damage(folder.path(), 5);
    assert_eq!(journal.load_snapshot().unwrap(), None);
    assert_eq!(journal.prune(0).unwrap().entries_count, 0);

    append(&mut journal, 10);
    journal.save_snapshot(15, b"").unwrap();
    journal.save_snapshot(20, b"").unwrap();
    assert_eq!(journal.prune(0).unwrap().first_position, 16);
    fs::remove_file(snapshot_path(folder.path(), 15)).unwrap();
    fs::remove_file(snapshot_path(folder.path(), 20)).unwrap();
    let refused = journal.load_snapshot();
    assert!(matches!(refused, Err(ReadError::NoSnapshot { first: 16, .. })), "{refused:?}");
    let problems = journal.verify().unwrap().problems;
    assert_eq!(problems, [Problem::NoSnapshot { first: 16 }]);
}

#[test]
fn snapshot_of_another_history_is_not_used() {
    let [ours, theirs] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut journal = open(ours.path());
    append(&mut journal, 5);
    let mut other = open(theirs.path());
    other.append(&vec![b"other".to_vec(); 5]).unwrap();
    other.save_snapshot(5, b"other state").unwrap();
    fs::copy(snapshot_path(theirs.path(), 5), snapshot_path(ours.path(), 5)).unwrap();
    assert_eq!(journal.load_snapshot().unwrap(), None);
    assert_eq!(journal.verify().unwrap().warnings.len(), 1);
}

#[test]
fn snapshot_beyond_the_end_proves_a_loss_and_limits_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = with_snapshots(folder.path(), &[5, 10]);
    append(&mut journal, 4);
    drop(journal);
    let delete = "DELETE FROM entries WHERE position > 7";
    rusqlite::Connection::open(folder.path().join("journal.db"))
        .unwrap()
        .execute_batch(delete)
        .unwrap();
    fs::remove_file(folder.path().join("head")).unwrap();
    let refused = SqliteJournal::open(folder.path(), &SqliteOptions::default());
    assert!(
        matches!(refused, Err(OpenError::Truncated { journal_last: 7, acknowledged: 10, .. })),
        "{refused:?}"
    );
    let mut journal = SqliteJournal::open(folder.path(), &accepting()).unwrap();
    assert_eq!(journal.load_snapshot().unwrap().unwrap().state, payload(10));
    append(&mut journal, 3);
    assert_holds(&journal, 11, 13);
}

#[test]
fn damage_before_a_snapshot_costs_only_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = with_snapshots(folder.path(), &[5, 10]);
    append(&mut journal, 4);
    drop(journal);
    let change = "UPDATE entries SET payload = x'00' WHERE position IN (8, 13)";
    let path = folder.path().join("journal.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(change).unwrap();
    // The end is sound, so a start replays from the snapshot and stops at 13.
    let journal = open(folder.path());
    let read = journal.read_from(11, 10);
    assert!(matches!(read, Err(ReadError::Corrupt { position: 13, .. })), "{read:?}");
}
