//! Opening: who may, what is made, and what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use spawnery_journal::{AppendError, Journal, OpenError, SqliteJournal, SqliteOptions, Warning};

use crate::{accepting, append, assert_holds, open, payload};

#[test]
fn second_writer_is_refused_and_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let refused = SqliteJournal::open(folder.path(), &SqliteOptions::default());
    let Err(error @ OpenError::InUse { process: Some(process), .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(process, std::process::id());
    assert!(error.to_string().contains("stop that server first"), "{error}");
    drop(first);
    open(folder.path());
}

#[test]
fn everything_is_for_its_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data/journal");
    let mut journal = open(&folder);
    append(&mut journal, 1);
    journal.save_snapshot(1, b"state").unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.clone()), 0o700);
    let mut files_count = 0;
    for item in fs::read_dir(&folder).unwrap() {
        let path = item.unwrap().path();
        assert_eq!(mode(path.clone()), 0o600, "{}", path.display());
        files_count += 1;
    }
    assert_eq!(files_count, 6);
}

#[test]
fn entries_and_snapshots_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    append(&mut journal, 700);
    journal.save_snapshot(600, &payload(600)).unwrap();
    drop(journal);
    for last in 701..704 {
        let mut journal = open(folder.path());
        append(&mut journal, 1);
        assert_holds(&journal, 1, last);
        assert_eq!(journal.load_snapshot().unwrap().unwrap().state, payload(600));
    }
}

#[test]
fn foreign_and_newer_databases_are_refused_untouched() {
    let check = |sql: &str, expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()));
        let path = folder.path().join("journal.db");
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = fs::read(&path).unwrap();
        let refused = SqliteJournal::open(folder.path(), &accepting());
        assert!(matches!(refused, Err(OpenError::Foreign { .. })), "{refused:?}");
        assert!(refused.unwrap_err().to_string().contains(expected));
        assert_eq!(fs::read(&path).unwrap(), before);
    };
    check("PRAGMA application_id = 7", "another program");
    check("PRAGMA user_version = 99", "version 99");
}

#[test]
fn file_that_is_no_database_is_refused_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    append(&mut journal, 5);
    journal.save_snapshot(5, b"five").unwrap();
    drop(journal);
    fs::write(folder.path().join("journal.db"), vec![b'x'; 9_000]).unwrap();
    let refused = SqliteJournal::open(folder.path(), &accepting());
    assert!(matches!(refused, Err(OpenError::Unreadable { .. })), "{refused:?}");

    // The way out that the message names.
    fs::remove_file(folder.path().join("journal.db")).unwrap();
    let mut journal = SqliteJournal::open(folder.path(), &accepting()).unwrap();
    let snapshot = journal.load_snapshot().unwrap().unwrap();
    assert_eq!((snapshot.position, snapshot.state), (5, b"five".to_vec()));
    assert_eq!(append(&mut journal, 1), 6);
    drop(journal);
    assert_holds(&open(folder.path()), 6, 6);
}

#[test]
fn accepted_loss_is_recorded_and_asked_for_only_once() {
    let folder = tempfile::tempdir().unwrap();
    append(&mut open(folder.path()), 9);
    let delete = "DELETE FROM entries WHERE position > 6";
    rusqlite::Connection::open(folder.path().join("journal.db"))
        .unwrap()
        .execute_batch(delete)
        .unwrap();
    let refused = SqliteJournal::open(folder.path(), &SqliteOptions::default());
    assert!(
        matches!(refused, Err(OpenError::Truncated { journal_last: 6, acknowledged: 9, .. })),
        "{refused:?}"
    );
    drop(SqliteJournal::open(folder.path(), &accepting()).unwrap());
    let mut journal = open(folder.path());
    append(&mut journal, 1);
    assert_holds(&journal, 1, 7);
    let report = journal.verify().unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert!(
        matches!(
            report.warnings[..],
            [Warning::LossAccepted { journal_last: 6, acknowledged: 9, .. }]
        ),
        "{report:?}"
    );
}

#[test]
fn acceptance_changes_nothing_in_a_sound_journal() {
    let folder = tempfile::tempdir().unwrap();
    append(&mut open(folder.path()), 9);
    let journal = SqliteJournal::open(folder.path(), &accepting()).unwrap();
    assert_holds(&journal, 1, 9);
    assert_eq!(journal.verify().unwrap().warnings, []);
}

#[test]
fn damaged_or_missing_head_is_a_warning_until_the_next_start() {
    let check = |change: fn(&std::path::Path), expected: Warning| {
        let folder = tempfile::tempdir().unwrap();
        append(&mut open(folder.path()), 3);
        change(&folder.path().join("head"));
        let journal = open(folder.path());
        assert_eq!(journal.verify().unwrap().warnings, [expected]);
        drop(journal);
        assert_eq!(open(folder.path()).verify().unwrap().warnings, []);
    };
    check(|head| fs::remove_file(head).unwrap(), Warning::HeadMissing);
    check(|head| fs::write(head, b"rubbish").unwrap(), Warning::HeadDamaged);
}

#[test]
fn failed_append_stops_the_writer_but_not_the_reading() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    append(&mut journal, 3);
    let insert = "INSERT INTO entries VALUES (4, x'', x'')";
    rusqlite::Connection::open(folder.path().join("journal.db"))
        .unwrap()
        .execute_batch(insert)
        .unwrap();
    for expected in ["UNIQUE", "an earlier write failed"] {
        let error = journal.append(&[payload(4)]).unwrap_err();
        assert!(matches!(error, AppendError::Failed { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_holds(&journal, 1, 3);
    drop(journal);
    let refused = SqliteJournal::open(folder.path(), &SqliteOptions::default());
    assert!(matches!(refused, Err(OpenError::Corrupt { position: 4, .. })), "{refused:?}");
}
