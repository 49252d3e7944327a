//! From a disk to a tree.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use spawnery_model::ContentDigest;

use super::{Tree, TreeEntry, TreeError, TreeKind};
use crate::content::sha256_of;
use crate::limits::{PATH_BYTES_MAX, TREE_BYTES_MAX, TREE_ENTRIES_MAX};

/// What was found so far.
struct Reading<'a> {
    top: &'a Path,
    entries: Vec<TreeEntry>,
    files: BTreeMap<ContentDigest, PathBuf>,
    size_bytes: u64,
}

pub(super) fn read(top: &Path) -> Result<(Tree, BTreeMap<ContentDigest, PathBuf>), TreeError> {
    let mut reading = Reading { top, entries: Vec::new(), files: BTreeMap::new(), size_bytes: 0 };
    // The path that a person gives may be a link to what is meant.
    let metadata = fs::metadata(top).map_err(|error| unreadable("look at", top, error))?;
    let mut waiting = Vec::new();
    reading.take(String::new(), top, &metadata, &mut waiting)?;
    while let Some((path, place)) = waiting.pop() {
        let metadata =
            fs::symlink_metadata(&place).map_err(|error| unreadable("look at", &place, error))?;
        reading.take(path, &place, &metadata, &mut waiting)?;
    }
    reading.entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((Tree { entries: reading.entries }, reading.files))
}

impl Reading<'_> {
    fn take(
        &mut self,
        path: String,
        place: &Path,
        metadata: &Metadata,
        waiting: &mut Vec<(String, PathBuf)>,
    ) -> Result<(), TreeError> {
        if self.entries.len() >= TREE_ENTRIES_MAX {
            return Err(self.too_much(format!("{TREE_ENTRIES_MAX} files and folders")));
        }
        if path.len() >= PATH_BYTES_MAX {
            return Err(TreeError::Name(place.to_owned()));
        }
        let kind = metadata.file_type();
        let (kind, mode) = if kind.is_dir() {
            for entry in fs::read_dir(place).map_err(|error| unreadable("list", place, error))? {
                let entry = entry.map_err(|error| unreadable("list", place, error))?;
                let name = entry.file_name().into_string();
                let name = name.map_err(|_| TreeError::Name(entry.path()))?;
                let below = if path.is_empty() { name } else { format!("{path}/{name}") };
                waiting.push((below, entry.path()));
            }
            (TreeKind::Folder, metadata.mode() & 0o777)
        } else if kind.is_symlink() {
            let target =
                fs::read_link(place).map_err(|error| unreadable("read the link", place, error))?;
            let target = target.into_os_string().into_string();
            let target = target.map_err(|_| TreeError::Name(place.to_owned()))?;
            (TreeKind::Link { target }, 0o777)
        } else if kind.is_file() {
            (self.file(place, metadata)?, metadata.mode() & 0o777)
        } else {
            let kind = match kind {
                it if it.is_socket() => "a socket",
                it if it.is_fifo() => "a named pipe",
                _ => "a device",
            };
            return Err(TreeError::Kind { path: place.to_owned(), kind });
        };
        self.entries.push(TreeEntry { path, mode, kind });
        Ok(())
    }

    fn file(&mut self, place: &Path, metadata: &Metadata) -> Result<TreeKind, TreeError> {
        self.size_bytes += metadata.len();
        if self.size_bytes > TREE_BYTES_MAX {
            return Err(self.too_much(format!("{} GiB", TREE_BYTES_MAX >> 30)));
        }
        let mut file = File::open(place).map_err(|error| unreadable("open", place, error))?;
        let (hash, size_bytes) =
            sha256_of(&mut file).map_err(|error| unreadable("read", place, error))?;
        if size_bytes != metadata.len() {
            return Err(TreeError::Changed(place.to_owned()));
        }
        let digest = ContentDigest::from_bytes(hash);
        self.files.insert(digest.clone(), place.to_owned());
        Ok(TreeKind::File { digest, size_bytes })
    }

    fn too_much(&self, limit: String) -> TreeError {
        TreeError::TooMuch { path: self.top.to_owned(), limit }
    }
}

fn unreadable(step: &'static str, path: &Path, error: io::Error) -> TreeError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            TreeError::Missing(path.to_owned())
        }
        _ => TreeError::Unreadable { step, path: path.to_owned(), error },
    }
}
