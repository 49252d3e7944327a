//! What every implementation of the trait does.

use spawnery_journal::{
    AppendError, FaultyJournal, Journal, MemoryJournal, OpenError, PAYLOAD_SIZE_BYTES_MAX, Problem,
    ReadError,
};

use crate::{append, assert_holds, open, payload};

/// Runs `test` on each implementation.
fn check(test: fn(&mut dyn Journal)) {
    let folder = tempfile::tempdir().unwrap();
    test(&mut open(folder.path()));
    test(&mut MemoryJournal::new());
    test(&mut FaultyJournal::new());
}

#[test]
fn positions_begin_at_one_and_have_no_gap() {
    check(|journal| {
        assert_eq!(journal.last_position(), 0);
        assert_eq!(append(journal, 1), 1);
        assert_eq!(append(journal, 3), 4);
        assert_eq!(journal.append(&[]).unwrap(), 4);
        assert_holds(journal, 1, 4);
    });
}

#[test]
fn reading_returns_what_was_asked_for() {
    check(|journal| {
        append(journal, 10);
        let read = |from, count| -> Vec<u64> {
            let entries = journal.read_from(from, count).unwrap();
            assert!(entries.iter().all(|entry| entry.payload == payload(entry.position)));
            entries.iter().map(|entry| entry.position).collect()
        };
        assert_eq!(read(0, 2), [1, 2]);
        assert_eq!(read(1, 2), [1, 2]);
        assert_eq!(read(9, 5), [9, 10]);
        assert_eq!(read(10, usize::MAX), [10]);
        assert_eq!(read(5, 0), []);
        assert_eq!(read(11, 5), []);
        assert_eq!(read(u64::MAX, 5), []);
    });
}

#[test]
fn empty_and_large_payloads_are_kept_and_too_large_ones_refused() {
    check(|journal| {
        let large = vec![7; PAYLOAD_SIZE_BYTES_MAX];
        journal.append(&[Vec::new(), large.clone()]).unwrap();
        let refused = journal.append(&[vec![1], vec![0; PAYLOAD_SIZE_BYTES_MAX + 1]]);
        assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
        let entries = journal.read_from(1, 10).unwrap();
        assert_eq!(entries.len(), 2);
        assert!(entries[0].payload.is_empty() && entries[1].payload == large);
    });
}

#[test]
fn newest_snapshot_is_loaded_and_two_are_kept() {
    check(|journal| {
        assert_eq!(journal.load_snapshot().unwrap(), None);
        append(journal, 9);
        for position in [3, 6, 9] {
            journal.save_snapshot(position, &payload(position)).unwrap();
        }
        let snapshot = journal.load_snapshot().unwrap().unwrap();
        assert_eq!((snapshot.position, snapshot.state), (9, payload(9)));
        let report = journal.verify().unwrap();
        let kept: Vec<_> = report.snapshots.iter().map(|snapshot| snapshot.position).collect();
        assert_eq!(kept, [9, 6]);
        let refused = journal.save_snapshot(10, b"");
        assert!(
            matches!(refused, Err(AppendError::NoSuchPosition { position: 10, first: 1, last: 9 })),
            "{refused:?}"
        );
    });
}

#[test]
fn pruning_needs_two_snapshots_and_spares_the_tail() {
    check(|journal| {
        append(journal, 20);
        journal.save_snapshot(10, b"ten").unwrap();
        assert_eq!(journal.prune(0).unwrap().entries_count, 0, "one snapshot is not enough");
        journal.save_snapshot(20, b"twenty").unwrap();
        let pruned = journal.prune(3).unwrap();
        assert_eq!((pruned.entries_count, pruned.first_position, pruned.more), (7, 8, false));
        assert_eq!(journal.prune(3).unwrap().entries_count, 0);

        assert_holds(journal, 8, 20);
        let refused = journal.read_from(7, 1);
        assert!(matches!(refused, Err(ReadError::Pruned { position: 7, first: 8 })), "{refused:?}");
        append(journal, 2);
        assert_holds(journal, 8, 22);
        let report = journal.verify().unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!((report.first_position, report.entries_count), (8, 15));
    });
}

#[test]
fn pruning_goes_in_bounded_steps_and_can_empty_the_journal() {
    check(|journal| {
        append(journal, 25_000);
        journal.save_snapshot(25_000, b"a").unwrap();
        append(journal, 1);
        journal.save_snapshot(25_001, b"b").unwrap();
        let mut steps = vec![];
        while steps.last() != Some(&0) {
            let pruned = journal.prune(0).unwrap();
            assert_eq!(pruned.more, pruned.first_position < 25_001);
            steps.push(pruned.entries_count);
        }
        assert_eq!(steps, [10_000, 10_000, 5_000, 0]);
        assert_holds(journal, 25_001, 25_001);
    });
}

#[test]
fn full_disk_refuses_and_the_same_batch_goes_in_once_later() {
    let disk = FaultyJournal::new();
    let mut journal = disk.clone();
    append(&mut journal, 2);
    disk.set_full(true);
    let refused = journal.append(&[payload(3)]);
    assert!(matches!(refused, Err(AppendError::NoSpace { .. })), "{refused:?}");
    assert_holds(&journal, 1, 2);
    disk.set_full(false);
    append(&mut journal, 1);
    assert_holds(&journal, 1, 3);
}

#[test]
fn lying_disk_loses_whole_batches_and_the_loss_is_reported() {
    let disk = FaultyJournal::new();
    let mut journal = disk.clone();
    append(&mut journal, 2);
    disk.set_lying(true);
    for _ in 0..3 {
        append(&mut journal, 2);
    }
    disk.crash(1);
    assert!(journal.append(&[payload(9)]).is_err(), "a dead process writes nothing");
    let refused = disk.reopen(false);
    assert!(
        matches!(refused, Err(OpenError::Truncated { journal_last: 4, acknowledged: 8, .. })),
        "{refused:?}"
    );
    assert_holds(&disk.reopen(true).unwrap(), 1, 4);
}

#[test]
fn synced_entries_survive_a_crash() {
    let disk = FaultyJournal::new();
    let mut journal = disk.clone();
    append(&mut journal, 3);
    disk.set_lying(true);
    append(&mut journal, 3);
    disk.sync();
    disk.crash(0);
    assert_holds(&disk.reopen(false).unwrap(), 1, 6);
}

#[test]
fn failed_append_is_there_afterwards_or_not_and_the_process_is_over() {
    for (kept, last) in [(false, 2), (true, 3)] {
        let disk = FaultyJournal::new();
        let mut journal = disk.clone();
        append(&mut journal, 2);
        disk.fail_next_append(kept);
        for _ in 0..2 {
            let refused = journal.append(&[payload(3)]);
            assert!(matches!(refused, Err(AppendError::Failed { .. })), "{refused:?}");
        }
        disk.crash(0);
        assert_holds(&disk.reopen(false).unwrap(), 1, last);
    }
}

#[test]
fn torn_tail_and_damaged_entry_of_the_simulated_disk_are_reported() {
    let disk = FaultyJournal::new();
    append(&mut disk.clone(), 9);
    disk.damage_entry(4);
    let read = disk.read_from(2, 5);
    assert!(matches!(read, Err(ReadError::Corrupt { position: 4, .. })), "{read:?}");
    assert_eq!(disk.read_from(1, 3).unwrap().len(), 3);
    disk.tear_tail(2);
    let problems = disk.verify().unwrap().problems;
    assert!(matches!(problems[0], Problem::Corrupt { position: 4, .. }), "{problems:?}");
    assert_eq!(problems[1], Problem::Truncated { journal_last: 7, acknowledged: 9 });
}
