//! Files and folders of a user, listed by content.
//!
//! A client reads a [`Tree`] from its disk, asks which of its files are not in the cluster, sends
//! those and the tree itself as content, and names it by its digest. A node writes it into a
//! layer.

mod read;
mod write;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use spawnery_model::ContentDigest;

use crate::content::{ContentError, digest_of};
use crate::layer::LayerError;
use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, TREE_ENCODED_BYTES_MAX, TREE_ENTRIES_MAX};

/// The version of the encoding, which is part of the digest.
const VERSION: u8 = 1;

/// The listing of a file or folder.
///
/// Entries are in the order of their paths' bytes. The first is the file or folder itself, with
/// an empty path; each other has a folder before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    entries: Vec<TreeEntry>,
}

/// A file, link or folder of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Relative to the tree, with `/` between names; empty for what the tree itself is.
    pub path: String,
    /// Permission bits, without set-user-id and the like; 0o777 for links.
    pub mode: u32,
    /// What it is.
    pub kind: TreeKind,
}

/// What an entry of a tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeKind {
    /// A folder.
    Folder,
    /// A file.
    File {
        /// The SHA-256 of what is in it.
        digest: ContentDigest,
        /// Its size in bytes.
        size_bytes: u64,
    },
    /// A symbolic link.
    Link {
        /// As it is written; it is not followed.
        target: String,
    },
}

