//! Commands of a step in the sandbox, over the layers of the steps before.

use std::fs;
use std::io::Read;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use spawnery_sandbox::spec::{MountSpec, Network, RootSpec, SandboxSpec};

use super::executor::{Ended, ExecuteError, Executor};
use super::failure::Failure;
use super::limits::{LAST_OUTPUT_BYTES_MAX, STEP_TMP_BYTES_MAX};
use super::progress::{Cancel, Output, Secrets};
use super::{Limits, Settings};
use crate::disk;
use crate::ids::Ids;
use crate::layer::Layer;
use crate::store::{Scratch, Store};

/// Folder in the sandbox where what a step needs is mounted. It is in memory, so that no place to
/// mount on is left in the layer.
pub(super) const MOUNTS: &str = "/tmp/.spawnery";

/// What a step works with.
pub(super) struct Work<'a> {
    pub(super) store: &'a Store,
    pub(super) executor: &'a dyn Executor,
    pub(super) settings: &'a Settings,
    pub(super) secrets: &'a Secrets,
    pub(super) output: &'a Output,
    pub(super) cancel: &'a Cancel,
    /// The layers of the steps before, the lowest first.
    pub(super) below: &'a [Layer],
    /// Whether the view of the host is below them.
    pub(super) host: bool,
    /// Whether the base is the node's own system or made of signed packages of Debian.
    pub(super) trusted: bool,
}

impl Work<'_> {
    /// A command over the layers, with the limits of a step and no network.
    pub(super) fn spec<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>) -> SandboxSpec {
        let root = (!self.host || !self.below.is_empty()).then(|| RootSpec {
            layers: self.below.iter().rev().map(|it| path_text(&it.folder)).collect(),
            host: self.host,
        });
        let spec = self.host_spec(argv);
        SandboxSpec { root, ..spec }
    }

    /// A command over the view of the host and nothing else: a tool of the node, such as git.
    pub(super) fn host_spec<S: Into<String>>(
        &self,
        argv: impl IntoIterator<Item = S>,
    ) -> SandboxSpec {
        let Limits { memory_bytes, cpu_millis, pids, disk_bytes, .. } = self.settings.limits;
        let mut spec = SandboxSpec::new(argv);
        spec.hostname = "build".to_owned();
        spec.memory_bytes = Some(memory_bytes);
        spec.cpu_millis_max = Some(cpu_millis);
        spec.pids_max = Some(pids);
        spec.disk_bytes_max = Some(disk_bytes);
        spec.tmp_bytes_max = STEP_TMP_BYTES_MAX;
        spec.working_directory = Some("/".to_owned());
        // Nothing of the sandbox lives any more then when its end is known, so that nobody changes
        // what is read of it.
        spec.keeps_layer = Some(true);
        let fixed = [
            ("SOURCE_DATE_EPOCH", super::limits::MODIFIED_SECONDS.to_string()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("TZ", "UTC".to_owned()),
        ];
        spec.env.extend(fixed.map(|(name, value)| (name.to_owned(), value)));
        spec
    }

    /// The network of a tool that fetches something over the layers below, if none of their code
    /// is foreign; else that of foreign code.
    pub(super) fn fetch_network(&self) -> Network {
        if self.trusted { self.settings.fetch_network } else { self.settings.network }
    }

    /// Runs it, and passes its output on. A command that fails is no error.
    pub(super) fn run(&self, mut spec: SandboxSpec) -> Result<Ended, Failure> {
        if spec.network != Network::None {
            self.add_certificates(&mut spec);
        }
        if spec.network == Network::Private {
            spec.egress = Some(self.settings.egress.clone());
        }
        let mut output = |bytes: &[u8]| self.output.write(bytes);
        let duration = self.settings.limits.duration;
        self.executor.run(spec, duration, &mut output, self.cancel).map_err(|error| match error {
            ExecuteError::Cancelled => Failure::Cancelled,
            error => Failure::new(error.to_string()),
        })
    }

    /// Runs it, and takes any exit but 0 for a failure of `what`.
    pub(super) fn run_well(&self, spec: SandboxSpec, what: &str) -> Result<Ended, Failure> {
        let ended = self.run(spec)?;
        match how_it_ended(&ended) {
            None => Ok(ended),
            Some(how) => Err(self.failed(format!("{what} {how}"))),
        }
    }

    /// A failure with the last output.
    pub(super) fn failed(&self, reason: impl Into<String>) -> Failure {
        let output = self.output.finish();
        let from = output.len().saturating_sub(LAST_OUTPUT_BYTES_MAX);
        let last_output = String::from_utf8_lossy(&output[from..]).trim().to_owned();
        Failure::Step { reason: reason.into(), last_output }
    }

    /// A folder of the store for the time of a step, with a folder in it that the sandbox's user
    /// may write: the first is for the step, the second for mounting.
    pub(super) fn scratch(&self, user: u32) -> Result<(Scratch, PathBuf), Failure> {
        let scratch = self.store.scratch().map_err(Failure::of)?;
        let shared = scratch.folder().join("shared");
        fs::create_dir(&shared).map_err(|error| at("make", &shared, &error))?;
        give(&shared, user)?;
        Ok((scratch, shared))
    }

    /// The user that commands run as: that of instances over the view of the host, and else root
    /// inside, as images expect it.
    pub(super) fn user(&self) -> u32 {
        if self.host { spawnery_sandbox::limits::USER_ID } else { 0 }
    }

    /// The node's own certificates: images may have none, and a node may trust more than usual.
    fn add_certificates(&self, spec: &mut SandboxSpec) {
        let Some(file) = CERTIFICATE_FILES.iter().find(|file| Path::new(file).is_file()) else {
            return;
        };
        let target = format!("{MOUNTS}/certificates.crt");
        for name in ["SSL_CERT_FILE", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE"] {
            spec.env.push((name.to_owned(), target.clone()));
        }
        mount(spec, Path::new(file), &target, true);
    }
}

