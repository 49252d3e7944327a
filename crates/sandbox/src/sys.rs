//! System calls that rustix lacks. All `unsafe` of this crate is here.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The result of a clone, seen from the two processes.
#[derive(Debug)]
pub(crate) enum Cloned {
    /// In the new process.
    Child,
    /// In the caller: the new process's id and a descriptor for it.
    Parent { pid: u32, pidfd: OwnedFd },
}

/// `clone3(2)` without sharing memory: `fork` with namespaces, a pidfd, and a control group
/// (v2) if one is given.
///
/// The calling process must have one thread only. Then the child has a whole copy of all that
/// it needs, with no lock held by a thread that does not exist there, and may use everything
/// that the parent may.
pub(crate) fn clone_process(namespaces: i32, cgroup: Option<RawFd>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut flags = namespaces as u64 | libc::CLONE_PIDFD as u64;
    if cgroup.is_some() {
        /// `linux/sched.h`; libc's constant has too narrow a type.
        const CLONE_INTO_CGROUP: u64 = 1 << 33;
        flags |= CLONE_INTO_CGROUP;
    }
    // SAFETY: clone_args is plain integers, for which all zeros is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup.unwrap_or(0) as u64;
    // SAFETY: args is valid for its size, pidfd outlives the call, and no memory is shared
    // with the child, which returns on its own copy of this stack.
    let ret = unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut args, std::mem::size_of::<libc::clone_args>())
    };
    match check(ret)? {
        0 => Ok(Cloned::Child),
        // SAFETY: the kernel has just opened this descriptor for us (CLONE_PIDFD).
        pid => {
            Ok(Cloned::Parent { pid: pid as u32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
        }
    }
}

/// The process id, in our namespace, of a process from any namespace below (`pidfd_open(2)`).
pub(crate) fn pid_of(pidfd: &OwnedFd) -> Option<u32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}

/// `fork(2)`, for processes whose seccomp filter denies clone3. The same rule of one thread.
pub(crate) fn fork() -> io::Result<i32> {
    // SAFETY: the process has one thread, so the child may go on with everything.
    let ret = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    Ok(check(ret)? as i32)
}

/// Moves this process into new namespaces (`unshare(2)`).
pub(crate) fn unshare(namespaces: i32) -> io::Result<()> {
    // SAFETY: there is one thread, so nobody else's view changes.
    check(unsafe { libc::unshare(namespaces) }.into()).map(drop)
}

/// Ends this process at once, without running anything that its parent has registered.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// A user id map changer: `mount_setattr(2)`.
pub(crate) fn mount_setattr(
    fd: BorrowedFd<'_>,
    recursive: bool,
    attributes: u64,
    userns: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attr_set = attributes;
    if userns.is_some() {
        attr_set |= libc::MOUNT_ATTR_IDMAP;
    }
    let attr = libc::mount_attr {
        attr_set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    set_mount_attr(fd, recursive, &attr)
}

/// Sets attributes of one mount, and lets nothing that is mounted elsewhere appear in it.
pub(crate) fn mount_setattr_private(fd: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    let propagation = libc::MS_PRIVATE;
    let attr = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation, userns_fd: 0 };
    set_mount_attr(fd, false, &attr)
}

fn set_mount_attr(fd: BorrowedFd<'_>, recursive: bool, attr: &libc::mount_attr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string and attr is valid for its size.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            std::mem::size_of::<libc::mount_attr>(),
        )
    };
    check(ret).map(drop)
}

/// `prctl(2)` with integer arguments.
pub(crate) fn prctl(option: i32, argument: u64) -> io::Result<i32> {
    // SAFETY: the callers use only options whose argument is an integer.
    let ret = unsafe { libc::prctl(option, argument, 0u64, 0u64, 0u64) };
    check(ret.into()).map(|ret| ret as i32)
}

/// Sends a signal; unlike rustix's, it takes real-time signals too.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Sends a signal to an open process (`pidfd_send_signal(2)`), real-time signals too.
pub(crate) fn send_signal(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    let (number, none) = (libc::SYS_pidfd_send_signal, std::ptr::null::<u8>());
    // SAFETY: integers, and a null pointer in the place of a siginfo, which is optional.
    check(unsafe { libc::syscall(number, pidfd.as_raw_fd(), signal, none, 0) }).map(drop)
}

