//! The resolver over TCP (RFC 7766): each message after its length. A program asks so when an
//! answer is too long for a datagram.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};

use super::dns::{self, Question};
use super::tcp::connect_to;
use crate::limits::{DNS_ANSWER_SECONDS_MAX, DNS_ATTEMPTS_MAX, UDP_IDLE_SECONDS_MAX};

/// Bytes of the length before a message.
const LENGTH_BYTES: usize = 2;

/// The resolver's end of a connection from a program. The other end is a connection like any,
/// with a local socket in the place of one to a remote machine.
#[derive(Debug)]
pub(crate) struct Caller {
    socket: OwnedFd,
    input: Vec<u8>,
    last_message: Instant,
}

impl Caller {
    /// The resolver's end, and the other.
    pub(crate) fn begin(now: Instant) -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok((Self { socket, input: Vec::new(), last_message: now }, other))
    }

    /// Takes the next message; an error at the end of the connection.
    pub(crate) fn take_message(
        &mut self,
        buffer: &mut [u8],
        now: Instant,
    ) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(message) = split_message(&mut self.input) {
                self.last_message = now;
                return Ok(Some(message));
            }
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((length, _)) => self.input.extend_from_slice(&buffer[..length]),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The way back to the program, for an answer that may come when this is gone.
    pub(crate) fn way_back(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// When the connection is given up.
    pub(crate) fn idle_end(&self) -> Instant {
        self.last_message + Duration::from_secs(UDP_IDLE_SECONDS_MAX)
    }
}

impl AsFd for Caller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A question that is being asked over TCP.
#[derive(Debug)]
pub(crate) struct Relay {
    question: Question,
    id: u16,
    resolver: OwnedFd,
    /// Those to ask if this one does not answer.
    resolvers: Vec<SocketAddr>,
    /// What is still to be sent to it, and what came from it.
    output: Vec<u8>,
    input: Vec<u8>,
    /// The program.
    back: OwnedFd,
    until: Instant,
}

impl Relay {
    /// Asks the first of the resolvers that can be connected to.
    pub(crate) fn begin(
        question: Question,
        mut resolvers: Vec<SocketAddr>,
        back: OwnedFd,
        now: Instant,
    ) -> Result<Self, Question> {
        resolvers.truncate(DNS_ATTEMPTS_MAX);
        let mut id = [0; 2];
        if rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).is_err() {
            return Err(question);
        }
        let id = u16::from_ne_bytes(id);
        while !resolvers.is_empty() {
            if let Ok(resolver) = connect_to(resolvers.remove(0)) {
                let output = with_length(&question.to_query(id));
                let until = now + Duration::from_secs(DNS_ANSWER_SECONDS_MAX);
                let input = Vec::new();
                return Ok(Self { question, id, resolver, resolvers, output, input, back, until });
            }
        }
        Err(question)
    }

    /// Asks the next resolver; without one the program is told that there is no answer.
    pub(crate) fn again(self, now: Instant) -> Option<Self> {
        let back = self.back.try_clone().ok()?;
        match Self::begin(self.question, self.resolvers, self.back, now) {
            Ok(relay) => Some(relay),
            Err(question) => {
                refuse(&back, &question, dns::SERVER_FAILURE);
                None
            }
        }
    }

    /// Goes on; the answer once the program has it.
    pub(crate) fn advance(&mut self, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        while !self.output.is_empty() {
            match send(&self.resolver, &self.output, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            if let Some(message) = split_message(&mut self.input) {
                let answer = self.question.to_answer(self.id, &message, false);
                let answer = answer.ok_or(io::ErrorKind::InvalidData)?;
                send(&self.back, &with_length(&answer), SendFlags::NOSIGNAL)?;
                return Ok(Some(answer));
            }
            match recv(&self.resolver, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((length, _)) => self.input.extend_from_slice(&buffer[..length]),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// When to wait no longer.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.resolver.as_fd()
    }
}

/// Answers a program that there is no answer. If it does not read, it does not hear.
pub(crate) fn refuse(back: impl AsFd, question: &Question, code: u16) {
    let _ = send(back, &with_length(&question.to_failure(code)), SendFlags::NOSIGNAL);
}

fn with_length(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), message].concat()
}

/// Takes a whole message off the front.
fn split_message(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(*input.first_chunk()?));
    let message = input.get(LENGTH_BYTES..LENGTH_BYTES + length)?.to_vec();
    input.drain(..LENGTH_BYTES + length);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_when_they_are_whole() {
        let whole = [with_length(b"one"), with_length(b"")].concat();
        for cut in 0..whole.len() {
            let mut input = whole[..cut].to_vec();
            let first = split_message(&mut input);
            assert_eq!(first.is_some(), cut >= 5, "{cut}");
        }
        let mut input = whole;
        assert_eq!(split_message(&mut input), Some(b"one".to_vec()));
        assert_eq!(split_message(&mut input), Some(Vec::new()));
        assert_eq!(split_message(&mut input), None);
    }
}
