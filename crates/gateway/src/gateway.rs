//! Where requests go, by what the controller knows.

use crate::address::{Address, Domains, SESSION_PATH, session_of_path};
use crate::front::{self, Door, Settings};
use crate::guide::{Ask, Decision, Forward, Guide, Pending, Target};
use crate::io::UpstreamIo;
use crate::refusal::Refusal;
use crate::routes::{Named, Routes};
use crate::sessions::{Place, Sessions, Visit};
use axum::Router;
use spawnery_controller::Controller;
use spawnery_controller::access::Verifier;
use spawnery_model::{Access, Name};
use spawnery_runtime::{DialError, OperationError, Runtime};
use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};

/// The front door to services and sessions. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    controller: Controller,
    domains: Domains,
    routes: Arc<Routes>,
    sessions: Arc<Sessions>,
    /// The instances of this machine, which need no link to be reached.
    local: OnceLock<Arc<dyn Runtime>>,
}

impl Gateway {
    /// A gateway that follows what the controller knows. `verifier` says who shows a token; without,
    /// none is taken. Must be called within a tokio runtime, which wakes sessions.
    pub fn new(controller: Controller, verifier: Option<Verifier>, domains: Domains) -> Gateway {
        let routes = Arc::new(Routes::default());
        tokio::spawn(routes.clone().follow(controller.clone()));
        let sessions = Arc::new(Sessions::new(controller.clone(), verifier));
        let local = OnceLock::new();
        Gateway { inner: Arc::new(Inner { controller, domains, routes, sessions, local }) }
    }

    /// Reaches the instances of this machine through their runtime from now on, and no longer
    /// through the link of its node. Only the first one counts.
    pub fn set_local(&self, runtime: Arc<dyn Runtime>) {
        let _ = self.inner.local.set(runtime);
    }

    /// Serves on `doors` until `shutdown` is over: services and sessions by their host names,
    /// sessions by their paths too, and all else by `api`, which finds the [`SocketAddr`] of its
    /// client in the extensions of each request.
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

/// What is meant by a host name and a path.
enum Meaning {
    Api,
    Service(Address),
    Session(Place),
    /// A template, without a key.
    Template(Name),
}

impl Inner {
    fn meaning(&self, host: &str, target: &str) -> Meaning {
        let Some(mut names) = self.domains.names(host) else {
            return match session_of_path(target) {
                Some((template, key, prefix_length)) => {
                    Meaning::Session(Place { template, key, port: None, prefix_length })
                }
                None => Meaning::Api,
            };
        };
        // The last label comes first.
        let first = names.remove(0);
        match (self.routes.named(&first), names.len()) {
            (Named::Template(_), 0) => Meaning::Template(first),
            (Named::Template(_), _) | (_, 2..) => {
                let key = names.remove(0);
                let port = names.pop();
                Meaning::Session(Place { template: first, key, port, prefix_length: 0 })
            }
            (_, _) => Meaning::Service(Address { service: first, port: names.pop() }),
        }
    }

    fn decide(&self, ask: &Ask<'_>) -> Result<Decision, Refusal> {
        let target = std::str::from_utf8(ask.head.target()).unwrap_or_default();
        let place = match self.meaning(ask.head.host(), target) {
            Meaning::Api => return Ok(Decision::Api),
            Meaning::Service(address) => {
                let target = self.routes.choose(&address)?;
                return Ok(Decision::Forward(Forward::to(target)));
            }
            Meaning::Template(name) => return Err(Refusal::KeyNeeded(name)),
            Meaning::Session(place) => place,
        };
        let Named::Template(template) = self.routes.named(&place.template) else {
            return Err(Refusal::TemplateUnknown(place.template));
        };
        let asks = matches!(template.settings.access.as_deref(), Some(Access::Forward { .. }));
        Ok(self.sessions.decide(Visit::new(ask, place, asks), template))
    }
}

impl Guide for Gateway {
    fn decide(&self, ask: &Ask<'_>) -> Decision {
        match self.inner.decide(ask) {
            Ok(decision) => decision,
            Err(refusal) => Decision::Answer(refusal.answer(ask.head)),
        }
    }

    fn is_api(&self, host: &str, path: &str) -> bool {
        self.inner.domains.names(host).is_none() && !path.starts_with(SESSION_PATH)
    }

    fn dial(&self, target: Target) -> Pending<Result<UpstreamIo, Refusal>> {
        Box::pin(self.inner.clone().dial(target))
    }

    fn forget(&self, target: Target) -> bool {
        self.inner.sessions.forget(target.instance)
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
