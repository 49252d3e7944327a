//! What every sandbox of a launcher shares: the base folder that is the lowest layer of its
//! root, and, with root, clones of the host's `/usr` and of a `/dev` in a private mount
//! namespace of the launcher.
//!
//! Fail closed: the base holds what is listed here and nothing else.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change,
    move_mount, open_tree,
};

use crate::limits::{HOST_ID_BASE, HOST_ID_COUNT, USER_ID};
use crate::sys::{self, Cloned};

/// Folder in the data folder with the lowest layer of all sandboxes' roots.
pub(crate) const BASE_DIR: &str = "base";
/// Mount point, in the data folder, of the clone of `/usr`.
pub(crate) const STAGE_USR: &str = "stage/usr";
/// Mount point, in the data folder, of the template of `/dev`.
pub(crate) const STAGE_DEV: &str = "stage/dev";

/// Files and folders of the host's `/etc` that programs need and that hold no secrets. Only
/// what everybody may read is copied.
const ETC_ALLOWED: &[&str] = &[
    "alternatives",
    "bash.bashrc",
    "bindresvport.blacklist",
    "ca-certificates.conf",
    "debian_version",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "magic",
    "magic.mime",
    "mailcap",
    "mime.types",
    "networks",
    "os-release",
    "perl",
    "pki/ca-trust",
    "pki/tls/certs",
    "profile",
    "protocols",
    "rpc",
    "services",
    "shells",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
];

/// Folders of the host's `/etc` whose names begin so: languages with a version in the name.
const ETC_ALLOWED_PREFIXES: &[&str] = &["java-", "python", "lsb-release"];

/// Top folders of the host that hold programs and libraries: read-only views of these, or
/// the same symbolic links, appear in each sandbox.
const SYSTEM_DIRS: &[&str] = &["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// Empty folders of the root, with their permission bits.
const EMPTY_DIRS: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("home/user", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
    ("work", 0o755),
];

const PASSWD: &str = "root:x:0:0:root:/root:/usr/sbin/nologin\n\
    user:x:1000:1000:user:/home/user:/bin/sh\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
    networks: files\nprotocols: files\nservices: files\n";

/// Device nodes of a sandbox: name and minor number; the major number is 1 but for tty.
const DEVICES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// How the host's `/usr` appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UsrView {
    /// An id-mapped clone with a private writable layer over it.
    Writable,
    /// Read-only.
    ReadOnly,
}

/// What was prepared.
#[derive(Debug, Clone)]
pub(crate) struct Rootfs {
    /// Whether ids are mapped to a range of their own, which needs root.
    pub(crate) rootful: bool,
    pub(crate) usr: UsrView,
    /// Why `/usr` is not writable, if it could be expected to be.
    pub(crate) usr_reason: Option<String>,
    /// Whether the template of `/dev` is mounted.
    pub(crate) dev_template: bool,
    /// Top folders of the host that are real folders and need a view of their own.
    pub(crate) system_dirs: Vec<&'static str>,
    /// Files and folders of `/proc` to hide, relative to the root.
    pub(crate) proc_hidden: Vec<(&'static str, Hidden)>,
}

/// How something in `/proc` is taken out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hidden {
    File,
    Folder,
    ReadOnly,
}

/// Why the shared parts could not be prepared.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {error}")]
pub struct PrepareError {
    step: String,
    error: io::Error,
}

/// Prepares the shared parts in the current folder, which is the data folder. With root it
/// moves this process into a mount namespace of its own.
pub(crate) fn prepare(rootful: bool) -> Result<Rootfs, PrepareError> {
    let system_dirs = make_base(rootful)?;
    let mut rootfs = Rootfs {
        rootful,
        usr: UsrView::ReadOnly,
        usr_reason: None,
        dev_template: false,
        system_dirs,
        proc_hidden: proc_hidden(),
    };
    if rootful {
        enter_private_mounts().map_err(|error| failed("unshare the mount namespace", error))?;
        match stage_usr() {
            Ok(()) => rootfs.usr = UsrView::Writable,
            Err(error) => rootfs.usr_reason = Some(error.to_string()),
        }
        rootfs.dev_template = stage_dev().is_ok();
    }
    Ok(rootfs)
}

fn failed(step: impl Into<String>, error: io::Error) -> PrepareError {
    PrepareError {
        step: step.into(),
        error,
    }
}

/// The id on the host of the workload's user, or `None` where it is our own.
pub(crate) fn host_user(rootful: bool) -> Option<u32> {
    rootful.then_some(HOST_ID_BASE + USER_ID)
}

