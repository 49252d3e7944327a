//! All that a process has started, to be ended together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;

use crate::limits::KILL_ROUNDS_MAX;
use crate::sys;

/// Kills a process, what descends from it and, if it began a session (`setsid(2)`), all in that.
/// What has left both, as daemons do, goes on. The process must not have been waited for yet, so
/// that its id is nobody else's.
pub(crate) fn kill_tree(root: i32) {
    let mut killed = BTreeSet::new();
    for _ in 0..KILL_ROUNDS_MAX {
        let mut fresh = members(root, &processes());
        fresh.retain(|pid| killed.insert(*pid));
        if fresh.is_empty() {
            return;
        }
        for pid in fresh {
            // An id whose process has ended since is given out again only after all the others.
            let _ = sys::kill(pid, libc::SIGKILL);
        }
    }
}

/// The same of another program's child, which that may have waited for already: only what is in a
/// PID namespace below ours, so that nothing of the host is hit by an id that was given out anew.
pub(crate) fn kill_elsewhere(pidfd: &OwnedFd, pid: u32) {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let (own, its) = (namespace("self"), namespace(&pid.to_string()));
    // While it is stopped it makes nothing new, and its id stays its own.
    let stopped = sys::send_signal(pidfd, libc::SIGSTOP).is_ok();
    if stopped && own.is_some() && its.is_some() && own != its {
        kill_tree(i32::try_from(pid).unwrap_or_default());
    }
    let _ = sys::send_signal(pidfd, libc::SIGKILL);
}

/// What is known of one process.
#[derive(Debug, Clone, Copy)]
struct Entry {
    parent: i32,
    session: i32,
}

/// All processes that are seen from here.
fn processes() -> BTreeMap<i32, Entry> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        all.extend(parse(&stat).map(|entry| (pid, entry)));
    }
    all
}

/// Reads a line of `/proc/PID/stat` (`proc_pid_stat(5)`). The name may hold anything, also what
/// looks like its end, hence the last parenthesis.
fn parse(stat: &str) -> Option<Entry> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(1);
    let (parent, _group, session) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Entry { parent: parent.parse().ok()?, session: session.parse().ok()? })
}

/// The tree of `root`, itself included.
fn members(root: i32, all: &BTreeMap<i32, Entry>) -> Vec<i32> {
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        for (pid, entry) in all {
            // 1 reaps all, so it is nobody's descendant.
            if *pid != 1 && (entry.session == root || found.contains(&entry.parent)) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            return found.into_iter().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_a_parent() {
        let entry = parse("7 (x) R 1 1 1 (y)) S 4 5 6 0").expect("an entry");
        assert_eq!((entry.parent, entry.session), (4, 6));
        assert!(parse("7 (x").is_none() && parse("").is_none());
    }

    #[test]
    fn descendants_and_the_session_belong_to_the_tree() {
        let entry = |pid, parent, session| (pid, Entry { parent, session });
        let all = [
            entry(1, 0, 0),
            entry(10, 1, 10),
            entry(11, 10, 10),
            entry(12, 11, 12),
            // An orphan of the same session, and one that has left it.
            entry(13, 1, 10),
            entry(14, 1, 14),
        ];
        assert_eq!(members(10, &all.into()), [10, 11, 12, 13]);
    }
}
