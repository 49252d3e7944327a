//! The protections of a sandbox, by name, so that tests can switch each off and see that
//! somebody notices.
//!
//! The product uses [`Protections::all`] and cannot do otherwise: [`crate::launcher::serve`] has
//! no option for it, and no flag, variable, file or message leads here. Only a test's own program
//! calls [`crate::launcher::serve_weakened`].
//!
//! Some things have no switch, because a sandbox without them does not start at all: the mount
//! namespace with a root of its own, the private layer, and the launcher's private folder. And what
//! a process gives up just before it runs its program has none, where the kernel would take the same
//! at that moment: its capabilities.

use rustix::mount::MountFlags;

macro_rules! protections {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One protection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Protection {
            $($(#[$doc])* $name,)*
        }

        impl Protection {
            /// Every protection.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name, as in the source.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

protections! {
    /// A user namespace, in which all ids and capabilities are the sandbox's own.
    UserNamespace,
    /// Ids on the host that nobody else has; only a launcher with root can give them.
    IdRange,
    /// The init keeps only the capabilities that it needs to signal and to change ids.
    InitCapabilities,
    /// The bounding set of capabilities is as small as the workload's user.
    BoundingSet,
    /// The secure bits are set and locked.
    SecureBits,
    /// `no_new_privs`: no program gains anything by exec.
    NoNewPrivileges,
    /// The filter of system calls.
    Seccomp,
    /// In the filter: no new namespaces by `clone`, and no `clone3`.
    SeccompClone,
    /// In the filter: local and internet sockets only.
    SeccompSocket,
    /// In the filter: no input put into terminals.
    SeccompIoctl,
    /// In the filter: only harmless personalities.
    SeccompPersonality,
    /// Revealing and dangerous parts of `/proc` are covered.
    ProcHidden,
    /// Parts of `/proc` that set something are read-only.
    ProcReadOnly,
    /// Views of the host's system folders, and `/dev`, are read-only.
    ReadOnlySystem,
    /// No mount honours setuid.
    NoSuid,
    /// No mount but `/dev` honours device nodes.
    NoDev,
    /// A `/dev` of its own with a handful of nodes.
    PrivateDev,
    /// A PID namespace, which also ends everything with the sandbox.
    PidNamespace,
    /// A namespace of System V and POSIX message objects.
    IpcNamespace,
    /// A namespace of the host name.
    UtsNamespace,
    /// A namespace of the paths of control groups.
    CgroupNamespace,
    /// A network namespace.
    NetNamespace,
    /// Descriptors of the launcher are closed.
    CloseFiles,
    /// A session keyring of its own.
    SessionKeyring,
    /// The init cannot be traced or looked into. One that changed its ids is so by itself.
    NotDumpable,
    /// The host's root is let go of.
    DetachOldRoot,
    /// A limit of open files.
    OpenFilesLimit,
    /// No core dumps.
    CoreLimit,
    /// The memory limit.
    MemoryLimit,
    /// The limit of processes.
    PidsLimit,
    /// The limit of processor time.
    CpuLimit,
    /// The size limit of the log.
    LogLimit,
    /// The size of `/tmp`, in bytes and in files.
    TmpSize,
    /// The limit of what the private layer holds, in bytes and in files.
    DiskLimit,
    /// What does not end by its signal is killed after the grace.
    KillAfterGrace,
    /// Standard input is `/dev/null` and not the launcher's.
    NullStdin,
    /// The environment has nothing of the launcher's.
    CleanEnvironment,
    /// Each process that is started leads a session of its own.
    OwnSession,
    /// The command line of the init, once the launcher's, is wiped.
    WipedCommandLine,
    /// Processes of the workload are killed before others when memory is short.
    OomScore,
    /// What a private network reaches is decided by rules.
    EgressRules,
    /// The limit of transferred bytes.
    TransferLimit,
}

/// The protections that are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protections {
    /// One bit each, by its number.
    off: u64,
}

const _: () = assert!(Protection::ALL.len() <= u64::BITS as usize);

impl Protections {
    /// All of them.
    pub const fn all() -> Self {
        Self { off: 0 }
    }

    /// Without one more, for tests of tests only.
    #[must_use]
    pub const fn without(self, protection: Protection) -> Self {
        Self { off: self.off | 1 << protection as u64 }
    }

    /// Whether this one is on.
    pub const fn has(self, protection: Protection) -> bool {
        self.off & (1 << protection as u64) == 0
    }

    /// The flags of a mount, without those that are switched off.
    pub(crate) fn mount_flags(self, flags: MountFlags) -> MountFlags {
        let mut flags = flags;
        for (protection, flag) in [
            (Protection::NoSuid, MountFlags::NOSUID),
            (Protection::NoDev, MountFlags::NODEV),
            (Protection::ReadOnlySystem, MountFlags::RDONLY),
        ] {
            if !self.has(protection) {
                flags.remove(flag);
            }
        }
        flags
    }

    /// The same for the attributes of `mount_setattr(2)`.
    pub(crate) fn mount_attributes(self, attributes: u64) -> u64 {
        [
            (Protection::NoSuid, libc::MOUNT_ATTR_NOSUID),
            (Protection::NoDev, libc::MOUNT_ATTR_NODEV),
            (Protection::ReadOnlySystem, libc::MOUNT_ATTR_RDONLY),
        ]
        .into_iter()
        .filter(|(protection, _)| !self.has(*protection))
        .fold(attributes, |attributes, (_, attribute)| attributes & !attribute)
    }
}

impl Default for Protections {
    fn default() -> Self {
        Self::all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_switched_off_alone() {
        for off in Protection::ALL {
            let protections = Protections::all().without(*off);
            for it in Protection::ALL {
                assert_eq!(protections.has(*it), it != off, "{}", it.name());
            }
        }
        assert_eq!(Protections::default(), Protections::all());
    }

    #[test]
    fn only_flags_of_what_is_off_are_taken_away() {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        assert_eq!(Protections::all().mount_flags(flags), flags);
        let without = Protections::all().without(Protection::NoSuid);
        assert_eq!(without.mount_flags(flags), MountFlags::NODEV | MountFlags::NOEXEC);
        let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_RDONLY;
        assert_eq!(without.mount_attributes(attributes), libc::MOUNT_ATTR_RDONLY);
    }
}