/// Makes the base folder anew; no sandbox can be using an old one, because a sandbox ends
/// with its launcher.
fn make_base(rootful: bool) -> Result<Vec<&'static str>, PrepareError> {
    let base = Path::new(BASE_DIR);
    let at = |path: &Path| format!("make {}", path.display());
    match fs::remove_dir_all(base) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove the old base folder", error));
        }
        _ => {}
    }
    let owner = host_user(rootful);
    make_dir(base, 0o755, owner).map_err(|error| failed(at(base), error))?;
    for (name, mode) in EMPTY_DIRS {
        let dir = base.join(name);
        make_dir(&dir, *mode, owner).map_err(|error| failed(at(&dir), error))?;
    }
    let system_dirs = make_system_dirs(base, owner).map_err(|error| failed(at(base), error))?;
    let etc = base.join("etc");
    copy_etc(&etc, owner);
    let files = [
        ("passwd", PASSWD),
        ("group", GROUP),
        ("nsswitch.conf", NSSWITCH),
        ("resolv.conf", ""),
        ("machine-id", ""),
        // Not hostname and hosts, which each instance has of its own.
    ];
    for (name, text) in files {
        let path = etc.join(name);
        write_file(&path, text, owner).map_err(|error| failed(at(&path), error))?;
    }
    let mtab = etc.join("mtab");
    symlink("/proc/self/mounts", &mtab).map_err(|error| failed(at(&mtab), error))?;
    Ok(system_dirs)
}

/// The host's symbolic links, such as `/bin` to `usr/bin`, or mount points for real folders.
fn make_system_dirs(base: &Path, owner: Option<u32>) -> io::Result<Vec<&'static str>> {
    let mut real = Vec::new();
    for name in SYSTEM_DIRS {
        let host = Path::new("/").join(name);
        let Ok(metadata) = fs::symlink_metadata(&host) else {
            continue;
        };
        if metadata.is_symlink() {
            symlink(fs::read_link(&host)?, base.join(name))?;
        } else if metadata.is_dir() {
            make_dir(&base.join(name), 0o755, owner)?;
            real.push(*name);
        }
    }
    Ok(real)
}

/// Copies what is allowed; what cannot be copied is left out.
fn copy_etc(etc: &Path, owner: Option<u32>) {
    let prefixed = fs::read_dir("/etc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            ETC_ALLOWED_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
        });
    for name in ETC_ALLOWED
        .iter()
        .map(|name| (*name).to_owned())
        .chain(prefixed)
    {
        let (from, to) = (Path::new("/etc").join(&name), etc.join(&name));
        let mut parents: Vec<&Path> = to
            .ancestors()
            .skip(1)
            .take_while(|parent| *parent != etc)
            .collect();
        parents.reverse();
        if fs::symlink_metadata(&from).is_ok() {
            let made = parents.into_iter().try_for_each(|dir| {
                if dir.exists() {
                    Ok(())
                } else {
                    make_dir(dir, 0o755, owner)
                }
            });
            if made.is_ok() {
                let _ = copy_tree(&from, &to, owner);
            }
        }
    }
}

/// Copies files, folders and symbolic links that everybody may read, and nothing else.
fn copy_tree(from: &Path, to: &Path, owner: Option<u32>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return std::os::unix::fs::lchown(to, owner, owner);
    }
    if metadata.mode() & 0o004 == 0 {
        return Ok(());
    }
    if metadata.is_file() {
        fs::copy(from, to)?;
        fs::set_permissions(
            to,
            fs::Permissions::from_mode(metadata.mode() & 0o755 | 0o200),
        )?;
        return chown(to, owner, owner);
    }
    if metadata.is_dir() && metadata.mode() & 0o001 != 0 {
        make_dir(to, 0o755, owner)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let _ = copy_tree(&entry.path(), &to.join(entry.file_name()), owner);
        }
    }
    Ok(())
}

/// Makes a folder with exactly this mode, owned by `owner`.
pub(crate) fn make_dir(path: &Path, mode: u32, owner: Option<u32>) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if owner.is_some() {
        chown(path, owner, owner)
    } else {
        Ok(())
    }
}

fn write_file(path: &Path, text: &str, owner: Option<u32>) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    chown(path, owner, owner)
}

/// Gives this process its own copy of the mounts. Unmounts on the host still reach it, so it
/// keeps no disk busy; what it mounts stays its own.
fn enter_private_mounts() -> io::Result<()> {
    sys::unshare(libc::CLONE_NEWNS)?;
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?;
    Ok(())
}

/// Mounts a clone of `/usr` in which what root owns appears to be the workload's user's.
///
/// Its user then reads what on the host only root may read. Packages have no secrets in
/// `/usr`, but an administrator may, in `/usr/local`: then there is no clone.
fn stage_usr() -> io::Result<()> {
    let mut entries_left = LOCAL_ENTRIES_MAX;
    if let Some(path) = find_private(Path::new("/usr/local"), &mut entries_left)? {
        let reason = format!("{} is for root only", path.display());
        return Err(io::Error::other(reason));
    }
    fs::create_dir_all(STAGE_USR)?;
    let tree = open_tree(
        rustix::fs::CWD,
        "/usr",
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )?;
    let userns = id_map_namespace()?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_RDONLY;
    sys::mount_setattr(tree.as_fd(), false, attributes, Some(userns.as_fd()))?;
    attach(&tree, STAGE_USR)
}

