//! The root of a sandbox: layers under a private writable one.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::mount::{MountFlags, mount};

use super::{AtStep, Plan, StepError};
use crate::base::BASE_DIR;
use crate::limits::USER_ID;
use crate::protections::Protections;
use crate::rootfs::{self, STAGE_DEV, STAGE_USR, UsrView};

/// Places outside the new root, opened while this process still has the launcher's identity,
/// because others may not pass through the data folder.
pub(super) struct Sources {
    pub(super) layer: OwnedFd,
    pub(super) dev: Option<OwnedFd>,
    /// What is seen as `/` below the private layer, the topmost first.
    roots: Vec<OwnedFd>,
    /// The same for `/usr`; empty if it is the host's, read-only.
    usrs: Vec<OwnedFd>,
}

impl Sources {
    pub(super) fn open(plan: &Plan<'_>) -> Result<Self, StepError> {
        let (rootfs, kind) = (plan.rootfs, plan.kind);
        let layers = kind.root.as_ref().map_or(&[][..], |root| &root.layers);
        let (mut roots, mut usrs) = (Vec::new(), Vec::new());
        for layer in layers {
            roots.push(open(&Path::new(layer).join("root"))?);
            usrs.extend(open_if_there(&Path::new(layer).join("usr"))?);
        }
        if kind.over_host() {
            roots.push(open(Path::new(BASE_DIR))?);
            if rootfs.usr == UsrView::Writable {
                usrs.push(open(Path::new(STAGE_USR))?);
            } else if !usrs.is_empty() {
                usrs.push(open(Path::new("/usr"))?);
            }
        } else {
            usrs.clear();
        }
        let dev = rootfs.dev_template.then(|| open(Path::new(STAGE_DEV))).transpose()?;
        Ok(Self { layer: open(&plan.layer_dir)?, dev, roots, usrs })
    }
}

fn open(path: &Path) -> Result<OwnedFd, StepError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).at(&format!("open {}", path.display()))
}

fn open_if_there(path: &Path) -> Result<Option<OwnedFd>, StepError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => open(path).map(Some),
    }
}

/// The folders of the overlays, in the private layer, which is the current folder. What the
/// workload sees as the top of a file system over the host's belongs to its user.
pub(super) fn make_layer(plan: &Plan<'_>) -> io::Result<()> {
    let user = (plan.rootfs.rootful && plan.kind.over_host()).then_some(USER_ID);
    for (name, owner) in
        [("upper", user), ("work", None), ("usr-upper", user), ("usr-work", None), ("root", None)]
    {
        rootfs::make_dir(Path::new(name), 0o755, owner)?;
    }
    Ok(())
}

/// Mounts the root at `root`: all below with a private layer over it, or, where the kernel
/// refuses an overlay in a user namespace and there is no other layer, a copy of the base in
/// memory.
pub(super) fn make(plan: &Plan<'_>, sources: &Sources) -> Result<(), StepError> {
    let protections = plan.rootfs.protections;
    let made = overlay(&sources.roots, ["upper", "work", "root"], protections);
    match (made, sources.roots.as_slice()) {
        (Err(_), [base]) if plan.kind.over_host() => {
            let flags = protections.mount_flags(MountFlags::NOSUID | MountFlags::NODEV);
            mount("tmpfs", "root", "tmpfs", flags, c"mode=0755").at("mount the root")?;
            copy_base(base, plan.rootfs.rootful).at("copy the base into the root")
        }
        (made, _) => made.at("mount the layers of the root"),
    }
}

/// Mounts `/usr` at `usr` of the new root, which is the current folder: all below with a private
/// layer over it if there is something to write or to add and the kernel takes it; else the
/// host's, read-only.
pub(super) fn make_usr(sources: &Sources, protections: Protections) -> Result<(), StepError> {
    let with_layers = sources.usrs.len() > 1;
    match overlay_in(&sources.layer, &sources.usrs, protections) {
        Ok(()) => Ok(()),
        Err(error) if with_layers => Err(error).at("mount the layers of /usr"),
        Err(_) => super::setup::bind_read_only("/usr", "usr", protections).at("bind /usr"),
    }
}

fn overlay_in(layer: &OwnedFd, usrs: &[OwnedFd], protections: Protections) -> io::Result<()> {
    if usrs.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let back = rustix::fs::open(".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    rustix::process::fchdir(layer)?;
    let made = overlay(usrs, ["usr-upper", "usr-work", "root/usr"], protections);
    rustix::process::fchdir(back)?;
    made
}

/// Mounts an overlay; all paths but those of `lowers` are relative to the private layer, which is
/// the current folder. Each lower folder is named by its descriptor, in about 20 bytes.
fn overlay(
    lowers: &[OwnedFd],
    [upper, work, target]: [&str; 3],
    protections: Protections,
) -> io::Result<()> {
    let lowers: Vec<String> =
        lowers.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let options =
        format!("lowerdir={},upperdir={upper},workdir={work},userxattr\0", lowers.join(":"));
    let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes())
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = protections.mount_flags(MountFlags::NOSUID | MountFlags::NODEV);
    mount("overlay", target, "overlay", flags, options)?;
    Ok(())
}

/// Makes real folders of the places in the new root, which is the current folder, where something
/// is mounted before it is the root: a layer may have anything there, also a link that leads out.
pub(super) fn make_mount_points(plan: &Plan<'_>) -> io::Result<()> {
    if plan.kind.root.is_none() {
        return Ok(());
    }
    let mut names = vec![("proc", 0o555), ("dev", 0o755), ("tmp", 0o1777)];
    if plan.kind.over_host() {
        names.push(("usr", 0o755));
        names.extend(plan.rootfs.system_dirs.iter().map(|name| (*name, 0o755)));
    }
    for (name, mode) in names {
        let found = rustix::fs::statat(rustix::fs::CWD, name, AtFlags::SYMLINK_NOFOLLOW);
        match found.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Directory) => continue,
            Ok(_) => fs::remove_file(name)?,
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        rootfs::make_dir(Path::new(name), mode, None)?;
    }
    Ok(())
}

fn copy_base(base: &OwnedFd, rootful: bool) -> io::Result<()> {
    let base = format!("/proc/self/fd/{}", base.as_raw_fd());
    let owner = rootful.then_some(USER_ID);
    copy_folder(Path::new(&base), Path::new("root"), owner)
}

fn copy_folder(from: &Path, to: &Path, owner: Option<u32>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else if kind.is_dir() {
            let mode = entry.metadata()?.permissions().mode() & 0o7777;
            let closed = fs::read_dir(entry.path()).is_err();
            rootfs::make_dir(&target, mode, owner)?;
            if !closed {
                copy_folder(&entry.path(), &target, owner)?;
            }
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
