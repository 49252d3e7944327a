//! Disks that are full.

use std::fs;
use std::path::Path;
use std::process::Command;

use spawnery_journal::{AppendError, Journal, OpenError, SqliteJournal, SqliteOptions};

use crate::{assert_holds, open, payload};

/// Appends batches of `count` until there is no space; returns the refused batch.
fn fill(journal: &mut SqliteJournal, count: u64) -> Vec<Vec<u8>> {
    loop {
        let first = journal.last_position() + 1;
        let batch: Vec<Vec<u8>> = (first..first + count).map(payload).collect();
        match journal.append(&batch) {
            Ok(_) => assert!(first < 1_000_000, "the disk never becomes full"),
            Err(AppendError::NoSpace { .. }) => return batch,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A small file system in memory, unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    /// `None`, with the reason printed, where mounting is not allowed.
    fn mount(path: &Path, size_bytes: u64) -> Option<SmallDisk<'_>> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size_bytes}"), "tmpfs"])
            .arg(path)
            .output();
        match mounted {
            Ok(output) if output.status.success() => return Some(SmallDisk(path)),
            Ok(output) => skip(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => skip(&error.to_string()),
        }
        None
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[expect(clippy::print_stderr, reason = "tells why a test was skipped")]
fn skip(reason: &str) {
    eprintln!("skipped: no small disk can be mounted: {reason}");
}

#[test]
fn page_limit_refuses_and_the_batch_goes_in_once_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions { page_count_max: Some(50), ..SqliteOptions::default() };
    let mut journal = SqliteJournal::open(folder.path(), &options).unwrap();
    let refused = fill(&mut journal, 10);
    let last = journal.last_position();
    assert_holds(&journal, 1, last);
    assert!(matches!(journal.append(&refused), Err(AppendError::NoSpace { .. })));
    drop(journal);

    let mut journal = open(folder.path());
    assert_eq!(journal.append(&refused).unwrap(), last + 10);
    assert_holds(&journal, 1, last + 10);
}

#[test]
fn full_disk_refuses_until_there_is_space_and_keeps_reading() {
    let point = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(point.path(), 2 << 20) else {
        return;
    };
    let folder = point.path().join("journal");
    let filler = point.path().join("filler");
    // Different sizes, so that the disk is full at different places of a commit.
    for (round, filler_size_bytes) in [900_000, 1_000_001, 650_123].into_iter().enumerate() {
        let mut journal = open(&folder);
        fs::write(&filler, vec![0; filler_size_bytes]).unwrap();
        let refused = fill(&mut journal, 1 + 16 * round as u64);
        let last = journal.last_position();
        assert!(matches!(journal.append(&refused), Err(AppendError::NoSpace { .. })));
        assert_holds(&journal, 1, last);
        let snapshot = journal.save_snapshot(last, &vec![0; 1 << 20]);
        assert!(matches!(snapshot, Err(AppendError::NoSpace { .. })), "{snapshot:?}");

        fs::remove_file(&filler).unwrap();
        let end = journal.append(&refused).unwrap();
        assert_eq!(end, last + refused.len() as u64);
        assert_holds(&journal, 1, end);
        assert!(journal.verify().unwrap().is_sound());
        drop(journal);
        assert_holds(&open(&folder), 1, end);
        fs::remove_dir_all(&folder).unwrap();
    }
    drop(disk);
}

#[test]
fn start_on_a_full_disk_says_so() {
    let point = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(point.path(), 256 << 10) else {
        return;
    };
    fs::write(point.path().join("filler"), vec![0; 252 << 10]).unwrap();
    let refused = SqliteJournal::open(&point.path().join("journal"), &SqliteOptions::default());
    assert!(matches!(refused, Err(OpenError::NoSpace { .. })), "{refused:?}");
    drop(disk);
}
