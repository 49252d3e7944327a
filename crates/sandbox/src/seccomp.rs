//! The system calls that a workload may use.
//!
//! An allow-list: what is not named fails with EPERM, so that a kernel's new system calls are
//! closed until somebody has looked at them. `clone3` fails with ENOSYS, because its flags
//! are in memory, where a filter cannot look: a libc then falls back to `clone`, whose flags
//! are checked. System calls of another architecture end the process.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

use crate::protections::{Protection, Protections};

/// Why the filter could not be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot build the seccomp filter: {0}")]
pub(crate) struct FilterError(#[from] seccompiler::BackendError);

/// Builds the filter for this machine's architecture: a search tree over the numbers, and at
/// its end the rules that look at arguments, as seccompiler writes them. A list instead of a
/// tree would be as correct, but the kernel walks a new filter once for each number that
/// exists, which made a start a millisecond slower.
pub(crate) fn compile(protections: Protections) -> Result<BpfProgram, FilterError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut rules = BTreeMap::from([
        (libc::SYS_clone, clone_rules()?),
        (libc::SYS_socket, socket_rules()?),
        (libc::SYS_personality, personality_rules()?),
        (libc::SYS_ioctl, ioctl_rules()?),
    ]);
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    verdicts.extend(always().map(|(_, number)| (number as u32, Verdict::Allow)));
    verdicts.extend(rules.keys().map(|it| (*it as u32, Verdict::LookFurther)));
    verdicts.insert(libc::SYS_clone3 as u32, Verdict::Missing);
    weaken(protections, &mut rules, &mut verdicts);
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)?;
    let tree = search_tree(&ranges(&verdicts));
    let mut program = for_arch(arch, tree.len());
    program.extend(tree);
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

/// What is allowed whatever the arguments are: names as in libc, and numbers.
fn always() -> impl Iterator<Item = (&'static str, i64)> {
    ALWAYS.iter().chain(ALWAYS_ARCH).copied()
}

/// The names of what is allowed whatever the arguments are, as the kernel's manual has them.
pub(crate) fn always_allowed() -> impl Iterator<Item = &'static str> {
    always().map(|(name, _)| name.trim_start_matches("SYS_"))
}

/// Allows, whatever the arguments are, what a test has switched off.
fn weaken(
    protections: Protections,
    rules: &mut BTreeMap<i64, Vec<SeccompRule>>,
    verdicts: &mut BTreeMap<u32, Verdict>,
) {
    let table: [(Protection, &[i64]); 4] = [
        (Protection::SeccompClone, &[libc::SYS_clone, libc::SYS_clone3]),
        (Protection::SeccompSocket, &[libc::SYS_socket]),
        (Protection::SeccompIoctl, &[libc::SYS_ioctl]),
        (Protection::SeccompPersonality, &[libc::SYS_personality]),
    ];
    for number in table.iter().filter(|(it, _)| !protections.has(*it)).flat_map(|(_, it)| *it) {
        rules.remove(number);
        verdicts.insert(*number as u32, Verdict::Allow);
    }
}

/// What the tree says of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    Deny,
    /// ENOSYS.
    Missing,
    /// The arguments decide.
    LookFurther,
}

/// Ranges of equal verdicts, each by its first number, from 0 to the end of all numbers.
fn ranges(verdicts: &BTreeMap<u32, Verdict>) -> Vec<(u32, Verdict)> {
    let mut ranges = vec![(0, Verdict::Deny)];
    let mut add = |first: u32, verdict: Verdict| match ranges.last_mut() {
        Some(last) if last.1 == verdict => {}
        Some(last) if last.0 == first => last.1 = verdict,
        _ => ranges.push((first, verdict)),
    };
    for (number, verdict) in verdicts {
        add(*number, *verdict);
        if !verdicts.contains_key(&(number + 1)) {
            add(number + 1, Verdict::Deny);
        }
    }
    ranges
}

/// Instructions that find the range of the number in the accumulator. Only `LookFurther`
/// leaves them, at their end.
fn search_tree(ranges: &[(u32, Verdict)]) -> BpfProgram {
    let mut program = subtree(ranges);
    let len = program.len();
    for (at, instruction) in program.iter_mut().enumerate() {
        if instruction.code == JUMP && instruction.k == TO_THE_END {
            instruction.k = (len - at - 1) as u32;
        }
    }
    program
}

