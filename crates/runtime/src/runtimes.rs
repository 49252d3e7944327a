//! The runtimes beside the process runtime: where they are, and whether they work.

use crate::shim::{Kind, ShimSpec};
use minicbor::{Decode, Encode};
use spawnery_model::RuntimeKind;
use spawnery_sandbox::spec::{FileSpec, SandboxSpec};
use spawnery_sandbox::tool::JOB_PATH;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Time that an engine gets to answer whether it is there.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where the runtimes beside the process runtime are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runtimes {
    /// The OCI runtime.
    pub oci: OciCommand,
    /// The Docker engine.
    pub docker: DockerEngine,
}

/// A command with the interface of `runc`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OciCommand {
    /// A path, or a name that is looked for in `PATH`.
    #[n(0)]
    pub program: String,
    /// Arguments before all others.
    #[n(1)]
    pub arguments: Vec<String>,
    /// Whether a container is one process tree on this kernel, with namespaces that it can join, as
    /// with `runc`, `crun` and `youki`. Those with a kernel of their own, such as `runsc` and
    /// `kata-runtime`, keep a command in the foreground instead. Such a command removes the control
    /// groups itself, so that an end for lack of memory is told as an end by signal 9.
    #[n(2)]
    pub shares_kernel: bool,
}

impl Default for OciCommand {
    fn default() -> Self {
        Self { program: "runc".to_owned(), arguments: Vec::new(), shares_kernel: true }
    }
}

/// A container engine with the API of Docker.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DockerEngine {
    /// Path of its Unix socket.
    #[n(0)]
    pub socket: String,
}

impl Default for DockerEngine {
    fn default() -> Self {
        Self { socket: "/var/run/docker.sock".to_owned() }
    }
}

/// Why a runtime cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {} runtime does not work here: {reason}", kind.word())]
pub struct Unavailable {
    /// Which one.
    pub kind: RuntimeKind,
    /// Why, and what to do.
    pub reason: String,
}

impl Runtimes {
    /// Whether a runtime can be used now. Blocks for some milliseconds, at worst for seconds.
    pub fn check(&self, kind: RuntimeKind) -> Result<(), Unavailable> {
        let result = match kind {
            RuntimeKind::Process => Ok(()),
            RuntimeKind::Oci => check_command(&self.oci),
            RuntimeKind::Docker => check_engine(&self.docker),
        };
        result.map_err(|reason| Unavailable { kind, reason })
    }

    /// Those of the runtimes beside `process` that can be used now. Blocks as [`Self::check`].
    pub fn available(&self) -> Vec<RuntimeKind> {
        let all = [RuntimeKind::Oci, RuntimeKind::Docker];
        all.into_iter().filter(|kind| self.check(*kind).is_ok()).collect()
    }

    /// What the launcher starts for an instance that `kind` is to isolate: `spec` itself, or the
    /// tool that isolates, which is a command of `program`.
    pub(crate) fn wrap(&self, kind: RuntimeKind, spec: SandboxSpec, program: &Path) -> SandboxSpec {
        let kind = match kind {
            RuntimeKind::Process => return spec,
            RuntimeKind::Oci => Kind::Oci(self.oci.clone()),
            RuntimeKind::Docker => Kind::Docker(self.docker.clone()),
        };
        // The launcher works in another folder.
        let program = std::path::absolute(program).unwrap_or_else(|_| program.to_owned());
        let program = program.to_string_lossy();
        let mut outer = SandboxSpec::new([program.as_ref(), "shim", kind.word()]);
        outer.hostname.clone_from(&spec.hostname);
        outer.network = spec.network;
        outer.egress.clone_from(&spec.egress);
        outer.log_bytes_max = spec.log_bytes_max;
        outer.stdin_pipe = spec.stdin_pipe;
        outer.tag.clone_from(&spec.tag);
        outer.unisolated = Some(true);
        outer.lease.clone_from(&spec.lease);
        let inner = ShimSpec { sandbox: SandboxSpec { tag: Vec::new(), ..spec }, kind };
        let bytes = minicbor::to_vec(&inner).expect("writing to memory does not fail");
        outer.files = vec![FileSpec { path: JOB_PATH.to_owned(), mode: 0o600, bytes }];
        outer
    }
}

fn check_command(oci: &OciCommand) -> Result<(), String> {
    let program = &oci.program;
    if !rustix::process::geteuid().is_root() {
        return Err("it needs an agent with root; use the process runtime instead".to_owned());
    }
    let mut command = Command::new(program);
    command.args(&oci.arguments).arg("--version");
    match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{program} --version` ends with {status}")),
        Err(error) => {
            Err(format!("cannot run `{program}`: {error}; install it, or name another one"))
        }
    }
}

fn check_engine(engine: &DockerEngine) -> Result<(), String> {
    if !cfg!(feature = "docker") {
        return Err("this program was built without it".to_owned());
    }
    let socket = &engine.socket;
    let answer = ping(socket).map_err(|error| {
        format!("no engine answers at {socket}: {error}; start it, or name another socket")
    })?;
    if answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200") {
        return Ok(());
    }
    Err(format!("the engine at {socket} answers `{}`", answer.lines().next().unwrap_or_default()))
}

fn ping(socket: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_refused_with_its_name() {
        let mut runtimes = Runtimes::default();
        runtimes.oci.program = "no-such-oci-runtime".to_owned();
        runtimes.docker.socket = "/nonexistent/docker.sock".to_owned();
        assert_eq!(runtimes.check(RuntimeKind::Process), Ok(()));
        assert_eq!(runtimes.available(), []);
        let error = runtimes.check(RuntimeKind::Docker).expect_err("there is none").to_string();
        assert!(error.contains("docker runtime"), "{error}");
        let error = runtimes.check(RuntimeKind::Oci).expect_err("there is none").to_string();
        assert!(error.contains("oci runtime"), "{error}");
    }

    #[test]
    fn no_secret_is_in_what_the_launcher_may_write_down() {
        let mut spec = SandboxSpec::new(["true"]);
        spec.secret_env = Some(vec![("TOKEN".to_owned(), "hunter2".to_owned())]);
        let outer = Runtimes::default().wrap(RuntimeKind::Oci, spec, Path::new("/bin/spawnery"));
        assert_eq!(outer.argv, ["/bin/spawnery", "shim", "oci"]);
        assert!(outer.env.is_empty() && outer.secret_env.is_none());
        assert_eq!(outer.check(), Ok(()));
    }
}
