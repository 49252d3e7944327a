//! Writes into a layer by paths inside, as if the layers below it were there.
//!
//! Every path is walked one name at a time from an open folder, and no step follows a symbolic
//! link by itself: where there is one, in this layer or below it, its target is walked from the
//! layer's root. So nothing can lead out, whatever a layer holds.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::lower::{self, Found, Lower, OPEN_FOLDER};
use super::view::names;
use super::{Layer, LayerError, OPAQUE, OVERLAY_PREFIX};
use crate::disk::{At, DiskError};
use crate::ids::Ids;
use crate::limits::{LAYER_FOLDERS_MAX, LINKS_FOLLOWED_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX};

/// Open folders that are remembered, so that files of one folder do not walk to it each: few,
/// because each is an open file.
const FOLDERS_OPEN_MAX: usize = 64;

/// Owner, permissions and times of what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, with set-user-id and the like.
    pub mode: u32,
    /// The user inside.
    pub uid: u64,
    /// The group inside.
    pub gid: u64,
    /// Time of modification: seconds since the Unix epoch, and nanoseconds.
    pub modified: (i64, u32),
    /// Extended attributes; only those that begin with `user.` are kept.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Attributes {
    /// Of root, at the Unix epoch.
    pub fn new(mode: u32) -> Attributes {
        Attributes { mode, uid: 0, gid: 0, modified: (0, 0), xattrs: Vec::new() }
    }
}

/// What a finished writer knows of its layer.
#[derive(Debug, Default)]
pub struct Written {
    /// SHA-256 of files by their inode.
    pub(crate) hashes: HashMap<u64, [u8; 32]>,
}

/// Writes into one layer. See the module's documentation.
#[derive(Debug)]
pub struct LayerWriter {
    ids: Ids,
    root: Rc<Folder>,
    usr: Option<Rc<Folder>>,
    trash: OwnedFd,
    trash_count: u64,
    open: HashMap<PathBuf, Rc<Folder>>,
    /// Attributes of folders, which are set at the end: what is written in them changes their
    /// times, and may need permissions that they will not have.
    folders: BTreeMap<PathBuf, Attributes>,
    written: Written,
    /// Whether marks are made even if nothing is below: for a copy of a layer.
    bare: bool,
}

/// A folder of this layer, with what it is merged with.
#[derive(Debug)]
struct Folder {
    own: OwnedFd,
    lowers: Vec<Lower>,
    /// Where it is inside, with no symbolic link on the way.
    path: PathBuf,
}

/// Where one step of a walk leads.
enum Step {
    Folder(Rc<Folder>),
    Link(OsString),
}

impl LayerWriter {
    pub(super) fn new(
        folder: &Path,
        parents: &[Layer],
        host: Option<&Path>,
    ) -> Result<LayerWriter, LayerError> {
        let ids = Ids::of_this_process();
        let lower = |path: &Path, ids, links_only| {
            Ok::<_, LayerError>(Lower { folder: Rc::new(open_top(path)?), ids, links_only })
        };
        let mut root = Vec::new();
        let mut usr = Vec::new();
        for parent in parents.iter().rev() {
            root.push(lower(&parent.root(), ids, false)?);
            if let Some(path) = parent.usr() {
                usr.push(lower(&path, ids, false)?);
            }
        }
        if let Some(base) = host {
            if base.is_dir() {
                root.push(lower(base, ids, false)?);
            }
            // Such as `/bin`, which is `usr/bin`: something put there has to go to `/usr`.
            root.push(lower(Path::new("/"), Ids::Own, true)?);
            usr.push(lower(Path::new("/usr"), Ids::Own, false)?);
        }
        LayerWriter::with(folder, root, host.map(|_| usr), false)
    }

    /// For a copy of a layer, whose entries say all that there is to know.
    pub(super) fn bare(folder: &Path, host: bool) -> Result<LayerWriter, LayerError> {
        LayerWriter::with(folder, Vec::new(), host.then(Vec::new), true)
    }

