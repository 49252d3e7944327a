//! Paths inside, and what cannot be done with them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::protocol::{FILE_PATH_BYTES_MAX, FileErrorKind, FileInfo, FileKind, FileReply};

/// How paths are followed: within the root, and through no link of `/proc` to what a process has
/// open.
const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// `PROC_SUPER_MAGIC` of `linux/magic.h`.
const PROC: i128 = 0x9fa0;

/// Why something cannot be done.
#[derive(Debug)]
pub(super) struct Obstacle {
    pub(super) kind: FileErrorKind,
    pub(super) reason: String,
}

pub(super) type Outcome<T> = Result<T, Obstacle>;

impl Obstacle {
    pub(super) fn new(kind: FileErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }

    pub(super) fn reply(self) -> FileReply {
        FileReply::Failed { kind: self.kind, reason: self.reason }
    }
}

/// Names the path of a call that failed.
pub(super) trait About<T> {
    fn about(self, path: &str) -> Outcome<T>;
}

impl<T, E: Into<io::Error>> About<T> for Result<T, E> {
    fn about(self, path: &str) -> Outcome<T> {
        self.map_err(|error| {
            let (kind, words) = meaning(&error.into());
            Obstacle::new(kind, format!("{path}: {words}"))
        })
    }
}

/// What an error of the system means here.
fn meaning(error: &io::Error) -> (FileErrorKind, String) {
    let known = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => Some((FileErrorKind::NotFound, "there is nothing")),
        Some(Errno::ISDIR) => Some((FileErrorKind::IsFolder, "it is a folder")),
        Some(Errno::NOTDIR) => {
            Some((FileErrorKind::NotFolder, "it, or something above it, is not a folder"))
        }
        Some(Errno::EXIST) => Some((FileErrorKind::Exists, "there is something already")),
        Some(Errno::NOTEMPTY) => Some((FileErrorKind::NotEmpty, "the folder is not empty")),
        Some(Errno::ACCESS | Errno::PERM) => {
            Some((FileErrorKind::Denied, "the user inside may not do this"))
        }
        Some(Errno::ROFS) => Some((FileErrorKind::Denied, "it is read-only")),
        Some(Errno::NOSPC | Errno::DQUOT) => {
            Some((FileErrorKind::NoSpace, "there is no space left on its disk"))
        }
        Some(Errno::FBIG) => Some((FileErrorKind::NoSpace, "the file would be too large")),
        Some(Errno::NAMETOOLONG) => Some((FileErrorKind::Invalid, "a name is too long")),
        Some(Errno::LOOP) => Some((FileErrorKind::Invalid, "links lead in a circle, or out")),
        Some(Errno::NXIO) => Some((FileErrorKind::Special, "it is not a file")),
        _ => None,
    };
    match known {
        Some((kind, words)) => (kind, words.to_owned()),
        None => (FileErrorKind::Other, error.to_string()),
    }
}

/// The root of the sandbox.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open("/", flags, Mode::empty())?))
    }

    /// Opens what is at a path, but nothing of `/proc`.
    pub(super) fn at(&self, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        open(&self.0, path, flags, mode, RESOLVE)
    }

    /// The same of a path that need not be text.
    pub(super) fn at_bytes(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        open(&self.0, path, flags, Mode::empty(), RESOLVE)
    }

    /// A folder, which is made, with those above it, if it is missing.
    pub(super) fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.at(path, flags, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let Some((above, name)) = split(path) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let above = self.folder(above)?;
        match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.at(path, flags, Mode::empty()),
            Err(error) => Err(error.into()),
        }
    }

    /// What is at a path, which is not followed if it is a link.
    pub(super) fn info(&self, path: &str) -> io::Result<FileInfo> {
        let found = self.at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        let name = split(path).map_or("/", |(_, name)| name);
        info_of(name, &found)
    }
}

/// Opens what is below `from`, but nothing of `/proc`: the kernel tells what it was that it opened,
/// so that no rename in between matters. Nothing is waited for, as a pipe would have it.
pub(super) fn open(
    from: &OwnedFd,
    path: impl rustix::path::Arg,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    // openat2(2) refuses a place that is not opened together with how it would be.
    let how = match flags.contains(OFlags::PATH) {
        true => OFlags::empty(),
        false => OFlags::NONBLOCK | OFlags::NOCTTY,
    };
    let found = rustix::fs::openat2(from, path, flags | how | OFlags::CLOEXEC, mode, resolve)?;
    if i128::from(rustix::fs::fstatfs(&found)?.f_type) == PROC {
        let reason = "it is a part of /proc, where there are no files; look at it with a command";
        return Err(io::Error::other(reason));
    }
    Ok(found)
}

