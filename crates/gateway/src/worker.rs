//! A thread with connections, and how it stops.
//!
//! Each thread has a runtime of its own, so that a request wakes no other thread. What the threads
//! share is read by all and written by few.

use crate::answer::Answer;
use crate::bridge;
use crate::front::{Manner, Settings};
use crate::guide::{Ask, Decision, Guide};
use crate::h1::connection::Connection;
use crate::headers::Peer;
use crate::io::ClientIo;
use crate::pool::{Pool, SWEEP_EVERY};
use crate::tls::ACME_PROTOCOL;
use axum::Router;
use http::StatusCode;
use hyper_util::server::graceful::GracefulShutdown;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::AbortHandle;

/// How long requests under way may take once the server stops. Tunnels end at once.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// How often it is looked whether they have ended.
const STOP_LOOK: Duration = Duration::from_millis(5);

/// How long a client may take to agree on TLS.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// A connection that was accepted.
pub(crate) struct Arrival {
    pub(crate) socket: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) manner: Manner,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What the tasks of a thread share.
pub(crate) struct Worker {
    guide: Arc<dyn Guide>,
    api: Router,
    settings: Settings,
    pool: Pool,
    stopping: AtomicBool,
    seats: Mutex<BTreeMap<u64, Taken>>,
    next_seat: AtomicU64,
    graceful: Mutex<Option<GracefulShutdown>>,
}

struct Taken {
    busy: Arc<AtomicBool>,
    task: Option<AbortHandle>,
}

/// The right to a connection. While it is busy, a stop waits for it.
pub(crate) struct Seat {
    id: u64,
    busy: Arc<AtomicBool>,
    worker: Arc<Worker>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Seat {
    /// Nothing is under way: a stop may end the connection.
    pub(crate) fn rest(&self) {
        self.busy.store(false, Ordering::Relaxed);
    }

    /// Something is under way.
    pub(crate) fn work(&self) {
        self.busy.store(true, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.seats.lock().expect("no holder panics").remove(&self.id);
    }
}

impl Worker {
    pub(crate) fn new(guide: Arc<dyn Guide>, api: Router, settings: Settings) -> Arc<Worker> {
        Arc::new(Worker {
            guide,
            api,
            settings,
            pool: Pool::default(),
            stopping: AtomicBool::new(false),
            seats: Mutex::default(),
            next_seat: AtomicU64::new(0),
            graceful: Mutex::new(Some(GracefulShutdown::new())),
        })
    }

    /// Where a request goes, by the door that it came through and what is known of instances.
    pub(crate) fn decide(&self, ask: &Ask<'_>) -> Decision {
        let proofs = self.settings.proofs.as_ref();
        if let Some(proof) = proofs.and_then(|proofs| proofs.answer(ask.head.target())) {
            return Decision::Answer(Answer::text(StatusCode::OK, proof));
        }
        match ask.peer.redirect {
            Some(port) => Decision::Answer(to_tls(ask, port)),
            None => self.guide.decide(ask),
        }
    }

    pub(crate) fn guide(&self) -> &dyn Guide {
        &*self.guide
    }

    pub(crate) fn api(&self) -> &Router {
        &self.api
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Lets `connection` hear of a stop; `None` when there is one already.
    pub(crate) fn watch<C>(&self, connection: C) -> Option<impl Future<Output = C::Output> + use<C>>
    where
        C: hyper_util::server::graceful::GracefulConnection,
    {
        let graceful = self.graceful.lock().expect("no holder panics");
        graceful.as_ref().map(|graceful| graceful.watch(connection))
    }

    fn seat(self: &Arc<Worker>, permit: Option<OwnedSemaphorePermit>) -> Seat {
        let id = self.next_seat.fetch_add(1, Ordering::Relaxed);
        let busy = Arc::new(AtomicBool::new(true));
        let taken = Taken { busy: busy.clone(), task: None };
        self.seats.lock().expect("no holder panics").insert(id, taken);
        Seat { id, busy, worker: self.clone(), _permit: permit }
    }

    /// Serves a connection in a task of this thread.
    pub(crate) fn serve(
        self: &Arc<Worker>,
        io: ClientIo,
        peer: Peer,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let seat = self.seat(permit);
        let id = seat.id;
        let worker = self.clone();
        let connection = Connection::new(io, peer, seat, self.clone());
        let task = tokio::spawn(async move {
            if let Some(handover) = Box::pin(connection.serve()).await {
                bridge::serve(worker, handover).await;
            }
        });
        let mut seats = self.seats.lock().expect("no holder panics");
        if let Some(taken) = seats.get_mut(&id) {
            taken.task = Some(task.abort_handle());
        }
    }

    /// Serves what arrives until there is nothing more, and then stops.
    pub(crate) async fn run(self: Arc<Worker>, mut arrivals: mpsc::UnboundedReceiver<Arrival>) {
        let sweeper = self.clone();
        let sweeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                sweeper.pool.sweep();
            }
        });
        while let Some(arrival) = arrivals.recv().await {
            if let Err(error) = self.welcome(arrival) {
                tracing::debug!("a connection broke before it began: {error}");
            }
        }
        sweeper.abort();
        self.stop().await;
    }

