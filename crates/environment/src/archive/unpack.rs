//! From a layer's archive, as images have them, to a layer.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::chunks::with_unpacked;
use super::entries::{Entries, Entry, EntryKind};
use crate::disk::{explained, is_full};
use crate::layer::{LayerError, LayerWriter, Written};
use crate::limits::{ARCHIVE_BYTES_MAX, ARCHIVE_ENTRIES_MAX, ARCHIVE_NOTES_MAX};

/// How the name of a mark in an archive begins; see the OCI image specification, `layer.md`.
const WHITEOUT: &[u8] = b".wh.";
/// The mark that hides all that lower layers have in its folder.
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";
/// How the names of marks begin that an old file system made for itself.
const WHITEOUT_OTHER: &[u8] = b".wh..wh.";

/// What an archive may hold at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Files, folders, links and headers together.
    pub entries_max: u64,
    /// The data of all files, in bytes.
    pub bytes_max: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        UnpackLimits { entries_max: ARCHIVE_ENTRIES_MAX, bytes_max: ARCHIVE_BYTES_MAX }
    }
}

/// Why an archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It ends in the middle.
    #[error("the archive ends in the middle, at byte {0}: it was cut off; fetch it again")]
    Truncated(u64),
    /// It is not as archives are.
    #[error("the archive is broken before byte {position}: {reason}")]
    Broken {
        /// What is wrong.
        reason: &'static str,
        /// Where in the unpacked archive.
        position: u64,
    },
    /// It cannot be read or decompressed.
    #[error("cannot read the archive: {0}")]
    Read(#[source] io::Error),
    /// It holds too many entries.
    #[error("the archive has more than {0} entries, which is the limit of a layer")]
    TooMany(u64),
    /// It holds too many bytes.
    #[error("the archive unpacks to more than {0} bytes, which is the limit of a layer")]
    TooLarge(u64),
    /// Its unpacked bytes are not those that were announced.
    #[error(
        "the archive unpacks to something with the digest {found}, but {expected} was announced: \
         it was changed or cut off on its way"
    )]
    Digest {
        /// What was announced.
        expected: String,
        /// What came.
        found: String,
    },
    /// A file could not be written.
    #[error("cannot write `{path}` of the layer: {}", explained(error))]
    Write {
        /// The path inside.
        path: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// An entry does not fit into the layer.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

impl UnpackError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            UnpackError::Write { error, .. } => is_full(error),
            UnpackError::Layer(error) => error.is_full(),
            _ => false,
        }
    }
}

/// What was unpacked.
#[derive(Debug)]
pub struct Unpacked {
    /// For the layer's commit.
    pub written: Written,
    /// The SHA-256 of the archive, not packed: an image's `diff_id`.
    pub digest: [u8; 32],
    /// What was left out, and why, for people.
    pub notes: Vec<String>,
}

/// Unpacks a layer's archive, packed or not, into a layer. Whiteouts become those of overlayfs.
///
/// Devices are left out with a note: a sandbox could not use them. So are capabilities of files.
/// A path that leads out of the root, an id beyond a sandbox's and a hard link to nothing are
/// errors.
///
/// # Errors
///
/// When the archive is broken or against a limit, or the disk fails or is full. The layer is not
/// whole then: drop its draft.
pub(crate) fn unpack(
    archive: &mut (dyn Read + Send),
    to: LayerWriter,
    limits: UnpackLimits,
) -> Result<Unpacked, UnpackError> {
    let (applied, digest) = with_unpacked(archive, |chunks| {
        let mut entries = Entries::new(chunks, limits);
        let mut applying = Applying { to, notes: Notes::default() };
        while let Some(entry) = entries.next()? {
            applying.apply(entry, &mut entries)?;
        }
        entries.drain()?;
        Ok::<_, UnpackError>(applying)
    });
    let applied = applied?;
    let digest = digest.map_err(UnpackError::Read)?;
    let notes = applied.notes.into_texts();
    Ok(Unpacked { written: applied.to.finish()?, digest, notes })
}

