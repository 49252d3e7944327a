//! What to run, and how it went.

use minicbor::{Decode, Encode};

use crate::kind::check_root;
use crate::limits::{
    DISK_BYTES_MIN, GROUPS_MAX, HOST_ID_COUNT, INSTANCE_ID_BYTES_MAX, LOG_BYTES_MAX_DEFAULT,
    MOUNTS_MAX, SECRET_BYTES_MAX, SECRET_FILES_MAX, TMP_BYTES_MAX_DEFAULT, USER_BYTES_MAX,
};

/// One sandbox with its main process. Has no `Debug` of what could be a secret.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SandboxSpec {
    /// Program and arguments; the program is looked for in `PATH` inside the sandbox.
    #[n(0)]
    pub argv: Vec<String>,
    /// Environment; `PATH`, `HOME`, `USER`, `HOSTNAME` and `TMPDIR` have defaults, and where no
    /// locale is named, `LC_CTYPE` says that text is UTF-8.
    #[n(1)]
    pub env: Vec<(String, String)>,
    /// Absolute path inside the sandbox; the home folder if not given.
    #[n(2)]
    pub working_directory: Option<String>,
    /// Host name inside the sandbox.
    #[n(3)]
    pub hostname: String,
    /// Memory limit in bytes, with `/tmp` and page cache.
    #[n(4)]
    pub memory_bytes: Option<u64>,
    /// CPU limit in thousandths of a core.
    #[n(5)]
    pub cpu_millis_max: Option<u32>,
    /// Limit of processes and threads.
    #[n(6)]
    pub pids_max: Option<u32>,
    /// What of the network is visible.
    #[n(7)]
    pub network: Network,
    /// Files to write before the start.
    #[n(8)]
    pub files: Vec<FileSpec>,
    /// Size of `/tmp` in bytes.
    #[n(9)]
    pub tmp_bytes_max: u64,
    /// Size limit of the main process's log in bytes.
    #[n(10)]
    pub log_bytes_max: u64,
    /// Whether standard input is a pipe, written by `WriteStdin`; else it is `/dev/null`.
    #[n(11)]
    pub stdin_pipe: bool,
    /// Opaque bytes of the caller, given back by `List`.
    #[cbor(n(12), with = "minicbor::bytes")]
    pub tag: Vec<u8>,
    /// What is below the private writable layer; without, the read-only view of the host.
    #[n(13)]
    pub root: Option<RootSpec>,
    /// As whom the processes run; without, as `user` (1000) over the view of the host, and as
    /// user 0 of the sandbox over a root of its own. User 0 may do inside what a package manager
    /// does; others may do nothing special. Without root there is only this one user, and no groups.
    #[n(14)]
    pub user: Option<UserSpec>,
    /// Folders and files of the host that are seen inside.
    #[n(15)]
    pub mounts: Option<Vec<MountSpec>>,
    /// The most that the private writable layer may hold, in bytes. Where the launcher can mount
    /// images, more cannot be written; else the instance is ended when it holds more.
    #[n(16)]
    pub disk_bytes_max: Option<u64>,
    /// Files in memory under `/run/secrets`; never written to a disk.
    #[n(17)]
    pub secret_files: Option<Vec<SecretFile>>,
    /// Further environment variables, which are never written to a disk.
    #[n(18)]
    pub secret_env: Option<Vec<(String, String)>>,
    /// Device nodes of the host, such as `/dev/dri/renderD128`, that are seen and can be used.
    #[n(19)]
    pub devices: Option<Vec<String>>,
    /// What a network of its own can reach, if `network` is `Private`.
    #[n(20)]
    pub egress: Option<EgressSpec>,
    /// Whether the private layer stays after the end, until `Forget`: a build takes it as a result.
    #[n(21)]
    pub keeps_layer: Option<bool>,
    /// Runs `argv` on the host, without any isolation, beside the launcher: a tool such as an OCI
    /// runtime, which isolates by itself. Only output, limits of the log and the end are looked after.
    #[n(22)]
    pub unisolated: Option<bool>,
    /// When it is ended if nobody renews its lease; without, never for that.
    #[n(30)]
    pub lease: Option<LeaseSpec>,
}

