//! Makes the inside of a sandbox, in two steps: what all sandboxes have in common, which can
//! be done ahead of time, and what one instance has of its own.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, OpenTreeFlags, UnmountFlags, mount, open_tree, unmount};

use super::control::{self, Personal, ToInit};
use super::identity::Identity;
use super::inside::Inside;
use super::root::{self, Sources};
use super::{AtStep, Plan, StepError, personal};
use crate::fd_passing::recv_with_fds;
use crate::limits::{
    DISK_FULL_BYTES, OPEN_FILES_HARD, OPEN_FILES_SOFT, TMP_BYTES_MAX_DEFAULT, TMP_BYTES_PER_FILE,
    TMP_FILES_MIN,
};
use crate::network::device;
use crate::protections::{Protection, Protections};
use crate::rootfs::{self, Hidden, Rootfs};
use crate::spec::FileSpec;
use crate::sys;

/// Secure bits, `capabilities(7)`: NOROOT (1) on, so that user 0 is nobody special to exec;
/// NO_SETUID_FIXUP (4) off, because becoming another user must drop all capabilities; KEEP_CAPS
/// (16) off; NO_CAP_AMBIENT_RAISE (64) on; each with its lock.
const SECURE_BITS: u64 = 0b1110_1011;
/// The same with NOROOT off: user 0 keeps at exec what it has. It gains nothing, because of
/// no_new_privs and the bounding set.
const SECURE_BITS_OF_ROOT: u64 = 0b1110_1010;

/// The common part: namespaces, mounts, root. Returns as whom processes will run, and the file of
/// the TUN devices, if there is one, for the network of this sandbox.
pub(super) fn set_up(plan: &Plan<'_>) -> Result<(Identity, Option<OwnedFd>), StepError> {
    let mut keep: Vec<_> = plan.join_files.iter().map(AsRawFd::as_raw_fd).collect();
    keep.push(plan.control.as_raw_fd());
    keep.extend(plan.disk.as_ref().map(AsRawFd::as_raw_fd));
    keep.extend(plan.devices.iter().map(|(_, node)| node.as_raw_fd()));
    let protections = plan.rootfs.protections;
    if protections.has(Protection::CloseFiles) {
        sys::close_except(&keep);
    }
    sys::reset_signals();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::set_name(c"init");
    if protections.has(Protection::WipedCommandLine) {
        sys::overwrite_command_line(b"init");
    }
    wait_for_id_maps(plan)?;
    for file in &plan.join_files {
        rustix::io::write(file, b"0").at("join the control group")?;
    }
    let own_network = plan.kind.own_network() && protections.has(Protection::NetNamespace);
    sys::unshare(namespaces(own_network, protections)).at("make the namespaces")?;
    mount_layer(plan)?;
    let mounts = open_early_mounts(plan)?;
    let sources = Sources::open(plan)?;
    let tun = if own_network { device::open_tun() } else { None };
    if protections.has(Protection::SessionKeyring) {
        leave_session_keyring().at("leave the session keyring")?;
    }
    if plan.rootfs.rootful {
        sys::set_ids(0, 0, &[]).at("become the root of the sandbox")?;
    }
    // After the change of ids, which clears it.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .at("bind the sandbox to the launcher")?;
    rustix::process::fchdir(&sources.layer).at("enter the private layer")?;
    root::make_layer(plan).at("make the private layer")?;
    root::make(plan, &sources)?;
    rustix::process::chdir("root").at("enter the new root")?;
    root::make_mount_points(plan).at("make the mount points of the root")?;
    mount_contents(plan, &sources)?;
    drop(sources);
    pivot(protections).at("change the root")?;
    if own_network {
        sys::loopback_up().at("bring up the loopback interface")?;
    }
    let identity = settle(plan, &mounts)?;
    restrict_init(&identity, protections)?;
    Ok((identity, tun))
}

/// Takes a session keyring of its own in the place of the launcher's.
///
/// Before the change of ids, because the kernel counts keyrings to their user, and gives root a
/// million, but any other 200 (`keyrings(7)`). When these are used up, the launcher's keyring will
/// do, which is empty too, and which nobody inside can use.
pub(super) fn leave_session_keyring() -> io::Result<()> {
    match sys::new_session_keyring() {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EDQUOT)) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// What is done inside the new root.