    fn with(
        folder: &Path,
        root: Vec<Lower>,
        usr: Option<Vec<Lower>>,
        bare: bool,
    ) -> Result<LayerWriter, LayerError> {
        let trash = folder.join("trash");
        match rustix::fs::mkdir(&trash, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => {}
            other => other.at("make the folder", &trash)?,
        }
        let area = |name: &str, lowers, path| {
            let own = open_top(&folder.join(name))?;
            Ok::<_, LayerError>(Rc::new(Folder { own, lowers, path }))
        };
        let mut writer = LayerWriter {
            ids: Ids::of_this_process(),
            root: area("root", root, PathBuf::new())?,
            usr: usr.map(|usr| area("usr", usr, PathBuf::from("usr"))).transpose()?,
            trash: open_top(&trash)?,
            trash_count: 0,
            open: HashMap::new(),
            folders: BTreeMap::new(),
            written: Written::default(),
            bare,
        };
        writer.inherit_top_attributes()?;
        Ok(writer)
    }

    /// The top folder of a layer is what is seen of it, so it starts as what is below it.
    fn inherit_top_attributes(&mut self) -> Result<(), LayerError> {
        let tops: Vec<Rc<Folder>> =
            [Some(&self.root), self.usr.as_ref()].into_iter().flatten().cloned().collect();
        for top in tops {
            let Some(lower) = top.lowers.iter().find(|lower| !lower.links_only) else { continue };
            let stat = rustix::fs::fstat(&*lower.folder).map_err(entry("look at", &top.path))?;
            self.folders.insert(top.path.clone(), attributes_of(&stat, lower.ids));
        }
        Ok(())
    }

