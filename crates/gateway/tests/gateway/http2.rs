//! Clients that speak HTTP/2.

use crate::support::{Bench, Wire, soon, telling};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, Version};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client that speaks HTTP/2 without having been asked.
async fn client(bench: &Bench) -> SendRequest<Body> {
    let socket = TcpStream::connect(bench.address).await.unwrap();
    let made = handshake(TokioExecutor::new(), TokioIo::new(socket)).await;
    let (sender, connection) = made.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(method: Method, path: &str) -> axum::http::request::Builder {
    let uri = format!("http://app.localhost{path}");
    Request::builder().method(method).version(Version::HTTP_2).uri(uri)
}

#[tokio::test]
async fn requests_of_one_connection_reach_services_and_the_api() {
    let bench = Bench::start(telling).await;
    let mut client = client(&bench).await;
    for _ in 0..3 {
        let asked = request(Method::GET, "/p?q=1").header("cookie", "a=1").header("cookie", "b=2");
        let answer = client.send_request(asked.body(Body::empty()).unwrap());
        let answer = soon(answer).await.unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
        let told = soon(answer.into_body().collect()).await.unwrap().to_bytes();
        let told = String::from_utf8(told.to_vec()).unwrap();
        assert!(told.starts_with("GET /p?q=1 HTTP/1.1\r\nhost: app.localhost\r\n"), "{told}");
        assert!(told.contains("cookie: a=1; b=2\r\n"), "{told}");
        assert!(told.contains("x-forwarded-for: 127.0.0.1\r\n"), "{told}");
        let asked = Request::get("http://localhost/api").body(Body::empty()).unwrap();
        let answer = soon(client.send_request(asked)).await.unwrap();
        let text = soon(answer.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(&text[..], b"from the API\n");
    }
}

#[tokio::test]
async fn bodies_and_trailers_pass() {
    let bench = Bench::start(|mut wire: Wire| async move {
        assert!(wire.head().await.contains("transfer-encoding: chunked"));
        let body = wire.until("0\r\n\r\n").await;
        assert!(body.contains("hello"), "{body}");
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n";
        wire.write(format!("{head}\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n")).await;
    })
    .await;
    let frames =
        futures::stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from("hello")))]);
    let asked = request(Method::POST, "/").body(Body::new(StreamBody::new(frames))).unwrap();
    let answer = soon(client(&bench).await.send_request(asked)).await.unwrap();
    let collected = soon(answer.into_body().collect()).await.unwrap();
    assert_eq!(collected.trailers().expect("trailers")["x-sum"], "7");
    assert_eq!(&collected.to_bytes()[..], b"abc");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let bench = Bench::start(|mut wire: Wire| async move {
        wire.head().await;
        wire.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
    })
    .await;
    let asked = request(Method::GET, "/").body(Body::new(Full::from(""))).unwrap();
    let mut client = client(&bench).await;
    // The end may come before somebody looks at the beginning.
    if let Ok(answer) = soon(client.send_request(asked)).await {
        assert!(soon(answer.into_body().collect()).await.is_err());
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_ends_its_request() {
    let (gone, told) = tokio::sync::oneshot::channel();
    let gone = std::sync::Mutex::new(Some(gone));
    let bench = Bench::start(move |mut wire: Wire| {
        let gone = gone.lock().unwrap().take().expect("one connection");
        async move {
            wire.head().await;
            wire.write("HTTP/1.1 200 OK\r\n\r\nfirst").await;
            wire.rest().await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let mut client = client(&bench).await;
    let asked = request(Method::GET, "/").body(Body::empty()).unwrap();
    let mut answer = soon(client.send_request(asked)).await.unwrap();
    soon(answer.body_mut().frame()).await.unwrap().unwrap();
    drop(answer);
    soon(told).await.unwrap();
}

#[tokio::test]
async fn a_connect_with_a_protocol_becomes_an_upgrade() {
    let bench = Bench::start(|mut wire: Wire| async move {
        let head = wire.head().await;
        assert!(head.starts_with("get /ws http/1.1\r\n"), "{head}");
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("sec-websocket-key: "), "{head}");
        wire.write(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\nhi",
        )
        .await;
        assert_eq!(wire.until("there").await, "there");
        wire.write("bye").await;
    })
    .await;
    let asked = request(Method::CONNECT, "/ws").extension(Protocol::from_static("websocket"));
    let asked = asked.header("sec-websocket-version", "13").body(Body::empty()).unwrap();
    let mut client = client(&bench).await;
    let answer = soon(client.send_request(asked)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    let mut stream = TokioIo::new(soon(hyper::upgrade::on(answer)).await.unwrap());
    soon(stream.write_all(b"there")).await.unwrap();
    let mut text = String::new();
    soon(stream.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "hibye");
}