/// Why a tree could not be read, understood or written.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Nothing is there.
    #[error("`{}` does not exist: correct the path, which is relative to the manifest", .0.display())]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("cannot {step} `{}`: {error}", path.display())]
    Unreadable {
        /// What was done, as a verb.
        step: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// It is a device, a socket or a pipe.
    #[error("`{}` is {kind}: only files, folders and symbolic links can be sent; leave it out", path.display())]
    Kind {
        /// Where.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Its name, or a link's target, is not UTF-8.
    #[error("`{}` is not UTF-8, or longer than 4095 bytes: rename it", .0.display())]
    Name(PathBuf),
    /// It was changed while it was read.
    #[error("`{}` changed while it was read: try again", .0.display())]
    Changed(PathBuf),
    /// There is more than a tree may hold.
    #[error("`{}` holds more than {limit}: name a smaller folder", path.display())]
    TooMuch {
        /// What was read.
        path: PathBuf,
        /// The limit, with its unit.
        limit: String,
    },
    /// Bytes that are not a tree.
    #[error("this is not the listing of a tree: {0}")]
    NotATree(String),
    /// The tree is a folder where a file is wanted, or the other way round.
    #[error("`{path}` is {found}, but {wanted} is wanted there")]
    Wanted {
        /// Where it was to be written.
        path: String,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A file of it is not in the store, or cannot be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// It could not be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

impl Tree {
    /// Lists a file or folder of this machine, and says where the files are by their content.
    /// Symbolic links are listed, not followed; but `path` itself may be one.
    ///
    /// # Errors
    ///
    /// When something does not exist, cannot be read, is neither file, link nor folder, has a
    /// name that is not UTF-8, or there is more of it than the limits in [`crate::limits`]. The
    /// error names it; nothing is ever left out.
    pub fn read(
        path: &Path,
    ) -> Result<(Tree, std::collections::BTreeMap<ContentDigest, PathBuf>), TreeError> {
        read::read(path)
    }

    /// A tree of these entries.
    ///
    /// # Errors
    ///
    /// When they are not sorted, a path is not normal, or an entry's folder is missing.
    pub fn from_entries(entries: Vec<TreeEntry>) -> Result<Tree, TreeError> {
        check(&entries).map_err(TreeError::NotATree)?;
        Ok(Tree { entries })
    }

    /// The entries in their order.
    pub fn entries(&self) -> &[TreeEntry] {
        &self.entries
    }

    /// Whether it is a folder, and not a single file.
    pub fn is_folder(&self) -> bool {
        matches!(self.entries.first(), Some(TreeEntry { kind: TreeKind::Folder, .. }))
    }

    /// The digests of all its files.
    pub fn files(&self) -> BTreeSet<&ContentDigest> {
        let file = |entry: &'_ TreeEntry| matches!(entry.kind, TreeKind::File { .. });
        let files = self.entries.iter().filter(|entry| file(entry));
        files
            .filter_map(|entry| match &entry.kind {
                TreeKind::File { digest, .. } => Some(digest),
                _ => None,
            })
            .collect()
    }

    /// The size of its files together, in bytes.
    pub fn size_bytes(&self) -> u64 {
        let size = |entry: &TreeEntry| match entry.kind {
            TreeKind::File { size_bytes, .. } => size_bytes,
            _ => 0,
        };
        self.entries.iter().map(size).sum()
    }

    /// The digest that names it: the SHA-256 of [`Tree::encode`].
    pub fn digest(&self) -> ContentDigest {
        digest_of(&self.encode())
    }

    /// Canonical CBOR: `[version, [[path, mode, digest, size] | [path, mode, target] |
    /// [path, mode], …]]`, where a digest is a byte string and a target a text.
    pub fn encode(&self) -> Vec<u8> {
        let infallible = "writing to memory cannot fail";
        let mut to = Encoder::new(Vec::with_capacity(self.entries.len() * 96));
        to.array(2).expect(infallible).u8(VERSION).expect(infallible);
        to.array(self.entries.len() as u64).expect(infallible);
        for entry in &self.entries {
            let length = match entry.kind {
                TreeKind::Folder => 2,
                TreeKind::Link { .. } => 3,
                TreeKind::File { .. } => 4,
            };
            to.array(length).expect(infallible);
            to.str(&entry.path).expect(infallible).u32(entry.mode).expect(infallible);
            match &entry.kind {
                TreeKind::Folder => {}
                TreeKind::Link { target } => {
                    to.str(target).expect(infallible);
                }
                TreeKind::File { digest, size_bytes } => {
                    to.str(digest.as_str()).expect(infallible);
                    to.u64(*size_bytes).expect(infallible);
                }
            }
        }
        to.into_writer()
    }

    /// Reads what [`Tree::encode`] wrote. Anything else is refused, also another encoding of the
    /// same entries.
    ///
    /// # Errors
    ///
    /// When it is not a tree, or too large.
    pub fn decode(bytes: &[u8]) -> Result<Tree, TreeError> {
        if bytes.len() > TREE_ENCODED_BYTES_MAX {
            return Err(TreeError::NotATree(format!("it has {} bytes", bytes.len())));
        }
        let entries = decode(bytes).map_err(|error| TreeError::NotATree(error.to_string()))?;
        let tree = Tree::from_entries(entries)?;
        if tree.encode() != bytes {
            return Err(TreeError::NotATree("its encoding is not canonical".to_owned()));
        }
        Ok(tree)
    }
}

fn decode(bytes: &[u8]) -> Result<Vec<TreeEntry>, minicbor::decode::Error> {
    use minicbor::decode::Error;
    let length = |it: Option<u64>| it.ok_or_else(|| Error::message("an array has no length"));
    let mut from = Decoder::new(bytes);
    if length(from.array()?)? != 2 || from.u8()? != VERSION {
        return Err(Error::message("its version is unknown"));
    }
    let count = length(from.array()?)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let parts = length(from.array()?)?;
        let path = from.str()?.to_owned();
        let mode = from.u32()?;
        let kind = match parts {
            2 => TreeKind::Folder,
            3 => TreeKind::Link { target: from.str()?.to_owned() },
            4 => {
                let digest = ContentDigest::try_from(from.str()?.to_owned());
                let digest = digest.map_err(|error| Error::message(error.to_string()))?;
                TreeKind::File { digest, size_bytes: from.u64()? }
            }
            _ => return Err(Error::message("an entry has an unknown form")),
        };
        if entries.len() >= TREE_ENTRIES_MAX {
            return Err(Error::message("it has too many entries"));
        }
        entries.push(TreeEntry { path, mode, kind });
    }
    match from.datatype() {
        Err(error) if error.is_end_of_input() => Ok(entries),
        Ok(Type::Null) | Ok(_) | Err(_) => Err(Error::message("something follows it")),
    }
}

/// Checks everything that [`Tree`] promises of its entries.
fn check(entries: &[TreeEntry]) -> Result<(), String> {
    let Some((top, rest)) = entries.split_first() else {
        return Err("it has no entry".to_owned());
    };
    if !top.path.is_empty() {
        return Err(format!("it begins with `{}`", top.path));
    }
    if entries.len() > TREE_ENTRIES_MAX {
        return Err(format!("it has more than {TREE_ENTRIES_MAX} entries"));
    }
    let mut folders: BTreeSet<&str> = BTreeSet::new();
    let mut before = "";
    for (index, entry) in entries.iter().enumerate() {
        let path = entry.path.as_str();
        if index > 0 {
            check_path(path)?;
            if path <= before {
                return Err(format!("`{path}` is not in its order"));
            }
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            if !folders.contains(parent) {
                return Err(format!("`{path}` is in no folder"));
            }
        }
        before = path;
        if entry.mode & !0o777 != 0 {
            return Err(format!("`{path}` has the mode {:o}", entry.mode));
        }
        match &entry.kind {
            TreeKind::Folder => {
                folders.insert(path);
            }
            TreeKind::Link { target } => {
                let fits = (1..PATH_BYTES_MAX).contains(&target.len()) && !target.contains('\0');
                if !fits || entry.mode != 0o777 {
                    return Err(format!("`{path}` is not a link as there can be one"));
                }
            }
            TreeKind::File { .. } => {}
        }
    }
    match (&top.kind, rest.is_empty()) {
        (TreeKind::Folder, _) | (TreeKind::File { .. }, true) => Ok(()),
        _ => Err("it is neither a folder nor a single file".to_owned()),
    }
}

fn check_path(path: &str) -> Result<(), String> {
    let fits = |name: &str| {
        !matches!(name, "" | "." | "..") && name.len() <= NAME_BYTES_MAX && !name.contains('\0')
    };
    if path.len() >= PATH_BYTES_MAX || !path.split('/').all(fits) {
        return Err(format!("`{path}` is no path inside of it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
