//! Connections to instances that are open and idle.

use crate::guide::Target;
use crate::h1::side::Side;
use crate::io::UpstreamIo;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

/// Idle connections that are kept for each port of an instance by each thread: more than this at
/// once is a burst, and opening one anew takes well below a millisecond.
const IDLE_PER_TARGET_MAX: usize = 256;

/// How long a connection may be idle before it is closed: many servers close theirs after a minute,
/// and whoever closes first spares the other a mistake.
const IDLE_TIME_MAX: Duration = Duration::from_secs(50);

/// How often idle connections are looked through.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Connections that were used and may be used again. The one used last is taken first, so that
/// the others can time out.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<BTreeMap<Target, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    side: Side<UpstreamIo>,
    since: Instant,
}

impl Pool {
    /// A connection that can take a request at once.
    pub(crate) fn take(&self, target: Target) -> Option<Side<UpstreamIo>> {
        let mut idle = self.idle.lock().expect("no holder panics");
        let connections = idle.get_mut(&target)?;
        while let Some(Idle { mut side, .. }) = connections.pop() {
            if is_silent(&mut side.io) {
                return Some(side);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub(crate) fn put(&self, target: Target, mut side: Side<UpstreamIo>, now: Instant) {
        side.shrink();
        side.wrote = false;
        let mut idle = self.idle.lock().expect("no holder panics");
        let connections = idle.entry(target).or_default();
        if connections.len() < IDLE_PER_TARGET_MAX {
            connections.push(Idle { side, since: now });
        }
    }

    /// Closes those that were idle for long, or whose other side has closed.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        let mut idle = self.idle.lock().expect("no holder panics");
        idle.retain(|_, connections| {
            connections
                .retain_mut(|it| now - it.since < IDLE_TIME_MAX && is_silent(&mut it.side.io));
            !connections.is_empty()
        });
    }
}

/// Whether the other side neither closed the connection nor said something unasked.
fn is_silent(io: &mut UpstreamIo) -> bool {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let mut cx = Context::from_waker(Waker::noop());
    matches!(Pin::new(io).poll_read(&mut cx, &mut buffer), Poll::Pending)
}