/// For how long an instance goes on without `Renew`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LeaseSpec {
    /// How long, in milliseconds.
    #[n(0)]
    pub lasts_ms: u64,
    /// From when on: a time on `CLOCK_BOOTTIME` (`clock_gettime(2)`), in milliseconds.
    #[n(1)]
    pub heard_ms: u64,
    /// The signal to its main process when the lease is over.
    #[n(2)]
    pub stop_signal: i32,
    /// Milliseconds from then until everything in it is killed.
    #[n(3)]
    pub grace_ms: u64,
}

impl std::fmt::Debug for SandboxSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files: Vec<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        f.debug_struct("SandboxSpec")
            .field("argv", &self.argv)
            .field("hostname", &self.hostname)
            .field("network", &self.network)
            .field("root", &self.root)
            .field("user", &self.user)
            .field("mounts", &self.mounts)
            .field("devices", &self.devices)
            .field("files", &files)
            .field("secret_files", &self.secret_files)
            .finish_non_exhaustive()
    }
}

/// Variables that say in which language and characters a program speaks (`locale(7)`).
pub const LOCALE_VARIABLES: [&str; 3] = ["LANG", "LC_ALL", "LC_CTYPE"];

/// What a process gets that is given none of them. It means the same as `LANG=C.UTF-8`, which
/// differs from the locale `C` in this category only, and has each program that starts read one
/// file instead of twelve.
pub const LOCALE_DEFAULT: (&str, &str) = ("LC_CTYPE", "C.UTF-8");

/// The root of a sandbox: read-only layers under the private writable one.
///
/// A layer is a folder with a folder `root`, which is seen as `/`, and, if it was made over the
/// view of the host, perhaps a folder `usr`, which is seen as `/usr`. What a layer removes is
/// marked as overlayfs does: a character device 0/0 in the place of a file, and the extended
/// attribute `user.overlay.opaque` = `y` on a folder. Owners are ids on the host: those of the
/// sandbox plus [`crate::limits::HOST_ID_BASE`] if the launcher is root, else its own id for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct RootSpec {
    /// Absolute folders of the layers on the host, the topmost first.
    #[n(0)]
    pub layers: Vec<String>,
    /// Whether the view of the host is below them; else the lowest layer is all that there is.
    #[n(1)]
    pub host: bool,
}

/// As whom a process runs inside its sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct UserSpec {
    /// User id inside.
    #[n(0)]
    pub uid: u32,
    /// Group id inside.
    #[n(1)]
    pub gid: u32,
    /// Further groups inside.
    #[n(2)]
    pub groups: Vec<u32>,
}

/// A folder or file of the host that is seen inside.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct MountSpec {
    /// Absolute path on the host.
    #[n(0)]
    pub source: String,
    /// Absolute, normalized path inside; it is made if it is missing.
    #[n(1)]
    pub target: String,
    /// Whether it cannot be written.
    #[n(2)]
    pub read_only: bool,
}

/// A secret that is given as a file in memory. Has no `Debug` of its content.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SecretFile {
    /// The file's name under `/run/secrets`.
    #[n(0)]
    pub name: String,
    /// The secret.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretFile").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a sandbox with a private network can reach. Without a rule that allows it, nothing in
/// private, link-local, loopback, multicast and reserved ranges and no address of the host can be
/// reached; everything else can, unless `deny_by_default`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EgressSpec {
    /// Looked through in order; the first that matches decides. One that allows the whole internet,
    /// such as `0.0.0.0/0`, opens neither those ranges nor the host.
    #[n(0)]
    pub rules: Vec<EgressRule>,
    /// Names that may be resolved; `*.example.org` covers what is below. Without, all. The
    /// addresses of a name that was asked for and is listed may be reached, unless a rule denies.
    #[n(1)]
    pub names: Option<Vec<String>>,
    /// Whether what no rule and no name allows is refused.
    #[n(2)]
    pub deny_by_default: bool,
    /// The most bytes in both directions together, over the whole life; then it is ended.
    #[n(3)]
    pub transfer_bytes_max: Option<u64>,
}

