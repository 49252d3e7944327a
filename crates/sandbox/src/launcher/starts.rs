//! Starting instances and further processes in them.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::core::{Launcher, now_ms};
use super::disk;
use super::network::{PrivateNetwork, RESOLV_CONF};
use super::quota::Projects;
use super::requests::refused;
use super::sandbox::{Asker, Phase, Process, Sandbox, SecretEnv, SpawnError, Streams, kill};
use super::store::{self, Failure, Meta, ProcessMeta};
use crate::cgroup::{Controller, Limits};
use crate::init::control::{self, Personal, Run, ToInit};
use crate::kind::Kind;
use crate::limits::{LOG_BYTES_MAX_DEFAULT, PROCESSES_MAX};
use crate::log::LogWriter;
use crate::protections::{Protection, Protections};
use crate::protocol::Reply;
use crate::rootfs::{self, Rootfs};
use crate::spec::{ExecSpec, FileSpec, MountSpec, Network, SandboxSpec, is_instance_id};

impl Launcher {
    /// Answers a start: at once if it is refused, else when the main process runs.
    pub(super) fn start(
        &mut self,
        asker: Asker,
        instance: String,
        mut spec: SandboxSpec,
    ) -> Option<Reply> {
        if !self.workshop.rootfs.protections.has(Protection::DiskLimit) {
            spec.disk_bytes_max = None;
        }
        if !is_instance_id(&instance) {
            let reason = format!("`{instance}` is no id: 1 to 64 of a to z, 0 to 9 and hyphens");
            return Some(Reply::Refused { reason });
        }
        if let Err(reason) = spec.check() {
            return Some(Reply::Refused { reason });
        }
        if self.ending.is_some() {
            return Some(Reply::Refused { reason: "the launcher is ending".into() });
        }
        if self.running.contains_key(&instance) || store::exists(&instance) {
            return Some(Reply::AlreadyExists);
        }
        let number = match self.sandbox_for(&spec) {
            Ok(number) => number,
            Err(error) => {
                return Some(start_failed_early(&instance, &spec, error.step, &error.error));
            }
        };
        let sandbox = self.sandboxes.get_mut(&number)?;
        sandbox.instance = Some(instance.clone());
        sandbox.tag.clone_from(&spec.tag);
        sandbox.started_ms = now_ms();
        sandbox.starter = Some(asker);
        self.running.insert(instance, number);
        self.spares.remove(&number);
        self.starting.insert(number);
        let lease = spec.lease.take();
        if matches!(sandbox.phase, Phase::Spare) {
            self.begin_main(number, spec);
        } else {
            sandbox.phase = Phase::SettingUp(Some(Box::new(spec)));
        }
        self.begin_lease(number, lease);
        None
    }

    /// A new or a prepared sandbox.
    fn sandbox_for(&mut self, spec: &SandboxSpec) -> Result<u64, SpawnError> {
        let kind = Kind::of(spec, self.workshop.means());
        if spec.unisolated == Some(true) {
            return self.spawn_tool(kind);
        }
        let spare = self.take_spare(&kind);
        if spare.is_none() {
            self.note_miss(&kind);
        }
        spare.map_or_else(|| self.spawn(kind), Ok)
    }

    /// The sandbox is set up: makes it the instance's own and asks for the main process.
    pub(super) fn begin_main(&mut self, number: u64, spec: SandboxSpec) {
        if let Err((step, error)) = self.try_begin_main(number, spec) {
            self.main_failed(number, step.into(), error.to_string());
        }
    }