fn settle(plan: &Plan<'_>, mounts: &[OwnedFd]) -> Result<Identity, StepError> {
    let inside = Inside::new().at("open the new root")?;
    let mut identity = Identity::new(plan.kind, plan.rootfs);
    let targets: Vec<String> =
        plan.kind.early_mounts.iter().map(|mount| mount.target.clone()).collect();
    personal::attach_mounts(&inside, &targets, mounts, &identity)?;
    write_own_files(&inside, plan, PREPARED_HOSTNAME, &identity)?;
    identity.look_up(&inside);
    warm_up(&inside);
    Ok(identity)
}

/// Waits for the file system of the private layer, if it has one, and mounts it.
fn mount_layer(plan: &Plan<'_>) -> Result<(), StepError> {
    const STEP: &str = "make the disk of the private layer";
    let Some(maker) = &plan.disk else {
        return Ok(());
    };
    let mut said = [0; 4096];
    let (len, mounts) = recv_with_fds(maker, &mut said).at(STEP)?;
    match mounts.first() {
        Some(mount) => rootfs::attach(mount, &plan.layer_dir.to_string_lossy()).at(STEP),
        None => {
            let reason = String::from_utf8_lossy(&said[..len]).into_owned();
            Err(StepError { step: STEP.to_owned(), reason })
        }
    }
}

/// Whether the private layer has no space left, for data or for files.
pub(super) fn is_full() -> bool {
    rustix::fs::statfs("/").is_ok_and(|it| {
        it.f_ffree == 0 || it.f_bavail.saturating_mul(it.f_bsize as u64) < DISK_FULL_BYTES
    })
}

/// Copies of the mounts that only this process can make, while it still sees the host.
fn open_early_mounts(plan: &Plan<'_>) -> Result<Vec<OwnedFd>, StepError> {
    let open = |it: &crate::spec::MountSpec| {
        let tree = rootfs::open_mount(Path::new(&it.source), it.read_only, plan.rootfs.protections);
        tree.at(&format!("mount {} from {}", it.target, it.source))
    };
    plan.kind.early_mounts.iter().map(open).collect()
}

/// The namespaces besides those of users and processes. That of control groups comes after
/// the groups were joined, so that its root is there.
fn namespaces(own_network: bool, protections: Protections) -> i32 {
    let network = if own_network { libc::CLONE_NEWNET } else { 0 };
    [
        (Protection::IpcNamespace, libc::CLONE_NEWIPC),
        (Protection::UtsNamespace, libc::CLONE_NEWUTS),
        (Protection::CgroupNamespace, libc::CLONE_NEWCGROUP),
    ]
    .into_iter()
    .filter(|(protection, _)| protections.has(*protection))
    .fold(libc::CLONE_NEWNS | network, |flags, (_, flag)| flags | flag)
}

/// Blocks until the launcher has written the id maps.
pub(super) fn wait_for_id_maps(plan: &Plan<'_>) -> Result<(), StepError> {
    match control::recv_from_launcher(&plan.control).at("wait for the launcher")? {
        Some((ToInit::Mapped, _)) => Ok(()),
        _ => sys::exit_now(1),
    }
}

/// Mounts everything below the root, which is the current folder.
fn mount_contents(plan: &Plan<'_>, sources: &Sources) -> Result<(), StepError> {
    let rootfs = plan.rootfs;
    if plan.kind.over_host() {
        root::make_usr(sources, rootfs.protections)?;
        for dir in &rootfs.system_dirs {
            bind_read_only(&format!("/{dir}"), dir, rootfs.protections)
                .at(&format!("bind /{dir}"))?;
        }
    }
    let proc_flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let protections = rootfs.protections;
    if protections.has(Protection::PidNamespace) {
        let flags = protections.mount_flags(proc_flags);
        mount("proc", "proc", "proc", flags, None).at("mount /proc")?;
    } else {
        bind_read_only("/proc", "proc", protections).at("bind /proc")?;
    }
    if protections.has(Protection::PrivateDev) {
        make_dev(plan, sources)?;
    } else {
        bind_read_only("/dev", "dev", protections).at("bind /dev")?;
    }
    mount_tmpfs("tmp", protections).at("mount /tmp")?;
    hide_parts_of_proc(rootfs).at("mask /proc")
}