/// One rule about addresses.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EgressRule {
    /// Whether it allows; else it denies.
    #[n(0)]
    pub allow: bool,
    /// A block of addresses in CIDR notation, IPv4 or IPv6.
    #[n(1)]
    pub block: String,
    /// First and last port; without, all ports and protocols.
    #[n(2)]
    pub ports: Option<(u16, u16)>,
}

impl SandboxSpec {
    /// A sandbox with no network, no limits and default sizes that runs `argv`.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            working_directory: None,
            hostname: "sandbox".to_owned(),
            memory_bytes: None,
            cpu_millis_max: None,
            pids_max: None,
            network: Network::None,
            files: Vec::new(),
            tmp_bytes_max: TMP_BYTES_MAX_DEFAULT,
            log_bytes_max: LOG_BYTES_MAX_DEFAULT,
            stdin_pipe: false,
            tag: Vec::new(),
            root: None,
            user: None,
            mounts: None,
            disk_bytes_max: None,
            secret_files: None,
            secret_env: None,
            devices: None,
            egress: None,
            keeps_layer: None,
            unisolated: None,
            lease: None,
        }
    }

    /// Checks everything that can be known without starting; the error names the field.
    pub fn check(&self) -> Result<(), String> {
        check_process(&self.argv, &self.env, self.working_directory.as_deref())?;
        if self.hostname.is_empty() || self.hostname.len() > 64 || self.hostname.contains('\0') {
            return Err("hostname: must have 1 to 64 bytes".to_owned());
        }
        for file in &self.files {
            file.check()?;
        }
        self.root.as_ref().map_or(Ok(()), check_root)?;
        self.user.as_ref().map_or(Ok(()), UserSpec::check)?;
        if let Some(bytes) = self.disk_bytes_max.filter(|bytes| *bytes < DISK_BYTES_MIN) {
            return Err(format!("disk_bytes_max: {bytes} is less than {DISK_BYTES_MIN}"));
        }
        self.check_mounts()?;
        self.check_secrets()?;
        self.check_egress()
    }

    fn check_egress(&self) -> Result<(), String> {
        match (&self.egress, self.network) {
            (Some(_), Network::Host) => {
                Err("egress: holds only in a private network, not in the host's".to_owned())
            }
            (Some(egress), _) => crate::network::policy::Policy::new(egress).map(drop),
            (None, _) => Ok(()),
        }
    }

    fn check_mounts(&self) -> Result<(), String> {
        let (mounts, devices) = (self.mounts.iter().flatten(), self.devices.iter().flatten());
        let count = mounts.clone().count() + devices.clone().count();
        if count > MOUNTS_MAX {
            return Err(format!("mounts: {count} with the devices are more than {MOUNTS_MAX}"));
        }
        for MountSpec { source, target, .. } in mounts {
            if !is_normalized(source) {
                return Err(format!("mounts: `{source}` must be an absolute, normalized path"));
            }
            if !is_normalized(target) || is_below(target, &["proc", "sys", "dev"]) {
                return Err(format!("mounts: nothing can be mounted at `{target}`"));
            }
        }
        for device in devices {
            let name = device.strip_prefix("/dev/").unwrap_or_default();
            let first = name.split('/').next().unwrap_or_default();
            if !is_normalized(device) || first.is_empty() || is_part_of_dev(first) {
                return Err(format!("devices: `{device}` is no further device below /dev"));
            }
        }
        Ok(())
    }

    fn check_secrets(&self) -> Result<(), String> {
        let files = self.secret_files.as_deref().unwrap_or_default();
        let bytes: u64 = files.iter().map(|file| file.bytes.len() as u64).sum();
        if bytes > SECRET_BYTES_MAX || files.len() > SECRET_FILES_MAX {
            return Err(format!(
                "secret_files: more than {SECRET_FILES_MAX} files or {SECRET_BYTES_MAX} bytes"
            ));
        }
        for SecretFile { name, .. } in files {
            if name.len() > 255 || name.contains('/') || !is_normalized(&format!("/{name}")) {
                return Err(format!("secret_files: `{name}` is not the name of a file"));
            }
        }
        check_env("secret_env", self.secret_env.as_deref().unwrap_or_default())
    }
}

