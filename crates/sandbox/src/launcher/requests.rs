//! What the launcher does for each request.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::core::{Ending, Launcher, now_ms};
use super::sandbox::{Asker, Phase, Process, Sandbox, Streams, kill};
use super::store::{self, Failure, Meta};
use crate::cgroup::{Controller, Limits};
use crate::init::control::{self, Personal, Run, ToInit};
use crate::limits::{LOG_BYTES_MAX_DEFAULT, PROCESSES_MAX};
use crate::log::{LogWriter, Stream};
use crate::protocol::{Description, InstanceInfo, InstanceState, ProcessInfo, Reply, Request};
use crate::rootfs::{self, UsrView};
use crate::spec::{ExecSpec, FileSpec, Network, SandboxSpec, is_instance_id};

/// Grace that a shutdown gives to instances.
const SHUTDOWN_GRACE_MS: u64 = 5_000;

impl Launcher {
    /// Carries a request out; `None` if the answer comes later.
    pub(super) fn handle_request(&mut self, asker: Asker, request: Request) -> Option<Reply> {
        match request {
            Request::Start { instance, spec } => self.start(asker, instance, spec),
            Request::Exec {
                instance,
                exec,
                spec,
            } => self.exec(asker, &instance, exec, spec),
            Request::Signal {
                instance,
                process,
                signal,
            } => Some(self.signal(&instance, process, signal)),
            Request::Stop {
                instance,
                signal,
                grace_ms,
            } => Some(self.stop(&instance, signal, grace_ms)),
            Request::List => Some(self.list()),
            Request::Dial { instance, port } => self.dial(asker, &instance, port),
            Request::Listening { instance, ports } => Some(self.listening(&instance, &ports)),
            Request::Usage { instance } => Some(self.usage(&instance)),
            Request::Forget { instance } => Some(self.forget(&instance)),
            Request::WriteStdin {
                instance,
                process,
                bytes,
                eof,
            } => Some(self.write_stdin(&instance, process, &bytes, eof)),
            Request::Shutdown { stop_all } => self.shutdown(asker, stop_all),
            Request::Describe => Some(self.describe()),
        }
    }

    fn find(&mut self, instance: &str) -> Option<(u64, &mut Sandbox)> {
        let number = *self.running.get(instance)?;
        self.sandboxes
            .get_mut(&number)
            .map(|sandbox| (number, sandbox))
    }

    // Start.

    fn start(&mut self, asker: Asker, instance: String, spec: SandboxSpec) -> Option<Reply> {
        if !is_instance_id(&instance) {
            let reason = format!("`{instance}` is no id: 1 to 64 of a to z, 0 to 9 and hyphens");
            return Some(Reply::Refused { reason });
        }
        if let Err(reason) = spec.check() {
            return Some(Reply::Refused { reason });
        }
        if self.ending.is_some() {
            return Some(Reply::Refused {
                reason: "the launcher is ending".into(),
            });
        }
        if self.running.contains_key(&instance) || store::exists(&instance) {
            return Some(Reply::AlreadyExists);
        }
        let own_network = spec.network == Network::None;
        let spare = if own_network { self.take_spare() } else { None };
        let number = match spare.map_or_else(|| self.spawn(own_network), Ok) {
            Ok(number) => number,
            Err(error) => {
                return Some(start_failed_early(
                    &instance,
                    &spec,
                    error.step,
                    &error.error,
                ));
            }
        };
        let sandbox = self.sandboxes.get_mut(&number)?;
        sandbox.instance = Some(instance.clone());
        sandbox.tag.clone_from(&spec.tag);
        sandbox.started_ms = now_ms();
        self.running.insert(instance, number);
        if matches!(sandbox.phase, Phase::Spare) {
            self.begin_main(number, spec, asker);
        } else {
            sandbox.phase = Phase::SettingUp(Some(Box::new((spec, asker))));
        }
        None
    }

    /// The sandbox is set up: makes it the instance's own and asks for the main process.
    pub(super) fn begin_main(&mut self, number: u64, spec: SandboxSpec, asker: Asker) {
        if let Err((step, error)) = self.try_begin_main(number, spec, asker) {
            if let Some(sandbox) = self.sandboxes.get_mut(&number) {
                sandbox.phase = Phase::Assigned;
            }
            let asked = self
                .sandboxes
                .get(&number)
                .is_some_and(|it| it.processes.contains_key(&0));
            self.start_failed(number, 0, step.into(), error.to_string());
            if !asked {
                let reason = error.to_string();
                self.reply(
                    asker,
                    Reply::StartFailed {
                        step: step.into(),
                        reason,
                    },
                );
            }
        }
    }

