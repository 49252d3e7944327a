//! Standing in for a process of ours.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions};
use spawnery_sandbox::tool::{KILL, SUSPEND, Signals};
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

/// The end that a code of an engine or a command stands for: 128 and the signal's number for an end
/// by a signal, as shells give it.
pub(crate) fn end_of_code(code: i64) -> End {
    /// Signals that end a process by default, `signal(7)`.
    const DEADLY: &[i64] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 31];
    let signal = code - 128;
    if DEADLY.contains(&signal) {
        return End::Signal(i32::try_from(signal).unwrap_or(SIGKILL));
    }
    End::Code(i32::try_from(code & 0xff).unwrap_or(1))
}

/// Passes signals on by `send` until `pid`, a child of this process, ends.
pub(crate) fn follow(pid: u32, signals: &Signals, send: impl Fn(i32)) -> End {
    let raw = i32::try_from(pid).unwrap_or_default();
    loop {
        let _ = poll(&mut [PollFd::new(&signals.as_fd(), PollFlags::IN)], None);
        let came: Vec<i32> = std::iter::from_fn(|| signals.next()).collect();
        for signal in came.into_iter().filter_map(meant) {
            send(signal);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_above_128_are_signals_where_there_is_one() {
        for (code, expected) in [
            (0, End::Code(0)),
            (127, End::Code(127)),
            (128, End::Code(128)),
            (137, End::Signal(9)),
            (143, End::Signal(15)),
            (145, End::Code(145)),
            (255, End::Code(255)),
        ] {
            assert_eq!(end_of_code(code), expected, "{code}");
        }
    }
}
