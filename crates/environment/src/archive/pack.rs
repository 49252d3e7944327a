//! A layer as a stream, for another node.
//!
//! The stream is a tar archive, packed by zstd, of the layer's folders `root` and `usr`.
//! Whiteouts are what they are on the disk, character devices 0/0, and opaque folders have the
//! extended attribute `user.overlay.opaque`: names such as `.wh.x` have no meaning in it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::chunks::with_unpacked;
use super::entries::{Entries, EntryKind};
use super::unpack::{UnpackError, UnpackLimits};
use super::write::{ArchiveWriter, Outgoing};
use crate::disk::{At, DiskError};
use crate::ids::Ids;
use crate::layer::{
    AREAS, Attributes, Kind, Layer, LayerError, LayerRecord, LayerWriter, OPAQUE, Walk, user_xattrs,
};
use crate::store::Store;

/// How much zstd tries: nodes are near each other, so the processor counts more than the line.
const LEVEL: i32 = 1;

/// Why a layer could not be sent or taken.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The other side is gone, or the disk there is full.
    #[error("cannot send the layer: {0}")]
    Send(#[source] io::Error),
    /// A file of it could not be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What came is no layer.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// It could not be put into the store, or is another layer than was announced.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// Writes a layer as a stream. Blocks as long as the other side takes.
///
/// # Errors
///
/// When the layer cannot be read, or the stream not be written.
pub fn pack(layer: &Layer, to: &mut dyn Write) -> Result<(), TransferError> {
    let ids = Ids::of_this_process();
    let packed = zstd::stream::write::Encoder::new(to, LEVEL).map_err(TransferError::Send)?;
    let mut archive = ArchiveWriter::new(packed);
    let mut names: HashMap<u64, PathBuf> = HashMap::new();
    for area in AREAS {
        let top = layer.folder.join(area);
        if !top.is_dir() {
            continue;
        }
        let mut walk = Walk::new(&top);
        while let Some(it) = walk.next()? {
            let path = match it.path.as_os_str().is_empty() {
                true => PathBuf::from(area),
                false => Path::new(area).join(&it.path),
            };
            let metadata = &it.metadata;
            let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
            let mut attributes = Attributes {
                mode: metadata.mode() & 0o7777,
                uid: u64::from(ids.to_inside(metadata.uid())),
                gid: u64::from(ids.to_inside(metadata.gid())),
                modified: (metadata.mtime(), nanoseconds),
                xattrs: Vec::new(),
            };
            let mut write = |attributes: &Attributes, what: Outgoing<'_>| {
                archive.write(&path, attributes, what).map_err(TransferError::Send)
            };
            match it.kind() {
                Kind::Folder => {
                    let folder = File::open(&it.place).at("open", &it.place)?;
                    attributes.xattrs =
                        user_xattrs(&folder).at("read the attributes of", &it.place)?;
                    if crate::layer::is_opaque(&folder).at("look at", &it.place)? {
                        attributes.xattrs.push((OPAQUE.into(), b"y".to_vec()));
                    }
                    write(&attributes, Outgoing::Folder)?;
                }
                Kind::File => {
                    if metadata.nlink() > 1
                        && let Some(first) = names.get(&metadata.ino())
                    {
                        write(&attributes, Outgoing::HardLink(first))?;
                        continue;
                    }
                    let mut file = File::open(&it.place).at("open", &it.place)?;
                    attributes.xattrs =
                        user_xattrs(&file).at("read the attributes of", &it.place)?;
                    write(&attributes, Outgoing::File(metadata.len(), &mut file))?;
                    if metadata.nlink() > 1 {
                        names.insert(metadata.ino(), path);
                    }
                }
                Kind::Link => {
                    let target = fs::read_link(&it.place).at("read the link", &it.place)?;
                    write(&attributes, Outgoing::Link(target.as_os_str()))?;
                }
                Kind::Pipe => write(&attributes, Outgoing::Pipe)?,
                Kind::Whiteout => write(&attributes, Outgoing::Whiteout)?,
                // A commit took it out; nobody writes to a layer afterwards.
                Kind::Other => {}
            }
        }
    }
    let packed = archive.finish().map_err(TransferError::Send)?;
    packed.finish().map_err(TransferError::Send)?.flush().map_err(TransferError::Send)
}

/// Takes a layer of another node into the store. `announced` is its record there, from somebody
/// who is trusted; the layers below it must be in this store already.
///
/// # Errors
///
/// When the stream is broken, its content is not the announced one, a layer below is missing, or
/// the disk fails or is full. Nothing is left then.
pub fn unpack(
    store: &Store,
    announced: &LayerRecord,
    from: &mut (dyn Read + Send),
) -> Result<Layer, TransferError> {
    let host = announced.host.then_some(Path::new("/"));
    let draft = store.begin_layer(&announced.key, &announced.parents, host, &announced.step)?;
    let (written, digest) = with_unpacked(from, |chunks| {
        let mut entries = Entries::new(chunks, UnpackLimits::default());
        let mut to = draft.bare_writer()?;
        while let Some(entry) = entries.next()? {
            take(entry, &mut entries, &mut to, announced.host)?;
        }
        entries.drain()?;
        Ok::<_, TransferError>(to.finish()?)
    });
    let written = written?;
    digest.map_err(UnpackError::Read)?;
    Ok(draft.commit_expecting(written, Some(&announced.content))?)
}

fn take(
    entry: super::entries::Entry,
    entries: &mut Entries<'_>,
    to: &mut LayerWriter,
    host: bool,
) -> Result<(), TransferError> {
    let path = inside(&entry.path, host)?;
    let attributes = &entry.attributes;
    match entry.kind {
        EntryKind::Folder => {
            to.folder(&path, attributes)?;
            if attributes.xattrs.iter().any(|(name, value)| name == OPAQUE && value == b"y") {
                to.opaque(&path)?;
            }
        }
        EntryKind::File(..) => {
            let at = path.clone();
            to.file(&path, attributes, |file| {
                entries.read_data(&mut |part| {
                    file.write_all(part).map_err(|error| UnpackError::Write {
                        path: at.display().to_string(),
                        error,
                    })
                })?;
                Ok::<_, UnpackError>(None)
            })?;
        }
        EntryKind::HardLink(target) => to.hard_link(&path, &inside(&target, host)?)?,
        EntryKind::Link(target) => to.link(&path, &target, attributes)?,
        EntryKind::Pipe => to.pipe(&path, attributes)?,
        EntryKind::Other(_) => to.whiteout(&path)?,
    }
    Ok(())
}

/// The path inside of a path in the stream.
fn inside(path: &Path, host: bool) -> Result<PathBuf, UnpackError> {
    if let Ok(rest) = path.strip_prefix("root") {
        return Ok(rest.to_owned());
    }
    match path.strip_prefix("usr") {
        Ok(rest) if host => Ok(Path::new("usr").join(rest)),
        _ => Err(LayerError::Escape(path.display().to_string()).into()),
    }
}
