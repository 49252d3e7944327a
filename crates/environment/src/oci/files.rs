//! The files of an image that is not in a registry: a folder, an archive, or the content of the
//! store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::ImageError;
use crate::archive::{Entries, EntryKind, UnpackError, UnpackLimits};
use crate::content::Content;
use crate::limits::{COPY_BUFFER_BYTES, TREE_ENTRIES_MAX};
use crate::store::{Scratch, Store};
use crate::tree::{Tree, TreeKind};

/// Files by their names inside of an image.
pub trait Files {
    /// Opens a file; `None` if there is none of that name.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be opened.
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Read + Send>>>;

    /// What it is, for messages.
    fn what(&self) -> String;
}

/// A folder with an OCI image layout.
#[derive(Debug)]
pub struct FolderFiles {
    path: PathBuf,
    folder: std::os::fd::OwnedFd,
}

impl FolderFiles {
    /// Opens the folder.
    ///
    /// # Errors
    ///
    /// When it is not there, or cannot be opened.
    pub fn new(path: &Path) -> Result<FolderFiles, ImageError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| {
            ImageError::Read { what: path.display().to_string(), error: error.into() }
        })?;
        Ok(FolderFiles { path: path.to_owned(), folder })
    }
}

impl Files for FolderFiles {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Read + Send>>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        // A layout of somebody else must not show a file of this machine.
        let beneath = ResolveFlags::BENEATH;
        match rustix::fs::openat2(&self.folder, name, flags, Mode::empty(), beneath) {
            Ok(file) => {
                let file = File::from(file);
                let is_file = file.metadata()?.is_file();
                Ok(is_file.then(|| Box::new(file) as Box<dyn Read + Send>))
            }
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn what(&self) -> String {
        self.path.display().to_string()
    }
}

/// A folder with an OCI image layout that a client has sent as a [`Tree`].
#[derive(Debug)]
pub struct TreeFiles<'a> {
    tree: &'a Tree,
    content: &'a Content,
    what: String,
}

impl<'a> TreeFiles<'a> {
    /// `what` is for messages: the path that the user gave.
    pub fn new(tree: &'a Tree, content: &'a Content, what: &str) -> TreeFiles<'a> {
        TreeFiles { tree, content, what: what.to_owned() }
    }
}

impl Files for TreeFiles<'_> {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Read + Send>>> {
        let entries = self.tree.entries();
        let Ok(at) = entries.binary_search_by(|it| it.path.as_str().cmp(name)) else {
            return Ok(None);
        };
        let TreeKind::File { digest, .. } = &entries[at].kind else { return Ok(None) };
        let file = self.content.get(digest).map_err(io::Error::other)?;
        Ok(Some(Box::new(file)))
    }

    fn what(&self) -> String {
        self.what.clone()
    }
}

/// An archive: an OCI image layout in a tar file, or what `docker save` writes; also packed.
#[derive(Debug)]
pub struct ArchiveFiles {
    file: Arc<File>,
    /// Where each file is in the archive, and its size.
    places: BTreeMap<String, (u64, u64)>,
    links: BTreeMap<String, String>,
    what: String,
    _scratch: Option<Scratch>,
}

impl ArchiveFiles {
    /// Opens an archive and reads its table. A packed one is unpacked into the store's scratch
    /// space first. `what` is for messages.
    ///
    /// # Errors
    ///
    /// When it is not an archive, or cannot be read.
    pub fn new(store: &Store, mut file: File, what: &str) -> Result<ArchiveFiles, ImageError> {
        let failed = |error: io::Error| ImageError::Read { what: what.to_owned(), error };
        let mut start = [0_u8; 4];
        let count = file.read_at(&mut start, 0).map_err(failed)?;
        let gzip = start[..count].starts_with(&[0x1f, 0x8b]);
        let zstd = start[..count] == [0x28, 0xb5, 0x2f, 0xfd];
        let mut kept = None;
        if gzip || zstd {
            let scratch = store.scratch()?;
            let path = scratch.folder().join("archive");
            let unpacked = File::options().create_new(true).read(true).write(true).open(&path);
            let mut unpacked = unpacked.map_err(failed)?;
            let packed = BufReader::with_capacity(COPY_BUFFER_BYTES, &mut file);
            let mut from: Box<dyn Read> = match gzip {
                true => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
                false => {
                    Box::new(zstd::stream::read::Decoder::with_buffer(packed).map_err(failed)?)
                }
            };
            let limits = UnpackLimits::default();
            let mut limited = (&mut from).take(limits.bytes_max);
            io::copy(&mut limited, &mut unpacked).map_err(failed)?;
            drop(from);
            file = unpacked;
            kept = Some(scratch);
        }
        let (places, links) = table(&file).map_err(|error| ImageError::NotAnImage {
            what: what.to_owned(),
            reason: error.to_string(),
        })?;
        let file = Arc::new(file);
        Ok(ArchiveFiles { file, places, links, what: what.to_owned(), _scratch: kept })
    }
}

type Table = (BTreeMap<String, (u64, u64)>, BTreeMap<String, String>);

fn table(file: &File) -> Result<Table, UnpackError> {
    let part = Part {
        file: Arc::new(file.try_clone().map_err(UnpackError::Read)?),
        at: 0,
        left: u64::MAX,
    };
    let mut from = BufReader::with_capacity(COPY_BUFFER_BYTES, part);
    let limits = UnpackLimits { entries_max: TREE_ENTRIES_MAX as u64, ..UnpackLimits::default() };
    let mut entries = Entries::new(&mut from, limits);
    let (mut places, mut links) = (BTreeMap::new(), BTreeMap::new());
    while let Some(entry) = entries.next()? {
        let Some(name) = normal(&entry.path) else { continue };
        match entry.kind {
            EntryKind::File(size, None) => {
                places.insert(name, (entries.position(), size));
            }
            EntryKind::Link(target) => {
                // Old versions of `docker save` link to a layer that occurs twice.
                let beside = Path::new(&name).parent().unwrap_or(Path::new("")).join(target);
                if let Some(target) = normal(&beside) {
                    links.insert(name, target);
                }
            }
            EntryKind::HardLink(target) => {
                if let Some(target) = normal(&target) {
                    links.insert(name, target);
                }
            }
            _ => {}
        }
    }
    Ok((places, links))
}

/// A name without `.` and `..`; `None` if it leads out.
fn normal(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

impl Files for ArchiveFiles {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Read + Send>>> {
        let place = self.places.get(name);
        let place = place.or_else(|| self.places.get(self.links.get(name)?));
        Ok(place.map(|(at, size)| {
            let part = Part { file: self.file.clone(), at: *at, left: *size };
            Box::new(part) as Box<dyn Read + Send>
        }))
    }

    fn what(&self) -> String {
        self.what.clone()
    }
}

/// A part of a file.
struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let length = to.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut to[..length], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
