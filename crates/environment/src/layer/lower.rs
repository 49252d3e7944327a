//! What the layers below have: the look-up that overlayfs does, before it is mounted.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::ids::Ids;
use crate::layer::OPAQUE;

/// A folder of one lower layer.
#[derive(Debug, Clone)]
pub(crate) struct Lower {
    pub(crate) folder: Rc<OwnedFd>,
    /// How its owners are written.
    pub(crate) ids: Ids,
    /// Whether it is a folder of the host itself, of which only symbolic links are taken.
    pub(crate) links_only: bool,
}

/// What the lower layers have under a name.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    /// A folder: what is merged, the topmost first, and the attributes that are seen.
    Folder(Vec<Lower>, Box<Stat>),
    Link(OsString),
    /// A file, or anything else: the folder where it is.
    File(Lower),
}

pub(crate) const OPEN_FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Looks for a name in merged folders, the topmost first.
pub(crate) fn look_up(lowers: &[Lower], name: &OsStr) -> io::Result<Found> {
    let mut merged: Vec<Lower> = Vec::new();
    let mut seen = None;
    for lower in lowers {
        let stat = match rustix::fs::statat(&*lower.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if lower.links_only && kind != FileType::Symlink {
            continue;
        }
        if kind == FileType::Directory {
            let folder = rustix::fs::openat(&*lower.folder, name, OPEN_FOLDER, Mode::empty())?;
            let opaque = is_opaque(&folder)?;
            merged.push(Lower { folder: Rc::new(folder), ..lower.clone() });
            seen.get_or_insert(stat);
            if opaque {
                break;
            }
            continue;
        }
        if seen.is_some() || is_whiteout(&stat) {
            break;
        }
        if kind == FileType::Symlink {
            return Ok(Found::Link(read_link(&*lower.folder, name)?));
        }
        return Ok(Found::File(lower.clone()));
    }
    Ok(match seen {
        Some(stat) => Found::Folder(merged, Box::new(stat)),
        None => Found::Nothing,
    })
}

/// Whether a file marks that something below it is removed.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a folder hides what lower layers have in it.
pub(crate) fn is_opaque(folder: impl AsFd) -> io::Result<bool> {
    let mut value = [0_u8; 8];
    match rustix::fs::fgetxattr(folder, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        // A longer value than any that has a meaning.
        Err(Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn read_link(folder: impl AsFd, name: &OsStr) -> io::Result<OsString> {
    let target: CString = rustix::fs::readlinkat(folder, name, Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()))
}
