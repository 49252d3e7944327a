//! What flows: output and events, as Server-Sent Events.

use super::instance::{EndView, ExitView};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use spawnery_model::{InstanceId, Name, NodeId, RunId};
use utoipa::ToSchema;

/// The event types (`event:` lines) of the streams.
pub mod stream_event {
    /// Of a log: a [`LogRecordView`](super::LogRecordView). Its `id` is the sequence number.
    pub const OUTPUT: &str = "output";
    /// Of a log: a [`GapView`](super::GapView). Of the events: an
    /// [`EventGapView`](super::EventGapView).
    pub const GAP: &str = "gap";
    /// Of a log: an [`ExitedView`](super::ExitedView). The last one of its stream.
    pub const EXITED: &str = "exited";
    /// Of a log that is not followed: `{}`. The last one of its stream.
    pub const END: &str = "end";
    /// Of the events: an [`EventView`](super::EventView). Its `id` is that of the view.
    pub const EVENT: &str = "event";
    /// Of both: a [`Problem`](crate::api::Problem). The last one of its stream; connect again,
    /// with `Last-Event-ID`.
    pub const PROBLEM: &str = "problem";
}

/// One piece of a process's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogRecordView {
    /// Grows by one with each record of this process, from 1.
    pub sequence: u64,
    /// When it was written, by the node's clock.
    pub at_ms: u64,
    /// Where it was written.
    pub stream: OutputStream,
    /// What was written, if that is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What was written, in base 64, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl LogRecordView {
    /// A view of `bytes`: as text where that is possible.
    pub fn new(sequence: u64, at_ms: u64, stream: OutputStream, bytes: Vec<u8>) -> LogRecordView {
        let (text, base64) = match String::from_utf8(bytes) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
        };
        LogRecordView { sequence, at_ms, stream, text, base64 }
    }

    /// The bytes that were written; none if the view holds neither text nor valid base 64.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self.text {
            Some(text) => Some(text.into_bytes()),
            None => STANDARD.decode(self.base64?).ok(),
        }
    }
}

/// Where output was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Records of a log are gone, because it reached its limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GapView {
    /// The sequence number of the first that is gone.
    pub from: u64,
    /// The sequence number of the last that is gone.
    pub to: u64,
}

/// Events after the one that was named are gone, because only the latest are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventGapView {
    /// The id of the event that was named, or that was told last.
    #[schema(example = "3.0")]
    pub after: String,
    /// The id of the oldest event that is kept: the next one.
    #[schema(example = "911.0")]
    pub oldest: String,
}

/// A process has ended, and all its output was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExitedView {
    /// Which process: 0 is the main one.
    pub process: u32,
    /// How it ended, as its node saw it; none if the instance ended without its node's word.
    pub exit: Option<ExitView>,
    /// Of the main process: how the instance ended, once that is known.
    pub end: Option<EndView>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// The position of the record and the number of the event within it: `17.0`.
    #[schema(example = "17.0")]
    pub id: String,
    /// When.
    pub at_ms: u64,
    /// What kind of thing; stays the same over releases.
    #[schema(example = "instance.ready")]
    pub kind: String,
    /// The workload that it is about.
    #[schema(value_type = Option<String>)]
    pub workload: Option<Name>,
    /// The instance that it is about.
    #[schema(value_type = Option<String>)]
    pub instance: Option<InstanceId>,
    /// The run that it is about.
    #[schema(value_type = Option<String>)]
    pub run: Option<RunId>,
    /// The node that it is about.
    #[schema(value_type = Option<String>)]
    pub node: Option<NodeId>,
    /// What happened, in words.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn output_of_any_bytes_survives_the_json(bytes: Vec<u8>) {
            let sent = LogRecordView::new(1, 2, OutputStream::Stderr, bytes.clone());
            let json = serde_json::to_string(&sent).unwrap();
            let read: LogRecordView = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&read, &sent);
            prop_assert_eq!(read.into_bytes(), Some(bytes));
        }
    }
}
