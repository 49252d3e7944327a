//! Where requests go, by what the controller knows.

use crate::address::Address;
use crate::front::{self, Door, Settings};
use crate::guide::{Ask, Decision, Forward, Guide, Pending, Target};
use crate::io::UpstreamIo;
use crate::refusal::Refusal;
use crate::routes::Routes;
use axum::Router;
use spawnery_controller::Controller;
use spawnery_runtime::{DialError, OperationError, Runtime};
use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};

/// The front door to services. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    controller: Controller,
    routes: Arc<Routes>,
    /// The instances of this machine, which need no link to be reached.
    local: OnceLock<Arc<dyn Runtime>>,
}

impl Gateway {
    /// A gateway that follows what the controller knows. Must be called within a tokio runtime.
    pub fn new(controller: Controller) -> Gateway {
        let routes = Arc::new(Routes::default());
        tokio::spawn(routes.clone().follow(controller.clone()));
        Gateway { inner: Arc::new(Inner { controller, routes, local: OnceLock::new() }) }
    }

    /// Reaches the instances of this machine through their runtime from now on, and no longer
    /// through the link of its node. Only the first one counts.
    pub fn set_local(&self, runtime: Arc<dyn Runtime>) {
        let _ = self.inner.local.set(runtime);
    }

    /// Serves on `doors` until `shutdown` is over: services by their host names, and all else by
    /// `api`, which finds the [`SocketAddr`] of its client in the extensions of each request.
    ///
    /// # Errors
    ///
    /// When the threads cannot be started or a listener cannot be used.
    ///
    /// [`SocketAddr`]: std::net::SocketAddr
    pub async fn serve(
        self,
        doors: Vec<Door>,
        api: Router,
        settings: Settings,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        front::serve(doors, Arc::new(self), api, settings, shutdown).await
    }
}

impl Guide for Gateway {
    fn decide(&self, ask: &Ask<'_>) -> Decision {
        let Some(address) = Address::of_host(ask.head.host()) else {
            return Decision::Api;
        };
        match self.inner.routes.choose(&address) {
            Ok(target) => Decision::Forward(Forward::to(target)),
            Err(refusal) => Decision::Answer(refusal.answer(ask.head)),
        }
    }

    fn is_api(&self, host: &str, _path: &str) -> bool {
        Address::of_host(host).is_none()
    }

    fn dial(&self, target: Target) -> Pending<Result<UpstreamIo, Refusal>> {
        Box::pin(self.inner.clone().dial(target))
    }
}

impl Inner {
    async fn dial(self: Arc<Inner>, target: Target) -> Result<UpstreamIo, Refusal> {
        let Target { instance, port } = target;
        let unreachable = |reason: String| Refusal::Unreachable { reason };
        if let Some(local) = self.local.get() {
            match local.dial(instance, port).await {
                Ok(socket) => {
                    // Requests are written whole, so waiting to fill a packet makes them late.
                    socket.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
                    return Ok(UpstreamIo::Tcp(socket));
                }
                // It is another node's.
                Err(DialError::Operation(OperationError::Unknown)) => {}
                Err(error) => return Err(unreachable(error.to_string())),
            }
        }
        let stream = self.controller.dial(instance, port).await;
        let stream = stream.map_err(|error| unreachable(error.to_string()))?;
        Ok(UpstreamIo::Link(Box::new(stream)))
    }
}
