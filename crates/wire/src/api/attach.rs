//! Processes of an instance, and what is said over the WebSocket of one.

use super::instance::ExitView;
use super::problem::Problem;
use super::stream::{ExitedView, GapView, OutputStream};
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One process of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceProcessView {
    /// Its number: 0 is the main one.
    pub process: u32,
    /// The program and its arguments; a very long list is cut off with `…`.
    #[schema(example = json!(["python3", "-i"]))]
    pub run: Vec<String>,
    /// `running` or `ended`.
    #[schema(example = "running")]
    pub state: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// When it was started, by the node's clock.
    pub started_at_ms: u64,
    /// How it ended, if it did.
    pub exit: Option<ExitView>,
}

/// A TCP port of an instance on which something listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpenPortView {
    /// The port.
    #[schema(example = 8080)]
    pub port: u16,
    /// What the template calls it, if it names it.
    #[schema(example = "http")]
    pub name: Option<String>,
    /// Whether it listens on loopback addresses only: then only this instance, and the gateway, can
    /// reach it.
    pub loopback_only: bool,
    /// Where the gateway serves it, if it does.
    pub url: Option<String>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, ToSchema)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct TerminalSize {
    /// From left to right.
    #[n(0)]
    #[schema(example = 80)]
    pub columns: u16,
    /// From top to bottom.
    #[n(1)]
    #[schema(example = 24)]
    pub rows: u16,
}

/// What a client says in a text message. What it writes or types comes in binary messages, as it
/// is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum AttachInput {
    /// The terminal's size has changed.
    Resize {
        /// From left to right.
        columns: u16,
        /// From top to bottom.
        rows: u16,
    },
    /// Nothing more will be written: closes the standard input. A terminal stays open.
    End,
    /// Sends the process a signal.
    Signal {
        /// Its number (`signal(7)`).
        signal: i32,
    },
}

/// What the server says in a text message. Output comes in binary messages: see
/// [`AttachedOutput`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", content = "data", rename_all = "kebab-case")]
pub enum AttachNews {
    /// Output is gone, because the log reached its limit.
    Gap(GapView),
    /// The process has ended, and this was all. The last message.
    Exited(ExitedView),
    /// What was written could not be passed on; output goes on.
    InputClosed {
        /// Why.
        reason: String,
    },
    /// The connection is of no further use; attach again from the next sequence number.
    Problem(Problem),
}

/// A piece of output, as a binary message: a byte (1 for standard output and terminals, 2 for
/// standard error), the sequence number in eight bytes, the most significant first, and what was
/// written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedOutput {
    /// Where it was written.
    pub stream: OutputStream,
    /// Grows by one with each piece of this process, from 1.
    pub sequence: u64,
    /// What was written.
    pub bytes: Vec<u8>,
}

impl AttachedOutput {
    /// Bytes before what was written.
    const HEAD_BYTES: usize = 9;

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let stream = match self.stream {
            OutputStream::Stdout => 1,
            OutputStream::Stderr => 2,
        };
        let mut message = Vec::with_capacity(Self::HEAD_BYTES + self.bytes.len());
        message.push(stream);
        message.extend(self.sequence.to_be_bytes());
        message.extend(&self.bytes);
        message
    }

    /// What a message says; none if it is not one of these.
    pub fn decode(message: &[u8]) -> Option<AttachedOutput> {
        let (stream, rest) = message.split_first()?;
        let (sequence, bytes) = rest.split_first_chunk()?;
        let stream = match stream {
            1 => OutputStream::Stdout,
            2 => OutputStream::Stderr,
            _ => return None,
        };
        let sequence = u64::from_be_bytes(*sequence);
        Some(AttachedOutput { stream, sequence, bytes: bytes.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_said_is_plain_json() {
        let check = |input: AttachInput, json: &str| {
            assert_eq!(serde_json::to_string(&input).unwrap(), json);
            assert_eq!(serde_json::from_str::<AttachInput>(json).unwrap(), input);
        };
        let resize = AttachInput::Resize { columns: 80, rows: 24 };
        check(resize, r#"{"type":"resize","columns":80,"rows":24}"#);
        check(AttachInput::End, r#"{"type":"end"}"#);
        check(AttachInput::Signal { signal: 2 }, r#"{"type":"signal","signal":2}"#);
        let closed = AttachNews::InputClosed { reason: "gone".to_owned() };
        let json = serde_json::to_string(&closed).unwrap();
        assert_eq!(json, r#"{"event":"input-closed","data":{"reason":"gone"}}"#);
    }

    proptest! {
        #[test]
        fn output_comes_back_as_it_went(sequence: u64, bytes: Vec<u8>, is_error: bool) {
            let stream = if is_error { OutputStream::Stderr } else { OutputStream::Stdout };
            let output = AttachedOutput { stream, sequence, bytes };
            prop_assert_eq!(AttachedOutput::decode(&output.encode()), Some(output));
        }

        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>) {
            if let Some(output) = AttachedOutput::decode(&bytes) {
                prop_assert_eq!(output.encode(), bytes);
            }
        }
    }
}
