//! The attempts: each a function of a file in `attempts`, with what it needs and how it is judged.

use spawnery_sandbox::protections::Protection;

use crate::support::As;

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// The function in a file of `attempts`.
    pub name: &'static str,
    /// Whether it is user 0 of its sandbox, with the capabilities of a package manager.
    pub is_root: bool,
    /// Whether it makes sense only with a launcher that is root.
    pub rootful_only: bool,
    pub shape: Shape,
    pub judge: Judge,
}

/// What the sandbox has besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Plain,
    /// A writable volume at `/vol` with hostile content, and a read-only one at `/frozen`.
    Volumes,
    /// Layers with hostile symbolic links, and files written through them at the start.
    Layers,
    /// A private network without further rules.
    PrivateNetwork,
    /// A secret.
    Secrets,
    /// A limit of what its private layer holds.
    Disk,
    /// Another instance beside it, with a secret and files.
    Neighbour,
}

/// How it is found out whether it got through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// By its last line.
    Word,
    /// The same, or held if it was killed for its memory.
    Memory,
    /// It writes as much as it likes: the log and the report of the exit must stay small.
    Flood,
    /// It is stopped with a short grace.
    Stop,
    /// It runs while its control group is looked at.
    CpuQuota,
    /// It must be ended for what it transferred.
    Transfer,
    /// It must be refused more, or ended for what it wrote.
    Disk,
}

const fn user(name: &'static str) -> Attempt {
    let (shape, judge) = (Shape::Plain, Judge::Word);
    Attempt { name, is_root: false, rootful_only: false, shape, judge }
}

/// As user 0 inside.
const fn root(name: &'static str) -> Attempt {
    Attempt { is_root: true, ..user(name) }
}

