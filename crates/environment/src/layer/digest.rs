//! What is in a layer, as one digest that does not depend on times.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use minicbor::Encoder;
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use spawnery_model::ContentDigest;

use super::{LayerError, OPAQUE, OVERLAY_PREFIX, writer};
use crate::content::sha256_of;
use crate::disk::{At, DiskError};
use crate::ids::Ids;
use crate::limits::PATH_BYTES_MAX;

/// The folders of a layer that are seen inside.
pub(crate) const AREAS: [&str; 2] = ["root", "usr"];

/// Digest and size of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The SHA-256 of all paths with kinds, modes, ids inside, targets of links, hashes of files,
    /// extended attributes of users and whiteouts; without times and places on the disk.
    pub content: ContentDigest,
    /// The space on the disk, in bytes; what has several names counts once.
    pub size_bytes: u64,
}

/// One entry of a layer.
pub(crate) struct Walked {
    /// Relative to the area; empty for its top.
    pub(crate) path: PathBuf,
    /// Where it is on the disk.
    pub(crate) place: PathBuf,
    pub(crate) metadata: Metadata,
}

/// What an entry of a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File,
    Link,
    Pipe,
    Whiteout,
    /// A socket or device: nothing that can be kept.
    Other,
}

impl Walked {
    pub(crate) fn kind(&self) -> Kind {
        let kind = self.metadata.file_type();
        if kind.is_dir() {
            Kind::Folder
        } else if kind.is_file() {
            Kind::File
        } else if kind.is_symlink() {
            Kind::Link
        } else if kind.is_fifo() {
            Kind::Pipe
        } else if kind.is_char_device() && self.metadata.rdev() == 0 {
            Kind::Whiteout
        } else {
            Kind::Other
        }
    }
}

/// All entries below a folder: a folder before what is in it, names in the order of their bytes.
pub(crate) struct Walk {
    top: PathBuf,
    waiting: Vec<PathBuf>,
}

