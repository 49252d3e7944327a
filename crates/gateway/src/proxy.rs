//! Takes requests at the front door: to a service if the host name says so, else to the API.

use crate::address::Address;
use crate::headers::{add_forwarded, strip_hop_by_hop, upgrade_of};
use crate::pool::Pool;
use crate::refusal::Refusal;
use crate::routes::{Routes, Target};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode, header};
use axum::middleware::{self, Next};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use spawnery_controller::Controller;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;

/// How long a service may take to begin its answer. Longer than any sensible page, short enough
/// that a hanging service does not hold connections for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// The front door to services. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    controller: Controller,
    routes: Arc<Routes>,
    pool: Pool,
}

impl Gateway {
    /// A gateway that follows what the controller knows. Must be called within a tokio runtime.
    pub fn new(controller: Controller) -> Gateway {
        let routes = Arc::new(Routes::default());
        tokio::spawn(routes.clone().follow(controller.clone()));
        Gateway { inner: Arc::new(Inner { controller, routes, pool: Pool::default() }) }
    }

    /// Puts the gateway in front of the API: requests for services go to them, all others to
    /// `api`. The server must put the [`SocketAddr`] of the client into each request's extensions.
    pub fn in_front_of(self, api: Router) -> Router {
        api.layer(middleware::from_fn_with_state(self, pass))
    }

    /// The service that a request is for; `None` if it is for the API.
    fn address_of<B>(request: &Request<B>) -> Option<Address> {
        let from_target = request.uri().host();
        let from_header = || request.headers().get(header::HOST)?.to_str().ok();
        Address::of_host(from_target.or_else(from_header)?)
    }

    /// Passes a request on to a service and its answer back. What goes wrong is an answer too.
    async fn forward(
        &self,
        address: Address,
        request: Request<Body>,
        peer: SocketAddr,
    ) -> Response<Body> {
        match self.try_forward(&address, request, peer).await {
            Ok(response) => response,
            Err(refusal) => {
                tracing::debug!("a request was refused: {refusal}");
                refusal.response()
            }
        }
    }

    async fn try_forward(
        &self,
        address: &Address,
        mut request: Request<Body>,
        peer: SocketAddr,
    ) -> Result<Response<Body>, Refusal> {
        let target = self.inner.routes.choose(address)?;
        prepare(&mut request, peer)?;
        let service = &address.service;
        let unreachable =
            |reason: String| Refusal::Unreachable { service: service.clone(), reason };
        let from_client = upgrade_of(request.headers()).map(|_| hyper::upgrade::on(&mut request));
        let mut connection = self.connect(target).await.map_err(unreachable)?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, connection.send_request(request)).await;
        let answer = answer.map_err(|_| Refusal::TooLate(service.clone()))?;
        let mut response = answer.map_err(|error| unreachable(error.to_string()))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let to_service = hyper::upgrade::on(&mut response);
            if let Some(from_client) = from_client {
                tokio::spawn(join(from_client, to_service));
            }
        } else {
            self.inner.pool.put(target, connection);
        }
        strip_hop_by_hop(response.headers_mut());
        Ok(response.map(Body::new))
    }

    /// A connection to the port: one that is idle, or a new one.
    async fn connect(&self, target: Target) -> Result<SendRequest<Body>, String> {
        if let Some(connection) = self.inner.pool.take(target) {
            return Ok(connection);
        }
        let stream = self.inner.controller.dial(target.instance, target.port).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!("a connection to an instance ended: {error}");
            }
        });
        Ok(sender)
    }
}

async fn pass(
    State(gateway): State<Gateway>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let Some(address) = Gateway::address_of(&request) else {
        return next.run(request).await;
    };
    let peer = request.extensions().get::<SocketAddr>().copied();
    let peer = peer.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    gateway.forward(address, request, peer).await
}

/// Makes of a request to the gateway one to the service.
fn prepare(request: &mut Request<Body>, peer: SocketAddr) -> Result<(), Refusal> {
    if !request.headers().contains_key(header::HOST) {
        let host = request.uri().authority().ok_or(Refusal::NoHost)?;
        let host = host.as_str().parse().map_err(|_| Refusal::NoHost)?;
        request.headers_mut().insert(header::HOST, host);
    }
    strip_hop_by_hop(request.headers_mut());
    add_forwarded(request.headers_mut(), peer);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    *request.uri_mut() = path.parse().map_err(|_| Refusal::NoHost)?;
    *request.version_mut() = axum::http::Version::HTTP_11;
    Ok(())
}

/// Carries bytes both ways between a client and a service that have changed their protocol.
async fn join(from_client: hyper::upgrade::OnUpgrade, to_service: hyper::upgrade::OnUpgrade) {
    match tokio::try_join!(from_client, to_service) {
        Ok((client, service)) => {
            let (mut client, mut service) = (TokioIo::new(client), TokioIo::new(service));
            // However it ends, both sides see their connection end.
            let _ = copy_bidirectional(&mut client, &mut service).await;
        }
        Err(error) => tracing::debug!("an upgrade did not come about: {error}"),
    }
}