    fn welcome(self: &Arc<Worker>, arrival: Arrival) -> io::Result<()> {
        let Arrival { socket, peer, manner, permit } = arrival;
        let socket = TcpStream::from_std(socket)?;
        // Answers are written whole, so waiting to fill a packet only makes them late.
        socket.set_nodelay(true)?;
        let trusted = self.settings.trusts(peer.ip());
        let mut peer = Peer::new(peer, matches!(manner, Manner::Tls(_)), trusted);
        let tls = match manner {
            Manner::Tls(tls) => tls,
            Manner::Plain | Manner::Redirect(_) => {
                if let Manner::Redirect(port) = manner {
                    peer.redirect = Some(port);
                }
                self.serve(ClientIo::Tcp(socket), peer, Some(permit));
                return Ok(());
            }
        };
        let worker = self.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_TIME_MAX, tls.accept(socket)).await {
                // That was all that a certificate authority wanted.
                Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(ACME_PROTOCOL) => {}
                Ok(Ok(stream)) => worker.serve(ClientIo::Tls(Box::new(stream)), peer, Some(permit)),
                Ok(Err(error)) => tracing::debug!("no TLS with {}: {error}", peer.address),
                Err(_) => tracing::debug!("no TLS with {} in time", peer.address),
            }
        });
        Ok(())
    }

    /// Ends what is idle at once, and waits a little for the rest.
    async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        {
            let seats = self.seats.lock().expect("no holder panics");
            for taken in seats.values().filter(|it| !it.busy.load(Ordering::Relaxed)) {
                taken.task.iter().for_each(AbortHandle::abort);
            }
        }
        let graceful = self.graceful.lock().expect("no holder panics").take();
        let is_busy = || {
            let seats = self.seats.lock().expect("no holder panics");
            seats.values().any(|it| it.busy.load(Ordering::Relaxed))
        };
        let ended = tokio::time::timeout(STOP_TIME_MAX, async {
            if let Some(graceful) = graceful {
                graceful.shutdown().await;
            }
            while is_busy() {
                tokio::time::sleep(STOP_LOOK).await;
            }
        });
        if ended.await.is_err() {
            tracing::warn!("some requests were still under way when the server stopped");
        }
    }
}

/// Sends a client to the same place with TLS. The method stays what it was.
fn to_tls(ask: &Ask<'_>, port: u16) -> Answer {
    let head = ask.head;
    let host = match head.host().rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => head.host(),
    };
    if host.is_empty() {
        let status = StatusCode::BAD_REQUEST;
        return Answer::reason(status, "no-host", "the request names no host", Some(head));
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let target = String::from_utf8_lossy(head.target());
    let slash = if target.starts_with('/') { "" } else { "/" };
    let location = format!("https://{host}{port}{slash}{target}");
    Answer::redirect(StatusCode::PERMANENT_REDIRECT, &location)
}