/// Where systems keep the certificates that they trust: Debian, Fedora, SUSE, Alpine.
const CERTIFICATE_FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Gives a file or folder to a user of the sandbox.
pub(super) fn give(path: &Path, user: u32) -> Result<(), Failure> {
    match Ids::of_this_process().to_host(u64::from(user)) {
        Ok(Some(id)) => {
            chown(path, Some(id), Some(id)).map_err(|error| at("give away", path, &error))
        }
        _ => Ok(()),
    }
}

/// Adds a mount.
pub(super) fn mount(spec: &mut SandboxSpec, source: &Path, target: &str, read_only: bool) {
    let mount = MountSpec { source: path_text(source), target: target.to_owned(), read_only };
    spec.mounts.get_or_insert_default().push(mount);
}

/// Reads a file that a sandbox wrote into a shared folder: it may be anything, and of any size.
pub(super) fn read_result(shared: &Path, name: &str, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let file = open_result(shared, name)?;
    file.take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| at("read", &shared.join(name), &error))?;
    if bytes.len() > bytes_max {
        return Err(Failure::new(format!("`{name}` has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// Opens a regular file in a shared folder, with no symbolic link on the way: what a sandbox has
/// written must not lead to files of the host.
pub(super) fn open_result(shared: &Path, name: &str) -> Result<fs::File, Failure> {
    let wrong = |error: rustix::io::Errno| at("open", &shared.join(name), &error.into());
    let folder = fs::File::open(shared).map_err(|error| at("open", shared, &error))?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = rustix::fs::openat2(&folder, name, flags, Mode::empty(), beneath).map_err(wrong)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file).map_err(wrong)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(Failure::new(format!("`{name}` is not a file")));
    }
    Ok(file.into())
}

/// What went wrong with a command, in words, or `None` if it ended well.
pub(super) fn how_it_ended(ended: &Ended) -> Option<String> {
    let exit = &ended.exit;
    if let Some(spawnery_sandbox::spec::LimitReached::Disk) = exit.limit {
        return Some("wrote more than the disk limit of a build step".to_owned());
    }
    if exit.oom {
        return Some("used more than the memory limit of a build step".to_owned());
    }
    match (exit.code, exit.signal) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("ended with exit code {code}")),
        (None, Some(signal)) => Some(format!("was ended by signal {signal}")),
        (None, None) => Some("ended for an unknown reason".to_owned()),
    }
}

/// A failure with a file of the store.
pub(super) fn at(step: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {step} {}: {}", path.display(), disk::explained(error)))
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sandbox_wrote_leads_to_no_file_of_the_host() {
        let dir = tempfile::tempdir().expect("a folder");
        let shared = dir.path().join("shared");
        fs::create_dir_all(shared.join("folder")).expect("made");
        fs::write(dir.path().join("secret"), "x").expect("written");
        fs::write(shared.join("folder/good"), "good").expect("written");
        std::os::unix::fs::symlink("../secret", shared.join("link")).expect("linked");
        std::os::unix::fs::symlink("..", shared.join("up")).expect("linked");
        std::os::unix::fs::symlink("folder", shared.join("inner")).expect("linked");
        assert_eq!(read_result(&shared, "folder/good", 4).expect("read"), b"good");
        for name in ["link", "up/secret", "inner/good", "../secret", "folder", "gone"] {
            assert!(read_result(&shared, name, 10).is_err(), "{name}");
        }
        assert!(read_result(&shared, "folder/good", 3).is_err());
    }
}
