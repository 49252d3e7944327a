//! The limit of what a private layer may hold: a file system of its own in an image where the
//! launcher can mount one, else accounting.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::fs::SeekFrom;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::core::{Launcher, Source, epoll_add};
use super::sandbox::{Sandbox, kill, reap};
use crate::fd_passing::send_with_fds;
use crate::limits::{
    DISK_BYTES_PER_INODE, DISK_EXTRA_BYTES, DISK_INODES_MIN, DISK_POLL_MS, DISK_TEMPLATES_MAX,
    HOST_ID_BASE,
};
use crate::spec::LimitReached;
use crate::sys;

/// Folder of the empty images.
const TEMPLATES_DIR: &str = "disks";

/// Where `mkfs.ext4` may be; a launcher's `PATH` often lacks these.
const MKFS: &[&str] = &["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4"];

/// Whether this machine lets a launcher with these rights mount images.
pub(crate) fn can_mount_images(rootful: bool) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    rootful
        && mkfs().is_some()
        && known.split_ascii_whitespace().any(|word| word == "ext4")
        && File::options().read(true).write(true).open("/dev/loop-control").is_ok()
}

fn mkfs() -> Option<&'static Path> {
    MKFS.iter().map(Path::new).find(|path| path.exists())
}

/// How the limit is held, in words.
pub(crate) fn describe(projects: bool, images: bool) -> String {
    if projects {
        return "project quota of the data folder's file system".to_owned();
    }
    if images {
        return "an ext4 image for each instance, mounted by a loop device".to_owned();
    }
    format!("accounting: looked at every {DISK_POLL_MS} ms, and ended when it is above")
}

