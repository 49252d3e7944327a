//! What is different in containers, and why that is no hole.

use crate::table::{Attempt, Judge, Shape};
use spawnery_model::RuntimeKind;

/// An attempt that gets through in a container.
pub struct Difference {
    pub kind: RuntimeKind,
    /// The attempt's function.
    pub name: &'static str,
    /// As whom; without, as both.
    pub is_root: Option<bool>,
    /// A part of what it says.
    pub shows: &'static str,
    /// Why that is no hole.
    pub reason: &'static str,
}

impl Difference {
    pub fn is_about(&self, attempt: &Attempt, kind: RuntimeKind) -> bool {
        let who = self.is_root.is_none_or(|is_root| is_root == attempt.is_root);
        self.kind == kind && self.name == attempt.name && who
    }
}

/// Attempts that are not made.
pub struct LeftOut {
    /// With which runtime; without, with both.
    pub kind: Option<RuntimeKind>,
    pub what: fn(&Attempt) -> bool,
    pub reason: &'static str,
}

impl LeftOut {
    pub fn is_about(&self, attempt: &Attempt, kind: RuntimeKind) -> bool {
        self.kind.is_none_or(|it| it == kind) && (self.what)(attempt)
    }
}

const fn oci(name: &'static str, shows: &'static str, reason: &'static str) -> Difference {
    Difference { kind: RuntimeKind::Oci, name, is_root: None, shows, reason }
}

const fn docker(name: &'static str, shows: &'static str, reason: &'static str) -> Difference {
    Difference { kind: RuntimeKind::Docker, name, is_root: None, shows, reason }
}

/// As the instance's user only.
const fn of_user(difference: Difference) -> Difference {
    Difference { is_root: Some(false), ..difference }
}

const OWN_DEV: &str = "a /dev of its own in memory, of 64 KiB: what is written there is its own";
const NO_BITS: &str = "containers have no secure bits; what makes them needless holds: no capability \
    is permitted to the user, and none is gained";
const NO_TERMINAL: &str = "rules about arguments are joined by `or`, so that this one of `ioctl` is \
    not in the filter; a container gets no terminal from outside";
const NOT_PROGRAMS: &str = "bound over by the tool: devices and hidden files, none of which is a \
    program, and none of which can be written to become one";
const IDS_OF_THE_HOST: &str = "the engine has no user namespace unless its administrator sets one up \
    (`userns-remap`): the ids inside are those of the host";
const NO_NEW_PRIVILEGES: &str = "the engine mounts without `nosuid`; programs gain nothing, because \
    no new privileges are allowed (`run_setuid_programs`)";
const DEVICE_RULES: &str = "the engine mounts without `nodev`; which devices can be opened is \
    decided by its device rules, and none can be made (`make_device_nodes`)";
const OWN_INIT: &str = "its first process is a small one of the engine's that runs as the user of the \
    instance and knows nothing that the instance does not";

#[rustfmt::skip]
pub const DIFFERENCES: &[Difference] = &[
    oci("write_to_dev", "/dev is not read-only", OWN_DEV),
    oci("raise_ambient_capabilities", "the secure bits are 0", NO_BITS),
    oci("type_into_terminal", "Inappropriate ioctl", NO_TERMINAL),
    of_user(oci("every_mount_forbids_setuid", "setuid counts in ['/dev/", NOT_PROGRAMS)),
    of_user(oci("every_mount_forbids_devices", "devices count in ['/proc/", NOT_PROGRAMS)),
    docker("write_to_dev", "/dev is not read-only", OWN_DEV),
    docker("find_devices", "/dev has ['mqueue']", "its own message queues, in an IPC namespace of its own"),
    docker("raise_ambient_capabilities", "the secure bits are 0", NO_BITS),
    docker("type_into_terminal", "Inappropriate ioctl", NO_TERMINAL),
    of_user(docker("every_mount_forbids_setuid", "setuid counts in ['/'", NO_NEW_PRIVILEGES)),
    of_user(docker("every_mount_forbids_devices", "devices count in ['/'", DEVICE_RULES)),
    docker("open_device_in_volume", "a device in a volume", DEVICE_RULES),
    of_user(docker("read_what_another_id_owns", "of-user-1000", IDS_OF_THE_HOST)),
    of_user(docker("ids_of_the_host", "user 0 is the host's", IDS_OF_THE_HOST)),
    of_user(docker("namespaces_of_the_host", "shared with the host: ['user']", IDS_OF_THE_HOST)),
    of_user(docker("session_of_others", "the session is 1", OWN_INIT)),
    docker("read_by_files_of_init", "the init has ['0', '1', '2']", OWN_INIT),
    docker("look_into_init", "the init's files belong to", OWN_INIT),
    docker("command_line_of_init", "/sbin/docker-init", OWN_INIT),
    docker("take_files_of_init", "took", OWN_INIT),
];

pub const LEFT_OUT: &[LeftOut] = &[
    LeftOut {
        kind: None,
        what: |it| it.shape == Shape::Disk,
        reason: "a limit of the disk is refused by both runtimes, which cannot enforce it",
    },
    LeftOut {
        kind: Some(RuntimeKind::Docker),
        what: |it| it.shape == Shape::PrivateNetwork,
        reason: "a private network is refused by the docker runtime",
    },
    LeftOut {
        kind: None,
        what: |it| it.name.starts_with("fill_tmp"),
        reason: "an order does not choose the size of /tmp, which counts to the memory",
    },
    LeftOut {
        kind: Some(RuntimeKind::Docker),
        what: |it| matches!(it.name, "trace_init" | "kill_init"),
        reason: "its first process runs as the user of the instance, so that it ends or stops itself",
    },
    LeftOut {
        kind: None,
        what: |it| it.judge == Judge::CpuQuota,
        reason: "the conformance tests measure the processor time of every runtime",
    },
];