/// Makes `command` run in a session of its own, as a child of nobody: after `spawn`, the
/// process to wait for is a short-lived middleman.
pub(crate) fn detach(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec only async-signal-safe calls are made: setsid, the fork
    // system call, _exit.
    unsafe {
        command.pre_exec(|| {
            check(libc::setsid().into())?;
            if fork()? != 0 {
                libc::_exit(0);
            }
            Ok(())
        });
    }
}

/// Gives the thread's name, as `ps -o comm` shows it.
pub(crate) fn set_name(name: &CStr) {
    // SAFETY: PR_SET_NAME reads a C string of any length and keeps 15 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Sets real, effective and saved user and group id, and the supplementary groups to exactly
/// those given. Raw system calls: there is one thread, so glibc's broadcast to threads is not
/// needed.
pub(crate) fn set_ids(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: integers, and a pointer to as many of them as the length says.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// Sets the user id that counts for files, with which what is made belongs to somebody
/// (`setfsuid(2)`), and gives the one before.
pub(crate) fn set_fs_user(uid: u32) -> u32 {
    // SAFETY: integers only; there is one thread. What may not be set is left as it is.
    unsafe { libc::setfsuid(uid) as u32 }
}

/// Sets effective, permitted and inheritable capabilities to `mask` (`capset(2)`).
pub(crate) fn set_capabilities(mask: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    /// `_LINUX_CAPABILITY_VERSION_3`
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let (low, high) = (mask as u32, (mask >> 32) as u32);
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: header and data have the layout of version 3 and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Gives this process a session keyring of its own, empty and without a name.
pub(crate) fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let ret = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>())
    };
    check(ret).map(drop)
}

/// Closes all descriptors from `first` on.
pub(crate) fn close_from(first: RawFd) {
    // SAFETY: the callers own nothing above `first` that is used or dropped afterwards: they
    // run in a fresh child, which ends by exec or exit_now.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Closes all descriptors above 2 except those given, in a fresh child.
pub(crate) fn close_except(keep: &[RawFd]) {
    let mut sorted: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd > 2).collect();
    sorted.sort_unstable();
    let mut first = 3;
    for fd in sorted {
        if fd > first {
            // SAFETY: as in close_from.
            unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
        }
        first = fd + 1;
    }
    close_from(first);
}

/// Makes `from` the descriptor `to`, which an exec keeps.
pub(crate) fn dup_onto(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: integers only; `to` is a number that nothing in a fresh child owns.
    let ret = unsafe {
        if from == to { libc::fcntl(from, libc::F_SETFD, 0) } else { libc::dup2(from, to) }
    };
    check(ret.into()).map(drop)
}

/// A copy of `from` with a number of at least `least`, which an exec closes.
pub(crate) fn dup_above(from: RawFd, least: RawFd) -> io::Result<RawFd> {
    // SAFETY: integers only; the callers run in a fresh child, which ends by exec or exit_now.
    check(unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, least) }.into()).map(|fd| fd as RawFd)
}

/// A descriptor that this program was started with, which an exec will close.
pub(crate) fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD takes integers and fails if there is no such descriptor. Nothing else in
    // this program has the number: it was open before the program began, and the only callers
    // take each number once.
    unsafe {
        check(libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC).into())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Enters a network namespace (`setns(2)`).
pub(crate) fn enter_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }.into()).map(drop)
}

/// Enters a namespace of any kind (`setns(2)`); for some, the process must have one thread.
pub(crate) fn enter_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::setns(namespace.as_raw_fd(), 0) }.into()).map(drop)
}

/// Sets every signal to its default action and unblocks all. By system calls, because glibc
/// refuses the two signals that it uses itself, which we may have inherited as ignored.
pub(crate) fn reset_signals() {
    /// `struct sigaction` of the kernel: handler, flags, restorer, mask; all zero is SIG_DFL.
    const DEFAULT: [u64; 4] = [0; 4];
    const SET_BYTES: usize = 8;
    for signal in 1..=64 {
        let old = std::ptr::null_mut::<u64>();
        // SAFETY: the structure has the kernel's layout; it is harmless that SIGKILL and
        // SIGSTOP are refused.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), old, SET_BYTES);
        }
    }
    unblock_signals();
}

