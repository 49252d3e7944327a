//! What every sandbox of a launcher shares besides its [`base`]: with root, clones of the
//! host's `/usr` and of a `/dev` in a private mount namespace of the launcher.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change,
    move_mount, open_tree,
};

use crate::base;
use crate::limits::{HOST_ID_BASE, HOST_ID_COUNT, USER_ID};
use crate::protections::{Protection, Protections};
use crate::sys::{self, Cloned};

/// Mount point, in the data folder, of the clone of `/usr`.
pub(crate) const STAGE_USR: &str = "stage/usr";
/// Mount point, in the data folder, of the template of `/dev`.
pub(crate) const STAGE_DEV: &str = "stage/dev";

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
    /// What is on.
    pub(crate) protections: Protections,
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
pub(crate) fn prepare(rootful: bool, protections: Protections) -> Result<Rootfs, PrepareError> {
    let system_dirs = base::prepare(rootful, protections)?;
    let mut rootfs = Rootfs {
        rootful,
        usr: UsrView::ReadOnly,
        usr_reason: None,
        dev_template: false,
        system_dirs,
        proc_hidden: proc_hidden(protections),
        protections,
    };
    if rootful {
        enter_private_mounts().map_err(|error| failed("unshare the mount namespace", error))?;
        match stage_usr(protections) {
            Ok(()) => rootfs.usr = UsrView::Writable,
            Err(error) => rootfs.usr_reason = Some(error.to_string()),
        }
        rootfs.dev_template = stage_dev(protections).is_ok();
    }
    Ok(rootfs)
}

/// A step that failed.
pub(crate) fn failed(step: impl Into<String>, error: io::Error) -> PrepareError {
    PrepareError { step: step.into(), error }
}

/// The id on the host of the workload's user, or `None` where it is our own.
pub(crate) fn host_user(rootful: bool, protections: Protections) -> Option<u32> {
    rootful.then_some(first_host_id(protections) + USER_ID)
}

/// The id on the host of user 0 of sandboxes with a range of their own.
pub(crate) fn first_host_id(protections: Protections) -> u32 {
    if protections.has(Protection::IdRange) { HOST_ID_BASE } else { 0 }
}

/// Makes a folder with exactly this mode, owned by `owner`.
pub(crate) fn make_dir(path: &Path, mode: u32, owner: Option<u32>) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if owner.is_some() { chown(path, owner, owner) } else { Ok(()) }
}

/// Gives this process its own copy of the mounts. Unmounts on the host still reach it, so it
/// keeps no disk busy; what it mounts stays its own.
fn enter_private_mounts() -> io::Result<()> {
    sys::unshare(libc::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    Ok(())
}

/// Mounts a clone of `/usr` in which what root owns appears to be the workload's user's.
///
/// Its user then reads what on the host only root may read. Packages have no secrets in
/// `/usr`, but an administrator may, in `/usr/local`: then there is no clone.
fn stage_usr(protections: Protections) -> io::Result<()> {
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
    let userns = id_map_namespace(first_host_id(protections))?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_RDONLY;
    let attributes = protections.mount_attributes(attributes);
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
fn id_map_namespace(first_id: u32) -> io::Result<rustix::fd::OwnedFd> {
    let user = first_id + USER_ID;
    let rest = first_id + USER_ID + 1;
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
fn stage_dev(protections: Protections) -> io::Result<()> {
    fs::create_dir_all(STAGE_DEV)?;
    let flags = protections.mount_flags(MountFlags::NOSUID | MountFlags::NOEXEC);
    mount("tmpfs", STAGE_DEV, "tmpfs", flags, c"mode=0755")?;
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
    fs::create_dir_all(STAGE_NODES)?;
    mount("tmpfs", STAGE_NODES, "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=0700")?;
    Ok(())
}

/// Mount point, in the data folder, of the nodes of further devices.
const STAGE_NODES: &str = "stage/nodes";

/// A detached view of a folder or file of the host, without what is mounted in it.
pub(crate) fn open_mount(
    source: &Path,
    read_only: bool,
    protections: Protections,
) -> io::Result<OwnedFd> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, source, clone)?;
    let read_only = if read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | read_only;
    let attributes = protections.mount_attributes(attributes);
    sys::mount_setattr_private(tree.as_fd(), attributes)?;
    Ok(tree)
}

/// A detached view of a device node of the host, with the permissions that it has there.
pub(crate) fn open_device(path: &Path) -> io::Result<OwnedFd> {
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no device"));
    }
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let node = open_tree(rustix::fs::CWD, path, clone)?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    sys::mount_setattr(node.as_fd(), false, attributes, None)?;
    Ok(node)
}

/// The same with a node of our own for the device, which the ids of sandboxes may use: those
/// that own it on the host are not there. Only where it is mounted it can be seen. Needs root.
pub(crate) fn make_device(path: &Path) -> io::Result<OwnedFd> {
    let metadata = fs::metadata(path)?;
    let kind = rustix::fs::FileType::from_raw_mode(metadata.mode());
    use rustix::fs::FileType::{BlockDevice, CharacterDevice};
    if !matches!(kind, BlockDevice | CharacterDevice) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no device"));
    }
    let letter = if kind == BlockDevice { 'b' } else { 'c' };
    let node = Path::new(STAGE_NODES).join(format!("{letter}{}", metadata.rdev()));
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    match rustix::fs::mknodat(rustix::fs::CWD, &node, kind, mode, metadata.rdev()) {
        Ok(()) => fs::set_permissions(&node, fs::Permissions::from_mode(0o666))?,
        Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    open_device(&node)
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
pub(crate) fn proc_hidden(protections: Protections) -> Vec<(&'static str, Hidden)> {
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
    let is_on = |hidden: Hidden| match hidden {
        Hidden::File | Hidden::Folder => protections.has(Protection::ProcHidden),
        Hidden::ReadOnly => protections.has(Protection::ProcReadOnly),
    };
    PARTS.iter().filter(|(part, hidden)| exists(part) && is_on(*hidden)).copied().collect()
}