/// The mark of a jump whose distance is not known yet.
const TO_THE_END: u32 = u32::MAX;

fn subtree(ranges: &[(u32, Verdict)]) -> BpfProgram {
    let [(_, verdict)] = ranges else {
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let (middle, low, high) = (high[0].0, subtree(low), subtree(high));
        // A conditional jump reaches 255 instructions, hence the second, which reaches all.
        let mut program = vec![
            instruction(JUMP_GREATER_EQUAL, 0, 1, middle),
            instruction(JUMP, 0, 0, low.len() as u32),
        ];
        program.extend(low);
        program.extend(high);
        return program;
    };
    vec![match verdict {
        Verdict::Allow => instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        Verdict::Deny => instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        Verdict::Missing => {
            instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32)
        }
        Verdict::LookFurther => instruction(JUMP, 0, 0, TO_THE_END),
    }]
}

/// Instructions that come first: load the number, or, for another architecture, go on after
/// the tree, where seccompiler's first instructions end the process.
fn for_arch(arch: TargetArch, tree_len: usize) -> BpfProgram {
    /// Offsets in `struct seccomp_data`, `seccomp(2)`.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    /// `linux/audit.h`
    const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
    const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
    const AUDIT_ARCH_RISCV64: u32 = 0xc000_00f3;
    let audit_arch = match arch {
        TargetArch::x86_64 => AUDIT_ARCH_X86_64,
        TargetArch::aarch64 => AUDIT_ARCH_AARCH64,
        TargetArch::riscv64 => AUDIT_ARCH_RISCV64,
    };
    vec![
        instruction(LOAD, 0, 0, ARCH),
        instruction(JUMP_EQUAL, 1, 0, audit_arch),
        instruction(JUMP, 0, 0, tree_len as u32 + 1),
        instruction(LOAD, 0, 0, NUMBER),
    ]
}

/// Operations of classic BPF, `linux/bpf_common.h`.
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_GREATER_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// No new namespace: `clone` without any CLONE_NEW flag.
fn clone_rules() -> Result<Vec<SeccompRule>, FilterError> {
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let mask = Op::MaskedEq(u64::from(namespaces as u32));
    Ok(vec![rule(&[(0, Len::Qword, mask, 0)])?])
}

/// Local and internet sockets, and the netlink family that `getifaddrs` needs. The others
/// (packets, virtual machines, kernel cryptography, …) are kernel surface without a use here.
fn socket_rules() -> Result<Vec<SeccompRule>, FilterError> {
    let family = |family: i32| (0, Len::Dword, Op::Eq, family as u64);
    Ok(vec![
        rule(&[family(libc::AF_UNIX)])?,
        rule(&[family(libc::AF_INET)])?,
        rule(&[family(libc::AF_INET6)])?,
        rule(&[family(libc::AF_NETLINK), (2, Len::Dword, Op::Eq, libc::NETLINK_ROUTE as u64)])?,
    ])
}

/// The personalities that Docker allows: Linux, with and without 2.6 version numbers, and the
/// query. Not ADDR_NO_RANDOMIZE and not READ_IMPLIES_EXEC.
fn personality_rules() -> Result<Vec<SeccompRule>, FilterError> {
    [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff]
        .into_iter()
        .map(|persona| rule(&[(0, Len::Dword, Op::Eq, persona)]))
        .collect()
}

/// All but the two that put input into a terminal (TIOCSTI, TIOCLINUX).
fn ioctl_rules() -> Result<Vec<SeccompRule>, FilterError> {
    /// `asm-generic/ioctls.h`; libc's constants have other types on other systems.
    const TIOCSTI: u64 = 0x5412;
    const TIOCLINUX: u64 = 0x541c;
    Ok(vec![rule(&[(1, Len::Dword, Op::Ne, TIOCSTI), (1, Len::Dword, Op::Ne, TIOCLINUX)])?])
}

fn rule(conditions: &[(u8, Len, Op, u64)]) -> Result<SeccompRule, FilterError> {
    let conditions = conditions
        .iter()
        .map(|(index, len, op, value)| {
            SeccompCondition::new(*index, len.clone(), op.clone(), *value)
        })
        .collect::<Result<_, _>>()?;
    Ok(SeccompRule::new(conditions)?)
}