    fn try_begin_main(
        &mut self,
        number: u64,
        spec: SandboxSpec,
        asker: Asker,
    ) -> Result<(), (&'static str, io::Error)> {
        let at = |step: &'static str| move |error: io::Error| (step, error);
        let must_watch = self.must_watch_memory();
        let by_limit = !self.workshop.cgroups.has(Controller::Pids);
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
            group.set_limits(limits).map_err(at("set the limits"))?;
        }
        if must_watch {
            sandbox.watched_memory_bytes = spec.memory_bytes;
        }
        let mut log = sandbox
            .main_log
            .take()
            .ok_or(("open the log", io::ErrorKind::NotFound.into()))?;
        log.adopt(sandbox.dir.join("log/0"), spec.log_bytes_max);
        let run = Run {
            process: 0,
            argv: spec.argv,
            env: spec.env,
            working_directory: spec.working_directory,
            personal: Some(Personal {
                hostname: spec.hostname,
                files: with_host_network(spec.network, spec.files),
                tmp_bytes_max: spec.tmp_bytes_max,
                // One more for the init of the sandbox.
                processes_max: spec
                    .pids_max
                    .filter(|_| by_limit)
                    .map(|max| u64::from(max) + 1),
            }),
        };
        self.run(number, run, log, spec.stdin_pipe, asker)
            .map_err(at("start the main process"))
    }

    /// Asks the init to run a process.
    fn run(
        &mut self,
        number: u64,
        run: Run,
        log: LogWriter,
        stdin_pipe: bool,
        asker: Asker,
    ) -> io::Result<()> {
        let streams = Streams::new(stdin_pipe)?;
        let process = run.process;
        let pipes = [
            (Stream::Stdout, streams.stdout),
            (Stream::Stderr, streams.stderr),
        ];
        let pipes = self.watch_pipes(number, process, pipes)?;
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return Ok(());
        };
        let theirs: Vec<_> = streams.theirs.iter().map(AsFd::as_fd).collect();
        control::send(&sandbox.control, &ToInit::Run(run), &theirs)?;
        let entry = Process {
            log,
            pipes,
            stdin: streams.stdin,
            asker: Some(asker),
            pid: None,
            status: None,
            reported: false,
        };
        sandbox.processes.insert(process, entry);
        self.note_start(number);
        Ok(())
    }

    /// A process could not be started; with the main one the sandbox ends.
    pub(super) fn start_failed(&mut self, number: u64, process: u32, step: String, reason: String) {
        let Some(sandbox) = self.sandboxes.get_mut(&number) else {
            return;
        };
        let mut asker = sandbox
            .processes
            .get_mut(&process)
            .and_then(|it| it.asker.take());
        if process == 0 {
            let _ = kill(&sandbox.init);
            let waiting = std::mem::replace(&mut sandbox.phase, Phase::Assigned);
            if let Phase::SettingUp(Some(start)) = waiting {
                asker = Some(start.1);
            }
            if sandbox.instance.is_some() {
                let failure = Failure {
                    step: step.clone(),
                    reason: reason.clone(),
                };
                let _ = adopt(sandbox).and_then(|()| store::save_failure(&sandbox.dir, &failure));
            }
        } else if let Some(found) = sandbox.processes.get_mut(&process) {
            // Its pipes end by themselves; there is no exit to report.
            found.reported = true;
        }
        if let Some(asker) = asker {
            self.reply(asker, Reply::StartFailed { step, reason });
        }
    }

    fn exec(&mut self, asker: Asker, instance: &str, exec: u32, spec: ExecSpec) -> Option<Reply> {
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
        if sandbox
            .processes
            .get(&0)
            .is_none_or(|main| main.pid.is_none())
        {
            return Some(Reply::NotFound);
        }
        let dir = sandbox.dir.join("log").join(exec.to_string());
        match rootfs::make_dir(&dir, 0o700, None) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Some(Reply::AlreadyExists);
            }
            Err(error) => return Some(refused("make the log", &error)),
            Ok(()) => {}
        }
        let log = LogWriter::new(dir, LOG_BYTES_MAX_DEFAULT);
        let ExecSpec {
            argv,
            env,
            working_directory,
            stdin_pipe,
        } = spec;
        let run = Run {
            process: exec,
            argv,
            env,
            working_directory,
            personal: None,
        };
        match self.run(number, run, log, stdin_pipe, asker) {
            Ok(()) => None,
            Err(error) => Some(refused("start the process", &error)),
        }
    }

    // Ends.

    fn signal(&mut self, instance: &str, process: u32, signal: i32) -> Reply {
        if !(1..=64).contains(&signal) {
            return Reply::Refused {
                reason: format!("{signal} is no signal: 1 to 64"),
            };
        }
        let Some((_, sandbox)) = self.find(instance) else {
            return Reply::NotFound;
        };
        let lives = |it: &Process| it.pid.is_some() && it.status.is_none();
        if !sandbox.processes.get(&process).is_some_and(lives) {
            return Reply::NotFound;
        }
        match control::send(&sandbox.control, &ToInit::Signal { process, signal }, &[]) {
            Ok(()) => Reply::Done,
            Err(error) => refused("reach the sandbox", &error),
        }
    }

    fn stop(&mut self, instance: &str, signal: i32, grace_ms: u64) -> Reply {
        let Some((_, sandbox)) = self.find(instance) else {
            return if store::exists(instance) {
                Reply::Done
            } else {
                Reply::NotFound
            };
        };
        let until = Instant::now() + Duration::from_millis(grace_ms);
        let runs = sandbox
            .processes
            .get(&0)
            .is_some_and(|main| main.pid.is_some());
        let signal = ToInit::Signal { process: 0, signal };
        let sent = runs && control::send(&sandbox.control, &signal, &[]).is_ok();
        if !sent || grace_ms == 0 {
            let _ = kill(&sandbox.init);
        } else {
            // A second stop may shorten the grace, never lengthen it.
            sandbox.kill_at = Some(sandbox.kill_at.map_or(until, |at| at.min(until)));
        }
        Reply::Done
    }

    fn shutdown(&mut self, asker: Asker, stop_all: bool) -> Option<Reply> {
        if !stop_all && !self.running.is_empty() {
            let count = self.running.len();
            return Some(Reply::Refused {
                reason: format!("{count} instances run"),
            });
        }
        self.stop_all(Some(asker));
        None
    }

    /// Stops everything; the loop ends when nothing runs any more.
    pub(super) fn stop_all(&mut self, asker: Option<Asker>) {
        for instance in self.running.keys().cloned().collect::<Vec<_>>() {
            self.stop(&instance, libc::SIGTERM, SHUTDOWN_GRACE_MS);
        }
        self.ending = Some(Ending { asker });
    }

    fn forget(&mut self, instance: &str) -> Reply {
        if self.running.contains_key(instance) {
            return Reply::Refused {
                reason: "it runs; stop it first".into(),
            };
        }
        if !is_instance_id(instance) || !store::exists(instance) {
            return Reply::NotFound;
        }
        self.discard(&store::instance_dir(instance));
        Reply::Done
    }

    // Questions.

    fn list(&self) -> Reply {
        let on_disk = match store::instances() {
            Ok(names) => names,
            Err(error) => return refused("read the folder of the instances", &error),
        };
        let ended = on_disk
            .into_iter()
            .filter(|name| !self.running.contains_key(name));
        let mut all: BTreeMap<String, InstanceInfo> = ended
            .map(|name| (name.clone(), store::info(&name)))
            .collect();
        for (name, number) in &self.running {
            if let Some(sandbox) = self.sandboxes.get(number) {
                all.insert(name.clone(), info(name, sandbox));
            }
        }
        Reply::Instances {
            instances: all.into_values().collect(),
        }
    }

    fn dial(&mut self, asker: Asker, instance: &str, port: u16) -> Option<Reply> {
        let id = self.token();
        let Some((_, sandbox)) = self.find(instance) else {
            return Some(Reply::NotFound);
        };
        if !matches!(sandbox.phase, Phase::Assigned) {
            return Some(Reply::NotFound);
        }
        match control::send(&sandbox.control, &ToInit::Dial { id, port }, &[]) {
            Ok(()) => {
                sandbox.dials.insert(id, asker);
                None
            }
            Err(error) => Some(refused("reach the sandbox", &error)),
        }
    }

    fn listening(&mut self, instance: &str, ports: &[u16]) -> Reply {
        let Some((_, sandbox)) = self.find(instance) else {
            return Reply::NotFound;
        };
        let mut open = Vec::new();
        for table in ["tcp", "tcp6"] {
            let path = format!("/proc/{}/net/{table}", sandbox.init_pid);
            open.extend(listening_ports(
                &fs::read_to_string(path).unwrap_or_default(),
            ));
        }
        Reply::Listening {
            ports: ports
                .iter()
                .copied()
                .filter(|it| open.contains(it))
                .collect(),
        }
    }

    fn describe(&self) -> Reply {
        let rootfs = &self.workshop.rootfs;
        let description = Description {
            rootful: rootfs.rootful,
            usr_writable: rootfs.usr == UsrView::Writable,
            usr_reason: rootfs.usr_reason.clone(),
            controllers: self.workshop.cgroups.describe(),
        };
        Reply::Description { description }
    }

    fn usage(&mut self, instance: &str) -> Reply {
        let Some((_, sandbox)) = self.find(instance) else {
            return Reply::NotFound;
        };
        let usage = sandbox
            .group
            .as_ref()
            .map(|group| group.usage())
            .unwrap_or_default();
        Reply::Usage { usage }
    }

    fn write_stdin(&mut self, instance: &str, process: u32, bytes: &[u8], eof: bool) -> Reply {
        let Some((_, sandbox)) = self.find(instance) else {
            return Reply::NotFound;
        };
        let Some(found) = sandbox.processes.get_mut(&process) else {
            return Reply::NotFound;
        };
        let Some(stdin) = &found.stdin else {
            return Reply::Refused {
                reason: "its standard input is closed".into(),
            };
        };
        let mut accepted = 0;
        while accepted < bytes.len() {
            match rustix::io::write(stdin, &bytes[accepted..]) {
                Ok(written) => accepted += written,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => {
                    found.stdin = None;
                    return refused("write to its standard input", &error.into());
                }
            }
        }
        if eof && accepted == bytes.len() {
            found.stdin = None;
        }
        Reply::Accepted {
            bytes: accepted as u64,
        }
    }
}