/// A `/dev` with little in it, and terminals and shared memory of its own.
fn make_dev(plan: &Plan<'_>, sources: &Sources) -> Result<(), StepError> {
    let (rootfs, protections) = (plan.rootfs, plan.rootfs.protections);
    match &sources.dev {
        Some(dev) if plan.kind.devices.is_empty() => clone_dev(dev, protections),
        _ => bind_devices(plan),
    }
    .at("make /dev")?;
    let pts = if rootfs.rootful {
        c"newinstance,ptmxmode=0666,mode=0620,gid=5"
    } else {
        c"newinstance,ptmxmode=0666,mode=0600"
    };
    let pts_flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let pts_flags = protections.mount_flags(pts_flags);
    mount("devpts", "dev/pts", "devpts", pts_flags, pts).at("mount /dev/pts")?;
    mount_tmpfs("dev/shm", protections).at("mount /dev/shm")
}

/// A read-only view of a folder of the host, with what is mounted in it: a part may not be
/// left out in a user namespace, because it could hide something.
pub(super) fn bind_read_only(host: &str, target: &str, protections: Protections) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, host, flags)?;
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let attributes = protections.mount_attributes(attributes);
    sys::mount_setattr(tree.as_fd(), true, attributes, None)?;
    rootfs::attach(&tree, target)
}

fn clone_dev(template: &OwnedFd, protections: Protections) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(template, "", flags)?;
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    let attributes = protections.mount_attributes(attributes);
    sys::mount_setattr(tree.as_fd(), false, attributes, None)?;
    rootfs::attach(&tree, "dev")
}

/// The same from the host's nodes, one by one, for launchers that cannot make nodes, and for
/// sandboxes that have further ones.
fn bind_devices(plan: &Plan<'_>) -> io::Result<()> {
    let protections = plan.rootfs.protections;
    let flags = protections.mount_flags(MountFlags::NOSUID | MountFlags::NOEXEC);
    mount("tmpfs", "dev", "tmpfs", flags, c"mode=0755,size=64k")?;
    rootfs::make_dev_dirs(Path::new("dev"))?;
    for name in rootfs::device_names() {
        attach_device(name, &rootfs::open_device(Path::new(&format!("/dev/{name}")))?)?;
    }
    for path in &plan.kind.devices {
        let name = path.strip_prefix("/dev/").unwrap_or(path);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
        match plan.devices.iter().find(|(device, _)| device == path) {
            Some((_, node)) => attach_device(name, node),
            None => rootfs::open_device(Path::new(path)).and_then(|it| attach_device(name, &it)),
        }
        .map_err(named)?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::RDONLY | MountFlags::BIND;
    rustix::mount::mount_remount("dev", protections.mount_flags(flags), c"")?;
    Ok(())
}

/// Mounts a node in the new `/dev`, which nobody else has written to.
fn attach_device(name: &str, node: &OwnedFd) -> io::Result<()> {
    let target = format!("dev/{name}");
    if let Some(parent) = Path::new(&target).parent() {
        fs::create_dir_all(parent)?;
    }
    File::create(&target)?;
    rootfs::attach(node, &target)
}

/// Memory that counts to the sandbox, at first with the default size.
fn mount_tmpfs(target: &str, protections: Protections) -> io::Result<()> {
    let options = tmpfs_options(TMP_BYTES_MAX_DEFAULT, protections);
    let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes())
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = protections.mount_flags(MountFlags::NOSUID | MountFlags::NODEV);
    mount("tmpfs", target, "tmpfs", flags, options)?;
    Ok(())
}