macro_rules! numbers {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// Allowed whatever the arguments are. Left out on purpose, though Docker has some of them
/// for privileged containers: mounts, namespaces, modules, kexec, bpf, perf, keys, clocks,
/// swap, quotas, accounting, `open_by_handle_at`, `userfaultfd`, io_uring.
#[rustfmt::skip]
const ALWAYS: &[(&str, i64)] = numbers![
    // Files.
    SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev
    SYS_preadv2 SYS_pwritev2 SYS_openat SYS_openat2 SYS_close SYS_close_range SYS_lseek
    SYS_fstat SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs SYS_faccessat SYS_faccessat2
    SYS_readlinkat SYS_symlinkat SYS_linkat SYS_unlinkat SYS_renameat SYS_renameat2
    SYS_mkdirat SYS_mknodat SYS_fchmod SYS_fchmodat SYS_fchmodat2 SYS_fchown SYS_fchownat
    SYS_utimensat SYS_truncate SYS_ftruncate SYS_fallocate SYS_fadvise64 SYS_readahead
    SYS_sync SYS_fsync SYS_fdatasync SYS_syncfs SYS_sync_file_range SYS_getdents64 SYS_getcwd
    SYS_chdir SYS_fchdir SYS_chroot SYS_umask SYS_dup SYS_dup3 SYS_fcntl SYS_flock SYS_sendfile
    SYS_splice SYS_tee SYS_vmsplice SYS_copy_file_range SYS_memfd_create
    SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_setxattr SYS_lsetxattr SYS_fsetxattr
    SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_removexattr SYS_lremovexattr
    SYS_fremovexattr SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch
    SYS_fanotify_mark SYS_io_setup SYS_io_destroy SYS_io_submit SYS_io_cancel SYS_io_getevents
    SYS_name_to_handle_at
    // Waiting and passing messages.
    SYS_pipe2 SYS_eventfd2 SYS_signalfd4 SYS_timerfd_create SYS_timerfd_settime
    SYS_timerfd_gettime SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2
    SYS_ppoll SYS_pselect6 SYS_futex SYS_futex_waitv SYS_get_robust_list SYS_set_robust_list
    SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify
    SYS_mq_getsetattr SYS_msgget SYS_msgsnd SYS_msgrcv SYS_msgctl SYS_semget SYS_semop
    SYS_semtimedop SYS_semctl SYS_shmget SYS_shmat SYS_shmdt SYS_shmctl
    // Sockets, once they are made.
    SYS_socketpair SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_connect SYS_getsockname
    SYS_getpeername SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg
    SYS_getsockopt SYS_setsockopt SYS_shutdown
    // Memory.
    SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_mlock SYS_mlock2 SYS_mlockall
    SYS_munlock SYS_munlockall SYS_msync SYS_mincore SYS_brk SYS_membarrier SYS_pkey_alloc
    SYS_pkey_free SYS_pkey_mprotect SYS_remap_file_pages SYS_process_mrelease SYS_get_mempolicy
    // Processes and threads. ptrace and its kin reach only what the pid namespace holds, and
    // not its init, which is not dumpable; debuggers and sanitizers need them.
    SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_kill SYS_tkill
    SYS_tgkill SYS_pidfd_open SYS_pidfd_send_signal SYS_getpid SYS_getppid SYS_gettid
    SYS_setpgid SYS_getpgid SYS_setsid SYS_getsid SYS_set_tid_address SYS_prctl SYS_rseq
    SYS_getcpu SYS_sched_yield SYS_sched_getaffinity SYS_sched_setaffinity
    SYS_sched_getattr SYS_sched_setattr SYS_sched_getparam SYS_sched_setparam
    SYS_sched_getscheduler SYS_sched_setscheduler SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_rr_get_interval SYS_getpriority SYS_setpriority
    SYS_ioprio_get SYS_ioprio_set SYS_getrlimit SYS_setrlimit SYS_prlimit64 SYS_getrusage
    SYS_times SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_pidfd_getfd SYS_kcmp
    SYS_seccomp SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self
    // Identity; without capabilities these change nothing that is not one's own.
    SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getgroups SYS_setuid SYS_setgid
    SYS_setreuid SYS_setregid SYS_setresuid SYS_getresuid SYS_setresgid SYS_getresgid
    SYS_setfsuid SYS_setfsgid SYS_setgroups SYS_capget SYS_capset
    // Signals and timers.
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigpending SYS_rt_sigtimedwait
    SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo SYS_rt_sigsuspend SYS_rt_sigreturn
    SYS_sigaltstack SYS_restart_syscall SYS_nanosleep SYS_clock_nanosleep SYS_clock_gettime
    SYS_clock_getres SYS_gettimeofday SYS_getitimer SYS_setitimer SYS_timer_create
    SYS_timer_settime SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete
    // The system.
    SYS_uname SYS_sysinfo SYS_getrandom
];

/// Older calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALWAYS_ARCH: &[(&str, i64)] = numbers![
    SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_readlink SYS_symlink SYS_link
    SYS_unlink SYS_rename SYS_mkdir SYS_rmdir SYS_mknod SYS_chmod SYS_chown SYS_lchown
    SYS_utime SYS_utimes SYS_futimesat SYS_getdents SYS_dup2 SYS_pipe SYS_eventfd SYS_signalfd
    SYS_inotify_init SYS_epoll_create SYS_epoll_wait SYS_epoll_ctl_old SYS_epoll_wait_old
    SYS_poll SYS_select SYS_fork SYS_vfork SYS_getpgrp SYS_alarm SYS_pause SYS_time
    SYS_arch_prctl SYS_get_thread_area SYS_set_thread_area
];