impl UserSpec {
    fn check(&self) -> Result<(), String> {
        let ids = [self.uid, self.gid].into_iter().chain(self.groups.iter().copied());
        if let Some(id) = ids.into_iter().find(|id| *id >= HOST_ID_COUNT) {
            return Err(format!("user: {id} is not below {HOST_ID_COUNT}"));
        }
        let count = self.groups.len();
        if count > GROUPS_MAX {
            return Err(format!("user: {count} groups are more than {GROUPS_MAX}"));
        }
        Ok(())
    }
}

/// A further process in a living sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ExecSpec {
    /// Program and arguments.
    #[n(0)]
    pub argv: Vec<String>,
    /// Environment, with the defaults of the sandbox.
    #[n(1)]
    pub env: Vec<(String, String)>,
    /// Absolute path inside the sandbox; the home folder if not given.
    #[n(2)]
    pub working_directory: Option<String>,
    /// Whether standard input is a pipe.
    #[n(3)]
    pub stdin_pipe: bool,
    /// As whom it runs: `USER` or `USER:GROUP`, each a name of the root's own `/etc/passwd` and
    /// `/etc/group` or a number; as the main process if not given.
    #[n(4)]
    pub user: Option<String>,
    /// The size of the terminal that its three streams are; without, they are pipes.
    #[n(5)]
    pub terminal: Option<WindowSize>,
    /// Milliseconds after which it is ended with all that it has started.
    #[n(6)]
    pub timeout_ms: Option<u64>,
}

/// The size of a terminal, in characters (`ioctl_tty(2)`, `TIOCSWINSZ`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct WindowSize {
    /// From left to right.
    #[n(0)]
    pub columns: u16,
    /// From top to bottom.
    #[n(1)]
    pub rows: u16,
}

impl ExecSpec {
    /// Runs `argv` with the default environment.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            working_directory: None,
            stdin_pipe: false,
            user: None,
            terminal: None,
            timeout_ms: None,
        }
    }

    /// Checks everything that can be known without starting; the error names the field.
    pub fn check(&self) -> Result<(), String> {
        let user = self.user.as_deref().unwrap_or("0");
        if user.is_empty() || user.len() > USER_BYTES_MAX || user.contains(['\0', '\n', '/']) {
            return Err("user: it is neither a name nor a number".to_owned());
        }
        check_process(&self.argv, &self.env, self.working_directory.as_deref())
    }
}

/// The network that a sandbox sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Network {
    /// A network namespace of its own with nothing but a loopback interface.
    #[n(0)]
    None,
    /// The network of the host.
    #[n(1)]
    Host,
    /// An address of its own behind address translation, with rules about what it can reach.
    #[n(2)]
    Private,
}

/// A file that is written into the writable layer before the start.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FileSpec {
    /// Absolute, normalized path inside the sandbox; missing folders are made.
    #[n(0)]
    pub path: String,
    /// Permission bits.
    #[n(1)]
    pub mode: u32,
    /// The content.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

