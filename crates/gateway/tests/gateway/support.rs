//! A front door, a client and a server, each as raw as the test needs.

use axum::Router;
use axum::routing::get;
use spawnery_gateway::{
    Ask, Decision, Door, Forward, Guide, Pending, Refusal, Settings, Target, UpstreamIo, serve,
};
use spawnery_model::{Id, InstanceId};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long anything may take that happens at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits with a deadline.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens in time")
}

/// Sends all hosts below `app.localhost` to one port of this machine.
struct Loopback {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Guide for Loopback {
    fn decide(&self, ask: &Ask<'_>) -> Decision {
        if self.is_api(ask.head.host(), "") {
            return Decision::Api;
        }
        let instance = InstanceId(Id::from_bits(1));
        Decision::Forward(Forward::to(Target { instance, port: self.port }))
    }

    fn is_api(&self, host: &str, _path: &str) -> bool {
        !host.starts_with("app.localhost")
    }

    fn dial(&self, target: Target) -> Pending<Result<UpstreamIo, Refusal>> {
        let connections = self.connections.clone();
        Box::pin(async move {
            let dialed = TcpStream::connect(("127.0.0.1", target.port)).await;
            let dialed = dialed.map_err(|error| Refusal::Unreachable { reason: error.to_string() });
            connections.fetch_add(1, Ordering::Relaxed);
            Ok(UpstreamIo::Tcp(dialed?))
        })
    }
}

/// A front door and the server behind it.
pub struct Bench {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Bench {
    /// Each connection to the server is handled by `handle`.
    pub async fn start<F, H>(handle: H) -> Bench
    where
        F: Future<Output = ()> + Send + 'static,
        H: Fn(Wire) -> F + Send + 'static,
    {
        Bench::with(Settings { threads: Some(1), ..Settings::default() }, handle).await
    }

    pub async fn with<F, H>(settings: Settings, handle: H) -> Bench
    where
        F: Future<Output = ()> + Send + 'static,
        H: Fn(Wire) -> F + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(handle(Wire::new(socket)));
            }
        });
        Bench::on_port(settings, port).await
    }

    /// With nobody behind it.
    pub async fn abandoned() -> Bench {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        Bench::on_port(Settings::default(), port).await
    }

    async fn on_port(settings: Settings, port: u16) -> Bench {
        let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = door.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let guide = Arc::new(Loopback { port, connections: connections.clone() });
        let api = Router::new().route("/api", get(async || "from the API\n"));
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(vec![Door::plain(door)], guide, api, settings, async {
            let _ = stopped.await;
        }));
        Bench { address, connections, stop: Some(stop), served }
    }

    /// A connection of a client.
    pub async fn client(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// How often the server was connected to.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Begins to stop it; the task ends when it has.
    pub fn stop(mut self) -> JoinHandle<std::io::Result<()>> {
        let _ = self.stop.take().expect("it is stopped once").send(());
        self.served
    }
}

/// One end of a connection, read and written as text.
pub struct Wire {
    pub socket: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub fn new(socket: TcpStream) -> Wire {
        socket.set_nodelay(true).unwrap();
        Wire { socket, read: Vec::new() }
    }

    pub async fn write(&mut self, text: impl AsRef<[u8]>) {
        soon(self.socket.write_all(text.as_ref())).await.unwrap();
    }

    /// All up to and with `mark`; what comes before the end if it never comes.
    pub async fn until(&mut self, mark: &str) -> String {
        loop {
            let mark = mark.as_bytes();
            let found = self.read.windows(mark.len()).position(|window| window == mark);
            let size = match found {
                Some(place) => place + mark.len(),
                None if self.fill().await == 0 => self.read.len(),
                None => continue,
            };
            return String::from_utf8_lossy(&self.read.drain(..size).collect::<Vec<_>>()).into();
        }
    }

    /// The next head, with lower-case names.
    pub async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await.to_ascii_lowercase()
    }

    /// So many bytes.
    pub async fn exactly(&mut self, size: usize) -> Vec<u8> {
        while self.read.len() < size {
            assert_ne!(self.fill().await, 0, "the connection ended early");
        }
        self.read.drain(..size).collect()
    }

    /// All up to the end of the connection.
    pub async fn rest(&mut self) -> String {
        while self.fill().await > 0 {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into()
    }

    /// Asks for a path and gives the answer's head.
    pub async fn get(&mut self, path: &str) -> String {
        self.write(format!("GET {path} HTTP/1.1\r\nHost: app.localhost\r\n\r\n")).await;
        self.head().await
    }

    async fn fill(&mut self) -> usize {
        // A connection that is reset has ended too.
        soon(self.socket.read_buf(&mut self.read)).await.unwrap_or(0)
    }
}

/// A server that answers each request by `OK` and the bytes of its head.
pub async fn telling(mut wire: Wire) {
    loop {
        let head = wire.until("\r\n\r\n").await;
        if !head.ends_with("\r\n\r\n") {
            return;
        }
        let length = head.len();
        wire.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}")).await;
    }
}
