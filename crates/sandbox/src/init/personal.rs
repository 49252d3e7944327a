//! What one instance has of its own: mounts, secrets, files.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use super::identity::Identity;
use super::inside::Inside;
use super::{AtStep, StepError};
use crate::spec::{FileSpec, SecretFile};
use crate::sys;

/// Folder of the secrets inside.
const SECRETS_DIR: &str = "/run/secrets";

/// Memory for the folder of the secrets and the end of each file's last page.
const SECRETS_EXTRA_BYTES: usize = 64 * 1024;

/// Mounts detached trees at their targets, which are made if they are missing.
pub(super) fn attach_mounts(
    inside: &Inside,
    targets: &[String],
    trees: &[OwnedFd],
    identity: &Identity,
) -> Result<(), StepError> {
    for (target, tree) in targets.iter().zip(trees) {
        attach(inside, target, tree, identity).at(&format!("mount {target}"))?;
    }
    Ok(())
}

fn attach(inside: &Inside, target: &str, tree: &OwnedFd, identity: &Identity) -> io::Result<()> {
    let mode = rustix::fs::fstat(tree)?.st_mode;
    let folder = FileType::from_raw_mode(mode) == FileType::Directory;
    let place = inside.mount_point(target, folder, identity.owner())?;
    attach_at(tree, &place)
}

fn attach_at(tree: impl AsFd, place: impl AsFd) -> io::Result<()> {
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", place, "", both)?)
}

/// Writes the secrets into memory that only the workload's user can read, and nobody can write.
/// A failure names the file, never its content.
pub(super) fn give_secrets(
    inside: &Inside,
    files: &[SecretFile],
    identity: &Identity,
) -> Result<(), StepError> {
    if files.is_empty() {
        return Ok(());
    }
    let tree = make_secrets_mount(files).at("make memory for the secrets")?;
    for file in files {
        write_secret(&tree, file, identity).at(&format!("write the secret {}", file.name))?;
    }
    own_folder(&tree, identity).at("give the secrets to the user")?;
    let read_only = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    let read_only = identity.protections.mount_attributes(read_only);
    sys::mount_setattr(tree.as_fd(), false, read_only, None).at("protect the secrets")?;
    let place = inside.make_dirs(SECRETS_DIR, identity.owner()).at("make /run/secrets")?;
    attach_at(&tree, &place).at("mount /run/secrets")
}

fn make_secrets_mount(files: &[SecretFile]) -> io::Result<OwnedFd> {
    const PAGE_BYTES: usize = 4096;
    let bytes: usize = files.iter().map(|file| file.bytes.len() + PAGE_BYTES).sum();
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", "tmpfs")?;
    fsconfig_set_string(&fs, "mode", "0700")?;
    fsconfig_set_string(&fs, "size", (bytes + SECRETS_EXTRA_BYTES).to_string())?;
    fsconfig_set_string(&fs, "nr_inodes", (files.len() + 2).to_string())?;
    fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn write_secret(tree: &OwnedFd, file: &SecretFile, identity: &Identity) -> io::Result<()> {
    use rustix::fs::OFlags;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(tree, &file.name, flags, Mode::from_raw_mode(0o400))?;
    let mut out = File::from(fd);
    out.write_all(&file.bytes)?;
    rustix::fs::fchmod(&out, Mode::from_raw_mode(0o400))?;
    let (uid, gid) = identity.raw();
    Ok(rustix::fs::fchown(&out, Some(uid), Some(gid))?)
}

/// A descriptor of a mount is no descriptor to change what it shows, hence the path.
fn own_folder(tree: &OwnedFd, identity: &Identity) -> io::Result<()> {
    let (uid, gid) = identity.raw();
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    Ok(rustix::fs::chownat(tree, "", Some(uid), Some(gid), flags)?)
}

/// Writes files, as the workload's user.
pub(super) fn write_files(
    inside: &Inside,
    files: &[FileSpec],
    identity: &Identity,
) -> Result<(), StepError> {
    files.iter().try_for_each(|file| {
        inside
            .create(&file.path, file.mode, identity.owner())
            .and_then(|mut out| out.write_all(&file.bytes))
            .at(&format!("write {}", file.path))
    })
}
