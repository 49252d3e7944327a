//! One caller's connection: frames in, frames with descriptors out, never blocking.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;

use crate::fd_passing::send_with_fd;
use crate::limits::CONNECTION_BACKLOG_BYTES_MAX;
use crate::protocol::{FrameError, Message, decode_frame, encode_frame};

/// Bytes read from a connection before others get their turn.
const READ_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    input: Vec<u8>,
    output: VecDeque<Outgoing>,
    backlog_bytes: usize,
    /// Whether the caller has said hello.
    pub(crate) greeted: bool,
    pub(crate) subscribed: bool,
    /// Whether its writability is being waited for.
    pub(crate) wants_out: bool,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fd: Option<OwnedFd>,
}

impl Connection {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            input: Vec::new(),
            output: VecDeque::new(),
            backlog_bytes: 0,
            greeted: false,
            subscribed: false,
            wants_out: false,
        }
    }

    /// Reads what is there; false at the end of the connection.
    pub(crate) fn fill(&mut self) -> io::Result<bool> {
        let start = self.input.len();
        self.input.resize(start + READ_BYTES, 0);
        let read = rustix::io::read(&self.socket, &mut self.input[start..]);
        self.input.truncate(start + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Ok(false),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the next whole message of what was read.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, FrameError> {
        let result = decode_frame(&self.input);
        let used = match &result {
            Ok(Some((_, used))) => *used,
            Err(FrameError::NotUnderstood { frame_bytes, .. }) => *frame_bytes,
            _ => 0,
        };
        self.input.drain(..used);
        if self.input.is_empty() {
            // A large start request shall not keep its memory for the connection's life.
            self.input = Vec::new();
        }
        Ok(result?.map(|(message, _)| message))
    }

    /// Queues a message. What cannot be sent is noticed at the next flush.
    pub(crate) fn push(&mut self, message: &Message, fd: Option<OwnedFd>) {
        let mut bytes = Vec::new();
        encode_frame(message, &mut bytes);
        self.backlog_bytes += bytes.len();
        self.output.push_back(Outgoing { bytes, sent: 0, fd });
    }

    /// Sends as much as the socket takes; true if something is left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while let Some(first) = self.output.front_mut() {
            let fd = first.fd.as_ref().map(AsFd::as_fd);
            match send_with_fd(&self.socket, &first.bytes[first.sent..], fd) {
                Ok(sent) => {
                    first.sent += sent;
                    first.fd = None;
                    self.backlog_bytes -= sent;
                    if first.sent == first.bytes.len() {
                        self.output.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Whether so much is unsent that events would only add to it.
    pub(crate) fn is_too_slow(&self) -> bool {
        self.backlog_bytes > CONNECTION_BACKLOG_BYTES_MAX
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
