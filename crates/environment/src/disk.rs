//! Files that are whole or not there, and folders that go away whatever is in them.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::limits::METADATA_BYTES_MAX;

/// Something with a file of the store did not work.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}: {}", path.display(), explained(error))]
pub struct DiskError {
    /// What was done, as a verb.
    pub step: &'static str,
    /// With which file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub error: io::Error,
}

impl DiskError {
    /// Whether the disk, or the user's share of it, is full.
    pub fn is_full(&self) -> bool {
        is_full(&self.error)
    }
}

/// Whether the error says that a disk is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The error's text, with what to do if it is about space.
pub fn explained(error: &io::Error) -> String {
    if is_full(error) {
        format!("{error}; the disk is full: free space there, or prune environments, and try again")
    } else {
        error.to_string()
    }
}

/// Adds step and path to an error of the system.
pub(crate) trait At<T> {
    fn at(self, step: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|error| DiskError { step, path: path.to_owned(), error: error.into() })
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// When a file was last used: its time of modification, in milliseconds since the Unix epoch.
pub(crate) fn used_ms(metadata: &fs::Metadata) -> u64 {
    let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
    seconds * 1000 + u64::try_from(metadata.mtime_nsec()).unwrap_or(0) / 1_000_000
}

/// Notes that a file is used now.
pub(crate) fn touch(path: &Path) -> Result<(), DiskError> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty())
        .at("note the use of", path)
}

/// Makes a folder that only its owner can enter, if it is not there.
pub(crate) fn make_private_folder(path: &Path) -> Result<(), DiskError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).at("make the folder", path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700)).at("close the folder", path)
}

/// Writes a file so that it is there with all its content or not at all, also after a crash.
pub(crate) fn write_whole(path: &Path, temporary: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let write = || {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(temporary, path)
    };
    let written = write().at("write", path);
    if written.is_err() {
        let _ = fs::remove_file(temporary);
    }
    written?;
    sync_folder(path.parent().unwrap_or(Path::new("/")))
}

/// Reads a file of metadata; `None` if there is none.
pub(crate) fn read_metadata(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.at("open", path)?,
    };
    let mut bytes = Vec::new();
    file.take(METADATA_BYTES_MAX).read_to_end(&mut bytes).at("read", path)?;
    Ok(Some(bytes))
}

/// Makes what was made or renamed in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|folder| folder.sync_all()).at("sync the folder", path)
}

/// Removes a file or a folder with all that is in it, also where permissions are in the way and
/// however deep it is. Symbolic links are removed, never followed.
///
/// What is deep is moved up first, so that neither the length of a path nor the number of open
/// files grows with the depth, which a hostile build may choose.
pub(crate) fn remove_all(path: &Path) -> Result<(), DiskError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).at("look at", path),
        Ok(metadata) if !metadata.is_dir() => return fs::remove_file(path).at("remove", path),
        Ok(_) => {}
    }
    let mut moved = 0_u64;
    open_folder(path)?;
    loop {
        let mut folders = Vec::new();
        for entry in fs::read_dir(path).at("list", path)? {
            let entry = entry.at("list", path)?;
            let child = entry.path();
            if entry.file_type().at("look at", &child)?.is_dir() {
                folders.push(child);
            } else {
                fs::remove_file(&child).at("remove", &child)?;
            }
        }
        if folders.is_empty() {
            return fs::remove_dir(path).at("remove", path);
        }
        for folder in folders {
            empty_folder(&folder, path, &mut moved)?;
            fs::remove_dir(&folder).at("remove", &folder)?;
        }
    }
}

/// Removes the files of a folder and moves its folders to `to`.
fn empty_folder(folder: &Path, to: &Path, moved: &mut u64) -> Result<(), DiskError> {
    open_folder(folder)?;
    for entry in fs::read_dir(folder).at("list", folder)? {
        let entry = entry.at("list", folder)?;
        let child = entry.path();
        if !entry.file_type().at("look at", &child)?.is_dir() {
            fs::remove_file(&child).at("remove", &child)?;
            continue;
        }
        if fs::remove_dir(&child).is_ok() {
            continue;
        }
        open_folder(&child)?;
        loop {
            *moved += 1;
            let target = to.join(format!(".moved-{moved}"));
            if fs::symlink_metadata(&target).is_err() {
                fs::rename(&child, &target).at("move", &child)?;
                break;
            }
        }
    }
    Ok(())
}

/// Lets the owner into a folder, if it is not root, who needs no permission.
fn open_folder(path: &Path) -> Result<(), DiskError> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(0o700)).at("open", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_said_with_what_to_do() {
        let error = Err::<(), _>(io::Error::from_raw_os_error(28)).at("write", Path::new("/x"));
        let error = error.expect_err("it is one");
        assert!(error.is_full());
        assert!(error.to_string().contains("free space"), "{error}");
    }

    #[test]
    fn closed_folders_are_removed_and_links_are_not_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let kept = dir.path().join("kept");
        fs::create_dir_all(kept.join("in")).expect("made");
        let gone = dir.path().join("gone");
        fs::create_dir_all(gone.join("a/b")).expect("made");
        std::os::unix::fs::symlink(&kept, gone.join("a/link")).expect("linked");
        fs::set_permissions(gone.join("a/b"), Permissions::from_mode(0o000)).expect("closed");
        let mut deep = gone.join("a");
        for _ in 0..400 {
            deep.push("d");
            fs::create_dir(&deep).expect("made");
            fs::write(deep.join("file"), "").expect("written");
        }
        remove_all(&gone).expect("removed");
        assert!(!gone.exists() && kept.join("in").exists());
        remove_all(&gone).expect("what is not there is no error");
    }
}