    /// Makes a folder, or changes the attributes of the one that is there.
    ///
    /// # Errors
    ///
    /// When the path leads out, or the disk fails.
    pub fn folder(&mut self, path: &Path, attributes: &Attributes) -> Result<(), LayerError> {
        self.check_owner(path, attributes)?;
        let Some((parent, name)) = self.parent_of(path)? else {
            return self.remember(PathBuf::new(), attributes.clone());
        };
        if self.is_usr(&parent, &name) {
            return self.remember(PathBuf::from("usr"), attributes.clone());
        }
        match rustix::fs::mkdirat(&parent.own, &*name, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(&parent.own, &*name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(entry("look at", path))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    self.replace_by_folder(&parent, &name)?;
                }
            }
            other => other.map_err(entry("make", path))?,
        }
        self.remember(parent.path.join(&name), attributes.clone())
    }

    /// Makes a file, in the place of whatever is there. `fill` writes it, and returns its SHA-256
    /// if it knows it.
    ///
    /// # Errors
    ///
    /// When the path leads out, `fill` fails, or the disk fails.
    pub fn file<E: From<LayerError>>(
        &mut self,
        path: &Path,
        attributes: &Attributes,
        fill: impl FnOnce(&mut File) -> Result<Option<[u8; 32]>, E>,
    ) -> Result<(), E> {
        let mut file = self.create(path)?;
        let hash = fill(&mut file)?;
        self.set_attributes(&file, path, attributes, false)?;
        if let Some(hash) = hash {
            let stat = rustix::fs::fstat(&file).map_err(entry("look at", path))?;
            self.written.hashes.insert(stat.st_ino, hash);
        }
        Ok(())
    }

    /// Makes a symbolic link, in the place of whatever is there.
    ///
    /// # Errors
    ///
    /// When the path leads out, or the disk fails. The target is not looked at.
    pub fn link(
        &mut self,
        path: &Path,
        target: &OsStr,
        attributes: &Attributes,
    ) -> Result<(), LayerError> {
        let (parent, name) = self.place_of(path)?;
        self.anew(&parent, &name, path, "make", |folder, name| {
            rustix::fs::symlinkat(target, folder, name)
        })?;
        self.set_attributes_at(&parent, &name, path, attributes)
    }

    /// Makes a named pipe, in the place of whatever is there.
    ///
    /// # Errors
    ///
    /// When the path leads out, or the disk fails.
    pub fn pipe(&mut self, path: &Path, attributes: &Attributes) -> Result<(), LayerError> {
        let (parent, name) = self.place_of(path)?;
        self.anew(&parent, &name, path, "make", |folder, name| {
            rustix::fs::mknodat(folder, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        })?;
        self.set_attributes_at(&parent, &name, path, attributes)?;
        let mode = Mode::from_raw_mode(attributes.mode & 0o7777);
        rustix::fs::chmodat(&parent.own, &*name, mode, AtFlags::empty())
            .map_err(entry("set the mode of", path))
    }

    /// Makes another name of a file, which is copied if it is in a layer below.
    ///
    /// # Errors
    ///
    /// When the target is not there, a path leads out, or the disk fails.
    pub fn hard_link(&mut self, path: &Path, target: &Path) -> Result<(), LayerError> {
        let no_target = || LayerError::NoLinkTarget { path: show(path), target: show(target) };
        let (from, from_name) = self.place_of(target)?;
        let stat = match rustix::fs::statat(&from.own, &*from_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(entry("look at", target)(error)),
        };
        match stat {
            Some(stat) if lower::is_whiteout(&stat) => return Err(no_target()),
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(no_target());
            }
            Some(_) => {}
            None => self.copy_up(&from, &from_name, target)?.ok_or_else(no_target)?,
        }
        let (to, name) = self.place_of(path)?;
        if to.path == from.path && name == from_name {
            return Ok(());
        }
        self.anew(&to, &name, path, "make the hard link", |folder, name| {
            rustix::fs::linkat(&from.own, &*from_name, folder, name, AtFlags::empty())
        })
    }

    /// Marks that what the layers below have at a path is not there any more.
    ///
    /// # Errors
    ///
    /// When the path leads out, or the disk fails.
    pub fn whiteout(&mut self, path: &Path) -> Result<(), LayerError> {
        let (parent, name) = self.place_of(path)?;
        if !self.bare && matches!(look_up(&parent.lowers, &name, path)?, Found::Nothing) {
            return Ok(());
        }
        match rustix::fs::statat(&parent.own, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            // What this layer itself has stays, without what is below it.
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                self.opaque(path)
            }
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => rustix::fs::mknodat(
                &parent.own,
                &*name,
                FileType::CharacterDevice,
                Mode::empty(),
                0,
            )
            .map_err(entry("make the whiteout", path)),
            Err(error) => Err(entry("look at", path)(error)),
        }
    }

    /// Marks that nothing of what the layers below have in a folder is there any more.
    ///
    /// # Errors
    ///
    /// When the path leads out, or the disk fails.
    pub fn opaque(&mut self, path: &Path) -> Result<(), LayerError> {
        let folder = self.open_folder(path)?;
        if self.bare || !folder.lowers.is_empty() {
            set_opaque(&folder.own, path)?;
            self.forget_open();
        }
        Ok(())
    }

    /// Sets what has to be set at the end.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub fn finish(mut self) -> Result<Written, LayerError> {
        self.open.clear();
        let folders = std::mem::take(&mut self.folders);
        // From the deepest up, since the folders on the way to it may become closed.
        for (path, attributes) in folders.iter().rev() {
            let (top, rest) = match (&self.usr, path.strip_prefix("usr")) {
                (Some(usr), Ok(rest)) => (usr, rest),
                _ => (&self.root, path.as_path()),
            };
            let relative = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let opened =
                rustix::fs::openat2(&top.own, relative, OPEN_FOLDER, Mode::empty(), beneath);
            let folder = File::from(opened.map_err(entry("open", path))?);
            self.set_attributes(&folder, path, attributes, true)?;
        }
        Ok(self.written)
    }

    /// Opens a new file in the place of whatever is there.
    fn create(&mut self, path: &Path) -> Result<File, LayerError> {
        let (parent, name) = self.place_of(path)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.anew(&parent, &name, path, "make", |folder, name| {
            rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))
        })?;
        Ok(File::from(file))
    }

    /// Makes something where nothing is, or moves away what is there and makes it then.
    fn anew<T>(
        &mut self,
        parent: &Rc<Folder>,
        name: &OsStr,
        path: &Path,
        step: &'static str,
        make: impl Fn(&OwnedFd, &OsStr) -> rustix::io::Result<T>,
    ) -> Result<T, LayerError> {
        match make(&parent.own, name) {
            Err(Errno::EXIST) => {
                self.discard(parent, name)?;
                make(&parent.own, name).map_err(entry(step, path))
            }
            other => other.map_err(entry(step, path)),
        }
    }

    /// Moves away what this layer has under a name; it is removed with the draft's trash.
    fn discard(&mut self, parent: &Folder, name: &OsStr) -> Result<(), LayerError> {
        self.trash_count += 1;
        let to = self.trash_count.to_string();
        let path = parent.path.join(name);
        rustix::fs::renameat(&parent.own, name, &self.trash, &*to)
            .map_err(entry("replace", &path))?;
        let below: Vec<PathBuf> = self
            .folders
            .range(path.clone()..)
            .map(|(folder, _)| folder)
            .take_while(|folder| folder.starts_with(&path))
            .cloned()
            .collect();
        for folder in below {
            self.folders.remove(&folder);
        }
        self.forget_open();
        Ok(())
    }

    /// A folder in the place of something else in this layer. What the layers below have under
    /// that name was hidden by it, and stays so.
    fn replace_by_folder(&mut self, parent: &Folder, name: &OsStr) -> Result<(), LayerError> {
        let path = parent.path.join(name);
        self.discard(parent, name)?;
        rustix::fs::mkdirat(&parent.own, name, Mode::from_raw_mode(0o700))
            .map_err(entry("make", &path))?;
        let folder = rustix::fs::openat(&parent.own, name, OPEN_FOLDER, Mode::empty())
            .map_err(entry("open", &path))?;
        if matches!(look_up(&parent.lowers, name, &path)?, Found::Folder(..)) {
            set_opaque(&folder, &path)?;
        }
        Ok(())
    }

    /// Copies a file of the layers below into this one; `None` if there is none.
    fn copy_up(
        &mut self,
        parent: &Rc<Folder>,
        name: &OsStr,
        path: &Path,
    ) -> Result<Option<()>, LayerError> {
        match look_up(&parent.lowers, name, path)? {
            Found::Nothing | Found::Folder(..) => Ok(None),
            Found::Link(target) => {
                let attributes = Attributes::new(0o777);
                self.link(&parent.path.join(name), &target, &attributes).map(Some)
            }
            Found::File(lower) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let from = rustix::fs::openat(&*lower.folder, name, flags, Mode::empty())
                    .map_err(entry("open, in a layer below,", path))?;
                let mut from = File::from(from);
                let stat = rustix::fs::fstat(&from).map_err(entry("look at", path))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Ok(None);
                }
                let mut attributes = attributes_of(&stat, lower.ids);
                attributes.xattrs = user_xattrs(&from).map_err(entry("read", path))?;
                self.file(&parent.path.join(name), &attributes, |file| {
                    copy_sparse(&mut from, file).map_err(entry("copy", path))?;
                    Ok::<_, LayerError>(None)
                })?;
                Ok(Some(()))
            }
        }
    }

    /// The folder of a path, which is made if it is missing, and the path's last name; `None` for
    /// the root.
    fn parent_of(&mut self, path: &Path) -> Result<Option<(Rc<Folder>, OsString)>, LayerError> {
        let path = checked(path)?;
        let Some(name) = path.file_name() else { return Ok(None) };
        let parent = self.open_folder(path.parent().unwrap_or(Path::new("")))?;
        Ok(Some((parent, name.to_owned())))
    }

    /// As [`Self::parent_of`], for what cannot be the root.
    fn place_of(&mut self, path: &Path) -> Result<(Rc<Folder>, OsString), LayerError> {
        match self.parent_of(path)? {
            Some((parent, name)) if !self.is_usr(&parent, &name) => Ok((parent, name)),
            _ => Err(LayerError::NotAFolder("/".to_owned())),
        }
    }

    fn is_usr(&self, parent: &Folder, name: &OsStr) -> bool {
        self.usr.is_some() && parent.path.as_os_str().is_empty() && name == "usr"
    }

    /// Opens a folder of this layer; what is missing on the way is made as it is below.
    fn open_folder(&mut self, path: &Path) -> Result<Rc<Folder>, LayerError> {
        let path = checked(path)?;
        if path.as_os_str().is_empty() {
            return Ok(self.root.clone());
        }
        if let Some(folder) = self.open.get(&path) {
            return Ok(folder.clone());
        }
        let known = path.parent().and_then(|parent| self.open.get(parent)).cloned();
        if let (Some(parent), Some(name)) = (known, path.file_name())
            && let Step::Folder(folder) = self.step(&parent, name)?
        {
            return Ok(self.remember_open(path, folder));
        }
        let folder = self.walk(&path)?;
        Ok(self.remember_open(path, folder))
    }

    fn walk(&mut self, path: &Path) -> Result<Rc<Folder>, LayerError> {
        let mut way = vec![self.root.clone()];
        let mut ahead = names(path);
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                // The root's parent is the root.
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let here = way.last().expect("the root is never taken away").clone();
            match self.step(&here, &name)? {
                Step::Folder(folder) => way.push(folder),
                Step::Link(target) => {
                    links += 1;
                    if links > LINKS_FOLLOWED_MAX {
                        return Err(LayerError::TooManyLinks(show(path)));
                    }
                    let target = Path::new(&target);
                    if target.is_absolute() {
                        way.truncate(1);
                    }
                    ahead.extend(names(target));
                }
            }
        }
        Ok(way.pop().expect("the root is never taken away"))
    }

    /// One name further.
    fn step(&mut self, folder: &Rc<Folder>, name: &OsStr) -> Result<Step, LayerError> {
        if let Some(usr) = self.usr.as_ref().filter(|_| self.is_usr(folder, name)) {
            return Ok(Step::Folder(usr.clone()));
        }
        let path = folder.path.join(name);
        let own = match rustix::fs::openat(&folder.own, name, OPEN_FOLDER, Mode::empty()) {
            Ok(own) => own,
            Err(Errno::NOENT) => match look_up(&folder.lowers, name, &path)? {
                Found::Link(target) => return Ok(Step::Link(target)),
                Found::Folder(lowers, stat) => {
                    let ids = lowers.first().map_or(self.ids, |lower| lower.ids);
                    let mut attributes = attributes_of(&stat, ids);
                    if let Some(lower) = lowers.first() {
                        attributes.xattrs =
                            user_xattrs(&*lower.folder).map_err(entry("read", &path))?;
                    }
                    return self.make_folder(folder, name, path, attributes, lowers);
                }
                Found::Nothing | Found::File(_) => {
                    let attributes = Attributes::new(0o755);
                    return self.make_folder(folder, name, path, attributes, Vec::new());
                }
            },
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let stat = rustix::fs::statat(&folder.own, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(entry("look at", &path))?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                    let target = lower::read_link(&folder.own, name);
                    return Ok(Step::Link(target.map_err(entry("read", &path))?));
                }
                if !lower::is_whiteout(&stat) {
                    return Err(LayerError::NotAFolder(show(&path)));
                }
                self.replace_by_folder(folder, name)?;
                self.remember(path.clone(), Attributes::new(0o755))?;
                rustix::fs::openat(&folder.own, name, OPEN_FOLDER, Mode::empty())
                    .map_err(entry("open", &path))?
            }
            Err(error) => return Err(entry("open", &path)(error)),
        };
        let hidden =
            folder.lowers.is_empty() || lower::is_opaque(&own).map_err(entry("look at", &path))?;
        let lowers = match hidden {
            true => Vec::new(),
            false => match look_up(&folder.lowers, name, &path)? {
                Found::Folder(lowers, _) => lowers,
                _ => Vec::new(),
            },
        };
        Ok(Step::Folder(Rc::new(Folder { own, lowers, path })))
    }

    fn make_folder(
        &mut self,
        parent: &Folder,
        name: &OsStr,
        path: PathBuf,
        attributes: Attributes,
        lowers: Vec<Lower>,
    ) -> Result<Step, LayerError> {
        rustix::fs::mkdirat(&parent.own, name, Mode::from_raw_mode(0o700))
            .map_err(entry("make", &path))?;
        let own = rustix::fs::openat(&parent.own, name, OPEN_FOLDER, Mode::empty())
            .map_err(entry("open", &path))?;
        self.remember(path.clone(), attributes)?;
        Ok(Step::Folder(Rc::new(Folder { own, lowers, path })))
    }

    fn remember(&mut self, path: PathBuf, attributes: Attributes) -> Result<(), LayerError> {
        if self.folders.len() >= LAYER_FOLDERS_MAX {
            return Err(LayerError::TooManyFolders(LAYER_FOLDERS_MAX));
        }
        self.folders.insert(path, attributes);
        Ok(())
    }

    fn remember_open(&mut self, path: PathBuf, folder: Rc<Folder>) -> Rc<Folder> {
        if self.open.len() >= FOLDERS_OPEN_MAX {
            self.open.clear();
        }
        self.open.insert(path, folder.clone());
        folder
    }

    /// After something was moved away, or hidden, paths may lead elsewhere.
    fn forget_open(&mut self) {
        self.open.clear();
    }

    fn check_owner(&self, path: &Path, it: &Attributes) -> Result<(), LayerError> {
        self.owner(path, it).map(|_| ())
    }

    fn owner(
        &self,
        path: &Path,
        it: &Attributes,
    ) -> Result<(Option<Uid>, Option<Gid>), LayerError> {
        let of = |error| LayerError::Owner { path: show(path), error };
        let uid = self.ids.to_host(it.uid).map_err(of)?.map(Uid::from_raw);
        let gid = self.ids.to_host(it.gid).map_err(of)?.map(Gid::from_raw);
        Ok((uid, gid))
    }

    fn set_attributes(
        &self,
        file: &File,
        path: &Path,
        it: &Attributes,
        is_folder: bool,
    ) -> Result<(), LayerError> {
        let (uid, gid) = self.owner(path, it)?;
        if uid.is_some() {
            rustix::fs::fchown(file, uid, gid).map_err(entry("set the owner of", path))?;
        }
        for (name, value) in it.xattrs.iter().filter(|(name, _)| is_kept(name)) {
            rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
                .map_err(entry("set an extended attribute of", path))?;
        }
        // After the owner, since a change of it takes set-user-id away.
        let mode = self.ids.mode_on_disk(it.mode & 0o7777, is_folder);
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
            .map_err(entry("set the mode of", path))?;
        rustix::fs::futimens(file, &times(it)).map_err(entry("set the times of", path))
    }

    /// For what cannot be opened.
    fn set_attributes_at(
        &self,
        parent: &Folder,
        name: &OsStr,
        path: &Path,
        it: &Attributes,
    ) -> Result<(), LayerError> {
        let (uid, gid) = self.owner(path, it)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if uid.is_some() {
            rustix::fs::chownat(&parent.own, name, uid, gid, flags)
                .map_err(entry("set the owner of", path))?;
        }
        rustix::fs::utimensat(&parent.own, name, &times(it), flags)
            .map_err(entry("set the times of", path))
    }
}

