//! Connections to instances that are open and idle.

use crate::routes::Target;
use axum::body::Body;
use hyper::client::conn::http1::SendRequest;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Idle connections that are kept for each port of an instance: more than this at once is a
/// burst, and opening one anew takes well below a millisecond.
const IDLE_PER_TARGET_MAX: usize = 64;

/// Connections that were used and may be used again. The one used last is taken first, so that
/// the others can time out at the service.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<BTreeMap<Target, Vec<SendRequest<Body>>>>,
}

impl Pool {
    /// A connection that can take a request at once.
    pub(crate) fn take(&self, target: Target) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().expect("no holder panics");
        let connections = idle.get_mut(&target)?;
        connections.retain(|connection| !connection.is_closed());
        let ready = connections.iter().rposition(SendRequest::is_ready);
        let taken = ready.map(|place| connections.remove(place));
        if connections.is_empty() {
            idle.remove(&target);
        }
        taken
    }

    /// Keeps a connection for the next request.
    pub(crate) fn put(&self, target: Target, connection: SendRequest<Body>) {
        if connection.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().expect("no holder panics");
        let connections = idle.entry(target).or_default();
        if connections.len() < IDLE_PER_TARGET_MAX {
            connections.push(connection);
        }
    }
}