impl FileSpec {
    fn check(&self) -> Result<(), String> {
        let path = &self.path;
        if !is_normalized(path) {
            return Err(format!("files: `{path}` must be an absolute, normalized path"));
        }
        if is_below(path, &["proc", "sys", "dev"]) {
            return Err(format!("files: `{path}` is not in a writable part of the sandbox"));
        }
        if self.mode & !0o777 != 0 {
            return Err(format!("files: mode {:o} of `{path}` has more than 0777", self.mode));
        }
        Ok(())
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Exit {
    /// Exit code, if it ended by itself.
    #[n(0)]
    pub code: Option<i32>,
    /// Signal that ended it.
    #[n(1)]
    pub signal: Option<i32>,
    /// Whether it was killed because the instance had used up its memory.
    #[n(2)]
    pub oom: bool,
    /// When, in milliseconds since the Unix epoch.
    #[n(3)]
    pub at_ms: u64,
    /// The end of its output, at most [`crate::limits::LAST_OUTPUT_BYTES_MAX`].
    #[cbor(n(4), with = "minicbor::bytes")]
    pub last_output: Vec<u8>,
    /// The limit for which the launcher killed it, besides memory.
    #[n(5)]
    pub limit: Option<LimitReached>,
}

/// A limit for which an instance was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum LimitReached {
    /// Its private writable layer held more than it may.
    #[n(0)]
    Disk,
    /// It sent and received more than it may.
    #[n(1)]
    Transfer,
    /// Its lease was not renewed.
    #[n(2)]
    KeyLease,
    /// A further process ran longer than it may.
    #[n(3)]
    Time,
}

/// Whether `id` may name an instance: 1 to 64 bytes of lower-case letters, digits, hyphens.
pub fn is_instance_id(id: &str) -> bool {
    (1..=INSTANCE_ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Whether a path is one of these top folders, or below it.
fn is_below(path: &str, tops: &[&str]) -> bool {
    path.split('/').nth(1).is_some_and(|top| tops.contains(&top))
}

/// Whether each sandbox has this in its `/dev` anyway.
fn is_part_of_dev(name: &str) -> bool {
    const OTHERS: [&str; 7] = ["fd", "ptmx", "pts", "shm", "stderr", "stdin", "stdout"];
    OTHERS.contains(&name) || crate::rootfs::device_names().any(|device| device == name)
}

pub(crate) fn is_normalized(path: &str) -> bool {
    path.len() > 1
        && path.len() < 4096
        && !path.contains('\0')
        && path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        })
}

fn check_process(
    argv: &[String],
    env: &[(String, String)],
    working_directory: Option<&str>,
) -> Result<(), String> {
    if argv.first().is_none_or(String::is_empty) {
        return Err("argv: names no program".to_owned());
    }
    if argv.iter().any(|arg| arg.contains('\0')) {
        return Err("argv: an argument contains a NUL byte".to_owned());
    }
    check_env("env", env)?;
    match working_directory {
        Some(path) if path != "/" && !is_normalized(path) => {
            Err(format!("working_directory: `{path}` must be an absolute, normalized path"))
        }
        _ => Ok(()),
    }
}

fn check_env(field: &str, env: &[(String, String)]) -> Result<(), String> {
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("{field}: `{name}` is not a name"));
        }
        if value.contains('\0') {
            return Err(format!("{field}: the value of `{name}` contains a NUL byte"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_their_folder_are_refused() {
        let table = [("a-1", true), ("", false), ("..", false), ("a/b", false), ("A", false)];
        for (id, expected) in table {
            assert_eq!(is_instance_id(id), expected, "{id}");
        }
        assert!(!is_instance_id(&"a".repeat(65)));
    }

    #[test]
    fn paths_that_could_escape_are_refused() {
        let table = [
            ("/a/b", true),
            ("/", false),
            ("a", false),
            ("/a/../b", false),
            ("/a//b", false),
            ("/a/./b", false),
            ("/a/", false),
            ("/proc/sys/kernel/hostname", false),
            ("/dev/x", false),
        ];
        for (path, expected) in table {
            let mut spec = SandboxSpec::new(["true"]);
            spec.files.push(FileSpec { path: path.into(), mode: 0o644, bytes: Vec::new() });
            assert_eq!(spec.check().is_ok(), expected, "{path}");
        }
    }

    #[test]
    fn the_error_of_a_bad_variable_does_not_show_its_value() {
        let mut spec = SandboxSpec::new(["true"]);
        spec.env.push(("TOKEN".into(), "hunter2\0".into()));
        let error = spec.check().expect_err("a NUL byte is refused");
        assert!(error.contains("TOKEN") && !error.contains("hunter2"));
    }
}