impl Attempt {
    const fn with(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    const fn by(self, judge: Judge) -> Self {
        Self { judge, ..self }
    }

    const fn rootful(self) -> Self {
        Self { rootful_only: true, ..self }
    }

    /// Whether it is made with a launcher of this kind.
    pub fn is_for(&self, whose: As) -> bool {
        whose == As::Us || !self.rootful_only
    }
}

/// All attempts.
#[rustfmt::skip]
pub const ATTEMPTS: &[Attempt] = &[
    // Files of the host.
    user("read_by_path"), root("read_by_path"),
    user("read_secrets_of_the_host"), root("read_secrets_of_the_host"),
    user("list_homes"),
    user("read_by_symlink"), root("read_by_symlink"),
    user("read_by_many_dots"), root("read_by_many_dots"),
    user("read_by_root_of_init"), root("read_by_root_of_init"),
    user("read_by_cwd_of_init"), root("read_by_cwd_of_init"),
    user("read_by_files_of_init"), root("read_by_files_of_init"),
    user("read_behind_the_root"), root("read_behind_the_root"),
    user("use_files_left_open"), root("use_files_left_open"),
    user("open_by_handle"), root("open_by_handle"),
    user("leave_a_chroot"), root("leave_a_chroot"),
    user("read_by_link_in_volume").with(Shape::Volumes),
    root("read_by_link_in_volume").with(Shape::Volumes),
    user("read_what_another_id_owns").with(Shape::Volumes),
    root("read_by_links_of_layers").with(Shape::Layers),
    // Mounts.
    user("mount_file_systems"), root("mount_file_systems"),
    user("bind_mount"), root("bind_mount"),
    user("remount_writable"), root("remount_writable"),
    user("unmount_masks"), root("unmount_masks"),
    user("pivot_root"), root("pivot_root"),
    user("new_mount_calls"), root("new_mount_calls"),
    user("every_mount_forbids_setuid").with(Shape::Volumes),
    user("every_mount_forbids_devices").with(Shape::Volumes),
    // Devices.
    user("find_devices"), root("find_devices"),
    user("make_device_nodes"), root("make_device_nodes"),
    user("open_device_in_volume").with(Shape::Volumes),
    root("open_device_in_volume").with(Shape::Volumes),
    user("write_to_dev"), root("write_to_dev"),
    // Programs, capabilities, the filter.
    user("run_setuid_programs").with(Shape::Volumes),
    user("give_file_capabilities"),
    user("capabilities"),
    root("capabilities_of_root"),
    user("capabilities_of_init"),
    user("bounding_set"),
    user("raise_ambient_capabilities"), root("raise_ambient_capabilities"),
    user("no_new_privileges"), root("no_new_privileges"),
    user("filter_of_system_calls"), root("filter_of_system_calls"),
    user("load_kernel_modules"), root("load_kernel_modules"),
    user("rare_system_calls"), root("rare_system_calls"),
    user("foreign_system_calls"),
    user("keyrings"), root("keyrings"),
    user("key_of_the_session"),
    user("personality"),
    user("type_into_terminal"), root("type_into_terminal"),
    user("session_of_others"),
    // Processes.
    user("look_into_init"), root("look_into_init"),
    user("command_line_of_init"),
    user("trace_init"), root("trace_init"),
    user("take_files_of_init"), root("take_files_of_init"),
    user("read_memory_of_init"), root("read_memory_of_init"),
    user("kill_init"), root("kill_init"),
    user("see_processes_of_others"), root("see_processes_of_others"),
    user("guess_process_ids"), root("guess_process_ids"),
    user("signal_all"), root("signal_all"),
    user("overwrite_program"), root("overwrite_program"),
    user("namespaces_of_the_host"),
    user("nested_user_namespace"), root("nested_user_namespace"),
    user("clone_with_namespaces"), root("clone_with_namespaces"),
    user("join_namespaces"), root("join_namespaces"),
    user("ids_of_the_host").rootful(),
    // What the kernel tells and lets set.
    user("read_keys"), root("read_keys"),
    user("read_kernel_memory"), root("read_kernel_memory"),
    user("press_sysrq"), root("press_sysrq"),
    user("set_kernel_parameters"), root("set_kernel_parameters"),
    user("release_agent"), root("release_agent"),
    user("paths_of_control_groups"),
    user("set_the_clock"), root("set_the_clock"),
    user("set_the_host_name"), root("set_the_host_name"),
    user("host_name_of_the_host"),
    user("memory_of_others"), root("memory_of_others"),
    user("environment_of_launcher"),
    user("input_of_launcher"),
    // The network.
    user("loopback_of_the_host"), root("loopback_of_the_host"),
    user("loopback_of_the_host").with(Shape::PrivateNetwork),
    user("metadata_service"),
    user("metadata_service").with(Shape::PrivateNetwork),
    user("hosts_beyond"),
    user("private_hosts").with(Shape::PrivateNetwork),
    user("addresses_of_the_host"),
    user("addresses_of_the_host").with(Shape::PrivateNetwork),
    user("abstract_socket"), root("abstract_socket"),
    user("abstract_socket").with(Shape::PrivateNetwork),
    user("control_api"), root("control_api"),
    user("control_api").with(Shape::PrivateNetwork),
    user("raw_sockets"), root("raw_sockets"),
    root("raw_sockets").with(Shape::PrivateNetwork),
    user("send_arp"), root("send_arp").with(Shape::PrivateNetwork),
    user("rare_sockets"), root("rare_sockets"),
    user("change_interfaces"), root("change_interfaces").with(Shape::PrivateNetwork),
    user("download_without_end").with(Shape::PrivateNetwork).by(Judge::Transfer),
    // Bombs.
    user("fork_bomb"), root("fork_bomb"),
    user("thread_bomb"),
    user("memory_bomb").by(Judge::Memory), root("memory_bomb").by(Judge::Memory),
    user("memory_by_files").by(Judge::Memory).rootful(),
    user("file_bomb"), root("file_bomb"),
    user("core_dump"), root("core_dump"),
    user("fill_tmp"), root("fill_tmp"),
    user("fill_tmp_with_files"), root("fill_tmp_with_files"),
    user("fill_disk").with(Shape::Disk).by(Judge::Disk), root("fill_disk").with(Shape::Disk).by(Judge::Disk),
    user("fill_disk_with_files").with(Shape::Disk).by(Judge::Disk),
    user("fill_disk_where_nobody_looks").with(Shape::Disk).by(Judge::Disk),
    root("fill_disk_where_nobody_looks").with(Shape::Disk).by(Judge::Disk),
    user("fill_secrets").with(Shape::Secrets), root("fill_secrets").with(Shape::Secrets),
    user("fill_proc"),
    user("huge_argv"),
    user("zombie_maker"),
    user("daemon"), root("daemon"),
    user("ignore_sigterm").by(Judge::Stop), root("ignore_sigterm").by(Judge::Stop),
    user("flood_log").by(Judge::Flood),
    user("flood_without_newline").by(Judge::Flood),
    user("burn").by(Judge::CpuQuota).rootful(),
    user("oom_score"), root("oom_score"),
    // What is shared with others.
    user("write_to_system_folders"), root("write_to_system_folders"),
    user("write_to_read_only_mount").with(Shape::Volumes),
    root("write_to_read_only_mount").with(Shape::Volumes),
    root("write_to_layers").with(Shape::Layers),
    root("write_by_links_of_layers").with(Shape::Layers),
    user("secrets_of_others").with(Shape::Neighbour),
    root("secrets_of_others").with(Shape::Neighbour),
    user("files_of_others").with(Shape::Neighbour),
];

/// Launchers with which the absence of a protection shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    Both,
    /// Without root nobody has it.
    Root,
    /// With root the kernel does the same unasked.
    NoRoot,
}