/// Starts a process that makes the disk of one sandbox, and returns it with the socket over which
/// it sends the mounted file system. Making takes some milliseconds, most of them waiting.
pub(crate) fn start_maker(bytes: u64, dir: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
    let family = AddressFamily::UNIX;
    let (ours, theirs) = socketpair(family, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    match sys::clone_process(0, None)? {
        sys::Cloned::Child => {
            sys::close_except(&[theirs.as_raw_fd()]);
            sys::reset_signals();
            let image = dir.join("layer.img");
            let made = make(bytes, &image);
            // Once it is attached, nobody needs its name; nothing is left after a crash.
            let _ = fs::remove_file(image);
            let _ = match made {
                Ok(mount) => send_with_fds(&theirs, b"ok", &[mount.as_fd()]),
                Err(error) => send_with_fds(&theirs, error.to_string().as_bytes(), &[]),
            };
            sys::exit_now(0)
        }
        sys::Cloned::Parent { pidfd, .. } => Ok((pidfd, ours)),
    }
}

/// Makes an image of this size and mounts it nowhere.
fn make(bytes: u64, image: &Path) -> io::Result<OwnedFd> {
    let template = template(bytes)?;
    copy_sparsely(&template, image)?;
    let file = File::options().read(true).write(true).open(image)?;
    let (path, _device) = attach(&file)?;
    let fs = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", &path)?;
    // What is deleted inside becomes free outside.
    fsconfig_set_flag(&fs, "discard")?;
    fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Gives a free loop device the file. It lets go of it when it is closed and not mounted.
fn attach(file: &File) -> io::Result<(String, File)> {
    /// Others may take a device that was free.
    const TRIES_MAX: u32 = 64;
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
    for _ in 0..TRIES_MAX {
        let path = format!("/dev/loop{}", sys::free_loop_device(control.as_fd())?);
        let device = File::options().read(true).write(true).open(&path)?;
        match sys::configure_loop(device.as_fd(), file.as_fd()) {
            Ok(()) => return Ok((path, device)),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// An empty file system of this size; made at its first use.
fn template(bytes: u64) -> io::Result<File> {
    let path = Path::new(TEMPLATES_DIR).join(format!("{bytes}.img"));
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    fs::create_dir_all(TEMPLATES_DIR)?;
    drop_templates();
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let result = make_template(bytes, &new).and_then(|()| fs::rename(&new, &path));
    if result.is_err() {
        let _ = fs::remove_file(&new);
    }
    result?;
    File::open(path)
}

fn make_template(bytes: u64, path: &Path) -> io::Result<()> {
    let program = mkfs().ok_or(io::ErrorKind::NotFound)?;
    File::create(path)?.set_len(bytes)?;
    let owner = format!("root_owner={HOST_ID_BASE}:{HOST_ID_BASE},lazy_itable_init=1,nodiscard");
    let output = Command::new(program)
        .args(["-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode", "-E", &owner])
        .arg(path)
        .env_clear()
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("mkfs.ext4: {said}")))
}

/// Removes empty images when there are very many sizes.
fn drop_templates() {
    let entries = fs::read_dir(TEMPLATES_DIR).into_iter().flatten().flatten();
    let all: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    if all.len() >= DISK_TEMPLATES_MAX {
        all.iter().for_each(|path| drop(fs::remove_file(path)));
    }
}

/// Copies what is written of a file, and leaves the rest unwritten.
fn copy_sparsely(from: &File, to: &Path) -> io::Result<()> {
    let len = from.metadata()?.len();
    let to = File::options().write(true).create_new(true).open(to)?;
    to.set_len(len)?;
    let mut at = 0;
    while at < len {
        let data = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(data))?;
        let (mut from_at, mut to_at) = (data, data);
        while from_at < end {
            let left = usize::try_from(end - from_at).unwrap_or(usize::MAX);
            let copied =
                rustix::fs::copy_file_range(from, Some(&mut from_at), &to, Some(&mut to_at), left)?;
            if copied == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        at = end;
    }
    Ok(())
}

/// The size of an image that holds so many bytes: ext4 needs some for itself, and whole blocks.
pub(crate) fn image_bytes(bytes_max: u64) -> u64 {
    const BLOCK_BYTES: u64 = 1024 * 1024;
    (bytes_max + bytes_max / 32 + DISK_EXTRA_BYTES).next_multiple_of(BLOCK_BYTES)
}

/// When to look at the layers next.
pub(super) fn next_look() -> Instant {
    Instant::now() + Duration::from_millis(DISK_POLL_MS)
}

/// The process that accounts, and what it has written.
#[derive(Debug)]
pub(super) struct Accountant {
    pidfd: OwnedFd,
    results: File,
}

impl Launcher {
    /// When to look at the layers that nothing else limits, if there are any.
    pub(super) fn disk_due(&self) -> Option<Instant> {
        self.disk_at.filter(|_| self.accountant.is_none())
    }

    /// Looks at all layers, in a process of its own, because that can take long.
    pub(super) fn account(&mut self, now: Instant) {
        if self.disk_due().is_none_or(|due| due > now) {
            return;
        }
        self.disk_at = None;
        let layers: Vec<(u64, PathBuf)> = self
            .sandboxes
            .iter()
            .filter(|(_, it)| it.watched_disk_bytes.is_some())
            .map(|(number, it)| (*number, it.dir.join("layer")))
            .collect();
        if layers.is_empty() {
            return;
        }
        match start_accountant(&layers, self.workshop.rootfs.rootful) {
            Ok((pidfd, results)) => {
                let token = self.token();
                let _ = epoll_add(&self.epoll, pidfd.as_fd(), token);
                self.sources.insert(token, Source::Accountant);
                self.accountant = Some(Accountant { pidfd, results });
            }
            Err(_) => self.disk_at = Some(next_look()),
        }
    }

    /// A maker of a disk has ended; what it made or said is with its sandbox.
    pub(super) fn made_disk(&mut self, token: u64) {
        self.sources.remove(&token);
        if let Some(pidfd) = self.makers.remove(&token) {
            let _ = epoll::delete(&self.epoll, &pidfd);
            let _ = reap(&pidfd);
        }
    }

    /// The accountant has ended: ends what is above its limit.
    pub(super) fn accounted(&mut self, token: u64) {
        self.sources.remove(&token);
        let Some(accountant) = self.accountant.take() else {
            return;
        };
        let _ = epoll::delete(&self.epoll, &accountant.pidfd);
        let _ = reap(&accountant.pidfd);
        for (number, used) in read_results(accountant.results) {
            if let Some(sandbox) = self.sandboxes.get_mut(&number) {
                end_if_above(sandbox, used);
            }
        }
        self.disk_at = Some(next_look());
    }
}

/// What a layer holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    bytes: u64,
    inodes: u64,
}

impl Used {
    /// What counts for folders so deep that no path leads there: nobody could look into them, so
    /// they would hide as much as they like.
    const TOO_MUCH: Self = Self { bytes: u64::MAX, inodes: u64::MAX };
}

fn end_if_above(sandbox: &mut Sandbox, used: Used) {
    let Some(bytes_max) = sandbox.watched_disk_bytes else {
        return;
    };
    let inodes_max = (bytes_max / DISK_BYTES_PER_INODE).max(DISK_INODES_MIN);
    if used.bytes > bytes_max || used.inodes > inodes_max {
        sandbox.limit.get_or_insert(LimitReached::Disk);
        let _ = kill(&sandbox.init);
    }
}

/// Starts a process that writes into a memory file what each layer holds.
fn start_accountant(layers: &[(u64, PathBuf)], rootful: bool) -> io::Result<(OwnedFd, File)> {
    let results = rustix::fs::memfd_create("accounts", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut results = File::from(results);
    let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // In a user namespace of its own it can look into folders that their owner has closed.
    let namespace = if rootful { 0 } else { libc::CLONE_NEWUSER };
    match sys::clone_process(namespace, None)? {
        sys::Cloned::Child => {
            sys::close_except(&[results.as_raw_fd()]);
            sys::reset_signals();
            let _ = rustix::process::setpriority_process(None, 19);
            if !rootful {
                let _ = fs::write("/proc/self/uid_map", format!("{0} {0} 1", ids.0));
                let _ = fs::write("/proc/self/setgroups", "deny");
                let _ = fs::write("/proc/self/gid_map", format!("{0} {0} 1", ids.1));
            }
            for (number, layer) in layers {
                let used = ["upper", "usr-upper"].map(|name| used(&layer.join(name)));
                let bytes = used[0].bytes.saturating_add(used[1].bytes);
                let inodes = used[0].inodes.saturating_add(used[1].inodes);
                let _ = writeln!(results, "{number} {bytes} {inodes}");
            }
            sys::exit_now(0)
        }
        sys::Cloned::Parent { pidfd, .. } => Ok((pidfd, results)),
    }
}

fn read_results(mut results: File) -> BTreeMap<u64, Used> {
    let mut text = String::new();
    let read = io::Seek::rewind(&mut results).and_then(|()| results.read_to_string(&mut text));
    if read.is_err() {
        return BTreeMap::new();
    }
    let number = |word: Option<&str>| word.and_then(|it| it.parse::<u64>().ok());
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let name = number(words.next())?;
            let (bytes, inodes) = (number(words.next())?, number(words.next())?);
            Some((name, Used { bytes, inodes }))
        })
        .collect()
}

/// What is in a folder, without recursion, because its depth is the workload's choice.
fn used(folder: &Path) -> Used {
    let mut used = Used::default();
    let mut waiting = vec![folder.to_owned()];
    while let Some(dir) = waiting.pop() {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => {
                return Used::TOO_MUCH;
            }
            entries => entries,
        };
        for entry in entries.into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            // Each name of a file is a part of it; folders have links of their own.
            let names = if metadata.is_dir() { 1 } else { metadata.nlink().max(1) };
            used.bytes += metadata.blocks() * 512 / names;
            used.inodes += 1;
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn what_is_in_a_folder_is_counted() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(dir.path().join("a/b")).expect("made");
        fs::write(dir.path().join("a/b/file"), vec![b'x'; 100_000]).expect("written");
        File::create(dir.path().join("sparse")).and_then(|it| it.set_len(1 << 30)).expect("made");
        let used = used(dir.path());
        assert_eq!(used.inodes, 4);
        assert!((100_000..1_000_000).contains(&used.bytes), "{used:?}");
    }

    #[test]
    fn folders_too_deep_to_look_into_are_too_much() {
        let dir = tempfile::tempdir().expect("a folder");
        let name = "x".repeat(250);
        let mut at = rustix::fs::open(dir.path(), OFlags::RDONLY, Mode::empty()).expect("opened");
        for _ in 0..20 {
            rustix::fs::mkdirat(&at, name.as_str(), Mode::RWXU).expect("made");
            at = rustix::fs::openat(&at, name.as_str(), OFlags::RDONLY, Mode::empty())
                .expect("opened");
        }
        assert_eq!(used(dir.path()), Used::TOO_MUCH);
    }

    #[test]
    fn a_copy_has_the_same_content_and_the_same_holes() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("from");
        let mut file = File::create(&path).expect("made");
        file.set_len(8 << 20).expect("set");
        io::Seek::seek(&mut file, io::SeekFrom::Start(5 << 20)).expect("sought");
        file.write_all(&[7; 5000]).expect("written");
        let to = dir.path().join("to");
        copy_sparsely(&File::open(&path).expect("opened"), &to).expect("copied");
        assert_eq!(fs::read(&to).expect("read"), fs::read(&path).expect("read"));
        assert!(fs::metadata(&to).expect("metadata").blocks() < 1024);
    }
}
