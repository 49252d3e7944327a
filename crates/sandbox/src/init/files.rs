//! Makes the process that serves one request for files: see [`crate::files`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Pid;
use seccompiler::BpfProgram;

use super::control::Container;
use super::identity::{Identity, OF_FILES};
use super::{AtStep, StepError, process};
use crate::{files, sys};

/// Where it works.
pub(super) enum Where<'a> {
    /// In the sandbox of this init.
    Here(&'a Identity),
    /// In a container that a tool has made elsewhere, under this filter, after it has entered these
    /// namespaces in their order.
    Elsewhere(&'a Container, &'a [OwnedFd], &'a BpfProgram),
}

/// Starts it. Gives its id, and the other end of its socket.
pub(super) fn spawn(place: &Where<'_>) -> Result<(Pid, OwnedFd), StepError> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let pair = socketpair(family, kind, SocketFlags::CLOEXEC, None);
    let (theirs, ours) = pair.at("make a socket pair")?;
    let pid = sys::fork().at("fork")?;
    if pid == 0 {
        drop(theirs);
        if become_server(place, &ours).is_ok() {
            // Whoever asked sees its end, with or without an answer.
            let _ = files::serve(UnixStream::from(ours));
        }
        sys::exit_now(0)
    }
    let pid = Pid::from_raw(pid).expect("fork returns a positive id to the parent");
    Ok((pid, theirs))
}

/// In the child: enters the place and gives up everything but the socket and what files need.
fn become_server(place: &Where<'_>, socket: &OwnedFd) -> io::Result<()> {
    rustix::process::setsid()?;
    sys::set_name(c"files");
    sys::reset_signals();
    process::raise_oom_score();
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for standard in 0..3 {
        sys::dup_onto(null.as_raw_fd(), standard)?;
    }
    drop(null);
    match place {
        Where::Here(identity) => {
            if identity.rootful {
                let user = &identity.user;
                sys::set_ids(user.uid, user.gid, &user.groups)?;
            }
            sys::set_capabilities(identity.file_capabilities())?;
        }
        Where::Elsewhere(container, namespaces, filter) => {
            for namespace in *namespaces {
                sys::enter_namespace(namespace.as_fd())?;
            }
            // What keeps a file system of its own elsewhere than in its mount namespace, as a
            // kernel in user space does, would show that of the host here.
            let root = rustix::fs::stat("/")?;
            if (root.st_dev, root.st_ino) != container.root {
                return Err(io::ErrorKind::NotFound.into());
            }
            rustix::process::chdir("/")?;
            sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
            sys::set_seccomp(filter)?;
            let user = &container.user;
            sys::set_ids(user.uid, user.gid, &user.groups)?;
            sys::set_capabilities(if user.uid == 0 { OF_FILES } else { 0 })?;
        }
    }
    // Who is in the sandbox may not look into it: its memory is a copy of the launcher's.
    sys::prctl(libc::PR_SET_DUMPABLE, 0)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::close_except(&[socket.as_raw_fd()]);
    Ok(())
}