/// What is open.
pub(super) fn info_of(name: &str, found: &OwnedFd) -> io::Result<FileInfo> {
    let stat = rustix::fs::fstat(found)?;
    let target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => rustix::fs::readlinkat(found, "", Vec::new()).ok(),
        _ => None,
    };
    let target = target.map(|target| target.to_string_lossy().into_owned());
    Ok(info(name.to_owned(), &stat, target))
}

/// What is in a folder under a name.
pub(super) fn info_in(folder: &OwnedFd, name: &std::ffi::CStr) -> io::Result<FileInfo> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => rustix::fs::readlinkat(folder, name, Vec::new()).ok(),
        _ => None,
    };
    let target = target.map(|target| target.to_string_lossy().into_owned());
    Ok(info(name.to_string_lossy().into_owned(), &stat, target))
}

fn info(name: String, stat: &Stat, target: Option<String>) -> FileInfo {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Folder,
        FileType::Symlink => FileKind::Link,
        _ => FileKind::Special,
    };
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    FileInfo {
        name,
        kind,
        size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified_ms: seconds.saturating_mul(1000)
            + u64::from(stat.st_mtime_nsec as u32 / 1_000_000),
        target,
    }
}

/// Checks what the kernel would not, and gives the path in its plainest form.
pub(super) fn checked(path: &str) -> Outcome<String> {
    let wrong = |reason: &str| Err(Obstacle::new(FileErrorKind::Invalid, reason));
    if !path.starts_with('/') {
        return wrong("the path is not absolute");
    }
    if path.len() >= FILE_PATH_BYTES_MAX {
        return wrong("the path is too long");
    }
    if path.contains('\0') {
        return wrong("a path has no NUL character");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return wrong("a path with `..` in it is not taken: name the place itself");
    }
    Ok(format!("/{}", parts.join("/")))
}

/// The part above the last name, and that name; none of the root.
pub(super) fn split(path: &str) -> Option<(&str, &str)> {
    let (above, name) = path.rsplit_once('/')?;
    let above = if above.is_empty() { "/" } else { above };
    (!name.is_empty()).then_some((above, name))
}

/// Opens a regular file for reading, whatever lies between its name and it.
pub(super) fn open_file(root: &Root, path: &str) -> Outcome<(File, FileInfo)> {
    let found = root.at(path, OFlags::RDONLY, Mode::empty()).about(path)?;
    let name = split(path).map_or("/", |(_, name)| name);
    let info = info_of(name, &found).about(path)?;
    match info.kind {
        FileKind::File => Ok((found.into(), info)),
        FileKind::Folder => {
            Err(Obstacle::new(FileErrorKind::IsFolder, format!("{path}: it is a folder")))
        }
        FileKind::Link | FileKind::Special => {
            let reason = format!("{path}: it is a pipe, a socket or a device");
            Err(Obstacle::new(FileErrorKind::Special, reason))
        }
    }
}

/// The modification time of what a tar or a client says, for the system.
pub(super) fn times(seconds: u64) -> rustix::fs::Timestamps {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = |seconds: u64| rustix::fs::Timespec {
        tv_sec: i64::try_from(seconds).unwrap_or(0),
        tv_nsec: 0,
    };
    rustix::fs::Timestamps { last_access: time(now.as_secs()), last_modification: time(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_made_plain_or_refused() {
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(checked(path).ok().as_deref(), expected, "{path}");
        };
        check("/", Some("/"));
        check("//a/./b/", Some("/a/b"));
        check("/a..b/...", Some("/a..b/..."));
        check("a", None);
        check("", None);
        check("/a/../b", None);
        check("/..", None);
        check("/a\0", None);
        check(&format!("/{}", "a/".repeat(3000)), None);
    }

    proptest! {
        #[test]
        fn a_plain_path_stays_itself(path in "[/.a-c]{0,20}") {
            if let Ok(plain) = checked(&path) {
                prop_assert_eq!(checked(&plain).ok(), Some(plain.clone()));
                prop_assert!(!plain.split('/').any(|part| part == ".."));
            }
        }
    }
}