fn refused(step: &str, error: &io::Error) -> Reply {
    Reply::Refused {
        reason: format!("cannot {step}: {error}"),
    }
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
    let meta = Meta {
        tag: sandbox.tag.clone(),
        started_ms: sandbox.started_ms,
    };
    store::save_meta(&sandbox.dir, &meta)?;
    let cwd = rustix::fs::CWD;
    rustix::fs::renameat_with(
        cwd,
        &sandbox.dir,
        cwd,
        &dir,
        rustix::fs::RenameFlags::NOREPLACE,
    )?;
    sandbox.dir = dir;
    Ok(())
}

/// There is not even a sandbox: writes down that the start failed.
fn start_failed_early(instance: &str, spec: &SandboxSpec, step: &str, error: &io::Error) -> Reply {
    let (step, reason) = (step.to_owned(), error.to_string());
    let dir = store::instance_dir(instance);
    let meta = Meta {
        tag: spec.tag.clone(),
        started_ms: now_ms(),
    };
    let failure = Failure {
        step: step.clone(),
        reason: reason.clone(),
    };
    let _ = rootfs::make_dir(&dir, 0o700, None)
        .and_then(|()| store::save_meta(&dir, &meta))
        .and_then(|()| store::save_failure(&dir, &failure));
    Reply::StartFailed { step, reason }
}

