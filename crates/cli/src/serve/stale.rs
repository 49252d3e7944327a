//! Folders of private servers whose process was killed, so that it could not clean up: the next
//! private server does it.
//!
//! Who owns a folder holds a lock (`flock(2)`) on a file in it, which the kernel releases however
//! its process ends. Unlike a process id, that is never mistaken, not even in another container.

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use spawnery_sandbox::client::Client;
use spawnery_sandbox::protocol::Request;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How the folders of private servers begin.
pub(super) const PREFIX: &str = "spawnery-";

/// The file that the owner of a folder holds a lock on.
const LOCK: &str = "owner.lock";

/// How long the launchers of dead owners may take to end. What is left is for the next time.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked whether a launcher has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Shows that a folder is in use, for as long as it lives.
#[derive(Debug)]
pub(super) struct Owner {
    _lock: OwnedFd,
}

impl Owner {
    /// Takes a new folder. The lock has its name only once it is held: nobody finds it free.
    pub(super) fn of(folder: &Path) -> io::Result<Owner> {
        let unnamed = folder.join("owner.new");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let lock = open(&unnamed, flags, Mode::RUSR | Mode::WUSR)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(&unnamed, folder.join(LOCK))?;
        Ok(Owner { _lock: lock })
    }

    /// Takes a folder over, if its owner is dead.
    fn after_death(folder: &Path) -> Option<Owner> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = open(folder.join(LOCK), flags, Mode::empty()).ok()?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(Owner { _lock: lock })
    }
}

/// Ends what dead owners left running, and removes their folders. What cannot be cleaned up is no
/// matter of the command that is run now.
pub(super) fn sweep(temporary: &Path) {
    let until = Instant::now() + END_WITHIN;
    for entry in fs::read_dir(temporary).into_iter().flatten().flatten() {
        let is_named_so = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let folder = entry.path();
        if is_named_so
            && is_ours(&folder)
            && let Some(_owner) = Owner::after_death(&folder)
            && end_launcher(&folder, until)
        {
            super::private::remove(&folder);
        }
    }
}

/// Whether it is a folder of this user.
fn is_ours(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == user)
}

/// Ends the launcher of a folder with all that it runs. False if it does not end in time.
fn end_launcher(folder: &Path, until: Instant) -> bool {
    let data = crate::place::Place::new(folder).agent().join("launcher");
    while let Ok(mut launcher) = Client::connect(&data) {
        if Instant::now() > until {
            return false;
        }
        // It ends when all has ended, which may be after its answer.
        let _ = launcher.request(Request::Shutdown { stop_all: true });
        std::thread::sleep(LOOK);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_owner_left_is_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = temporary.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let dead = folder("spawnery-dead");
        drop(Owner::of(&dead).unwrap());
        let live = folder("spawnery-live");
        let _owner = Owner::of(&live).unwrap();
        let young = folder("spawnery-young");
        let foreign = folder("other");
        drop(Owner::of(&foreign).unwrap());
        sweep(temporary.path());
        assert!(!dead.exists());
        for folder in [live, young, foreign] {
            assert!(folder.exists(), "{}", folder.display());
        }
    }
}
