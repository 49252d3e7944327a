//! `kill -9` at any moment: what was acknowledged before is there afterwards.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use spawnery_journal::{Journal, Position};

use crate::{append, assert_holds, open};

/// Set in the child, which is this test run once more: the folder to append to for ever.
const CHILD_VARIABLE: &str = "SPAWNERY_JOURNAL_TEST_CHILD";
const NAME: &str = "kill::every_acknowledged_entry_survives_kill_9";

#[test]
fn every_acknowledged_entry_survives_kill_9() {
    if let Some(folder) = env::var_os(CHILD_VARIABLE) {
        append_until_killed(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for acknowledgements_count in [1, 7, 40, 150, 333] {
        acknowledged = run_and_kill(folder.path(), acknowledgements_count).max(acknowledged);
        let journal = open(folder.path());
        let last = journal.last_position();
        assert!(last >= acknowledged, "{last} < {acknowledged}");
        assert_holds(&journal, 1, last);
        assert!(journal.verify().unwrap().is_sound());
    }
}

/// Kills a child after it has acknowledged so many batches; returns the last it told of.
fn run_and_kill(folder: &Path, acknowledgements_count: usize) -> Position {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture"])
        .env(CHILD_VARIABLE, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut told = output
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<Position>().ok());
    let before = told.by_ref().take(acknowledgements_count).last();
    child.kill().unwrap();
    let after = told.last();
    child.wait().unwrap();
    after.or(before).expect("the child acknowledged something")
}

/// Appends batches of different sizes, and tells of each once it is acknowledged.
fn append_until_killed(folder: &Path) -> ! {
    let mut journal = open(folder);
    let mut output = io::stdout();
    loop {
        let count = 1 + journal.last_position() % 23;
        let last = append(&mut journal, count);
        if last.is_multiple_of(5) {
            journal.save_snapshot(last, b"state").unwrap();
        }
        // One write for the line and its end, so that a kill does not leave half a number.
        output.write_all(format!("\nacknowledged {last}\n").as_bytes()).unwrap();
    }
}
