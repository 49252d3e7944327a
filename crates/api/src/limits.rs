//! What the API takes at most, each with its reason and what happens beyond it.

use spawnery_model::limits::MANIFEST_BYTES_MAX;
use std::time::Duration;

/// Bytes of a request's body, but for standard input, which flows: the largest manifest. More:
/// refused with 413.
pub const BODY_BYTES_MAX: usize = MANIFEST_BYTES_MAX;

/// Bodies up to this many bytes are parsed where they arrive; larger ones where they hold up no
/// other request.
pub(crate) const BODY_BYTES_INLINE_MAX: usize = 64 << 10;

/// Bytes of one file that is sent by its content, which flows: all of a tree. More: refused with
/// 413.
pub const CONTENT_BYTES_MAX: u64 = spawnery_environment::limits::TREE_BYTES_MAX;

/// Bytes of the user of a further process: a name and a group as long as `useradd(8)` takes them.
pub const USER_BYTES_MAX: usize = 65;

/// Milliseconds that a further process may run, if it is limited: a year, which no process that
/// has a limit is meant to reach.
pub const EXEC_TIMEOUT_MS_MAX: u64 = 365 * 24 * 60 * 60 * 1000;

/// Bytes of one message of a client that is attached to a process: what somebody pastes. More:
/// the connection is closed.
pub const ATTACH_MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Requests that are worked on at once, streams not counted: many times what the controller needs
/// to fill its batches. More: refused with 503, to be tried again.
pub const REQUESTS_MAX: usize = 4096;

/// Streams of logs, events and standard input that are open at once: each holds a connection and,
/// for a log, a stream to its node. More: refused with 503.
pub const STREAMS_MAX: usize = 4096;

/// How long a request may take until its answer begins: longer than any wait inside, such as that
/// for a node. Longer: 504, and what came of it is unknown.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

/// How often a stream without news sends a comment, so that nobody in between takes it for dead.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a log's end waits for the controller to learn why its instance ended: the news comes
/// by another way, right behind it.
pub const END_TIME_MAX: Duration = Duration::from_secs(15);

/// Items on a page when the request names no number.
pub const PAGE_ITEMS_DEFAULT: usize = 100;

/// Items on a page. More are asked for: refused.
pub const PAGE_ITEMS_MAX: usize = 1000;

/// Instances that one query looks at, so that a long list holds up no command for long. A list
/// that needs more asks again.
pub(crate) const SCAN_ITEMS_MAX: usize = 4096;

/// The shortest beginning of an id that stands for it: shorter ones are soon ambiguous.
pub const ID_PREFIX_LENGTH_MIN: usize = 4;

const _: () = {
    assert!(PAGE_ITEMS_DEFAULT <= PAGE_ITEMS_MAX && PAGE_ITEMS_MAX <= SCAN_ITEMS_MAX);
    assert!(BODY_BYTES_INLINE_MAX <= BODY_BYTES_MAX);
};
