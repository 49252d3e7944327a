//! Whether anything happens, at little cost: no time is asked for while something does.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How exactly it is known how long nothing has happened.
const TICK: Duration = Duration::from_secs(2);

/// Knows how long a connection has been idle.
#[derive(Debug)]
pub(crate) struct Ticks {
    sleep: Pin<Box<Sleep>>,
    since: Instant,
    moved: bool,
}

impl Ticks {
    pub(crate) fn new() -> Ticks {
        let since = Instant::now();
        Ticks { sleep: Box::pin(tokio::time::sleep_until(since + TICK)), since, moved: false }
    }

    /// Something new begins.
    pub(crate) fn restart(&mut self) {
        self.moved = true;
    }

    /// Wakes the task now and then. Says how long nothing has happened, when it is time to ask.
    pub(crate) fn poll(&mut self, progress: bool, cx: &mut Context<'_>) -> Option<Duration> {
        self.moved |= progress;
        let mut idle = None;
        while self.sleep.as_mut().poll(cx) == Poll::Ready(()) {
            let now = Instant::now();
            if std::mem::take(&mut self.moved) {
                self.since = now;
            }
            idle = Some(now - self.since);
            self.sleep.as_mut().reset(now + TICK);
        }
        idle
    }
}
