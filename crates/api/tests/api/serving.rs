//! Over real connections.

use crate::common::{Api, TOKEN};
use spawnery_api::{Config, Stopping, serve};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[tokio::test]
async fn a_server_that_stops_ends_its_streams_and_then_itself() {
    let (stop, stopping) = watch::channel(false);
    let config = Config { stopping: Stopping::new(stopping), ..Config::default() };
    let api = Api::start_with(config).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut told = stop.subscribe();
    let server = tokio::spawn(serve(listener, api.router.clone(), async move {
        let _ = told.wait_for(|stopping| *stopping).await;
    }));

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
    server.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let api = Api::with_manifest().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, api.router.clone(), std::future::pending()));
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
