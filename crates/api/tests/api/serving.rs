//! Over real connections.

use crate::common::{Api, TOKEN};
use spawnery_api::{Config, Stopping};
use spawnery_gateway::{Domains, Door, Gateway, Settings};
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Serves the API at the address until `shutdown` is over.
fn serve(api: &Api, shutdown: impl Future<Output = ()> + Send + 'static) -> (SocketAddr, Served) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (doors, settings) = (vec![Door::plain(listener)], Settings::default());
    let gateway = Gateway::new(api.controller.clone(), None, Domains::default());
    (address, tokio::spawn(gateway.serve(doors, api.router.clone(), settings, shutdown)))
}

type Served = tokio::task::JoinHandle<std::io::Result<()>>;

#[tokio::test]
async fn a_server_that_stops_ends_its_streams_and_then_itself() {
    let (stop, stopping) = watch::channel(false);
    let config = Config { stopping: Stopping::new(stopping), ..Config::default() };
    let api = Api::start_with(config).await;
    let mut told = stop.subscribe();
    let (address, server) = serve(&api, async move {
        let _ = told.wait_for(|stopping| *stopping).await;
    });

    let mut socket = BufReader::new(TcpStream::connect(address).await.unwrap());
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut line = String::new();
    socket.read_line(&mut line).await.unwrap();
    assert_eq!(line, "HTTP/1.1 200 OK\r\n");
    stop.send(true).unwrap();
    let mut rest = String::new();
    socket.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest}");
    server.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let api = Api::with_manifest().await;
    let (address, server) = serve(&api, std::future::pending());
    let mut socket = BufReader::new(TcpStream::connect(address).await.unwrap());
    for _ in 0..3 {
        let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut line = String::new();
        while line != "ok\n" {
            line.clear();
            assert_ne!(socket.read_line(&mut line).await.unwrap(), 0);
        }
    }
    server.abort();
}