    fn try_begin_main(
        &mut self,
        number: u64,
        spec: SandboxSpec,
    ) -> Result<(), (&'static str, io::Error)> {
        let at = |step: &'static str| move |error: io::Error| (step, error);
        let must_watch = self.must_watch_memory();
        let Rootfs { rootful, protections, .. } = self.workshop.rootfs;
        let by_limit =
            !self.workshop.cgroups.has(Controller::Pids) && protections.has(Protection::PidsLimit);
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return Ok(());
        };
        sandbox.phase = Phase::Assigned;
        adopt(sandbox).map_err(at("make the folder of the instance"))?;
        if let Some(group) = &sandbox.group {
            let limits = Limits {
                memory_bytes: spec.memory_bytes,
                cpu_millis_max: spec.cpu_millis_max,
                pids_max: spec.pids_max,
            };
            group.set_limits(limits.weakened(protections)).map_err(at("set the limits"))?;
        }
        sandbox.ends_first |= spec.keeps_layer.unwrap_or_default();
        limit_disk(self.workshop.projects.as_ref(), sandbox, spec.disk_bytes_max)
            .map_err(at("set the limit of the disk"))?;
        if sandbox.watched_disk_bytes.is_some() {
            self.disk_at.get_or_insert_with(disk::next_look);
        }
        if must_watch && protections.has(Protection::MemoryLimit) {
            sandbox.watched_memory_bytes = spec.memory_bytes;
        }
        let tool_instance = sandbox.instance.clone().filter(|_| sandbox.tool.is_some());
        let mut log =
            sandbox.main_log.take().ok_or(("open the log", io::ErrorKind::NotFound.into()))?;
        let log_limited = protections.has(Protection::LogLimit);
        let log_bytes_max = if log_limited { spec.log_bytes_max } else { u64::MAX };
        log.adopt(sandbox.dir.join("log/0"), log_bytes_max);
        let mounts = spec.mounts.filter(|_| rootful).unwrap_or_default();
        let trees = open_mounts(&mounts, protections).map_err(at("find what is to be mounted"))?;
        let mut env = spec.env;
        sandbox.secret_env = SecretEnv(spec.secret_env.unwrap_or_default());
        env.extend(sandbox.secret_env.0.iter().cloned());
        let private_network = spec.network == Network::Private;
        if private_network {
            sandbox.network = Some(PrivateNetwork::new(spec.egress, protections));
        }
        let run = Run {
            process: 0,
            argv: spec.argv,
            env,
            working_directory: spec.working_directory,
            personal: Some(Personal {
                hostname: tool_instance.unwrap_or(spec.hostname),
                files: with_network(spec.network, spec.files),
                tmp_bytes_max: spec.tmp_bytes_max,
                // One more for the init of the sandbox.
                processes_max: spec.pids_max.filter(|_| by_limit).map(|max| u64::from(max) + 1),
                mount_targets: mounts.into_iter().map(|mount| mount.target).collect(),
                secret_files: spec.secret_files.unwrap_or_default(),
                private_network,
            }),
            user: None,
            terminal: None,
        };
        let how =
            Attached { stdin_pipe: spec.stdin_pipe, mounts: trees, asker: None, timeout_ms: None };
        self.run(number, run, log, how).map_err(at("start the main process"))
    }

    /// Asks the init to run a process.
    fn run(&mut self, number: u64, run: Run, log: LogWriter, how: Attached) -> io::Result<()> {
        let streams = match run.terminal {
            None => Streams::new(how.stdin_pipe, self.workshop.rootfs.protections)?,
            Some(_) => Streams::none()?,
        };
        let process = run.process;
        let pipes = self.watch_pipes(number, process, streams.output)?;
        let deadline =
            how.timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return Ok(());
        };
        let theirs: Vec<_> = streams.theirs.iter().chain(&how.mounts).map(AsFd::as_fd).collect();
        control::send(&sandbox.control, &ToInit::Run(Box::new(run)), &theirs)?;
        let entry = Process {
            log,
            pipes,
            stdin: streams.stdin,
            terminal: None,
            timed_out: false,
            asker: how.asker,
            pid: None,
            of_host: None,
            status: None,
            disk_full: false,
            reported: false,
        };
        sandbox.processes.insert(process, entry);
        self.deadlines.extend(deadline.map(|at| (at, number, process)));
        self.note_start(number);
        Ok(())
    }

    /// The main process cannot be started: the sandbox ends, and then the caller is told.
    pub(super) fn main_failed(&mut self, number: u64, step: String, reason: String) {
        if let Some(sandbox) = self.sandboxes.get_mut(&number) {
            sandbox.failure.get_or_insert(Failure { step, reason });
            let _ = kill(&sandbox.init);
        }
    }

    /// A further process cannot be started.
    pub(super) fn exec_failed(&mut self, number: u64, process: u32, step: String, reason: String) {
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let Some(found) = sandbox.processes.get_mut(&process) else {
            return;
        };
        // Its pipes end by themselves; there is no exit to report, and nothing to be found that
        // could be taken for a process that runs.
        found.reported = true;
        store::remove_process(&sandbox.dir, process);
        if let Some(asker) = found.asker.take() {
            self.reply(asker, Reply::StartFailed { step, reason });
        }
    }

    /// The sandbox has ended before its main process ran: writes down why, and answers.
    pub(super) fn report_failure(&mut self, number: u64) {
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let Some(asker) = sandbox.starter.take() else {
            return;
        };
        self.starting.remove(&number);
        let failure = sandbox.failure.take().unwrap_or_else(|| Failure {
            step: "set up the sandbox".into(),
            reason: "it was stopped, or took too long".into(),
        });
        // If the disk is full the reason lives only in the answer.
        let _ = adopt(sandbox).and_then(|()| store::save_failure(&sandbox.dir, &failure));
        let Failure { step, reason } = failure;
        self.reply(asker, Reply::StartFailed { step, reason });
    }

    /// Answers an exec: at once if it is refused, else when the process runs.
    pub(super) fn exec(
        &mut self,
        asker: Asker,
        instance: &str,
        exec: u32,
        spec: ExecSpec,
    ) -> Option<Reply> {
        if let Err(reason) = spec.check() {
            return Some(Reply::Refused { reason });
        }
        if exec == 0 || exec > PROCESSES_MAX {
            let reason = format!("{exec} is no number of a process: 1 to {PROCESSES_MAX}");
            return Some(Reply::Refused { reason });
        }
        let Some((number, sandbox)) = self.find(instance) else {
            return Some(Reply::NotFound);
        };
        if sandbox.processes.get(&0).is_none_or(|main| main.pid.is_none()) {
            return Some(Reply::NotFound);
        }
        if sandbox.tool.is_some() && spec.terminal.is_some() {
            let reason = "its runtime gives no terminals; leave it out, or use the process runtime";
            return Some(Reply::Refused { reason: reason.into() });
        }
        let dir = sandbox.dir.join("log").join(exec.to_string());
        match rootfs::make_dir(&dir, 0o700, None) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Some(Reply::AlreadyExists);
            }
            Err(error) => return Some(refused("make the log", &error)),
            Ok(()) => {}
        }
        // Without space on disk, lists show less of it.
        let _ = store::save_process(&sandbox.dir, exec, &ProcessMeta::new(&spec));
        let log = LogWriter::new(dir, LOG_BYTES_MAX_DEFAULT);
        let ExecSpec { argv, env, working_directory, stdin_pipe, user, terminal, timeout_ms } =
            spec;
        // What the caller gives comes last, and so counts.
        let env = sandbox.secret_env.0.iter().cloned().chain(env).collect();
        let personal = None;
        let run = Run { process: exec, argv, env, working_directory, personal, user, terminal };
        let how = Attached { stdin_pipe, mounts: Vec::new(), asker: Some(asker), timeout_ms };
        let instance_dir = sandbox.dir.clone();
        match self.run(number, run, log, how) {
            Ok(()) => None,
            Err(error) => {
                store::remove_process(&instance_dir, exec);
                Some(refused("start the process", &error))
            }
        }
    }
}

