//! Paths inside a root whose content may be hostile: no symbolic link in it leads out
//! (`openat2(2)`).

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat};
use rustix::io::Errno;
use spawnery_sandbox::tool::open_within;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The most that is read of a file of a root.
const READ_BYTES_MAX: u64 = 1024 * 1024;

/// A root, seen from outside.
pub(crate) struct Inside {
    root: OwnedFd,
    /// Ids on the host of whom what is made belongs to.
    owner: (u32, u32),
}

impl Inside {
    pub(crate) fn open(root: &Path, owner: (u32, u32)) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(root, flags, Mode::empty())?, owner })
    }

    /// Opens what is at `path` as a mere place.
    fn place(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let relative = path.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        open_within(&self.root, relative, flags, resolve)
    }

    /// A folder, which is made, with those above it, if it is missing.
    pub(crate) fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        let mut dir = self.place("", OFlags::DIRECTORY)?;
        let mut so_far = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            so_far.push('/');
            so_far.push_str(part);
            dir = match self.place(&so_far, OFlags::DIRECTORY) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    rustix::fs::mkdirat(&dir, part, Mode::from_raw_mode(0o755))?;
                    self.own(&dir, part)?;
                    self.place(&so_far, OFlags::DIRECTORY | OFlags::NOFOLLOW)?
                }
                opened => opened?,
            };
        }
        Ok(dir)
    }

    fn own(&self, dir: &OwnedFd, name: &str) -> io::Result<()> {
        let (uid, gid) = self.owner;
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::chownat(dir, name, Some(uid), Some(gid), flags)?)
    }

    /// Writes a new file in the place of whatever is there.
    pub(crate) fn write(&self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let (parent, name) = path.rsplit_once('/').ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.folder(parent)?;
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&dir, name, flags | OFlags::CLOEXEC, Mode::RUSR)?;
        let mut file = File::from(file);
        file.write_all(bytes)?;
        self.own(&dir, name)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(())
    }

    /// Reads a file; what cannot be read is empty.
    pub(crate) fn read(&self, path: &str) -> String {
        let open = || -> io::Result<String> {
            let place = self.place(path, OFlags::empty())?;
            if FileType::from_raw_mode(fstat(&place)?.st_mode) != FileType::RegularFile {
                return Ok(String::new());
            }
            let mut text = String::new();
            File::open(through(&place))?.take(READ_BYTES_MAX).read_to_string(&mut text)?;
            Ok(text)
        };
        open().unwrap_or_default()
    }

    /// The place where `source` is to be mounted: a folder or a file like it, made if it is missing.
    pub(crate) fn mount_point(&self, path: &str, source: &Path) -> io::Result<OwnedFd> {
        if std::fs::metadata(source)?.is_dir() {
            return self.folder(path);
        }
        match self.place(path, OFlags::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.write(path, 0o600, b"")?;
                self.place(path, OFlags::empty())
            }
            opened => opened,
        }
    }
}

/// A path to what is open, for calls that take only paths.
pub(crate) fn through(place: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

/// Opens a folder of the host as a mere place.
pub(crate) fn place_of(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_that_leads_out_of_the_root_stays_inside() {
        let outer = tempfile::tempdir().expect("a folder");
        let root = outer.path().join("root");
        std::fs::create_dir_all(root.join("real")).expect("made");
        let secret = outer.path().join("secret");
        std::fs::create_dir(&secret).expect("made");
        symlink(&secret, root.join("absolute")).expect("made");
        symlink("../secret", root.join("relative")).expect("made");
        symlink("/real", root.join("fine")).expect("made");
        let me = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let inside = Inside::open(&root, me).expect("open");
        assert!(inside.write("/absolute/x", 0o644, b"1").is_err());
        assert!(inside.write("/relative/x", 0o644, b"1").is_err());
        inside.write("/fine/deep/x", 0o644, b"1").expect("written");
        assert_eq!(inside.read("/real/deep/x"), "1");
        symlink("/etc/passwd", root.join("real/passwd")).expect("made");
        inside.write("/real/passwd", 0o644, b"new").expect("the link is replaced");
        assert_eq!(inside.read("/real/passwd"), "new");
        assert_eq!(std::fs::read_dir(&secret).expect("there").count(), 0);
    }
}
