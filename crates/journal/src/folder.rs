//! The folder of a journal: names, permissions, the lock, and directory syncs.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::OpenError;
use crate::error::is_no_space;

/// The journal may hold what only its owner may see.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// How much the probe for space writes: more than the largest piece by which SQLite extends one
/// of its files for a small commit, so that the probe fails where SQLite failed.
const PROBE_SIZE_BYTES: usize = 64 << 10;

pub(crate) const DATABASE_NAME: &str = "journal.db";

/// The paths inside a journal's folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub path: PathBuf,
}

impl Folder {
    /// Makes the folder if it is missing.
    pub fn create(path: &Path) -> Result<Folder, OpenError> {
        if !path.is_dir() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(FOLDER_MODE);
            builder.create(path).map_err(|error| OpenError::io(path, error))?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                sync_folder(parent).map_err(|error| OpenError::io(parent, error))?;
            }
        }
        Ok(Folder { path: path.to_owned() })
    }

    /// Takes the right to write, until the returned file is closed, also by a crash.
    pub fn lock(&self) -> Result<File, OpenError> {
        let path = self.path.join("lock");
        let mut file = open_private(&path).map_err(|error| OpenError::io(&path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse {
                    folder: self.path.clone(),
                    process: read_process(&mut file),
                });
            }
            Err(TryLockError::Error(error)) => return Err(OpenError::io(&path, error)),
        }
        // Only for the message of whoever is refused: a failure here loses nothing.
        let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(file)
    }

    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE_NAME)
    }

    pub fn wal(&self) -> PathBuf {
        self.path.join("journal.db-wal")
    }

    pub fn head(&self) -> PathBuf {
        self.path.join("head")
    }

    /// Makes the names of files created, renamed or removed in the folder durable.
    pub fn sync(&self) -> io::Result<()> {
        sync_folder(&self.path)
    }

    /// Whether a small file cannot be written here for lack of space (ENOSPC or EDQUOT).
    ///
    /// SQLite tells ENOSPC apart for most writes, but reports EDQUOT, and ENOSPC while it
    /// extends its shared memory file, as general input/output errors.
    pub fn is_full(&self) -> bool {
        let path = self.path.join("probe");
        let written = open_private(&path)
            .and_then(|mut file| file.write_all(&[0; PROBE_SIZE_BYTES]).and(file.sync_all()));
        // An empty probe left behind is harmless, and is truncated by the next.
        let _ = fs::remove_file(&path);
        written.is_err_and(|error| is_no_space(&error))
    }
}

/// Opens a file to read and write, made with the journal's permissions if it is missing.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn read_process(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
