//! What the launcher and its callers say to each other.
//!
//! A frame is a little-endian `u32` length and that many bytes of CBOR. Every struct is a map
//! of numbered fields: an unknown field is skipped and a number is never used twice. The
//! first message of each side is [`Hello`].

use minicbor::{Decode, Encode};

use crate::limits::FRAME_BYTES_MAX;
use crate::spec::{ExecSpec, Exit, SandboxSpec, WindowSize};

/// Everything that travels on the launcher's socket.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Message {
    /// The first message of both sides.
    #[n(0)]
    Hello(#[n(0)] Hello),
    /// From the caller; answered by one `Reply` with the same id.
    #[n(1)]
    Request {
        /// Chosen by the caller.
        #[n(0)]
        id: u64,
        /// What is asked.
        #[n(1)]
        request: Request,
    },
    /// From the launcher. A `Reply::Dialed` has a file descriptor attached to its first byte.
    #[n(2)]
    Reply {
        /// The id of the request.
        #[n(0)]
        id: u64,
        /// The answer.
        #[n(1)]
        reply: Reply,
    },
    /// From the launcher, to connections that subscribed.
    #[n(3)]
    Event(#[n(0)] Event),
}

/// The first message.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// [`crate::limits::PROTOCOL_VERSION`] of the sender.
    #[n(0)]
    pub version: u32,
    /// Whether the sender wants events.
    #[n(1)]
    pub subscribe: bool,
    /// Process id of the launcher; 0 from a caller.
    #[n(2)]
    pub pid: u32,
}

