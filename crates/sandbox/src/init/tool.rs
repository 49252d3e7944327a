//! The init around a tool that isolates by itself: namespaces of processes and mounts, so that all
//! of it ends together, and nothing else.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use super::control::Run;
use super::identity::Identity;
use super::process::{Program, run_program};
use super::{AtStep, Plan, StepError, setup};
use crate::limits::TOOL_END_MS_MAX;
use crate::network::device;
use crate::spec::ExecSpec;
use crate::sys;
use crate::tool::{JOB_FD, JOB_PATH, Job, REPORT_FD};

/// The tool of one instance.
#[derive(Debug)]
pub(super) struct Tool {
    instance: String,
    /// How it was started for the main process; further processes start it in the same way.
    argv: Vec<String>,
    spec: Vec<u8>,
}

/// A process that the tool has started.
pub(super) struct Running {
    /// The tool's own process.
    pub(super) pid: Pid,
    /// The process that it started, in this PID namespace.
    pub(super) inner: Option<Pid>,
    /// The process that it started, in the launcher's PID namespace.
    pub(super) of_host: Option<u32>,
}

/// The namespaces and the control groups.
pub(super) fn set_up(plan: &Plan<'_>) -> Result<(Identity, Option<OwnedFd>), StepError> {
    let mut keep: Vec<_> = plan.join_files.iter().map(AsRawFd::as_raw_fd).collect();
    keep.push(plan.control.as_raw_fd());
    sys::close_except(&keep);
    sys::reset_signals();
    sys::set_name(c"tool-init");
    setup::wait_for_id_maps(plan)?;
    // For the tool, and for what it isolates.
    setup::leave_session_keyring().at("leave the session keyring")?;
    for file in &plan.join_files {
        rustix::io::write(file, b"0").at("join the control group")?;
    }
    let network = if plan.kind.own_network() { libc::CLONE_NEWNET } else { 0 };
    sys::unshare(libc::CLONE_NEWNS | network).at("make the namespaces")?;
    // It belongs to the network namespace in which it is opened.
    let tun = if plan.kind.own_network() { device::open_tun() } else { None };
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .at("make the mounts private")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).at("mount /proc")?;
    if plan.kind.own_network() {
        sys::loopback_up().at("bring up the loopback interface")?;
    }
    Ok((Identity::new(plan.kind, plan.rootfs), tun))
}

impl Tool {
    /// The tool as the main process's `run` describes it.
    pub(super) fn new(run: &mut Run) -> Self {
        let personal = run.personal.as_mut();
        let instance = personal.as_ref().map(|it| it.hostname.clone()).unwrap_or_default();
        let files = personal.map(|it| std::mem::take(&mut it.files)).unwrap_or_default();
        let spec = files.into_iter().find(|file| file.path == JOB_PATH);
        Self { instance, argv: run.argv.clone(), spec: spec.map(|it| it.bytes).unwrap_or_default() }
    }

    /// Runs the tool for one process and waits until it says how the start went.
    pub(super) fn spawn(
        &self,
        run: Run,
        streams: [RawFd; 3],
        identity: &Identity,
    ) -> Result<Running, StepError> {
        let process = run.process;
        let exec = (process != 0).then(|| ExecSpec {
            argv: run.argv.clone(),
            env: run.env.clone(),
            working_directory: run.working_directory.clone(),
            stdin_pipe: false,
            user: run.user.clone(),
            terminal: None,
            timeout_ms: None,
        });
        let env = if process == 0 { run.env } else { Vec::new() };
        let job = Job { instance: self.instance.clone(), spec: self.spec.clone(), process, exec };
        let job = memory_file(&job).at("hand over the job")?;
        let argv = self.argv.clone();
        let run = Run {
            process,
            argv,
            env,
            working_directory: None,
            personal: None,
            user: None,
            terminal: None,
        };
        let program = Program::new(&run, identity).at("read the arguments")?;
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).at("make a pipe")?;
        let pid = sys::fork().at("fork")?;
        if pid == 0 {
            let [stdin, stdout, stderr] = streams;
            let fds = [stdin, stdout, stderr, writer.as_raw_fd(), job.as_raw_fd()];
            let error = become_tool(&program, fds);
            let text = format!("failed\n{}\n{}", error.step, error.reason);
            let _ = fs::File::from(writer).write_all(text.as_bytes());
            sys::exit_now(127)
        }
        drop((writer, job));
        let mut text = String::new();
        let _ = fs::File::from(reader).read_to_string(&mut text);
        let pid = Pid::from_raw(pid).expect("fork returns a positive id to the parent");
        understand(pid, &text)
    }
}

