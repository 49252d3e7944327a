//! A small blocking client of the launcher, for tests, tools and the doctor.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::fd_passing::{recv_with_fd, send_with_fd};
use crate::launcher::connect;
use crate::launcher::store::instance_dir;
use crate::limits::PROTOCOL_VERSION;
use crate::protocol::{
    Event, FrameError, Hello, Message, Reply, Request, WarmSpec, decode_frame, encode_frame,
};

/// The private writable layer of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerPaths {
    /// What was written below `/`, as overlayfs keeps it, with what the launcher writes itself:
    /// `etc/hostname`, `etc/hosts` and `etc/resolv.conf`, and empty places to mount on.
    pub upper: PathBuf,
    /// The same below `/usr`, if that is the host's under a writable layer; else it is empty.
    pub usr_upper: PathBuf,
}

/// Where the private writable layer of an instance is. It is there from the start until `Forget`,
/// if the instance was started with `keeps_layer`; once the instance has ended nothing of it is
/// mounted, and its folders may be renamed away.
pub fn layer_of(data: &Path, instance: &str) -> LayerPaths {
    let layer = data.join(instance_dir(instance)).join("layer");
    LayerPaths { upper: layer.join("upper"), usr_upper: layer.join("usr-upper") }
}

/// Time that the launcher gets to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// A connection to a launcher.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    input: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    events: VecDeque<Event>,
    next_id: u64,
    hello: Hello,
}

/// Why the launcher could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket failed; `NotFound` and `ConnectionRefused` mean that no launcher runs.
    #[error("the launcher cannot be reached: {0}")]
    Io(#[from] io::Error),
    /// The launcher sent what this client does not understand.
    #[error("the launcher says something that is not understood: {0}")]
    Frame(#[from] FrameError),
    /// The launcher speaks another version.
    #[error("the launcher speaks version {0} of its protocol, not {PROTOCOL_VERSION}")]
    Version(u32),
    /// Nothing came in time.
    #[error("the launcher did not answer in time")]
    TimedOut,
}

impl Client {
    /// Connects to the launcher that serves `data`, and subscribes to its events.
    pub fn connect(data: &Path) -> Result<Self, ClientError> {
        let socket = connect(data)?;
        let hello = Hello { version: 0, subscribe: true, pid: 0 };
        let (input, fds, events) = Default::default();
        let mut client = Self { socket, input, fds, events, next_id: 1, hello };
        let ours = Hello { version: PROTOCOL_VERSION, subscribe: true, pid: 0 };
        client.send(&Message::Hello(ours))?;
        match client.next_message(Instant::now() + HELLO_WITHIN)? {
            Message::Hello(hello) if hello.version == PROTOCOL_VERSION => client.hello = hello,
            Message::Hello(hello) => return Err(ClientError::Version(hello.version)),
            _ => return Err(ClientError::Version(0)),
        }
        Ok(client)
    }

    /// Process id of the launcher.
    pub fn launcher_pid(&self) -> u32 {
        self.hello.pid
    }

    /// Asks and waits for the answer; events that come meanwhile are kept.
    pub fn request(&mut self, request: Request) -> Result<Reply, ClientError> {
        Ok(self.request_with_fd(request)?.0)
    }

    /// Asks and waits for the answer with its descriptor, which `Dial` brings.
    pub fn request_with_fd(
        &mut self,
        request: Request,
    ) -> Result<(Reply, Option<OwnedFd>), ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&Message::Request { id, request })?;
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match self.next_message(until)? {
                Message::Reply { id: answered, reply } if answered == id => {
                    let fd = matches!(reply, Reply::Dialed).then(|| self.fds.pop_front());
                    return Ok((reply, fd.flatten()));
                }
                Message::Event(event) => self.events.push_back(event),
                _ => {}
            }
        }
    }

    /// Names all kinds of sandboxes that are to be kept ready: see [`Request::Warm`].
    pub fn warm(&mut self, pools: Vec<WarmSpec>) -> Result<Reply, ClientError> {
        self.request(Request::Warm { pools })
    }

    /// The next event, which may have come before.
    pub fn next_event(&mut self, within: Duration) -> Result<Event, ClientError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        let until = Instant::now() + within;
        loop {
            if let Message::Event(event) = self.next_message(until)? {
                return Ok(event);
            }
        }
    }

    fn send(&mut self, message: &Message) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode_frame(message, &mut bytes);
        let mut sent = 0;
        while sent < bytes.len() {
            sent += send_with_fd(&self.socket, &bytes[sent..], None)?;
        }
        Ok(())
    }

    fn next_message(&mut self, until: Instant) -> Result<Message, ClientError> {
        loop {
            match decode_frame(&self.input) {
                Ok(Some((message, used))) => {
                    self.input.drain(..used);
                    return Ok(message);
                }
                // An event of a later version.
                Err(FrameError::NotUnderstood { frame_bytes, request_id: None, .. }) => {
                    self.input.drain(..frame_bytes);
                    continue;
                }
                Err(error) => return Err(error.into()),
                Ok(None) => {}
            }
            self.receive(until)?;
        }
    }

    fn receive(&mut self, until: Instant) -> Result<(), ClientError> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = left.try_into().map_err(|_| ClientError::TimedOut)?;
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Err(ClientError::TimedOut),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let mut buffer = [0; 16 * 1024];
        let (len, fd) = recv_with_fd(&self.socket, &mut buffer).map_err(io::Error::from)?;
        if len == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.input.extend_from_slice(&buffer[..len]);
        self.fds.extend(fd);
        Ok(())
    }
}