/// A sandbox in the host's network resolves names as the host does.
fn with_host_network(network: Network, mut files: Vec<FileSpec>) -> Vec<FileSpec> {
    if network == Network::Host {
        for path in ["/etc/resolv.conf", "/etc/hosts"] {
            let given = files.iter().any(|file| file.path == path);
            if let (false, Ok(bytes)) = (given, fs::read(Path::new(path))) {
                files.push(FileSpec {
                    path: path.into(),
                    mode: 0o644,
                    bytes,
                });
            }
        }
    }
    files
}

fn info(name: &str, sandbox: &Sandbox) -> InstanceInfo {
    let on_disk = store::info(name);
    let pid = sandbox
        .processes
        .get(&0)
        .and_then(|main| main.pid)
        .unwrap_or(0);
    let processes: Vec<ProcessInfo> = on_disk.processes;
    InstanceInfo {
        instance: name.to_owned(),
        tag: sandbox.tag.clone(),
        started_ms: sandbox.started_ms,
        state: InstanceState::Running {
            init_pid: sandbox.init_pid,
            pid,
        },
        processes,
    }
}

/// Local ports in state LISTEN of a table in the format of `/proc/net/tcp` (`proc_net(5)`).
fn listening_ports(table: &str) -> Vec<u16> {
    const LISTEN: &str = "0A";
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
            let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
            (state == LISTEN).then_some(port)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n\
            1: 0100007F:1F91 0100007F:1234 01 00000000:00000000\n\
            rubbish\n 2: x y 0A\n";
        assert_eq!(listening_ports(table), [8080]);
    }
}