/// Options that bound a file system in memory, also in the number of its files: each takes some
/// memory of the kernel, which no size counts.
fn tmpfs_options(bytes: u64, protections: Protections) -> String {
    if !protections.has(Protection::TmpSize) {
        return "mode=1777\0".to_owned();
    }
    let files = (bytes / TMP_BYTES_PER_FILE).max(TMP_FILES_MIN);
    format!("mode=1777,size={bytes},nr_inodes={files}\0")
}

fn hide_parts_of_proc(rootfs: &Rootfs) -> io::Result<()> {
    let read_only = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    for (part, hidden) in &rootfs.proc_hidden {
        match hidden {
            Hidden::File => {
                let null = open_tree(rustix::fs::CWD, "dev/null", clone)?;
                rootfs::attach(&null, part)?;
            }
            Hidden::Folder => {
                let flags = MountFlags::NOSUID
                    | MountFlags::NODEV
                    | MountFlags::NOEXEC
                    | MountFlags::RDONLY;
                mount("tmpfs", *part, "tmpfs", flags, c"size=0,mode=0555")?;
            }
            Hidden::ReadOnly => {
                let view = open_tree(rustix::fs::CWD, *part, clone)?;
                sys::mount_setattr(view.as_fd(), false, read_only, None)?;
                rootfs::attach(&view, part)?;
            }
        }
    }
    Ok(())
}

/// Makes the current folder the root and lets go of the old one (`pivot_root(2)`).
fn pivot(protections: Protections) -> io::Result<()> {
    rustix::process::pivot_root(".", ".")?;
    if protections.has(Protection::DetachOldRoot) {
        unmount(".", UnmountFlags::DETACH)?;
    }
    rustix::process::chdir("/")?;
    Ok(())
}

/// What holds for the init and, by inheritance, for all that it starts.
fn restrict_init(identity: &Identity, protections: Protections) -> Result<(), StepError> {
    let kept = identity.capabilities();
    if protections.has(Protection::NotDumpable) {
        sys::prctl(libc::PR_SET_DUMPABLE, 0).at("forbid core dumps")?;
    }
    if protections.has(Protection::BoundingSet) {
        drop_bounding_set(kept)?;
    }
    sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64)
        .at("drop the ambient capabilities")?;
    let bits = if kept == 0 { SECURE_BITS } else { SECURE_BITS_OF_ROOT };
    if protections.has(Protection::SecureBits) {
        sys::prctl(libc::PR_SET_SECUREBITS, bits).at("lock the secure bits")?;
    }
    if protections.has(Protection::NoNewPrivileges) {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).at("forbid new privileges")?;
    }
    set_limits(protections).at("set the resource limits")?;
    Ok(())
}

fn drop_bounding_set(kept: u64) -> Result<(), StepError> {
    // capabilities(7): the kernel refuses the first number that it does not know.
    for capability in (0..64).filter(|bit| kept & (1 << bit) == 0) {
        match sys::prctl(libc::PR_CAPBSET_DROP, capability) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 => break,
            result => result.at("drop the capability bounding set")?,
        };
    }
    Ok(())
}

fn set_limits(protections: Protections) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let allowed = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let maximum = OPEN_FILES_HARD.min(allowed);
    let current = OPEN_FILES_SOFT.min(maximum);
    if protections.has(Protection::OpenFilesLimit) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: Some(maximum) })?;
    }
    if protections.has(Protection::CoreLimit) {
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    }
    Ok(())
}

