//! Standing in for a process of ours.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions};
use spawnery_sandbox::tool::{KILL, SUSPEND, Signals, send_signal};
use std::os::fd::AsFd;

const SIGKILL: i32 = 9;
const SIGCHLD: i32 = 17;
const SIGSTOP: i32 = 19;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Code(i32),
    Signal(i32),
}

/// The signal that is meant; nothing if it is about this process.
pub(crate) fn meant(signal: i32) -> Option<i32> {
    match signal {
        SIGCHLD => None,
        KILL => Some(SIGKILL),
        SUSPEND => Some(SIGSTOP),
        signal => Some(signal),
    }
}

/// Passes signals on to `pid`, a child of this process, until it ends.
pub(crate) fn follow(pid: u32, signals: &Signals) -> End {
    let raw = i32::try_from(pid).unwrap_or_default();
    loop {
        let _ = poll(&mut [PollFd::new(&signals.as_fd(), PollFlags::IN)], None);
        let came: Vec<i32> = std::iter::from_fn(|| signals.next()).collect();
        for signal in came.into_iter().filter_map(meant) {
            // It may have ended just now, but it is not waited for yet, so this hits nobody else.
            let _ = send_signal(pid, signal);
        }
        while let Ok(Some((ended, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if Pid::from_raw(raw) != Some(ended) {
                continue;
            }
            return match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => End::Code(code),
                (None, Some(signal)) => End::Signal(signal),
                (None, None) => continue,
            };
        }
    }
}

/// Leaves the standard streams to the process that this one stands in for.
pub(crate) fn let_go_of_streams() -> std::io::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}