/// A wish of the caller.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub enum Request {
    /// Starts an instance; its id must never have been used.
    #[n(0)]
    Start {
        /// See [`crate::spec::is_instance_id`].
        #[n(0)]
        instance: String,
        /// What to run.
        #[n(1)]
        spec: Box<SandboxSpec>,
    },
    /// Runs a further process in a living sandbox.
    #[n(1)]
    Exec {
        /// The instance.
        #[n(0)]
        instance: String,
        /// Number of the process, chosen by the caller, never 0 and never used twice.
        #[n(1)]
        exec: u32,
        /// What to run.
        #[n(2)]
        spec: ExecSpec,
    },
    /// Sends a signal to one process; 0 is the main one.
    #[n(2)]
    Signal {
        /// The instance.
        #[n(0)]
        instance: String,
        /// The process.
        #[n(1)]
        process: u32,
        /// The signal's number.
        #[n(2)]
        signal: i32,
    },
    /// Ends an instance: the signal to its main process, after the grace SIGKILL to all.
    #[n(3)]
    Stop {
        /// The instance.
        #[n(0)]
        instance: String,
        /// The first signal.
        #[n(1)]
        signal: i32,
        /// Milliseconds until SIGKILL.
        #[n(2)]
        grace_ms: u64,
    },
    /// Asks for all instances on disk.
    #[n(4)]
    List,
    /// Asks for a TCP connection to a port inside the instance's network namespace.
    #[n(5)]
    Dial {
        /// The instance.
        #[n(0)]
        instance: String,
        /// The port.
        #[n(1)]
        port: u16,
    },
    /// Asks which of the TCP ports are listened on.
    #[n(6)]
    Listening {
        /// The instance.
        #[n(0)]
        instance: String,
        /// The ports of interest.
        #[n(1)]
        ports: Vec<u16>,
    },
    /// Asks what the instance uses now.
    #[n(7)]
    Usage {
        /// The instance.
        #[n(0)]
        instance: String,
    },
    /// Removes all data of an ended instance.
    #[n(8)]
    Forget {
        /// The instance.
        #[n(0)]
        instance: String,
    },
    /// Writes to the standard input of a process that was started with `stdin_pipe`.
    #[n(9)]
    WriteStdin {
        /// The instance.
        #[n(0)]
        instance: String,
        /// The process.
        #[n(1)]
        process: u32,
        /// What to write.
        #[cbor(n(2), with = "minicbor::bytes")]
        bytes: Vec<u8>,
        /// Whether to close it afterwards, if all was accepted.
        #[n(3)]
        eof: bool,
    },
    /// Ends the launcher.
    #[n(10)]
    Shutdown {
        /// Stop running instances first; else running instances refuse it.
        #[n(0)]
        stop_all: bool,
    },
    /// Asks what the launcher can do on this machine.
    #[n(11)]
    Describe,
    /// Names all kinds of sandboxes that are to be kept ready, in the place of those named
    /// before, until the launcher ends. Plain ones are always kept. They are made in the
    /// background; a start that finds none ready is as quick as without.
    #[n(12)]
    Warm {
        /// At most [`crate::limits::POOLS_MAX`], with at most [`crate::limits::POOLED_MAX`]
        /// sandboxes together.
        #[n(0)]
        pools: Vec<WarmSpec>,
    },
    /// Asks how the pools are.
    #[n(13)]
    Pools,
    /// Changes the size of a process's terminal, which the programs in it are told by SIGWINCH.
    #[n(14)]
    Resize {
        /// The instance.
        #[n(0)]
        instance: String,
        /// The process.
        #[n(1)]
        process: u32,
        /// The new size.
        #[n(2)]
        size: WindowSize,
    },
    /// Asks for the processes of an instance, also of one that has ended.
    #[n(15)]
    Processes {
        /// The instance.
        #[n(0)]
        instance: String,
    },
    /// Asks for a socket over which one request for files is served: see [`crate::files`]. Answered as
    /// `Dial` is.
    #[n(17)]
    Files {
        /// The instance.
        #[n(0)]
        instance: String,
    },
    /// Asks for all TCP ports on which something in the instance listens.
    #[n(16)]
    Sockets {
        /// The instance.
        #[n(0)]
        instance: String,
    },
    /// All instances with a lease may go on.
    #[n(30)]
    Renew {
        /// Since when the caller knows: a time on `CLOCK_BOOTTIME` (`clock_gettime(2)`), in
        /// milliseconds. The leases are counted from then, so that a request that is late does
        /// not lengthen them. An older one than before changes nothing.
        #[n(0)]
        heard_ms: u64,
    },
    /// Keeps a note about a living instance, in the place of the one before, for whoever lists the
    /// instances next.
    #[n(31)]
    Note {
        /// The instance.
        #[n(0)]
        instance: String,
        /// At most [`crate::limits::NOTE_BYTES_MAX`].
        #[cbor(n(1), with = "minicbor::bytes")]
        note: Vec<u8>,
    },
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub enum Reply {
    /// The process runs.
    #[n(0)]
    Started {
        /// Host process id of the sandbox's init.
        #[n(0)]
        init_pid: u32,
        /// Host process id of the process itself.
        #[n(1)]
        pid: u32,
    },
    /// The process could not be started; nothing of it is left running.
    #[n(1)]
    StartFailed {
        /// What was being done, such as `mount /proc`.
        #[n(0)]
        step: String,
        /// Why it failed.
        #[n(1)]
        reason: String,
    },
    /// The instance or process number has been used before.
    #[n(2)]
    AlreadyExists,
    /// There is no such instance, or none that runs.
    #[n(3)]
    NotFound,
    /// The request was carried out.
    #[n(4)]
    Done,
    /// The request cannot be carried out.
    #[n(5)]
    Refused {
        /// Why.
        #[n(0)]
        reason: String,
    },
    /// All instances on disk.
    #[n(6)]
    Instances {
        /// In the order of their ids.
        #[n(0)]
        instances: Vec<InstanceInfo>,
    },
    /// The connection is attached as a file descriptor.
    #[n(7)]
    Dialed,
    /// The connection could not be made.
    #[n(8)]
    DialFailed {
        /// The kind of failure.
        #[n(0)]
        error: DialError,
        /// In words.
        #[n(1)]
        reason: String,
    },
    /// Which ports are listened on.
    #[n(9)]
    Listening {
        /// A part of those asked for.
        #[n(0)]
        ports: Vec<u16>,
    },
    /// What the instance uses.
    #[n(10)]
    Usage {
        /// Each figure is `None` where nothing accounts for it.
        #[n(0)]
        usage: Usage,
    },
    /// What the launcher can do.
    #[n(12)]
    Description {
        /// The facts.
        #[n(0)]
        description: Description,
    },
    /// The pools: that of plain sandboxes, then those named by `Warm`, without repetitions.
    #[n(13)]
    Pools {
        /// In that order.
        #[n(0)]
        pools: Vec<PoolInfo>,
    },
    /// How much of the input was taken; less than given means the pipe is full for now.
    #[n(11)]
    Accepted {
        /// Bytes.
        #[n(0)]
        bytes: u64,
    },
    /// The processes of an instance.
    #[n(14)]
    Processes {
        /// In the order of their numbers; at most [`crate::limits::PROCESSES_LISTED_MAX`], the
        /// latest.
        #[n(0)]
        processes: Vec<ProcessDescription>,
    },
    /// What listens.
    #[n(15)]
    Sockets {
        /// By port.
        #[n(0)]
        sockets: Vec<ListeningSocket>,
    },
}

