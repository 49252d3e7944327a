//! What to run, and how it went.

use minicbor::{Decode, Encode};

use crate::limits::{INSTANCE_ID_BYTES_MAX, LOG_BYTES_MAX_DEFAULT, TMP_BYTES_MAX_DEFAULT};

/// One sandbox with its main process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SandboxSpec {
    /// Program and arguments; the program is looked for in `PATH` inside the sandbox.
    #[n(0)]
    pub argv: Vec<String>,
    /// Environment; `PATH`, `HOME`, `USER`, `LANG`, `HOSTNAME` and `TMPDIR` have defaults.
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
}

impl ExecSpec {
    /// Runs `argv` with the default environment.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            working_directory: None,
            stdin_pipe: false,
        }
    }

    /// Checks everything that can be known without starting; the error names the field.
    pub fn check(&self) -> Result<(), String> {
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
        let top = path.split('/').nth(1).unwrap_or_default();
        if matches!(top, "proc" | "sys" | "dev") {
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
}

/// Whether `id` may name an instance: 1 to 64 bytes of lower-case letters, digits, hyphens.
pub fn is_instance_id(id: &str) -> bool {
    (1..=INSTANCE_ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_normalized(path: &str) -> bool {
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
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("env: `{name}` is not a name"));
        }
        if value.contains('\0') {
            return Err(format!("env: the value of `{name}` contains a NUL byte"));
        }
    }
    match working_directory {
        Some(path) if path != "/" && !is_normalized(path) => {
            Err(format!("working_directory: `{path}` must be an absolute, normalized path"))
        }
        _ => Ok(()),
    }
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
