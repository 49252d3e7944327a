//! Layers seen as one, as a sandbox sees them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use super::lower::{Found, Lower, look_up};
use super::writer::{attributes_of, open_top, user_xattrs};
use super::{Attributes, Layer, LayerError};
use crate::ids::Ids;
use crate::limits::LINKS_FOLLOWED_MAX;

/// Merged layers.
pub(crate) struct View {
    root: Rc<Vec<Lower>>,
    usr: Rc<Vec<Lower>>,
    /// What was not visited yet: where it is and in what, the last first.
    waiting: Vec<(PathBuf, Rc<Vec<Lower>>)>,
}

/// An entry of the merged layers.
pub(crate) struct Seen {
    /// Relative to the root; empty for the root itself.
    pub(crate) path: PathBuf,
    pub(crate) attributes: Attributes,
    pub(crate) what: SeenKind,
}

/// What an entry is.
pub(crate) enum SeenKind {
    Folder,
    Link(OsString),
    Pipe,
    /// A file, and how it is told from others if it has several names.
    File(File, u64, Option<(u64, u64)>),
}

impl View {
    /// Of layers, the lowest first.
    pub(crate) fn new(layers: &[Layer]) -> Result<View, LayerError> {
        let ids = Ids::of_this_process();
        let lower = |path: &Path| {
            let folder = Rc::new(open_top(path)?);
            Ok::<_, LayerError>(Lower { folder, ids, links_only: false })
        };
        let mut root = Vec::new();
        let mut usr = Vec::new();
        for layer in layers.iter().rev() {
            root.push(lower(&layer.root())?);
            if let Some(path) = layer.usr() {
                usr.push(lower(&path)?);
            }
        }
        let (root, usr) = (Rc::new(root), Rc::new(usr));
        let waiting = vec![(PathBuf::new(), root.clone())];
        Ok(View { root, usr, waiting })
    }

    /// The next entry of a walk through all: a folder before what is in it, names in the order of
    /// their bytes. Whiteouts and what they hide are not seen.
    pub(crate) fn next(&mut self) -> Result<Option<Seen>, LayerError> {
        while let Some((path, folder)) = self.waiting.pop() {
            let failed = |error: io::Error| LayerError::Entry {
                step: "read",
                path: path.display().to_string(),
                error,
            };
            let Some(name) = path.file_name() else {
                return self.top(path, &folder).map(Some);
            };
            let found = look_up(&folder, name).map_err(failed)?;
            let found = match found {
                // Over the view of the host, `/usr` is stacked by itself.
                Found::Nothing | Found::Folder(..) if self.is_usr(&path) => {
                    return self.top(path, &self.usr.clone()).map(Some);
                }
                other => other,
            };
            if let Some(seen) = self.see(&path, name, &folder, found).map_err(failed)? {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    /// Reads a file by its absolute path, through links of the layers; `None` if there is none, or
    /// it is larger than `size_bytes_max`.
    pub(crate) fn read(&self, path: &Path, size_bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let mut way: Vec<Rc<Vec<Lower>>> = vec![self.root.clone()];
        let mut ahead = names(path);
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let Some(here) = way.last().cloned() else { return Ok(None) };
            match look_up(&here, &name)? {
                Found::Nothing => return Ok(None),
                Found::Folder(lowers, _) => way.push(Rc::new(lowers)),
                Found::Link(target) => {
                    links += 1;
                    if links > LINKS_FOLLOWED_MAX {
                        return Ok(None);
                    }
                    let target = Path::new(&target);
                    if target.is_absolute() {
                        way.truncate(1);
                    }
                    ahead.extend(names(target));
                }
                Found::File(lower) if ahead.is_empty() => {
                    let Some((file, stat)) = open_file(&lower, &name)? else { return Ok(None) };
                    if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > size_bytes_max {
                        return Ok(None);
                    }
                    let mut bytes = Vec::new();
                    file.take(size_bytes_max).read_to_end(&mut bytes)?;
                    return Ok(Some(bytes));
                }
                Found::File(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    fn is_usr(&self, path: &Path) -> bool {
        !self.usr.is_empty() && path == Path::new("usr")
    }

    fn top(&mut self, path: PathBuf, lowers: &Rc<Vec<Lower>>) -> Result<Seen, LayerError> {
        let failed = |error: io::Error| LayerError::Entry {
            step: "read",
            path: path.display().to_string(),
            error,
        };
        let mut attributes = Attributes::new(0o755);
        if let Some(lower) = lowers.first() {
            let stat = rustix::fs::fstat(&*lower.folder).map_err(|it| failed(it.into()))?;
            attributes = attributes_of(&stat, lower.ids);
        }
        let with_usr = path.as_os_str().is_empty() && !self.usr.is_empty();
        self.enter(&path, lowers.clone(), with_usr).map_err(failed)?;
        Ok(Seen { path, attributes, what: SeenKind::Folder })
    }

    fn enter(&mut self, path: &Path, lowers: Rc<Vec<Lower>>, with_usr: bool) -> io::Result<()> {
        let mut names = BTreeSet::new();
        if with_usr {
            names.insert(OsString::from("usr"));
        }
        for lower in lowers.iter() {
            for entry in Dir::read_from(&*lower.folder)? {
                let name = entry?.file_name().to_owned();
                let name = OsStr::from_bytes(name.to_bytes());
                if name != "." && name != ".." {
                    names.insert(name.to_owned());
                }
            }
        }
        self.waiting.extend(names.iter().rev().map(|name| (path.join(name), lowers.clone())));
        Ok(())
    }

    fn see(
        &mut self,
        path: &Path,
        name: &OsStr,
        folder: &[Lower],
        found: Found,
    ) -> io::Result<Option<Seen>> {
        let path = path.to_owned();
        match found {
            Found::Nothing => Ok(None),
            Found::Folder(lowers, stat) => {
                let Some(first) = lowers.first() else { return Ok(None) };
                let mut attributes = attributes_of(&stat, first.ids);
                attributes.xattrs = user_xattrs(&*first.folder)?;
                self.enter(&path, Rc::new(lowers), false)?;
                Ok(Some(Seen { path, attributes, what: SeenKind::Folder }))
            }
            Found::Link(target) => {
                let stat = folder.iter().find_map(|lower| {
                    rustix::fs::statat(&*lower.folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()
                });
                let ids = Ids::of_this_process();
                let attributes =
                    stat.map_or_else(|| Attributes::new(0o777), |it| attributes_of(&it, ids));
                Ok(Some(Seen { path, attributes, what: SeenKind::Link(target) }))
            }
            Found::File(lower) => {
                let stat = rustix::fs::statat(&*lower.folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let mut attributes = attributes_of(&stat, lower.ids);
                if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
                    return Ok(Some(Seen { path, attributes, what: SeenKind::Pipe }));
                }
                let Some((file, stat)) = open_file(&lower, name)? else { return Ok(None) };
                attributes.xattrs = user_xattrs(&file)?;
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                let same = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
                Ok(Some(Seen { path, attributes, what: SeenKind::File(file, size, same) }))
            }
        }
    }
}

/// Opens a regular file of a layer; `None` if it is something else.
fn open_file(lower: &Lower, name: &OsStr) -> io::Result<Option<(File, Stat)>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(&*lower.folder, name, flags, Mode::empty())?);
    let stat = rustix::fs::fstat(&file)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(is_file.then_some((file, stat)))
}

/// The names of a path, the last first.
pub(super) fn names(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}