/// Lets all signals through.
pub(crate) fn unblock_signals() {
    const SET_BYTES: usize = 8;
    let (none, old) = (0u64, std::ptr::null_mut::<u64>());
    // SAFETY: a set of 64 signals is 8 bytes, which outlive the call.
    unsafe {
        let how = libc::SIG_SETMASK;
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const none, old, SET_BYTES);
    }
}

/// Blocks `signals` and returns a descriptor that reports them (`signalfd(2)`).
pub(crate) fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialized before its use, and the new descriptor is ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()).into())?;
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        Ok(OwnedFd::from_raw_fd(check(fd.into())? as RawFd))
    }
}

/// Runs a program in place of this process; returns only the reason why it could not.
pub(crate) fn exec(path: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both lists end with a null pointer and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Brings up the loopback interface of this network namespace (`netdevice(7)`).
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: ifreq is plain data, the name is NUL-terminated, and the socket is closed.
    unsafe {
        let fd =
            check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0).into())?;
        let socket = OwnedFd::from_raw_fd(fd as RawFd);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request).into())?;
    }
    Ok(())
}

/// Makes an open `/dev/net/tun` the other end of a new interface with whole IP packets and no
/// header before them, and never lets it be anything else (`tuntap` in the kernel's documents).
pub(crate) fn make_tun(file: &OwnedFd, name: &str) -> io::Result<()> {
    // SAFETY: ifreq is plain data; the name is shorter than its field, which stays terminated.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        let fd = file.as_raw_fd();
        check(libc::ioctl(fd, libc::TUNSETIFF as _, &raw const request).into()).map(drop)
    }
}

/// A socket for whole frames of one interface (`packet(7)`), which hears nothing yet.
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: integers only, and the new descriptor is ours.
    unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let fd = check(libc::socket(libc::AF_PACKET, kind, 0).into())?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Lets a packet socket hear and speak on the interface with this index.
pub(crate) fn bind_packet_socket(socket: &OwnedFd, index: i32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data and valid for the length that is given.
    unsafe {
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index;
        let length = std::mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        let fd = socket.as_raw_fd();
        check(libc::bind(fd, (&raw const address).cast(), length).into()).map(drop)
    }
}

/// Where the kernel keeps the arguments of this program, and how many bytes they take. A fork has
/// them in the same place, so that it need not look if its parent has.
pub(crate) fn find_command_line() -> Option<(usize, usize)> {
    static PLACE: std::sync::OnceLock<Option<(usize, usize)>> = std::sync::OnceLock::new();
    *PLACE.get_or_init(|| {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // proc_pid_stat(5): the fields after the name in brackets; arg_start is the 48th of all.
        let mut fields = stat.rsplit(')').next()?.split_ascii_whitespace().skip(45);
        let mut next = || fields.next().and_then(|field| field.parse::<usize>().ok());
        let (start, end) = (next()?, next()?);
        (start != 0 && end > start).then(|| (start, end - start))
    })
}

/// Replaces the command line that others see in `/proc/PID/cmdline`, which holds paths of the
/// host, by `name`. Best effort: the name is cosmetic, the wiping needs only `/proc`.
pub(crate) fn overwrite_command_line(name: &[u8]) {
    let Some((start, len)) = find_command_line() else {
        return;
    };
    // SAFETY: the kernel says that these bytes of this process hold its arguments; they are
    // on the initial stack, writable, and std has copied or only ever reads them.
    let arguments = unsafe { std::slice::from_raw_parts_mut(start as *mut u8, len) };
    arguments.fill(0);
    let used = name.len().min(len - 1);
    arguments[..used].copy_from_slice(&name[..used]);
}