pub(super) fn open_top(path: &Path) -> Result<OwnedFd, DiskError> {
    rustix::fs::open(path, OPEN_FOLDER, Mode::empty()).at("open the folder", path)
}

/// A path inside, relative to the root, or why it cannot be one.
pub(crate) fn checked(path: &Path) -> Result<PathBuf, LayerError> {
    let too_long = |part: &[u8]| {
        let start = &part[..part.len().min(80)];
        LayerError::TooLong(String::from_utf8_lossy(start).into_owned())
    };
    if path.as_os_str().len() >= PATH_BYTES_MAX {
        return Err(too_long(path.as_os_str().as_bytes()));
    }
    let mut relative = PathBuf::with_capacity(path.as_os_str().len());
    for component in path.components() {
        match component {
            Component::Normal(name) if name.len() > NAME_BYTES_MAX => {
                return Err(too_long(name.as_bytes()));
            }
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(LayerError::Escape(show(path)));
            }
        }
    }
    Ok(relative)
}

fn look_up(lowers: &[Lower], name: &OsStr, path: &Path) -> Result<Found, LayerError> {
    lower::look_up(lowers, name).map_err(|error| LayerError::Entry {
        step: "look below for",
        path: show(path),
        error,
    })
}

fn entry<'a, E: Into<io::Error>>(
    step: &'static str,
    path: &'a Path,
) -> impl Fn(E) -> LayerError + use<'a, E> {
    move |error| LayerError::Entry { step, path: show(path), error: error.into() }
}