struct Applying {
    to: LayerWriter,
    notes: Notes,
}

#[derive(Default)]
struct Notes {
    texts: Vec<String>,
    further: usize,
}

impl Notes {
    fn add(&mut self, path: &Path, what: &str) {
        if self.texts.len() < ARCHIVE_NOTES_MAX {
            self.texts.push(format!("`{}` {what}", path.display()));
        } else {
            self.further += 1;
        }
    }

    fn into_texts(mut self) -> Vec<String> {
        if self.further > 0 {
            self.texts.push(format!("and {} more", self.further));
        }
        self.texts
    }
}

impl Applying {
    fn apply(&mut self, entry: Entry, entries: &mut Entries<'_>) -> Result<(), UnpackError> {
        if self.apply_mark(&entry)? {
            return Ok(());
        }
        let Entry { path, kind, attributes, had_capability, .. } = entry;
        if had_capability {
            self.notes.add(&path, "loses its capabilities, which no sandbox honours");
        }
        match kind {
            EntryKind::Folder => self.to.folder(&path, &attributes)?,
            EntryKind::File(size, pieces) => {
                let shown = &path;
                self.to.file(&path, &attributes, |file| match pieces {
                    None => write_whole(file, entries, shown).map(Some),
                    Some(pieces) => {
                        write_pieces(file, size, &pieces, entries, shown).map(|()| None)
                    }
                })?;
            }
            EntryKind::HardLink(target) => self.to.hard_link(&path, &target)?,
            EntryKind::Link(target) => self.to.link(&path, &target, &attributes)?,
            EntryKind::Pipe => self.to.pipe(&path, &attributes)?,
            EntryKind::Other(what) => {
                self.notes.add(&path, &format!("is left out: it is {what}"));
            }
        }
        Ok(())
    }

    /// Carries out a mark; `false` if the entry is none.
    fn apply_mark(&mut self, entry: &Entry) -> Result<bool, UnpackError> {
        let name = entry.path.file_name().unwrap_or_default().as_bytes();
        let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(false) };
        let parent = entry.path.parent().unwrap_or(Path::new(""));
        if name == OPAQUE_MARK {
            self.to.opaque(parent)?;
        } else if !name.starts_with(WHITEOUT_OTHER) {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(LayerError::Escape(entry.path.display().to_string()).into());
            }
            let path: PathBuf = parent.join(OsStr::from_bytes(hidden));
            self.to.whiteout(&path)?;
        }
        Ok(true)
    }
}

fn write_error(path: &Path) -> impl Fn(io::Error) -> UnpackError + '_ {
    |error| UnpackError::Write { path: path.display().to_string(), error }
}

fn write_whole(
    file: &mut File,
    entries: &mut Entries<'_>,
    path: &Path,
) -> Result<[u8; 32], UnpackError> {
    let mut hash = Sha256::new();
    entries.read_data(&mut |part| {
        hash.update(part);
        file.write_all(part).map_err(write_error(path))
    })?;
    Ok(hash.finalize().into())
}

fn write_pieces(
    file: &mut File,
    size: u64,
    pieces: &[(u64, u64)],
    entries: &mut Entries<'_>,
    path: &Path,
) -> Result<(), UnpackError> {
    file.set_len(size).map_err(write_error(path))?;
    let mut pieces = pieces.iter().copied().filter(|(_, length)| *length > 0);
    let (mut at, mut left) = (0, 0);
    entries.read_data(&mut |mut part| {
        while !part.is_empty() {
            if left == 0 {
                (at, left) = pieces.next().unwrap_or((0, 0));
            }
            let count = part.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if count == 0 {
                let reason = "a sparse file has more data than pieces";
                return Err(UnpackError::Broken { reason, position: 0 });
            }
            file.write_all_at(&part[..count], at).map_err(write_error(path))?;
            part = &part[count..];
            at += count as u64;
            left -= count as u64;
        }
        Ok(())
    })
}
