//! Starts a process of the workload.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use super::control::Run;
use super::identity::Identity;
use super::{AtStep, StepError};
use crate::limits::OOM_SCORE_ADJ;
use crate::protections::Protection;
use crate::spec::{LOCALE_DEFAULT, LOCALE_VARIABLES};
use crate::sys;

const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the standard streams of a process come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Streams<'a> {
    /// One descriptor for each.
    Separate([RawFd; 3]),
    /// A terminal, which becomes that of its session.
    Terminal(BorrowedFd<'a>),
}

/// Forks, restricts the child and runs the program in it. Returns when the program runs, or
/// with the reason why it does not.
pub(super) fn spawn(
    run: &Run,
    streams: Streams<'_>,
    identity: &Identity,
) -> Result<Pid, StepError> {
    let program = Program::new(run, identity).at("read the arguments")?;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).at("make a pipe")?;
    let pid = sys::fork().at("fork")?;
    if pid == 0 {
        let error = become_program(&program, streams, identity);
        let text = format!("{}\n{}", error.step, error.reason);
        let _ = fs::File::from(writer).write_all(text.as_bytes());
        sys::exit_now(127)
    }
    drop(writer);
    let mut text = String::new();
    let read = fs::File::from(reader).read_to_string(&mut text);
    let pid = Pid::from_raw(pid).expect("fork returns a positive id to the parent");
    if text.is_empty() && read.is_ok() {
        return Ok(pid);
    }
    let (step, reason) = text.split_once('\n').unwrap_or((&text, "no reason given"));
    Err(StepError { step: step.into(), reason: reason.into() })
}

/// Everything that the program needs, allocated before the fork.
pub(super) struct Program {
    name: String,
    /// Paths to try, in their order.
    paths: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    working_directory: String,
    /// Whether `/` will do where the working directory is not there: it is but a default.
    root_will_do: bool,
}

impl Program {
    pub(super) fn new(run: &Run, identity: &Identity) -> io::Result<Self> {
        let env = with_defaults(&run.env, identity);
        let name = run.argv.first().cloned().unwrap_or_default();
        let path = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, path)| path);
        let paths = if name.contains('/') {
            vec![name.clone()]
        } else {
            let dirs = path.split(':').map(|dir| if dir.is_empty() { "." } else { dir });
            dirs.map(|dir| format!("{dir}/{name}")).collect()
        };
        let home = env.iter().find(|(name, _)| name == "HOME").map(|(_, home)| home.clone());
        let working_directory =
            run.working_directory.clone().or(home).unwrap_or_else(|| identity.home.clone());
        Ok(Self {
            paths: c_strings(paths)?,
            argv: c_strings(run.argv.iter().cloned())?,
            env: c_strings(env.iter().map(|(name, value)| format!("{name}={value}")))?,
            name,
            working_directory,
            root_will_do: run.working_directory.is_none(),
        })
    }
}

/// The given environment, and defaults for what every program expects.
fn with_defaults(given: &[(String, String)], identity: &Identity) -> Vec<(String, String)> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let defaults = [
        ("PATH", PATH_DEFAULT),
        ("HOME", &identity.home),
        ("USER", &identity.name),
        ("HOSTNAME", &host),
        ("TMPDIR", "/tmp"),
    ];
    let is_given = |name: &str| given.iter().any(|(given, _)| given == name);
    let locale = (!LOCALE_VARIABLES.iter().any(|name| is_given(name))).then_some(LOCALE_DEFAULT);
    let missing = defaults.into_iter().filter(|(name, _)| !is_given(name)).chain(locale);
    let missing = missing.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let ours = std::env::vars().filter(|_| !identity.protections.has(Protection::CleanEnvironment));
    given.iter().cloned().chain(missing).chain(ours).collect()
}

fn c_strings(strings: impl IntoIterator<Item = String>) -> io::Result<Vec<CString>> {
    strings.into_iter().map(|string| CString::new(string).map_err(io::Error::from)).collect()
}

/// In the child: gives everything up, then runs the program. Returns only an error.
fn become_program(program: &Program, streams: Streams<'_>, identity: &Identity) -> StepError {
    match restrict(program, streams, identity) {
        Ok(()) => run_program(program),
        Err(error) => error,
    }
}

fn restrict(program: &Program, streams: Streams<'_>, identity: &Identity) -> Result<(), StepError> {
    let protections = identity.protections;
    if protections.has(Protection::OwnSession) {
        rustix::process::setsid().at("begin a session")?;
    }
    if protections.has(Protection::OomScore) {
        raise_oom_score();
    }
    let streams = match streams {
        Streams::Separate(streams) => streams,
        Streams::Terminal(terminal) => {
            if protections.has(Protection::OwnSession) {
                rustix::process::ioctl_tiocsctty(terminal).at("take the terminal")?;
            }
            [terminal.as_raw_fd(); 3]
        }
    };
    for (from, to) in streams.into_iter().zip(0..) {
        sys::dup_onto(from, to).at("take over the standard streams")?;
    }
    sys::unblock_signals();
    if identity.rootful {
        let user = &identity.user;
        sys::set_ids(user.uid, user.gid, &user.groups).at("become the user")?;
    }
    sys::set_capabilities(identity.capabilities()).at("drop the capabilities")?;
    let dir = &program.working_directory;
    match rustix::process::chdir(dir.as_str()) {
        Err(_) if program.root_will_do => rustix::process::chdir("/").at("change to the folder /"),
        changed => changed.at(&format!("change to the folder {dir}")),
    }
}

/// Makes this process a likelier victim than the init. Best effort: where it is refused, the
/// score of the launcher holds. The files of a process that is not dumpable belong to the
/// host's root, hence the moment of being dumpable, in which others cannot trace it, because
/// it still has capabilities that they lack.
pub(super) fn raise_oom_score() {
    let _ = sys::prctl(libc::PR_SET_DUMPABLE, 1);
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ.to_string());
    let _ = sys::prctl(libc::PR_SET_DUMPABLE, 0);
}

/// Tries each path. All other descriptors close on exec.
pub(super) fn run_program(program: &Program) -> StepError {
    let mut reason = None;
    for path in &program.paths {
        let error = sys::exec(path, &program.argv, &program.env);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => {
                reason.get_or_insert_with(|| error.to_string());
            }
            Some(libc::ENOEXEC) => {
                reason = Some("it is neither a program nor a script with `#!`".to_owned());
                break;
            }
            _ => {
                reason = Some(error.to_string());
                break;
            }
        }
    }
    let there = || program.paths.iter().any(|path| Path::new(&*path.to_string_lossy()).exists());
    let name = &program.name;
    let reason = reason.unwrap_or_else(|| {
        if there() {
            "the interpreter that it names is not there".to_owned()
        } else if name.contains('/') {
            "not found".to_owned()
        } else {
            "not found in PATH".to_owned()
        }
    });
    StepError { step: format!("run `{name}`"), reason: format!("cannot run `{name}`: {reason}") }
}