/// Installs a seccomp program for this process; it needs no_new_privs.
pub(crate) fn set_seccomp(program: &[seccompiler::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: sock_filter has the kernel's layout and the program outlives the call.
    let ret = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    check(ret).map(drop)
}

/// The number of a loop device that nobody uses (`loop(4)`).
pub(crate) fn free_loop_device(control: BorrowedFd<'_>) -> io::Result<u32> {
    /// `linux/loop.h`
    const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
    // SAFETY: the request takes no argument.
    let ret = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
    check(ret.into()).map(|number| number as u32)
}

/// Gives a loop device its file, until the device is used by nobody any more.
pub(crate) fn configure_loop(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<()> {
    /// `linux/loop.h`
    const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
    const LO_FLAGS_AUTOCLEAR: u32 = 4;
    /// `struct loop_config` with its `struct loop_info64` taken apart.
    #[repr(C)]
    struct Config {
        fd: u32,
        block_size: u32,
        places: [u64; 5],
        number: u32,
        encryption: [u32; 2],
        flags: u32,
        names: [u8; 160],
        init: [u64; 2],
        reserved: [u64; 8],
    }
    let config = Config {
        fd: file.as_raw_fd() as u32,
        block_size: 0,
        places: [0; 5],
        number: 0,
        encryption: [0; 2],
        flags: LO_FLAGS_AUTOCLEAR,
        names: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: the structure has the kernel's layout and outlives the call.
    let ret = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
    check(ret.into()).map(drop)
}

fn check(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret == -1 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// What of a file's `struct fsxattr` (`linux/fs.h`) is looked at; the rest is kept as it is.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct FileAttributes {
    flags: u32,
    extent_bytes: u32,
    extents: u32,
    project: u32,
    cow_extent_bytes: u32,
    padding: [u8; 8],
}

const FS_XFLAG_PROJINHERIT: u32 = 0x200;

fn file_attributes(file: BorrowedFd<'_>) -> io::Result<FileAttributes> {
    /// `_IOR('X', 31, struct fsxattr)`
    const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
    let mut attributes = FileAttributes::default();
    // SAFETY: the request writes one struct fsxattr, which FileAttributes is laid out as.
    let ret = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR as _, &raw mut attributes) };
    check(ret.into()).map(|_| attributes)
}

/// The project that a folder belongs to, if what is made in it inherits that.
pub(crate) fn inherited_project(folder: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let attributes = file_attributes(folder)?;
    Ok((attributes.flags & FS_XFLAG_PROJINHERIT != 0).then_some(attributes.project))
}

/// Makes a folder, and all that will be made in it, belong to a project
/// (`ioctl_xfs_fsgetxattr(2)`; ext4 has it too). Only the first user namespace may.
pub(crate) fn set_inherited_project(folder: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    /// `_IOW('X', 32, struct fsxattr)`
    const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;
    let mut attributes = file_attributes(folder)?;
    attributes.flags |= FS_XFLAG_PROJINHERIT;
    attributes.project = project;
    // SAFETY: the request reads one struct fsxattr, which FileAttributes is laid out as.
    let ret =
        unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSSETXATTR as _, &raw const attributes) };
    check(ret.into()).map(drop)
}

/// Limits and usage of a project in the file system that `file` is in (`quotactl(2)`).
pub(crate) fn project_quota(file: BorrowedFd<'_>, project: u32) -> io::Result<libc::dqblk> {
    // SAFETY: dqblk is plain integers, for which all zeros is a valid value.
    let mut quota: libc::dqblk = unsafe { std::mem::zeroed() };
    project_quotactl(file, libc::Q_GETQUOTA, project, &mut quota)?;
    Ok(quota)
}

/// Sets the hard limits of a project; 0 is none. Blocks have 1024 bytes (`quotactl(2)`).
pub(crate) fn set_project_quota(
    file: BorrowedFd<'_>,
    project: u32,
    blocks_max: u64,
    inodes_max: u64,
) -> io::Result<()> {
    // SAFETY: dqblk is plain integers, for which all zeros is a valid value.
    let mut quota: libc::dqblk = unsafe { std::mem::zeroed() };
    quota.dqb_bhardlimit = blocks_max;
    quota.dqb_ihardlimit = inodes_max;
    quota.dqb_valid = libc::QIF_LIMITS;
    project_quotactl(file, libc::Q_SETQUOTA, project, &mut quota)
}

/// `quotactl_fd(2)` for projects, since Linux 5.14.
fn project_quotactl(
    file: BorrowedFd<'_>,
    command: i32,
    project: u32,
    quota: &mut libc::dqblk,
) -> io::Result<()> {
    /// `linux/quota.h`
    const PRJQUOTA: u32 = 2;
    let command = ((command as u32) << 8) | PRJQUOTA;
    // SAFETY: both commands that are used take one struct dqblk, which outlives the call.
    let ret = unsafe {
        libc::syscall(libc::SYS_quotactl_fd, file.as_raw_fd(), command, project, &raw mut *quota)
    };
    check(ret).map(drop)
}
