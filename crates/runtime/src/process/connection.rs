//! One connection to the launcher: requests out, answers and events in.

use crate::process::ConnectError;
use spawnery_sandbox::fd_passing::{recv_with_fd, send_with_fd};
use spawnery_sandbox::launcher;
use spawnery_sandbox::limits::PROTOCOL_VERSION;
use spawnery_sandbox::protocol::{
    Event, FrameError, Hello, InstanceInfo, Message, Reply, Request, decode_frame, encode_frame,
};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

/// Bytes read from the launcher at once: answers and events are small.
const READ_BYTES: usize = 8 * 1024;

/// Bytes of requests that wait to be sent. Above, further requests wait with their callers.
const UNSENT_BYTES_MAX: usize = 1024 * 1024;

/// How long the launcher may take to introduce itself and to list its instances.
const GREETING_WITHIN: Duration = Duration::from_secs(30);

/// A request and who waits for its answer.
pub(super) struct Call {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// An answer, with the descriptor that came with it.
pub(super) type Answer = (Reply, Option<OwnedFd>);

/// A connection over which the launcher has introduced itself.
pub(super) struct Connection {
    socket: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Descriptors in the order of the answers that they belong to.
    fds: VecDeque<OwnedFd>,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    next_id: u64,
}

impl Connection {
    /// Connects to the launcher that serves `data`, subscribes to its events and asks what it has.
    pub(super) async fn open(data: &Path) -> Result<(Self, Vec<InstanceInfo>), ConnectError> {
        let socket = launcher::connect(data).map_err(ConnectError::Socket)?;
        socket.set_nonblocking(true).map_err(ConnectError::Socket)?;
        let socket = UnixStream::from_std(socket).map_err(ConnectError::Socket)?;
        let mut connection = Self {
            socket,
            input: Vec::new(),
            output: Vec::new(),
            fds: VecDeque::new(),
            waiting: HashMap::new(),
            next_id: 1,
        };
        let greeting = tokio::time::timeout(GREETING_WITHIN, connection.greet());
        let instances = greeting.await.map_err(|_| ConnectError::Silent)??;
        Ok((connection, instances))
    }

    async fn greet(&mut self) -> Result<Vec<InstanceInfo>, ConnectError> {
        let hello = Hello { version: PROTOCOL_VERSION, subscribe: true, pid: 0 };
        encode_frame(&Message::Hello(hello), &mut self.output);
        let list = Message::Request { id: 0, request: Request::List };
        encode_frame(&list, &mut self.output);
        loop {
            match self.next_message().await.map_err(ConnectError::Socket)? {
                Message::Hello(hello) if hello.version != PROTOCOL_VERSION => {
                    return Err(ConnectError::Version { launcher: hello.version });
                }
                Message::Reply { id: 0, reply: Reply::Instances { instances } } => {
                    return Ok(instances);
                }
                Message::Reply { id: 0, reply } => {
                    let reason = format!("{reply:?}");
                    return Err(ConnectError::Refused { reason });
                }
                // What an event says that came before the list is in the list.
                _ => {}
            }
        }
    }

    /// Carries requests and answers until the connection ends, and says why it did. `None`: all
    /// senders of `calls` are gone.
    pub(super) async fn run(
        &mut self,
        calls: &mut mpsc::Receiver<Call>,
        mut on_event: impl FnMut(Event),
    ) -> Option<io::Error> {
        loop {
            let may_send = self.output.len() < UNSENT_BYTES_MAX;
            tokio::select! {
                message = self.next_message() => match message {
                    Ok(Message::Reply { id, reply }) => self.answer(id, reply),
                    Ok(Message::Event(event)) => on_event(event),
                    Ok(_) => {}
                    Err(error) => return Some(error),
                },
                call = calls.recv(), if may_send => self.ask(call?),
            }
        }
    }

    fn ask(&mut self, call: Call) {
        let id = self.next_id;
        self.next_id += 1;
        encode_frame(&Message::Request { id, request: call.request }, &mut self.output);
        self.waiting.insert(id, call.answer);
    }

    fn answer(&mut self, id: u64, reply: Reply) {
        let fd = matches!(reply, Reply::Dialed).then(|| self.fds.pop_front());
        if let Some(waiting) = self.waiting.remove(&id) {
            // Who asked may have gone; a connection that was for it is closed with it.
            let _ = waiting.send((reply, fd.flatten()));
        }
    }

    /// The next message; sends what is to be sent meanwhile. Nothing is lost when the future is
    /// dropped.
    async fn next_message(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(message);
            }
            let interest = if self.output.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            let ready = self.socket.ready(interest).await?;
            if ready.is_writable() {
                would_block_is_fine(self.send())?;
            }
            if ready.is_readable() {
                would_block_is_fine(self.receive())?;
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let sent = self
            .socket
            .try_io(Interest::WRITABLE, || Ok(send_with_fd(&self.socket, &self.output, None)?))?;
        self.output.drain(..sent);
        if self.output.is_empty() {
            // A large start request shall not keep its memory for the connection's life.
            self.output = Vec::new();
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        let (read, fd) = self
            .socket
            .try_io(Interest::READABLE, || Ok(recv_with_fd(&self.socket, &mut buffer)?))?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the launcher closed the connection",
            ));
        }
        self.input.extend_from_slice(&buffer[..read]);
        self.fds.extend(fd);
        Ok(())
    }

    /// The next message of what was received. Messages of a later version are skipped.
    fn take_message(&mut self) -> io::Result<Option<Message>> {
        loop {
            let (message, used) = match decode_frame(&self.input) {
                Ok(Some((message, used))) => (Some(message), used),
                Ok(None) => return Ok(None),
                Err(FrameError::NotUnderstood { frame_bytes, .. }) => (None, frame_bytes),
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            };
            self.input.drain(..used);
            if self.input.is_empty() {
                self.input = Vec::new();
            }
            if message.is_some() {
                return Ok(message);
            }
        }
    }
}

fn would_block_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
        {
            Ok(())
        }
        result => result,
    }
}
