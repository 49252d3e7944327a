//! What a controller and an agent say over their link.
//!
//! A link is one connection with many streams (yamux). The agent opens it and its first stream,
//! on which both sides introduce themselves ([`Hello`], [`Welcome`]) and then exchange
//! [`Up`] and [`Down`] messages. For everything that flows, such as logs, the controller opens a
//! stream of its own: a [`StreamRequest`], a [`StreamReply`], then what the request asks for.

use minicbor::{Decode, Encode};
use spawnery_model::{Exit, InstanceId, Name, NodeId, Orders, Report};
use std::collections::BTreeMap;

/// The version of this protocol. Peers with another one are refused with both numbers.
pub const PROTOCOL_VERSION: u32 = 1;

/// The first message, from the agent.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the agent.
    #[n(0)]
    pub protocol: u32,
    /// Who it is.
    #[n(1)]
    pub identity: Identity,
}

/// Who an agent says that it is. Has no `Debug`, because it holds secrets.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Identity {
    /// A machine that has not joined yet.
    #[n(0)]
    Joining {
        /// The secret of a join token.
        #[n(0)]
        token: String,
        /// What it wants to be called.
        #[n(1)]
        name: Name,
    },
    /// A node that joined earlier.
    #[n(1)]
    Node {
        /// Its id.
        #[n(0)]
        node: NodeId,
        /// The secret that it was given.
        #[n(1)]
        credential: String,
    },
}

/// The answer to [`Hello`].
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Welcome {
    /// Come in.
    #[n(0)]
    Accepted {
        /// The node's id.
        #[n(0)]
        node: NodeId,
        /// The secret to show from now on, if it just joined.
        #[n(1)]
        credential: Option<String>,
    },
    /// Stay out.
    #[n(1)]
    Refused {
        /// Why, for the agent's operator.
        #[n(0)]
        reason: String,
        /// Whether trying again is of no use.
        #[n(1)]
        forever: bool,
    },
}

/// From the agent, on the first stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Up {
    /// What the node has and sees.
    #[n(0)]
    Report(#[n(0)] Box<Report>),
}

/// From the controller, on the first stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Down {
    /// What is wanted of the node.
    #[n(0)]
    Orders(#[n(0)] Box<Orders>),
}

/// What the controller opens a stream for. Process 0 of an instance is its main one, others were
/// started by [`StreamRequest::Exec`].
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum StreamRequest {
    /// The output of a process: [`LogFrame`]s follow the reply.
    #[n(0)]
    Logs {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
        /// Which process.
        #[n(1)]
        process: u32,
        /// From where.
        #[n(2)]
        start: LogStart,
        /// Go on until the process has ended and all its output is told.
        #[n(3)]
        follow: bool,
    },
    /// Start a further process in an instance: the reply holds its number.
    #[n(1)]
    Exec {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
        /// The program and its arguments.
        #[n(1)]
        run: Vec<String>,
        /// Environment variables beside those of the instance.
        #[n(2)]
        env: BTreeMap<String, String>,
        /// Where it starts.
        #[n(3)]
        working_directory: Option<String>,
        /// Whether its standard input is kept open.
        #[n(4)]
        stdin: bool,
    },
    /// Send a signal to a process.
    #[n(2)]
    Signal {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
        /// Which process.
        #[n(1)]
        process: u32,
        /// The signal's number.
        #[n(2)]
        signal: i32,
    },
    /// Write to the standard input of a process: raw bytes follow the reply, and the end of the
    /// stream closes it.
    #[n(3)]
    Stdin {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
        /// Which process.
        #[n(1)]
        process: u32,
    },
    /// Connect to a port inside an instance: raw bytes follow the reply in both directions.
    #[n(4)]
    Dial {
        /// Which instance.
        #[n(0)]
        instance: InstanceId,
        /// Which port.
        #[n(1)]
        port: u16,
    },
}

/// From where a log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum LogStart {
    /// From this sequence number on; 1 is the beginning.
    #[n(0)]
    Sequence(#[n(0)] u64),
    /// The last so many lines.
    #[n(1)]
    Tail(#[n(0)] u64),
    /// What was written at or after this time, in milliseconds since 1970 by the node's clock.
    #[n(2)]
    Since(#[n(0)] u64),
}

/// The answer to a [`StreamRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum StreamReply {
    /// What was asked for follows, or is done.
    #[n(0)]
    Accepted,
    /// A process was started.
    #[n(1)]
    Started {
        /// Its number in the instance.
        #[n(0)]
        process: u32,
    },
    /// It cannot be done.
    #[n(2)]
    Refused {
        /// Which kind of obstacle.
        #[n(0)]
        kind: RefusalKind,
        /// The obstacle in words.
        #[n(1)]
        reason: String,
    },
}

/// Which kind of obstacle a stream met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum RefusalKind {
    /// The node does not have the instance or the process.
    #[n(0)]
    Unknown,
    /// The instance or the process does not run.
    #[n(1)]
    NotRunning,
    /// The program cannot be started, or nothing listens on the port.
    #[n(2)]
    Failed,
}

/// One piece of a process's output.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum LogFrame {
    /// What was written.
    #[n(0)]
    Record {
        /// Grows by one with each record of this process.
        #[n(0)]
        sequence: u64,
        /// When, in milliseconds since 1970 by the node's clock.
        #[n(1)]
        at_ms: u64,
        /// 1 for standard output, 2 for standard error.
        #[n(2)]
        stream: u8,
        /// The bytes.
        #[n(3)]
        #[cbor(with = "minicbor::bytes")]
        bytes: Vec<u8>,
    },
    /// These records were dropped because the log reached its limit.
    #[n(1)]
    Gap {
        /// The first of them.
        #[n(0)]
        from: u64,
        /// The last of them.
        #[n(1)]
        to: u64,
    },
    /// The process has ended, and this was all.
    #[n(2)]
    Exited {
        /// How it ended.
        #[n(0)]
        exit: Exit,
    },
    /// This was all for now; sent only when not following.
    #[n(3)]
    End,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use proptest::prelude::*;

    #[test]
    fn a_frame_reads_back() {
        let sent = LogFrame::Gap { from: 3, to: 9 };
        let bytes = frame::encode(&sent);
        let head = bytes[..4].try_into().unwrap();
        assert_eq!(frame::length(head).unwrap(), bytes.len() - 4);
        assert_eq!(frame::decode::<LogFrame>(&bytes[4..]).unwrap(), sent);
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_its_head() {
        assert!(frame::length([255; 4]).is_err());
    }

    #[test]
    fn an_unknown_field_is_skipped() {
        // A `Gap` as a later version might write it: with a third field.
        let bytes = [0x82, 0x01, 0x83, 0x03, 0x09, 0x63, b'n', b'e', b'w'];
        let gap = LogFrame::Gap { from: 3, to: 9 };
        assert_eq!(frame::decode::<LogFrame>(&bytes).unwrap(), gap);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>) {
            let _ = frame::decode::<Hello>(&bytes);
            let _ = frame::decode::<Up>(&bytes);
            let _ = frame::decode::<Down>(&bytes);
            let _ = frame::decode::<StreamRequest>(&bytes);
            let _ = frame::decode::<LogFrame>(&bytes);
        }
    }
}
