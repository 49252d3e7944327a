//! Connections to ports inside the network namespace, without waiting for any one of them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::control::{self, FromInit};
use crate::limits::{DIAL_MS_MAX, DIALS_MAX};
use crate::protocol::DialError;

/// The connections that are being made.
#[derive(Debug, Default)]
pub(super) struct Dials {
    waiting: Vec<Dial>,
}

#[derive(Debug)]
struct Dial {
    id: u64,
    port: u16,
    socket: OwnedFd,
    /// Whether the second address is being tried already.
    second: bool,
    until: Instant,
}

impl Dials {
    /// Begins a connection; the answer is sent to `control` when it is known.
    pub(super) fn begin(&mut self, control: &OwnedFd, id: u64, port: u16) -> io::Result<()> {
        if self.waiting.len() >= DIALS_MAX {
            let reason = format!("{DIALS_MAX} connections are being made already");
            return fail(control, id, DialError::Other, reason);
        }
        let until = Instant::now() + Duration::from_millis(DIAL_MS_MAX);
        match start((Ipv4Addr::LOCALHOST, port).into()) {
            Ok(socket) => {
                self.waiting.push(Dial { id, port, socket, second: false, until });
                self.advance(control)
            }
            Err(error) => fail(control, id, DialError::Other, error.to_string()),
        }
    }

    /// Looks at all waiting connections and answers those that are decided.
    pub(super) fn advance(&mut self, control: &OwnedFd) -> io::Result<()> {
        let mut still = Vec::new();
        for dial in std::mem::take(&mut self.waiting) {
            if let Some(dial) = advance(dial, control)? {
                still.push(dial);
            }
        }
        self.waiting = still;
        Ok(())
    }

    pub(super) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.waiting.iter().map(|dial| PollFd::new(&dial.socket, PollFlags::OUT))
    }

    /// How long to wait at most; `None` is for ever.
    pub(super) fn timeout(&self) -> Option<Timespec> {
        let until = self.waiting.iter().map(|dial| dial.until).min()?;
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        left.try_into().ok()
    }
}

/// One connection: itself if it is still undecided.
fn advance(mut dial: Dial, control: &OwnedFd) -> io::Result<Option<Dial>> {
    loop {
        let mut fds = [PollFd::new(&dial.socket, PollFlags::OUT)];
        let ready = poll(&mut fds, Some(&Timespec::default())).unwrap_or(0) > 0;
        let result = if ready {
            sockopt::socket_error(&dial.socket)?
        } else if Instant::now() >= dial.until {
            Err(Errno::TIMEDOUT)
        } else {
            return Ok(Some(dial));
        };
        match result {
            Ok(()) => {
                let message = FromInit::Dialed { id: dial.id };
                control::send(control, &message, &[dial.socket.as_fd()])?;
                return Ok(None);
            }
            Err(Errno::CONNREFUSED) if !dial.second => {
                dial.second = true;
                match start((Ipv6Addr::LOCALHOST, dial.port).into()) {
                    Ok(socket) => dial.socket = socket,
                    Err(_) => return refuse(control, &dial, Errno::CONNREFUSED),
                }
            }
            Err(error) => return refuse(control, &dial, error),
        }
    }
}

fn refuse(control: &OwnedFd, dial: &Dial, error: Errno) -> io::Result<Option<Dial>> {
    let port = dial.port;
    let (kind, reason) = match error {
        Errno::CONNREFUSED | Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => {
            (DialError::Refused, format!("nothing listens on port {port} in the sandbox"))
        }
        Errno::TIMEDOUT => {
            (DialError::TimedOut, format!("no answer from port {port} in {DIAL_MS_MAX} ms"))
        }
        error => (DialError::Other, error.to_string()),
    };
    fail(control, dial.id, kind, reason)?;
    Ok(None)
}

fn start(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        // A refusal is read from the socket, as when it comes later.
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

fn fail(control: &OwnedFd, id: u64, error: DialError, reason: String) -> io::Result<()> {
    control::send(control, &FromInit::DialFailed { id, error, reason }, &[])
}