impl With {
    pub fn is_for(self, whose: As) -> bool {
        match self {
            Self::Both => true,
            Self::Root => whose == As::Us,
            Self::NoRoot => whose == As::PlainUser,
        }
    }
}

/// Which attempts get through, at least one of them, without a protection.
pub struct Probe {
    pub protection: Protection,
    pub names: &'static [&'static str],
    /// With which launcher it shows.
    pub with: With,
    /// What is switched off besides, and without which alone the attempts are still held: the
    /// second of two protections hides the first where only a system call could show it.
    pub beside: &'static [Protection],
}

const fn probe(protection: Protection, names: &'static [&'static str]) -> Probe {
    Probe { protection, names, with: With::Both, beside: &[] }
}

const fn rootful(protection: Protection, names: &'static [&'static str]) -> Probe {
    Probe { with: With::Root, ..probe(protection, names) }
}

/// For each protection what notices its absence.
#[rustfmt::skip]
pub const PROBES: &[Probe] = &[
    rootful(Protection::UserNamespace, &["ids_of_the_host"]),
    rootful(Protection::IdRange, &["ids_of_the_host", "read_what_another_id_owns"]),
    probe(Protection::InitCapabilities, &["capabilities_of_init"]),
    probe(Protection::BoundingSet, &["bounding_set"]),
    probe(Protection::SecureBits, &["raise_ambient_capabilities"]),
    probe(Protection::NoNewPrivileges, &["no_new_privileges"]),
    probe(Protection::Seccomp, &["filter_of_system_calls", "nested_user_namespace", "rare_system_calls", "keyrings"]),
    probe(Protection::SeccompClone, &["clone_with_namespaces"]),
    probe(Protection::SeccompSocket, &["rare_sockets"]),
    probe(Protection::SeccompIoctl, &["type_into_terminal"]),
    probe(Protection::SeccompPersonality, &["personality"]),
    probe(Protection::ProcHidden, &["read_keys", "press_sysrq"]),
    probe(Protection::ProcReadOnly, &["set_kernel_parameters"]),
    probe(Protection::ReadOnlySystem, &["write_to_dev", "write_to_read_only_mount", "fill_secrets"]),
    probe(Protection::NoSuid, &["every_mount_forbids_setuid"]),
    probe(Protection::NoDev, &["every_mount_forbids_devices", "open_device_in_volume"]),
    probe(Protection::PrivateDev, &["find_devices"]),
    probe(Protection::PidNamespace, &["see_processes_of_others", "guess_process_ids"]),
    probe(Protection::IpcNamespace, &["memory_of_others"]),
    probe(Protection::UtsNamespace, &["host_name_of_the_host"]),
    probe(Protection::CgroupNamespace, &["paths_of_control_groups", "namespaces_of_the_host"]),
    probe(Protection::NetNamespace, &["loopback_of_the_host", "metadata_service", "abstract_socket"]),
    probe(Protection::CloseFiles, &["use_files_left_open"]),
    Probe { beside: &[Protection::Seccomp], ..probe(Protection::SessionKeyring, &["key_of_the_session"]) },
    Probe { with: With::NoRoot, ..probe(Protection::NotDumpable, &["look_into_init"]) },
    probe(Protection::DetachOldRoot, &["read_behind_the_root"]),
    probe(Protection::OpenFilesLimit, &["file_bomb"]),
    probe(Protection::CoreLimit, &["core_dump"]),
    probe(Protection::MemoryLimit, &["memory_bomb"]),
    probe(Protection::PidsLimit, &["fork_bomb", "thread_bomb"]),
    rootful(Protection::CpuLimit, &["burn"]),
    probe(Protection::LogLimit, &["flood_log", "flood_without_newline"]),
    probe(Protection::TmpSize, &["fill_tmp", "fill_tmp_with_files"]),
    probe(Protection::DiskLimit, &["fill_disk", "fill_disk_with_files"]),
    probe(Protection::KillAfterGrace, &["ignore_sigterm"]),
    probe(Protection::NullStdin, &["input_of_launcher"]),
    probe(Protection::CleanEnvironment, &["environment_of_launcher"]),
    probe(Protection::OwnSession, &["session_of_others"]),
    probe(Protection::WipedCommandLine, &["command_line_of_init"]),
    probe(Protection::OomScore, &["oom_score"]),
    probe(Protection::EgressRules, &["private_hosts", "addresses_of_the_host"]),
    probe(Protection::TransferLimit, &["download_without_end"]),
];
