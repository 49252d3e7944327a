//! What all handlers share.

use crate::asker::Asker;
use crate::config::Config;
use crate::failure::{Failure, code};
use crate::figures::{self, SessionFigures};
use crate::limits::{REQUEST_TIME_MAX, REQUESTS_MAX, STREAMS_MAX};
use crate::metrics::RequestMetrics;
use spawnery_cluster::State;
use spawnery_controller::Controller;
use spawnery_controller::access::{Denied, Verifier};
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What all handlers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) controller: Controller,
    pub(crate) verifier: Verifier,
    pub(crate) config: Arc<Config>,
    pub(crate) requests: Semaphore,
    streams: Arc<Semaphore>,
    pub(crate) metrics: RequestMetrics,
    pub(crate) sessions: SessionFigures,
    pub(crate) started: Instant,
    /// How long a request may take until its answer begins.
    pub(crate) request_time_max: Duration,
}

impl Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    pub(crate) fn new(controller: Controller, verifier: Verifier, config: Config) -> App {
        App::with_time_max(controller, verifier, config, REQUEST_TIME_MAX)
    }

    pub(crate) fn with_time_max(
        controller: Controller,
        verifier: Verifier,
        config: Config,
        request_time_max: Duration,
    ) -> App {
        let shared = Arc::new(Shared {
            controller,
            verifier,
            config: Arc::new(config),
            requests: Semaphore::new(REQUESTS_MAX),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            metrics: RequestMetrics::default(),
            sessions: SessionFigures::default(),
            started: Instant::now(),
            request_time_max,
        });
        figures::start(&shared.sessions, Arc::downgrade(&shared));
        App(shared)
    }

    /// Reads the state.
    pub(crate) async fn query<R: Send + 'static>(
        &self,
        read: impl FnOnce(&State) -> R + Send + 'static,
    ) -> Result<R, Failure> {
        Ok(self.controller.query(read).await?)
    }

    /// Resolves when the token of `asker` is revoked or expires: what is open in its name ends then.
    pub(crate) fn revoked(&self, asker: &Asker) -> impl Future<Output = Denied> + Send + use<> {
        self.verifier.watch(asker)
    }

    /// The right to keep a stream open, for as long as it is held.
    pub(crate) fn stream_permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let permit = self.streams.clone().try_acquire_owned();
        permit.map_err(|_| {
            let detail = format!("{STREAMS_MAX} streams are open, which is the limit");
            Failure::new(code::BUSY, detail)
                .hint("close some streams, or try again in a moment")
                .retry_after_secs(1)
        })
    }

    /// How many streams are open.
    pub(crate) fn streams_open(&self) -> usize {
        STREAMS_MAX - self.streams.available_permits()
    }
}