/// Older calls that only this architecture has.
#[cfg(not(target_arch = "x86_64"))]
const ALWAYS_ARCH: &[(&str, i64)] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_fits_into_the_kernels_limit() {
        let program = compile(Protections::all()).expect("this architecture is known");
        assert!(program.len() < libc::BPF_MAXINSNS as usize, "{}", program.len());
    }

    /// Runs the part of a program that decides by number: the constant that it returns, or
    /// `None` where the arguments decide.
    fn decide(program: &[sock_filter], arch: u32, number: u32) -> Option<u32> {
        let (mut at, mut accumulator) = (0, 0);
        for _ in 0..program.len() {
            let it = &program[at];
            at += 1;
            match it.code {
                LOAD if it.k == 0 => accumulator = number,
                LOAD if it.k == 4 => accumulator = arch,
                LOAD => return None,
                JUMP => at += it.k as usize,
                JUMP_EQUAL => at += usize::from(if accumulator == it.k { it.jt } else { it.jf }),
                JUMP_GREATER_EQUAL => {
                    at += usize::from(if accumulator >= it.k { it.jt } else { it.jf });
                }
                RETURN => return Some(it.k),
                other => panic!("an unexpected instruction {other:#x}"),
            }
        }
        panic!("the program does not end");
    }

    #[test]
    fn every_number_gets_its_verdict_and_a_foreign_architecture_none() {
        let program = compile(Protections::all()).expect("this architecture is known");
        let native = program[1].k;
        let conditional =
            [libc::SYS_clone, libc::SYS_socket, libc::SYS_personality, libc::SYS_ioctl];
        for number in (0..2000).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            let expected = if conditional.contains(&i64::from(number)) {
                None
            } else if number == libc::SYS_clone3 as u32 {
                Some(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32)
            } else if always().any(|(_, it)| it == i64::from(number)) {
                Some(libc::SECCOMP_RET_ALLOW)
            } else {
                Some(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32)
            };
            assert_eq!(decide(&program, native, number), expected, "{number}");
            let foreign = decide(&program, native ^ 0x8000_0000, number);
            assert_eq!(foreign, Some(libc::SECCOMP_RET_KILL_PROCESS), "{number}");
        }
    }

    #[test]
    fn nothing_that_reaches_the_host_is_allowed() {
        let denied = [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_kexec_load,
            libc::SYS_init_module,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_clock_settime,
            libc::SYS_settimeofday,
            libc::SYS_open_by_handle_at,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_mount_setattr,
        ];
        for number in denied {
            assert!(always().all(|(_, it)| it != number), "{number}");
        }
    }
}