/// What is known of one process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ProcessDescription {
    /// 0 is the main one.
    #[n(0)]
    pub process: u32,
    /// Program and arguments, as far as they are kept; none of the main one, which its caller
    /// knows.
    #[n(1)]
    pub argv: Vec<String>,
    /// When it was started, in milliseconds since the Unix epoch.
    #[n(2)]
    pub started_ms: u64,
    /// Whether its streams are a terminal.
    #[n(3)]
    pub terminal: bool,
    /// How it ended, if it did.
    #[n(4)]
    pub exit: Option<Exit>,
}

/// A TCP port on which something listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct ListeningSocket {
    /// The port.
    #[n(0)]
    pub port: u16,
    /// Whether it listens on loopback addresses only.
    #[n(1)]
    pub loopback_only: bool,
}

/// A kind of sandbox that is to be kept ready.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct WarmSpec {
    /// An instance that could be started in it. Only what is set up ahead counts: the root, the
    /// network, the user, the devices, and without root the mounts.
    #[n(0)]
    pub spec: Box<SandboxSpec>,
    /// How many.
    #[n(1)]
    pub count: u32,
}

/// How a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PoolInfo {
    /// As many as are kept, or more after a burst that found too few.
    #[n(0)]
    pub wanted: u32,
    /// As many as are ready now.
    #[n(1)]
    pub ready: u32,
}

/// What a launcher can do on its machine.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Description {
    /// Whether sandboxes have user ids of their own, which needs root.
    #[n(0)]
    pub rootful: bool,
    /// Whether `/usr` has a private writable layer; else it is read-only.
    #[n(1)]
    pub usr_writable: bool,
    /// Why it has none, if the reason is not the lack of root.
    #[n(2)]
    pub usr_reason: Option<String>,
    /// What control groups limit and account for, such as `memory (v2)`.
    #[n(3)]
    pub controllers: Vec<String>,
    /// How the limit of a private layer is held, in words.
    #[n(4)]
    pub disk_limit: Option<String>,
}

/// Why a dial failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum DialError {
    /// Nothing listens on the port.
    #[n(0)]
    Refused,
    /// No answer came in time.
    #[n(1)]
    TimedOut,
    /// Anything else.
    #[n(2)]
    Other,
}

/// What an instance uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Usage {
    /// Memory in bytes.
    #[n(0)]
    pub memory_bytes: Option<u64>,
    /// CPU time since the start, in microseconds.
    #[n(1)]
    pub cpu_usec: Option<u64>,
    /// Processes and threads.
    #[n(2)]
    pub pids: Option<u64>,
    /// Bytes of IP packets that a private network has brought in since the start.
    #[n(3)]
    pub network_bytes_in: Option<u64>,
    /// Bytes of IP packets that it has taken out.
    #[n(4)]
    pub network_bytes_out: Option<u64>,
}

/// One instance on disk.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct InstanceInfo {
    /// The id given at the start.
    #[n(0)]
    pub instance: String,
    /// The tag given at the start.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub tag: Vec<u8>,
    /// When it was started, in milliseconds since the Unix epoch.
    #[n(2)]
    pub started_ms: u64,
    /// How it is.
    #[n(3)]
    pub state: InstanceState,
    /// The processes started by `Exec` and the main one (0), in the order of their numbers.
    #[n(4)]
    pub processes: Vec<ProcessInfo>,
    /// The last note about it, if it lives.
    #[cbor(n(30), with = "minicbor::bytes")]
    pub note: Option<Vec<u8>>,
}

/// How an instance is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum InstanceState {
    /// It lives.
    #[n(0)]
    Running {
        /// Host process id of its init.
        #[n(0)]
        init_pid: u32,
        /// Host process id of its main process.
        #[n(1)]
        pid: u32,
    },
    /// Its main process ended, and everything else with it.
    #[n(1)]
    Ended {
        /// How.
        #[n(0)]
        exit: Exit,
    },
    /// It ran when an earlier launcher ended, and ended with it.
    #[n(2)]
    Lost,
    /// It never came to run.
    #[n(3)]
    Failed {
        /// What was being done.
        #[n(0)]
        step: String,
        /// Why it failed.
        #[n(1)]
        reason: String,
    },
}

/// One process of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ProcessInfo {
    /// 0 is the main one.
    #[n(0)]
    pub process: u32,
    /// How it ended, if it did.
    #[n(1)]
    pub exit: Option<Exit>,
}