impl Walk {
    pub(crate) fn new(top: &Path) -> Walk {
        Walk { top: top.to_owned(), waiting: vec![PathBuf::new()] }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Walked>, LayerError> {
        let Some(path) = self.waiting.pop() else { return Ok(None) };
        let place = match path.as_os_str().is_empty() {
            true => self.top.clone(),
            false => self.top.join(&path),
        };
        if path.as_os_str().len() >= PATH_BYTES_MAX {
            return Err(LayerError::TooLong(path.to_string_lossy().chars().take(80).collect()));
        }
        let metadata = fs::symlink_metadata(&place).at("look at", &place)?;
        let metadata = keep_access(&place, metadata)?;
        if metadata.is_dir() {
            let mut names: Vec<OsString> = list(&place)?;
            names.sort_unstable_by(|a, b| b.cmp(a));
            self.waiting.extend(names.iter().map(|name| path.join(name)));
        }
        Ok(Some(Walked { path, place, metadata }))
    }
}

/// Without root, the owner has to keep access to files and folders: see [`Ids::mode_on_disk`].
fn keep_access(place: &Path, metadata: Metadata) -> Result<Metadata, DiskError> {
    let is_folder = metadata.is_dir();
    let mode = metadata.mode() & 0o7777;
    let wanted = Ids::of_this_process().mode_on_disk(mode, is_folder);
    if wanted == mode || !(is_folder || metadata.is_file()) {
        return Ok(metadata);
    }
    fs::set_permissions(place, fs::Permissions::from_mode(wanted)).at("open", place)?;
    fs::symlink_metadata(place).at("look at", place)
}

fn list(folder: &Path) -> Result<Vec<OsString>, DiskError> {
    let entries = fs::read_dir(folder).at("list", folder)?;
    entries.map(|entry| Ok(entry.at("list", folder)?.file_name())).collect()
}

/// Digest and size of a layer's folder. What no layer may hold is taken out: sockets, devices,
/// notes of overlayfs to itself, capabilities and access lists of files, which name ids of the
/// host.
pub(crate) fn summarize(
    folder: &Path,
    hashes: &HashMap<u64, [u8; 32]>,
) -> Result<Summary, LayerError> {
    let ids = Ids::of_this_process();
    let mut hash = Sha256::new();
    let mut seen = HashSet::new();
    let mut size_bytes = 0;
    for area in AREAS {
        let top = folder.join(area);
        if !top.is_dir() {
            continue;
        }
        hash.update([area.len() as u8]);
        hash.update(area);
        let mut walk = Walk::new(&top);
        while let Some(it) = walk.next()? {
            let kind = it.kind();
            if kind == Kind::Other {
                fs::remove_file(&it.place).at("remove the device or socket", &it.place)?;
                continue;
            }
            if it.metadata.nlink() < 2 || kind == Kind::Folder || seen.insert(it.metadata.ino()) {
                size_bytes += it.metadata.blocks() * 512;
            }
            let encoded = encode(&it, kind, ids, hashes)?;
            hash.update((encoded.len() as u64).to_be_bytes());
            hash.update(&encoded);
        }
    }
    Ok(Summary { content: ContentDigest::from_bytes(hash.finalize().into()), size_bytes })
}

/// One entry as canonical CBOR.
fn encode(
    it: &Walked,
    kind: Kind,
    ids: Ids,
    hashes: &HashMap<u64, [u8; 32]>,
) -> Result<Vec<u8>, LayerError> {
    let mut to = Encoder::new(Vec::with_capacity(256));
    let infallible = "writing to memory cannot fail";
    to.array(7).expect(infallible).bytes(it.path.as_os_str().as_bytes()).expect(infallible);
    if kind == Kind::Whiteout {
        to.u8(4).expect(infallible);
        return Ok(to.into_writer());
    }
    let mut payload = Vec::new();
    let mut attributes = Vec::new();
    let number = match kind {
        Kind::Folder => {
            let opaque = clean_xattrs(&it.place)?;
            attributes = xattrs_of(&it.place)?;
            payload.push(u8::from(opaque));
            0
        }
        Kind::File => {
            clean_xattrs(&it.place)?;
            attributes = xattrs_of(&it.place)?;
            let known = hashes.get(&it.metadata.ino()).copied();
            payload.extend(known.map_or_else(|| hash_of(&it.place), Ok)?);
            1
        }
        Kind::Link => {
            let target = fs::read_link(&it.place).at("read the link", &it.place)?;
            payload.extend(target.as_os_str().as_bytes());
            2
        }
        _ => 3,
    };
    // The mode of a symbolic link has no meaning.
    let mode = if kind == Kind::Link { 0o777 } else { it.metadata.mode() & 0o7777 };
    to.u8(number).expect(infallible).u32(mode).expect(infallible);
    to.u32(ids.to_inside(it.metadata.uid())).expect(infallible);
    to.u32(ids.to_inside(it.metadata.gid())).expect(infallible);
    to.bytes(&payload).expect(infallible);
    to.array(attributes.len() as u64).expect(infallible);
    for (name, value) in &attributes {
        to.bytes(name.as_bytes()).expect(infallible).bytes(value).expect(infallible);
    }
    Ok(to.into_writer())
}

fn hash_of(place: &Path) -> Result<[u8; 32], DiskError> {
    let mut file = File::open(place).at("open", place)?;
    Ok(sha256_of(&mut file).at("read", place)?.0)
}

fn xattrs_of(place: &Path) -> Result<Vec<(OsString, Vec<u8>)>, DiskError> {
    // Most have none, and need not be opened.
    let mut none = [0_u8; 1];
    match rustix::fs::llistxattr(place, &mut none[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        _ => writer::user_xattrs(File::open(place).at("open", place)?)
            .at("read the attributes of", place),
    }
}

/// Takes away the extended attributes that no layer may have; returns whether the folder is
/// opaque.
fn clean_xattrs(place: &Path) -> Result<bool, DiskError> {
    let mut names = [0_u8; 4096];
    let length = match rustix::fs::llistxattr(place, &mut names[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(false),
        Ok(length) => length,
        Err(Errno::RANGE) => {
            let mut names = vec![0_u8; 64 << 10];
            let length =
                rustix::fs::llistxattr(place, &mut names[..]).at("list attributes of", place)?;
            names.truncate(length);
            return clean_names(place, &names);
        }
        Err(error) => return Err(error).at("list the attributes of", place),
    };
    clean_names(place, &names[..length])
}

fn clean_names(place: &Path, names: &[u8]) -> Result<bool, DiskError> {
    let mut opaque = false;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name == OPAQUE.as_bytes() {
            let mut value = [0_u8; 8];
            let length = rustix::fs::lgetxattr(place, OPAQUE, &mut value[..])
                .at("read the attributes of", place)?;
            if value[..length] == *b"y" {
                opaque = true;
                continue;
            }
        }
        let unwanted = name.starts_with(OVERLAY_PREFIX.as_bytes())
            || name == b"security.capability"
            || name.starts_with(b"system.posix_acl_");
        if unwanted {
            let name = std::ffi::OsStr::from_bytes(name);
            rustix::fs::lremovexattr(place, name).at("take an attribute from", place)?;
        }
    }
    Ok(opaque)
}