/// Entries of `/usr/local` that are looked at, which takes some milliseconds.
const LOCAL_ENTRIES_MAX: usize = 20_000;

/// Something of root's that others may not read, or where the search ended for its length.
fn find_private(dir: &Path, entries_left: &mut usize) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (metadata, path) = (entry.metadata()?, entry.path());
        let closed = !metadata.is_symlink() && metadata.mode() & 0o004 == 0;
        if (closed && metadata.uid() == 0) || *entries_left == 0 {
            return Ok(Some(path));
        }
        *entries_left -= 1;
        if metadata.is_dir()
            && let Some(found) = find_private(&path, entries_left)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A user namespace that maps the host's ids as the clone of `/usr` shows them: root becomes
/// the workload's user, and the other system users stay apart from it.
fn id_map_namespace() -> io::Result<rustix::fd::OwnedFd> {
    let user = HOST_ID_BASE + USER_ID;
    let rest = HOST_ID_BASE + USER_ID + 1;
    let count = HOST_ID_COUNT - USER_ID - 1;
    let map = format!("0 {user} 1\n1 {rest} {count}\n");
    match sys::clone_process(libc::CLONE_NEWUSER, None)? {
        Cloned::Child => loop {
            rustix::event::pause();
        },
        Cloned::Parent { pid, pidfd } => {
            let opened = (|| {
                fs::write(format!("/proc/{pid}/uid_map"), &map)?;
                fs::write(format!("/proc/{pid}/gid_map"), &map)?;
                Ok(fs::File::open(format!("/proc/{pid}/ns/user"))?.into())
            })();
            rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL)?;
            rustix::process::waitid(
                rustix::process::WaitId::PidFd(pidfd.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            )?;
            opened
        }
    }
}

/// Mounts a small file system with the device nodes; each sandbox gets a read-only clone.
fn stage_dev() -> io::Result<()> {
    fs::create_dir_all(STAGE_DEV)?;
    mount(
        "tmpfs",
        STAGE_DEV,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        c"mode=0755",
    )?;
    let dir = Path::new(STAGE_DEV);
    make_dev_dirs(dir)?;
    for (name, major, minor) in DEVICES {
        let path = dir.join(name);
        let device = rustix::fs::makedev(*major, *minor);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, device)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        // A mount with nodev above us would make the nodes useless.
        fs::File::open(&path).or_else(|error| match error.raw_os_error() {
            // /dev/tty without a terminal.
            Some(libc::ENXIO) => fs::File::open("/dev/null"),
            _ => Err(error),
        })?;
    }
    Ok(())
}

/// Folders and links of `/dev` besides the nodes.
pub(crate) fn make_dev_dirs(dir: &Path) -> io::Result<()> {
    for name in ["pts", "shm"] {
        fs::create_dir(dir.join(name))?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        symlink(target, dir.join(name))?;
    }
    Ok(())
}

/// Names of the device nodes.
pub(crate) fn device_names() -> impl Iterator<Item = &'static str> {
    DEVICES.iter().map(|(name, ..)| *name)
}

/// Mounts a detached tree.
pub(crate) fn attach(tree: impl AsFd, target: &str) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(tree, "", rustix::fs::CWD, target, flags)?)
}

/// Which of the well-known dangerous or revealing parts of `/proc` this kernel has.
fn proc_hidden() -> Vec<(&'static str, Hidden)> {
    const PARTS: &[(&str, Hidden)] = &[
        ("proc/acpi", Hidden::Folder),
        ("proc/asound", Hidden::Folder),
        ("proc/scsi", Hidden::Folder),
        ("proc/kcore", Hidden::File),
        ("proc/keys", Hidden::File),
        ("proc/key-users", Hidden::File),
        ("proc/latency_stats", Hidden::File),
        ("proc/sched_debug", Hidden::File),
        ("proc/sysrq-trigger", Hidden::File),
        ("proc/timer_list", Hidden::File),
        ("proc/bus", Hidden::ReadOnly),
        ("proc/fs", Hidden::ReadOnly),
        ("proc/irq", Hidden::ReadOnly),
        ("proc/sys", Hidden::ReadOnly),
    ];
    let exists = |part: &str| PathBuf::from(format!("/{part}")).exists();
    PARTS
        .iter()
        .filter(|(part, _)| exists(part))
        .copied()
        .collect()
}
