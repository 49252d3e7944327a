//! Connections that hyper serves: those with requests for the API, and those that speak HTTP/2.
//!
//! A request among them that is for an instance goes through memory to the HTTP/1.1 engine, as if
//! it had come over a connection of its own. So there is one place that knows how requests go to
//! instances, whatever they came by.

use crate::answer::Answer;
use crate::h1::connection::Handover;
use crate::headers::Peer;
use crate::io::{ClientIo, Rewound};
use crate::worker::Worker;
use axum::Router;
use axum::body::Body;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, COOKIE, HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::ext::Protocol;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::copy_bidirectional_with_sizes;

/// How long a client may take to send the head of a request, which is also how long a connection
/// may be idle between two requests.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);

/// Requests of one HTTP/2 connection at once: what browsers expect.
const STREAMS_MAX: u32 = 256;

/// Bytes of a request's fields in HTTP/2; the engine has its own limit too.
const FIELDS_BYTES_MAX: u32 = 64 << 10;

/// Bytes on their way through memory in each direction.
const MEMORY_BYTES: usize = 64 << 10;

/// Bytes on their way in each direction of a stream that speaks another protocol.
const TUNNEL_BYTES: usize = 8 << 10;

/// How often a silent HTTP/2 connection is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(60);

/// Serves a connection to its end.
pub(crate) async fn serve(worker: Arc<Worker>, handover: Handover) {
    let Handover { first, io, peer, seat, is_http2 } = handover;
    let io = TokioIo::new(Rewound::new(first, io));
    let bridge = Arc::new(Bridge { worker: worker.clone(), peer, idle: Mutex::default() });
    let api = worker.api().clone();
    let service = service_fn(move |request| {
        let (bridge, api) = (bridge.clone(), api.clone());
        async move { Ok::<_, Infallible>(bridge.answer(request, api).await) }
    });
    let builder = builder(is_http2);
    let connection = builder.serve_connection_with_upgrades(io, service).into_owned();
    let Some(connection) = worker.watch(connection) else {
        return;
    };
    if let Err(error) = connection.await {
        tracing::debug!("a connection broke: {error}");
    }
    drop(seat);
}

fn builder(is_http2: bool) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    if is_http2 {
        builder
            .http2()
            .timer(TokioTimer::new())
            .enable_connect_protocol()
            .keep_alive_interval(PING_EVERY)
            .max_header_list_size(FIELDS_BYTES_MAX)
            .max_concurrent_streams(STREAMS_MAX);
        return builder.http2_only();
    }
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX);
    builder.http1_only()
}

/// One client's connection.
struct Bridge {
    worker: Arc<Worker>,
    peer: Peer,
    /// Ways through memory to the engine that are free.
    idle: Mutex<Vec<SendRequest<Incoming>>>,
}

impl Bridge {
    async fn answer(&self, mut request: Request<Incoming>, api: Router) -> Response<Body> {
        let from_target = request.uri().authority().map(|it| it.as_str());
        let from_field = || request.headers().get(HOST)?.to_str().ok();
        let host = from_target.or_else(from_field).unwrap_or_default();
        let may_be_api = self.peer.redirect.is_none();
        if may_be_api && self.worker.guide().is_api(host, request.uri().path()) {
            request.extensions_mut().insert::<SocketAddr>(self.peer.address);
            return match hyper::service::Service::call(&TowerToHyperService::new(api), request)
                .await
            {
                Ok(response) => response,
                Err(never) => match never {},
            };
        }
        match self.forward(request).await {
            Ok(response) => response,
            Err(reason) => {
                let answer = Answer::reason(StatusCode::BAD_GATEWAY, "unreachable", &reason, None);
                let mut response = Response::new(Body::from(Bytes::from(answer.body)));
                *response.status_mut() = answer.status;
                response
            }
        }
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Body>, String> {
        let is_extended = request.extensions().get::<Protocol>().is_some();
        let wants_upgrade = is_extended || request.headers().contains_key(UPGRADE);
        let from_client = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
        translate(&mut request)?;
        let mut sender = self.sender().await?;
        let mut response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let to_instance = hyper::upgrade::on(&mut response);
            if let Some(from_client) = from_client {
                tokio::spawn(join(from_client, to_instance));
            }
            if is_extended {
                *response.status_mut() = StatusCode::OK;
                response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
                strip(response.headers_mut());
            }
        } else {
            self.idle.lock().expect("no holder panics").push(sender);
            strip(response.headers_mut());
        }
        *response.version_mut() = Version::default();
        Ok(response.map(Body::new))
    }

    /// A way to the engine: one that is free, or a new one.
    async fn sender(&self) -> Result<SendRequest<Incoming>, String> {
        {
            let mut idle = self.idle.lock().expect("no holder panics");
            idle.retain(|sender| !sender.is_closed());
            if let Some(place) = idle.iter().rposition(SendRequest::is_ready) {
                return Ok(idle.remove(place));
            }
        }
        let (near, far) = tokio::io::duplex(MEMORY_BYTES);
        self.worker.serve(ClientIo::Memory(far), self.peer.clone(), None);
        let made = handshake(TokioIo::new(near)).await;
        let (sender, connection) = made.map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!("a way to the engine ended: {error}");
            }
        });
        Ok(sender)
    }
}

/// Makes of a request of HTTP/2 one of HTTP/1.1.
fn translate(request: &mut Request<Incoming>) -> Result<(), String> {
    let host = request.uri().authority().map(|it| it.as_str().parse::<HeaderValue>());
    if let Some(host) = host.transpose().map_err(|error| error.to_string())? {
        request.headers_mut().insert(HOST, host);
    }
    let protocol = request.extensions_mut().remove::<Protocol>();
    if let Some(protocol) = protocol {
        // RFC 8441: what was an upgrade in HTTP/1.1 is a CONNECT with a protocol in HTTP/2.
        let protocol =
            HeaderValue::from_str(protocol.as_str()).map_err(|error| error.to_string())?;
        *request.method_mut() = Method::GET;
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|error| error.to_string())?;
        let key = BASE64_STANDARD.encode(key);
        headers.insert(SEC_WEBSOCKET_KEY, key.parse().map_err(|_| "the key is text")?);
    }
    let headers = request.headers_mut();
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        // HTTP/2 may split it, HTTP/1.1 must not (RFC 9113, section 8.2.3).
        let parts: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let joined = HeaderValue::from_bytes(&parts.join(&b"; "[..]));
        headers.insert(COOKIE, joined.map_err(|error| error.to_string())?);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    *request.uri_mut() = path.parse().map_err(|_| "its path is malformed")?;
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

/// Removes what is for one hop only; hyper writes it anew where it is needed.
fn strip(headers: &mut HeaderMap) {
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// Carries bytes both ways between a client and an instance that have changed their protocol.
async fn join(from_client: OnUpgrade, to_instance: OnUpgrade) {
    match tokio::try_join!(from_client, to_instance) {
        Ok((client, instance)) => {
            let (mut client, mut instance) = (TokioIo::new(client), TokioIo::new(instance));
            let size = TUNNEL_BYTES;
            // However it ends, both sides see their connection end.
            let _ = copy_bidirectional_with_sizes(&mut client, &mut instance, size, size).await;
        }
        Err(error) => tracing::debug!("an upgrade did not come about: {error}"),
    }
}
