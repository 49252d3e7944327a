//! Paths inside the new root, whose content may be hostile: a symbolic link leads nowhere but
//! to another place inside, a link of `/proc` leads nowhere, and nothing is waited for.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};

use crate::tool::open_within;

/// How paths are followed within one file system.
const RESOLVE: ResolveFlags =
    ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_XDEV);
/// The same over mounts, such as `/tmp` and volumes.
const RESOLVE_MOUNTS: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// The root of the sandbox, as seen after it became the root.
#[derive(Debug)]
pub(super) struct Inside(OwnedFd);

impl Inside {
    /// The current root.
    pub(super) fn new() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open("/", flags, Mode::empty())?))
    }

    /// Opens what is there.
    pub(super) fn open(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        // openat2(2) refuses a place that is not opened together with how it would be.
        let how = if flags.contains(OFlags::PATH) {
            OFlags::empty()
        } else {
            OFlags::NONBLOCK | OFlags::NOCTTY
        };
        let flags = flags | how | OFlags::CLOEXEC;
        open_within(&self.0, path, flags, RESOLVE_MOUNTS)
    }

    /// Opens a folder, and makes it with all that is missing above it. New folders are given
    /// to `owner`.
    pub(super) fn make_dirs(&self, path: &str, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
        let folder = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(path, folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let Some((parent, name)) = split(path) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let above = self.make_dirs(parent, owner)?;
        rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755))?;
        own(&above, name, owner)?;
        let flags = folder | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&above, name, flags, Mode::empty())?)
    }

    /// A new, empty file in the place of whatever file is there; folders are made.
    pub(super) fn create(
        &self,
        path: &str,
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> io::Result<File> {
        let (parent, name) = split(path).ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.make_dirs(parent, owner)?;
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o600))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        if let Some((uid, gid)) = owner {
            chown_fd(&file, uid, gid)?;
        }
        Ok(file.into())
    }

    /// Gives a regular file of the root's own file system another content. Everything else about it
    /// stays: only for files that this process has made, before anybody else could change them.
    pub(super) fn rewrite(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = open_within(&self.0, path, flags, RESOLVE)?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink > 1 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut file = File::from(file);
        io::Write::write_all(&mut file, bytes)?;
        if stat.st_size as u64 > bytes.len() as u64 {
            file.set_len(bytes.len() as u64)
        } else {
            Ok(())
        }
    }

    /// A place to mount on: a folder, or else a file, which is made if there is nothing.
    pub(super) fn mount_point(
        &self,
        path: &str,
        folder: bool,
        owner: Option<(u32, u32)>,
    ) -> io::Result<OwnedFd> {
        if folder {
            return self.make_dirs(path, owner);
        }
        match self.open(path, OFlags::PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(found) => {
                let kind = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
                return match kind {
                    FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
                    _ => Ok(found),
                };
            }
            Err(error) => return Err(error),
        }
        drop(self.create(path, 0o644, owner)?);
        self.open(path, OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// A regular file's content, if it has no more than `bytes_max`.
    pub(super) fn read(&self, path: &str, bytes_max: u64) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = open_within(&self.0, path, flags, RESOLVE).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let mut bytes = Vec::new();
        File::from(file).take(bytes_max + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= bytes_max).then_some(bytes)
    }
}

/// The part above the last name, and the last name.
fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    let parent = if parent.is_empty() { "/" } else { parent };
    (!matches!(name, "" | "." | "..")).then_some((parent, name))
}

fn own(dir: &OwnedFd, name: &str, owner: Option<(u32, u32)>) -> io::Result<()> {
    let Some((uid, gid)) = owner else {
        return Ok(());
    };
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    Ok(rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn chown_fd(file: &OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    Ok(rustix::fs::fchown(file, Some(uid), Some(gid))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn inside(dir: &std::path::Path) -> Inside {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Inside(rustix::fs::open(dir, flags, Mode::empty()).expect("opened"))
    }

    #[test]
    fn links_lead_to_places_inside_only() {
        let outside = tempfile::tempdir().expect("a folder");
        let dir = tempfile::tempdir().expect("a folder");
        symlink(outside.path(), dir.path().join("out")).expect("linked");
        symlink("../../../../../..", dir.path().join("up")).expect("linked");
        symlink("/proc/self/cwd", dir.path().join("magic")).expect("linked");
        let root = inside(dir.path());
        drop(root.create("/up/a", 0o644, None).expect("made"));
        assert!(dir.path().join("a").exists());
        // The same path, but inside.
        drop(root.create("/out/b", 0o644, None).expect_err("its target is not inside"));
        assert!(root.make_dirs("/magic/x", None).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).expect("listed").count(), 0);
    }

    #[test]
    fn a_path_upwards_is_found_while_others_rename() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("a/b/c")).expect("made");
        symlink("../../../a/b/../b/c/../../b", path("a/b/up")).expect("linked");
        std::fs::write(path("one"), "").expect("written");
        let root = inside(dir.path());
        let is_done = std::sync::atomic::AtomicBool::new(false);
        let (one, two) = (path("one"), path("two"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::fs::rename(&one, &two).expect("renamed");
                    std::fs::rename(&two, &one).expect("renamed");
                }
            });
            let failed = (0..20_000).find_map(|_| root.open("/a/b/up/c", OFlags::PATH).err());
            is_done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(failed.is_none(), "{failed:?}");
        });
    }

    #[test]
    fn a_file_takes_the_place_of_a_link_without_following_it() {
        let outside = tempfile::NamedTempFile::new().expect("a file");
        let dir = tempfile::tempdir().expect("a folder");
        symlink(outside.path(), dir.path().join("link")).expect("linked");
        let root = inside(dir.path());
        io::Write::write_all(&mut root.create("/link", 0o640, None).expect("made"), b"x")
            .expect("written");
        assert_eq!(std::fs::read(outside.path()).expect("read"), b"");
        assert_eq!(root.read("/link", 10).expect("read"), b"x");
        assert_eq!(root.read("/link", 0), None);
    }

    #[test]
    fn only_a_file_of_ones_own_is_rewritten() {
        let outside = tempfile::NamedTempFile::new().expect("a file");
        let dir = tempfile::tempdir().expect("a folder");
        let root = inside(dir.path());
        let check = |path: &str, expected: Option<&[u8]>| {
            root.rewrite(path, b"new").ok();
            assert_eq!(root.read(path, 10).as_deref(), expected, "{path}");
        };
        for (name, old) in [("short", "x"), ("long", "longer")] {
            std::fs::write(dir.path().join(name), old).expect("written");
            check(name, Some(b"new"));
        }
        std::fs::hard_link(dir.path().join("long"), dir.path().join("twin")).expect("linked");
        std::fs::write(dir.path().join("twin"), "old").expect("written");
        check("twin", Some(b"old"));
        symlink(outside.path(), dir.path().join("link")).expect("linked");
        check("link", None);
        check("missing", None);
        assert_eq!(std::fs::read(outside.path()).expect("read"), b"");
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let mode = Mode::from_raw_mode(0o600);
        let kind = FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), kind, mode, 0).expect("made");
        assert_eq!(inside(dir.path()).read("/pipe", 10), None);
    }

    #[test]
    fn missing_mount_points_are_made() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = inside(dir.path());
        root.mount_point("/a/b/c", true, None).expect("made");
        root.mount_point("/a/f", false, None).expect("made");
        assert!(dir.path().join("a/b/c").is_dir() && dir.path().join("a/f").is_file());
        assert!(root.mount_point("/a/f/g", true, None).is_err());
        assert!(root.mount_point("/a/b", false, None).is_err());
    }
}