/// What goes with a process to the init, and who waits for it.
struct Attached {
    stdin_pipe: bool,
    /// What is mounted for it.
    mounts: Vec<OwnedFd>,
    asker: Option<Asker>,
    /// Milliseconds that it may run.
    timeout_ms: Option<u64>,
}

/// Detached views of what is to be mounted.
fn open_mounts(mounts: &[MountSpec], protections: Protections) -> io::Result<Vec<OwnedFd>> {
    let open = |mount: &MountSpec| {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", mount.source));
        rootfs::open_mount(Path::new(&mount.source), mount.read_only, protections).map_err(named)
    };
    mounts.iter().map(open).collect()
}

/// Has the limit of the private layer held by its project, or watched if nothing else holds it.
fn limit_disk(
    projects: Option<&Projects>,
    sandbox: &mut Sandbox,
    bytes_max: Option<u64>,
) -> io::Result<()> {
    let Some(bytes_max) = bytes_max else {
        return Ok(());
    };
    if let Some((projects, project)) = projects.zip(sandbox.project) {
        return projects.limit(project, bytes_max);
    }
    let watched = sandbox.kind.image_bytes.is_none() && sandbox.tool.is_none();
    sandbox.watched_disk_bytes = watched.then_some(bytes_max);
    Ok(())
}

/// Moves the folder of a sandbox to its instance, and writes down what is known of it.
fn adopt(sandbox: &mut Sandbox) -> io::Result<()> {
    let Some(instance) = &sandbox.instance else {
        return Ok(());
    };
    let dir = store::instance_dir(instance);
    if sandbox.dir == dir {
        return Ok(());
    }
    let meta = Meta { tag: sandbox.tag.clone(), started_ms: sandbox.started_ms };
    store::save_meta(&sandbox.dir, &meta)?;
    let cwd = rustix::fs::CWD;
    rustix::fs::renameat_with(cwd, &sandbox.dir, cwd, &dir, rustix::fs::RenameFlags::NOREPLACE)?;
    sandbox.dir = dir;
    Ok(())
}

/// There is not even a sandbox: writes down that the start failed.
fn start_failed_early(instance: &str, spec: &SandboxSpec, step: &str, error: &io::Error) -> Reply {
    let (step, reason) = (step.to_owned(), error.to_string());
    let dir = store::instance_dir(instance);
    let meta = Meta { tag: spec.tag.clone(), started_ms: now_ms() };
    let failure = Failure { step: step.clone(), reason: reason.clone() };
    let _ = rootfs::make_dir(&dir, 0o700, None)
        .and_then(|()| store::save_meta(&dir, &meta))
        .and_then(|()| store::save_failure(&dir, &failure));
    Reply::StartFailed { step, reason }
}

/// A sandbox in the host's network resolves names as the host does, one in a private network by the
/// resolver there.
fn with_network(network: Network, mut files: Vec<FileSpec>) -> Vec<FileSpec> {
    let mut add = |path: &str, bytes: Vec<u8>| {
        if !files.iter().any(|file| file.path == path) {
            files.push(FileSpec { path: path.into(), mode: 0o644, bytes });
        }
    };
    match network {
        Network::None => {}
        Network::Host => {
            for path in ["/etc/resolv.conf", "/etc/hosts"] {
                if let Ok(bytes) = fs::read(Path::new(path)) {
                    add(path, bytes);
                }
            }
        }
        Network::Private => add("/etc/resolv.conf", RESOLV_CONF.as_bytes().to_vec()),
    }
    files
}
