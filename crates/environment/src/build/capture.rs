//! Turns what a sandbox has written into a layer.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::executor::Kept;
use super::failure::Failure;
use super::limits::{MODIFIED_SECONDS, OUTPUT_BYTES_MAX};
use super::sandboxed::at;
use crate::disk;
use crate::layer::{Attributes, Layer, LayerDraft, LayerWriter};

/// What the sandbox itself writes below `/`, and what is made anew in each.
const NOT_KEPT: &[&str] =
    &["dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "run", "sys", "tmp"];

/// File in a layer's folder with the output of the step that made it.
pub(super) const OUTPUT_FILE: &str = "output";

/// Makes a layer of what a sandbox has left, with the same times everywhere. `also_removed` are
/// further paths that are not kept.
pub(super) fn capture(
    mut draft: LayerDraft,
    kept: &Kept,
    also_removed: &[&str],
    output: &[u8],
) -> Result<Layer, Failure> {
    let removed: Vec<&str> = NOT_KEPT.iter().chain(also_removed).copied().collect();
    normalize(&kept.root, Path::new(""), &removed)?;
    let usr = kept.usr.as_deref().filter(|usr| usr.is_dir());
    if let Some(usr) = usr {
        normalize(usr, Path::new(""), &[])?;
    }
    draft.adopt(&kept.root, usr).map_err(Failure::of)?;
    keep_output(&draft, output)?;
    draft.commit().map_err(Failure::of)
}

/// Puts the output of a step beside the layer.
pub(super) fn keep_output(draft: &LayerDraft, output: &[u8]) -> Result<(), Failure> {
    let path = draft.folder().join(OUTPUT_FILE);
    let from = output.len().saturating_sub(OUTPUT_BYTES_MAX);
    fs::write(&path, &output[from..]).map_err(|error| at("write", &path, &error))
}

/// Sets the times of all that a step made in a folder.
pub(super) fn set_all_times(folder: &Path) -> Result<(), Failure> {
    normalize(folder, Path::new(""), &[])
}

/// Removes what is not kept, and sets all times. No process of the sandbox lives any more, so
/// nothing changes meanwhile; symbolic links are never followed.
fn normalize(folder: &Path, relative: &Path, removed: &[&str]) -> Result<(), Failure> {
    let metadata = fs::symlink_metadata(folder).map_err(|error| at("look at", folder, &error))?;
    let mode = metadata.permissions().mode();
    // Without root, the owner too is kept out by permissions.
    let closed = mode & 0o700 != 0o700;
    if closed {
        set_mode(folder, mode | 0o700)?;
    }
    for entry in fs::read_dir(folder).map_err(|error| at("list", folder, &error))? {
        let entry = entry.map_err(|error| at("list", folder, &error))?;
        let (path, inside) = (entry.path(), relative.join(entry.file_name()));
        if removed.iter().any(|it| Path::new(it) == inside) {
            disk::remove_all(&path).map_err(Failure::of)?;
            continue;
        }
        let kind = entry.file_type().map_err(|error| at("look at", &path, &error))?;
        if kind.is_dir() {
            normalize(&path, &inside, removed)?;
        } else {
            set_times(&path)?;
        }
    }
    if closed {
        set_mode(folder, mode)?;
    }
    set_times(folder)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777))
        .map_err(|error| at("set the permissions of", path, &error))
}

fn set_times(path: &Path) -> Result<(), Failure> {
    let time = Timespec { tv_sec: MODIFIED_SECONDS, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| at("set the times of", path, &error.into()))
}

/// Attributes of something that a step makes.
pub(super) fn attributes(mode: u32, user: u32) -> Attributes {
    Attributes {
        mode,
        uid: user.into(),
        gid: user.into(),
        modified: (MODIFIED_SECONDS, 0),
        xattrs: Vec::new(),
    }
}

/// Copies a folder of files, folders and symbolic links into a layer, as a user's. The bits for
/// executing are kept, others are as usual.
pub(super) fn copy_in(
    writer: &mut LayerWriter,
    from: &Path,
    to: &Path,
    user: u32,
) -> Result<(), Failure> {
    writer.folder(to, &attributes(0o755, user)).map_err(Failure::of)?;
    let mut entries: Vec<fs::DirEntry> =
        fs::read_dir(from).and_then(Iterator::collect).map_err(|error| at("list", from, &error))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata =
            fs::symlink_metadata(&source).map_err(|error| at("look at", &source, &error))?;
        if metadata.is_dir() {
            copy_in(writer, &source, &target, user)?;
        } else if metadata.is_symlink() {
            let link = fs::read_link(&source).map_err(|error| at("read", &source, &error))?;
            let attributes = attributes(0o777, user);
            writer.link(&target, link.as_os_str(), &attributes).map_err(Failure::of)?;
        } else if metadata.is_file() {
            let mode = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            copy_file(writer, &source, &target, &attributes(mode, user))?;
        } else {
            let name = String::from_utf8_lossy(entry.file_name().as_bytes()).into_owned();
            return Err(Failure::new(format!("`{name}` is neither file, folder nor link")));
        }
    }
    Ok(())
}

fn copy_file(
    writer: &mut LayerWriter,
    source: &Path,
    target: &Path,
    attributes: &Attributes,
) -> Result<(), Failure> {
    let mut from = fs::File::open(source).map_err(|error| at("open", source, &error))?;
    writer
        .file::<CopyError>(target, attributes, |file| {
            std::io::copy(&mut from, file).map_err(CopyError::Io)?;
            Ok(None)
        })
        .map_err(|error| match error {
            CopyError::Layer(error) => Failure::of(error),
            CopyError::Io(error) => at("copy", source, &error),
        })
}

enum CopyError {
    Io(std::io::Error),
    Layer(crate::layer::LayerError),
}

impl From<crate::layer::LayerError> for CopyError {
    fn from(error: crate::layer::LayerError) -> CopyError {
        CopyError::Layer(error)
    }
}
