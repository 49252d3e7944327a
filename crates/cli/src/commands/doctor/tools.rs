//! The programs and services that environments and other runtimes need.

use crate::config::Config;
use spawnery_model::RuntimeKind;
use std::fmt::Display;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Something that some workloads need.
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) is_there: bool,
    /// Where it is, or what is missed without it.
    pub(super) detail: String,
    /// How to get it.
    pub(super) mend: &'static str,
}

/// Looks for the tools of this machine.
pub(super) fn found(config: &Config) -> Vec<Tool> {
    let runtimes = config.runtimes();
    vec![
        program("git", "git", "`source` of environments", "install git"),
        program("uv", "uv", "`python` of environments", "run `pip install uv`"),
        program(
            "apt",
            "apt-get",
            "`packages: {apt: […]}` and `base: {debian: …}`",
            "build on a node with Debian",
        ),
        runtime(
            "oci",
            runtimes.check(RuntimeKind::Oci),
            &runtimes.oci.program,
            "install runc, or name another command with --oci-runtime",
        ),
        runtime(
            "docker",
            runtimes.check(RuntimeKind::Docker),
            &runtimes.docker.socket,
            "start the Docker engine, or name its socket with --docker-socket",
        ),
    ]
}

fn program(name: &'static str, command: &str, used_for: &str, mend: &'static str) -> Tool {
    match path_of(command) {
        Some(path) => Tool { name, is_there: true, detail: path.display().to_string(), mend },
        None => {
            Tool { name, is_there: false, detail: format!("{command} is for {used_for}"), mend }
        }
    }
}

/// Where a command is: itself if it is a path, else beside this program or on the `PATH`.
fn path_of(command: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        let metadata = path.metadata();
        metadata.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    if command.contains('/') {
        return Some(PathBuf::from(command)).filter(is_program);
    }
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = beside.into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(command)).find(is_program)
}

fn runtime(
    name: &'static str,
    checked: Result<(), impl Display>,
    place: &str,
    mend: &'static str,
) -> Tool {
    let is_there = checked.is_ok();
    let detail = checked.map_or_else(|error| error.to_string(), |()| place.to_owned());
    Tool { name, is_there, detail, mend }
}
