//! Takes connections and gives each to a thread.

use crate::acme::Proofs;
use crate::guide::Guide;
use crate::network::Network;
use crate::worker::{Arrival, Worker};
use axum::Router;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_rustls::TlsAcceptor;

/// How long to wait after a connection could not be accepted: the likely reason is that no file
/// descriptor is free, and others need time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that are open at once. Each is a socket here and often one to an instance, so twice
/// as many file descriptors. More wait to be accepted.
pub const CONNECTIONS_MAX: usize = 65_536;

/// Threads: as many as cores up to this, beyond which one machine's instances are the limit.
const THREADS_MAX: usize = 16;

/// How the front door is.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Proxies whose word on their clients is believed.
    pub trusted: Vec<Network>,
    /// Threads that serve; without, as many as this machine has cores.
    pub threads: Option<usize>,
    /// What certificate authorities are shown that look for a proof over HTTP.
    pub proofs: Option<Arc<Proofs>>,
}

impl Settings {
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

/// A socket that takes connections.
pub struct Door {
    listener: std::net::TcpListener,
    manner: Manner,
}

/// What is spoken at a door.
#[derive(Clone)]
pub(crate) enum Manner {
    Plain,
    Tls(TlsAcceptor),
    /// Everybody is sent to this port for TLS.
    Redirect(u16),
}

impl Door {
    /// Without TLS.
    pub fn plain(listener: std::net::TcpListener) -> Door {
        Door { listener, manner: Manner::Plain }
    }

    /// With TLS, as [`acceptor`](crate::tls::acceptor) makes it.
    pub fn tls(listener: std::net::TcpListener, acceptor: TlsAcceptor) -> Door {
        Door { listener, manner: Manner::Tls(acceptor) }
    }

    /// For those who come without TLS: they are sent to the same host's `https_port`. A certificate
    /// authority that looks for a proof is answered here.
    pub fn redirect(listener: std::net::TcpListener, https_port: u16) -> Door {
        Door { listener, manner: Manner::Redirect(https_port) }
    }
}

/// Serves on `doors` until `shutdown` is over, then lets requests under way finish for a few
/// seconds: where `guide` says so by the API, which finds the [`SocketAddr`] of its client in the
/// extensions of each request.
///
/// # Errors
///
/// When the threads cannot be started or a listener cannot be used.
///
/// [`SocketAddr`]: std::net::SocketAddr
pub async fn serve(
    doors: Vec<Door>,
    guide: Arc<dyn Guide>,
    api: Router,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = settings.threads.unwrap_or(cores).clamp(1, THREADS_MAX);
    let threads = (0..count)
        .map(|_| Thread::start(guide.clone(), api.clone(), settings.clone()))
        .collect::<io::Result<Vec<Thread>>>()?;
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut accepting = tokio::task::JoinSet::new();
    let senders: Vec<_> = threads.iter().map(|thread| thread.arrivals.clone()).collect();
    for door in doors {
        door.listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(door.listener)?;
        accepting.spawn(accept(listener, door.manner, senders.clone(), connections.clone()));
    }
    drop(senders);
    let mut shutdown = pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => {}
        // None ends by itself; without a door there is nobody to wait for.
        _ = accepting.join_next() => shutdown.await,
    }
    accepting.shutdown().await;
    for thread in threads {
        thread.stop().await;
    }
    Ok(())
}

async fn accept(
    listener: TcpListener,
    manner: Manner,
    threads: Vec<mpsc::UnboundedSender<Arrival>>,
    connections: Arc<Semaphore>,
) {
    for thread in threads.iter().cycle() {
        let permit = connections.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let (socket, peer) = loop {
            // It leaves the runtime that accepted it for that of its thread.
            let accepted = listener.accept().await;
            match accepted.and_then(|(socket, peer)| Ok((socket.into_std()?, peer))) {
                Ok(accepted) => break accepted,
                // The client has gone again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        let arrival = Arrival { socket, peer, manner: manner.clone(), permit };
        if thread.send(arrival).is_err() {
            tracing::error!("a thread of the gateway has ended");
        }
    }
}

/// A thread with a runtime of its own.
struct Thread {
    arrivals: mpsc::UnboundedSender<Arrival>,
    ended: oneshot::Receiver<()>,
    handle: JoinHandle<()>,
}

impl Thread {
    fn start(guide: Arc<dyn Guide>, api: Router, settings: Settings) -> io::Result<Thread> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (arrivals, arrivals_out) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let work = move || {
            let worker = Worker::new(guide, api, settings);
            runtime.block_on(worker.run(arrivals_out));
            // What still runs is dropped; blocking work may go on without us.
            runtime.shutdown_background();
            // Whoever waited may have gone.
            let _ = end.send(());
        };
        let handle = std::thread::Builder::new().name("gateway".to_owned()).spawn(work)?;
        Ok(Thread { arrivals, ended, handle })
    }

    async fn stop(self) {
        drop(self.arrivals);
        // An error means that the thread has ended, which comes to the same.
        let _ = self.ended.await;
        if self.handle.join().is_err() {
            tracing::error!("a thread of the gateway failed");
        }
    }
}
