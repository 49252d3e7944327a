//! Sessions: which one a request is for, who may come, and how it is woken.

mod access;
mod live;
mod page;
mod visit;
mod wake;

pub(crate) use visit::{Place, Visit};

use crate::refusal::Refusal;
use access::ForwardAuth;
use live::Live;
use spawnery_controller::Controller;
use spawnery_controller::access::Verifier;
use spawnery_model::InstanceId;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use wake::Wakes;

/// Requests that are held at once until their sessions are ready, each with what its connection
/// has read. More: refused with 503.
pub const HELD_MAX: usize = 10_000;

/// How long a request is held. Longer than any start that somebody waits for without looking.
/// Longer: 504, and the start goes on.
pub const HELD_TIME_MAX: Duration = Duration::from_secs(120);

/// How long a browser is held before it gets the waiting page: most sessions are ready by then, and
/// a page that appears for a moment only disturbs.
pub const PAGE_AFTER: Duration = Duration::from_millis(400);

/// What the gateway knows of sessions.
pub(crate) struct Sessions {
    controller: Controller,
    verifier: Option<Verifier>,
    live: Arc<Live>,
    wakes: Wakes,
    held: Arc<AtomicUsize>,
    forward_auth: ForwardAuth,
}

/// A request that is held. There are not too many of them while each has one of these.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sessions {
    /// Must be called within the runtime that wakes sessions.
    pub(crate) fn new(controller: Controller, verifier: Option<Verifier>) -> Sessions {
        let live = Arc::new(Live::default());
        tokio::spawn(live.clone().follow(controller.clone()));
        let wakes = Wakes::new(Handle::current(), controller.clone(), live.clone());
        let held = Arc::default();
        let forward_auth = ForwardAuth::default();
        Sessions { controller, verifier, live, wakes, held, forward_auth }
    }

    /// A session cannot be reached. Says whether another look at it is worth a try.
    pub(crate) fn forget(&self, instance: InstanceId) -> bool {
        self.live.forget(instance)
    }

    fn hold(&self) -> Result<Held, Refusal> {
        if self.held.fetch_add(1, Ordering::Relaxed) >= HELD_MAX {
            self.held.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::HeldTooMany);
        }
        Ok(Held(self.held.clone()))
    }
}