/// A path inside for messages.
fn show(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = text.strip_prefix('/').unwrap_or(&text);
    format!("/{}", text.chars().take(200).collect::<String>())
}

fn times(it: &Attributes) -> Timestamps {
    let (seconds, nanoseconds) = it.modified;
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds.min(999_999_999)) };
    Timestamps { last_access: time, last_modification: time }
}

fn set_opaque(folder: &OwnedFd, path: &Path) -> Result<(), LayerError> {
    rustix::fs::fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty())
        .map_err(entry("make opaque", path))
}

/// Whether an extended attribute is kept: what belongs to users, and not to overlayfs.
pub(crate) fn is_kept(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"user.") && !name.starts_with(OVERLAY_PREFIX.as_bytes())
}

pub(crate) fn attributes_of(stat: &Stat, ids: Ids) -> Attributes {
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Attributes {
        mode: stat.st_mode & 0o7777,
        uid: u64::from(ids.to_inside(stat.st_uid)),
        gid: u64::from(ids.to_inside(stat.st_gid)),
        modified: (stat.st_mtime, nanoseconds),
        xattrs: Vec::new(),
    }
}

/// The extended attributes of users.
pub(crate) fn user_xattrs(file: impl std::os::fd::AsFd) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let mut names = vec![0_u8; 64 << 10];
    let length = match rustix::fs::flistxattr(&file, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut all = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        let name = OsStr::from_bytes(name);
        if !is_kept(name) {
            continue;
        }
        let mut value = vec![0_u8; 64 << 10];
        let length = rustix::fs::fgetxattr(&file, name, &mut value[..])?;
        value.truncate(length);
        all.push((name.to_owned(), value));
    }
    all.sort();
    Ok(all)
}

/// Copies a file with its holes.
pub(crate) fn copy_sparse(from: &mut File, to: &mut File) -> io::Result<()> {
    let size = from.metadata()?.len();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&*from, rustix::fs::SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&*from, rustix::fs::SeekFrom::Hole(start))?;
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        io::copy(&mut io::Read::take(&mut *from, end - start), to)?;
        at = end;
    }
    to.set_len(size)
}