/// News for subscribers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Event {
    /// There is new output in the log.
    #[n(0)]
    Output {
        /// The instance.
        #[n(0)]
        instance: String,
        /// The process.
        #[n(1)]
        process: u32,
        /// The sequence number that the next record will have.
        #[n(2)]
        next_seq: u64,
    },
    /// A process ended; its status is on disk and its output is complete in the log.
    #[n(1)]
    Exited {
        /// The instance.
        #[n(0)]
        instance: String,
        /// The process.
        #[n(1)]
        process: u32,
        /// How.
        #[n(2)]
        exit: Exit,
    },
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is beyond [`FRAME_BYTES_MAX`]; the connection is of no further use.
    #[error("a frame of {bytes} bytes is larger than the limit of {FRAME_BYTES_MAX}")]
    TooLarge {
        /// The announced length.
        bytes: usize,
    },
    /// The content is not understood; `frame_bytes` further on is the next frame.
    #[error("a frame of {frame_bytes} bytes is not understood: {reason}")]
    NotUnderstood {
        /// Bytes to skip, with the length field.
        frame_bytes: usize,
        /// What the decoder said.
        reason: String,
        /// The id, if the frame was at least a request.
        request_id: Option<u64>,
    },
}

/// Appends `message` as a frame to `out`.
pub fn encode_frame(message: &Message, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    minicbor::encode(message, &mut *out).expect("writing to a Vec cannot fail");
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// Takes the first frame of `bytes`: the message and how many bytes it took, or `None` if
/// more bytes are needed.
pub fn decode_frame(bytes: &[u8]) -> Result<Option<(Message, usize)>, FrameError> {
    let Some((head, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes(*head) as usize;
    if len > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes: len });
    }
    let Some(body) = rest.get(..len) else {
        return Ok(None);
    };
    match minicbor::decode(body) {
        Ok(message) => Ok(Some((message, len + 4))),
        Err(error) => Err(FrameError::NotUnderstood {
            frame_bytes: len + 4,
            reason: error.to_string(),
            request_id: request_id(body),
        }),
    }
}

/// The id in a frame whose request is of a later version than this one.
fn request_id(body: &[u8]) -> Option<u64> {
    let mut decoder = minicbor::Decoder::new(body);
    decoder.array().ok()?;
    if decoder.u32().ok()? != 1 {
        return None;
    }
    decoder.array().ok()?;
    decoder.u64().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_comes_back_as_it_went() {
        let message = Message::Request {
            id: 7,
            request: Request::Start {
                instance: "a".into(),
                spec: Box::new(SandboxSpec::new(["x", "y"])),
            },
        };
        let mut bytes = Vec::new();
        encode_frame(&message, &mut bytes);
        for cut in 0..bytes.len() {
            assert!(matches!(decode_frame(&bytes[..cut]), Ok(None)), "cut at {cut}");
        }
        let (decoded, used) = decode_frame(&bytes).expect("valid").expect("complete");
        assert_eq!((decoded, used), (message, bytes.len()));
    }

    #[test]
    fn an_unknown_field_is_skipped() {
        let mut body = Vec::new();
        let mut encoder = minicbor::Encoder::new(&mut body);
        (|| {
            // Message 0 with one field: a hello with a field 77 that nobody knows.
            encoder.array(2)?.u32(0)?.array(1)?.map(4)?;
            encoder.u32(0)?.u32(9)?.u32(77)?.str("later")?;
            encoder.u32(1)?.bool(true)?.u32(2)?.u32(5)?.ok()
        })()
        .expect("writing to a Vec cannot fail");
        let mut frame = u32::try_from(body.len()).expect("small").to_le_bytes().to_vec();
        frame.extend(body);
        let (message, _) = decode_frame(&frame).expect("understood").expect("complete");
        assert_eq!(message, Message::Hello(Hello { version: 9, subscribe: true, pid: 5 }));
    }

    #[test]
    fn an_unknown_request_still_tells_its_id() {
        let mut bytes = Vec::new();
        encode_frame(&Message::Request { id: 42, request: Request::List }, &mut bytes);
        let position = bytes.len() - 2;
        assert_eq!(bytes[position], 4, "the number of List");
        bytes[position] = 23;
        match decode_frame(&bytes) {
            Err(FrameError::NotUnderstood { request_id, .. }) => assert_eq!(request_id, Some(42)),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_frame(&bytes);
            let mut framed = u32::try_from(bytes.len()).expect("small").to_le_bytes().to_vec();
            framed.extend(&bytes);
            let _ = decode_frame(&framed);
        }
    }
}