/// The part of one instance, with detached trees for its mounts. Afterwards the init itself has
/// given up what it had.
pub(super) fn make_personal(
    personal: &Personal,
    mounts: &[OwnedFd],
    plan: &Plan<'_>,
    identity: &mut Identity,
) -> Result<(), StepError> {
    let protections = plan.rootfs.protections;
    if protections.has(Protection::UtsNamespace) {
        rustix::system::sethostname(personal.hostname.as_bytes()).at("set the host name")?;
    }
    if personal.tmp_bytes_max != TMP_BYTES_MAX_DEFAULT {
        resize_tmp(personal.tmp_bytes_max, protections).at("set the size of /tmp")?;
    }
    let inside = Inside::new().at("open the root")?;
    personal::attach_mounts(&inside, &personal.mount_targets, mounts, identity)?;
    personal::give_secrets(&inside, &personal.secret_files, identity)?;
    if personal.hostname != PREPARED_HOSTNAME {
        rewrite_own_files(&inside, plan, &personal.hostname, identity)?;
    }
    personal::write_files(&inside, &personal.files, identity)?;
    if personal.files.iter().any(|file| file.path == "/etc/passwd") {
        identity.look_up(&inside);
    }
    if let Some(max) = personal.processes_max {
        use rustix::process::{Resource, Rlimit, setrlimit};
        setrlimit(Resource::Nproc, Rlimit { current: Some(max), maximum: Some(max) })
            .at("limit the processes")?;
    }
    // Before the capabilities go, which would have to do without no_new_privs. It allows capset.
    if protections.has(Protection::Seccomp) {
        sys::set_seccomp(plan.filter).at("install the seccomp filter")?;
    }
    if protections.has(Protection::InitCapabilities) {
        sys::set_capabilities(identity.of_init()).at("drop the capabilities of the init")?;
    }
    Ok(())
}

fn resize_tmp(bytes: u64, protections: Protections) -> io::Result<()> {
    let options = tmpfs_options(bytes, protections);
    let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes())
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = protections.mount_flags(MountFlags::NOSUID | MountFlags::NODEV);
    rustix::mount::mount_remount("/tmp", flags, options)?;
    Ok(())
}

/// Host name of a sandbox that is nobody's yet, and of those that want no other.
const PREPARED_HOSTNAME: &str = "sandbox";

/// Makes the files that carry the host name, ahead of time, because the first file in a folder
/// costs an overlay a copy of the folder.
fn write_own_files(
    inside: &Inside,
    plan: &Plan<'_>,
    host: &str,
    identity: &Identity,
) -> Result<(), StepError> {
    personal::write_files(inside, &own_files(plan, host), identity)
}

/// Puts the host name into the files that were made ahead; where one is not as it was made, because
/// something is mounted over it, makes all of them anew.
fn rewrite_own_files(
    inside: &Inside,
    plan: &Plan<'_>,
    host: &str,
    identity: &Identity,
) -> Result<(), StepError> {
    let files = own_files(plan, host);
    let mut named = files.iter().filter(|file| !file.bytes.is_empty());
    if named.all(|file| inside.rewrite(&file.path, &file.bytes).is_ok()) {
        return Ok(());
    }
    personal::write_files(inside, &files, identity)
}

fn own_files(plan: &Plan<'_>, host: &str) -> Vec<FileSpec> {
    let hosts = format!("127.0.0.1 localhost {host}\n::1 localhost ip6-localhost ip6-loopback\n");
    let mut files = vec![("/etc/hostname", format!("{host}\n")), ("/etc/hosts", hosts)];
    if plan.kind.root.is_some() {
        // The view of the host has an empty one, but a layer may have anything.
        files.push(("/etc/resolv.conf", String::new()));
    }
    files
        .into_iter()
        .map(|(path, text)| FileSpec { path: path.into(), mode: 0o644, bytes: text.into() })
        .collect()
}

/// Looks at what almost every program needs, so that the kernel knows these paths of the new
/// mounts before the time of a start counts.
fn warm_up(inside: &Inside) {
    const PATHS: &[&str] = &[
        "/bin/sh",
        "/etc/ld.so.cache",
        "/etc/passwd",
        "/home/user",
        "/lib/aarch64-linux-gnu/libc.so.6",
        "/lib/ld-linux-aarch64.so.1",
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib64/ld-linux-x86-64.so.2",
        "/lib64/libc.so.6",
        "/tmp",
        "/usr/bin/env",
        "/usr/lib/locale/C.utf8/LC_CTYPE",
        "/usr/local/bin",
        "/usr/local/sbin",
        "/usr/sbin",
        "/usr/share/locale/locale.alias",
    ];
    for path in PATHS {
        if let Ok(file) = inside.open(path, OFlags::RDONLY) {
            let _ = rustix::io::read(&file, &mut [0; 1]);
        }
    }
}