/// What the tool says of the start.
fn understand(pid: Pid, text: &str) -> Result<Running, StepError> {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    if let Some(inner) = text.strip_prefix("here ").and_then(number) {
        let inner = i32::try_from(inner).ok().and_then(Pid::from_raw);
        return Ok(Running { pid, inner, of_host: None });
    }
    if let Some(of_host) = text.strip_prefix("host ").and_then(number) {
        return Ok(Running { pid, inner: None, of_host: Some(of_host) });
    }
    let failure = text.strip_prefix("failed\n").and_then(|text| text.split_once('\n'));
    let (step, reason) = failure.unwrap_or(("start the tool", "it ended without a word"));
    Err(StepError { step: step.into(), reason: reason.into() })
}

fn memory_file(job: &Job) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("job", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = fs::File::from(file);
    file.write_all(&minicbor::to_vec(job).expect("writing to a Vec cannot fail"))?;
    file.rewind()?;
    Ok(file.into())
}

/// In the child. Returns only an error.
fn become_tool(program: &Program, fds: [RawFd; 5]) -> StepError {
    match take_over(fds) {
        Ok(()) => run_program(program),
        Err(error) => error,
    }
}

fn take_over(fds: [RawFd; 5]) -> Result<(), StepError> {
    const STEP: &str = "take over the descriptors";
    rustix::process::setsid().at("begin a session")?;
    // First away from the numbers that they or others are to have.
    let mut moved = [0; 5];
    for (fd, moved) in fds.into_iter().zip(&mut moved) {
        *moved = sys::dup_above(fd, JOB_FD + 1).at(STEP)?;
    }
    for (from, to) in moved.into_iter().zip([0, 1, 2, REPORT_FD, JOB_FD]) {
        sys::dup_onto(from, to).at(STEP)?;
    }
    sys::unblock_signals();
    Ok(())
}

/// The launcher is gone: lets the tools end what is outside of the namespaces, for a while.
pub(super) fn wind_down(pids: impl Iterator<Item = i32>, signals: &OwnedFd) {
    let until = Instant::now() + Duration::from_millis(TOOL_END_MS_MAX);
    let mut pids: Vec<i32> = pids.collect();
    for pid in &pids {
        let _ = sys::kill(*pid, crate::tool::KILL);
    }
    while !pids.is_empty() && Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now()).try_into().ok();
        let _ = poll(&mut [PollFd::new(signals, PollFlags::IN)], left.as_ref());
        let _ = rustix::io::read(signals, &mut [0; 128]);
        while let Ok(Some((ended, _))) = rustix::process::wait(rustix::process::WaitOptions::NOHANG)
        {
            pids.retain(|pid| *pid != ended.as_raw_nonzero().get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tool_says_of_its_start_is_understood_or_a_failure() {
        let pid = Pid::from_raw(7).expect("a pid");
        let here = understand(pid, "here 12").expect("it runs");
        assert_eq!((here.inner, here.of_host), (Pid::from_raw(12), None));
        assert_eq!(understand(pid, "host 9").expect("it runs").of_host, Some(9));
        for (text, step) in [
            ("failed\nrun `x`\nnot found\nat all", "run `x`"),
            ("", "start the tool"),
            ("here", "start the tool"),
        ] {
            let error = understand(pid, text).err().expect("a failure");
            assert_eq!(error.step, step, "{text}");
        }
    }
}
