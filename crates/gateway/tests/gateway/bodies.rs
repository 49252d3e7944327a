//! Bodies flow both ways, in every framing, and nothing of them is kept.

use crate::support::{Bench, Wire};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";

#[tokio::test]
async fn both_ways_flow_at_once() {
    let bench = Bench::start(|mut wire: Wire| async move {
        assert!(wire.head().await.contains("transfer-encoding: chunked"));
        wire.write(format!("{CHUNKED}\r\n")).await;
        loop {
            let size = wire.until("\r\n").await;
            let piece = wire.until("\r\n").await;
            wire.write(format!("{size}{piece}")).await;
            if size == "0\r\n" {
                return;
            }
        }
    })
    .await;
    let mut client = bench.client().await;
    let head = "POST / HTTP/1.1\r\nHost: app.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write(head).await;
    assert!(client.head().await.contains("transfer-encoding: chunked"));
    for piece in ["one", "two", "three"] {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        client.write(&chunk).await;
        // The next one is not written before this one is back.
        assert_eq!(String::from_utf8(client.exactly(chunk.len()).await).unwrap(), chunk);
    }
    client.write("0\r\n\r\n").await;
    assert_eq!(client.until("\r\n\r\n").await, "0\r\n\r\n");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let bench = Bench::start(|mut wire: Wire| async move {
        let head = wire.head().await;
        assert!(head.contains("te: trailers") && head.contains("trailer: x-sum"), "{head}");
        let body = wire.until("x-sum: 1\r\n\r\n").await;
        assert_eq!(body, "1\r\na\r\n0\r\nx-sum: 1\r\n\r\n");
        wire.write(format!("{CHUNKED}Trailer: X-Sum\r\n\r\n1\r\nb\r\n0\r\nX-Sum: 2\r\n\r\n")).await;
    })
    .await;
    let mut client = bench.client().await;
    client
        .write(
            "POST / HTTP/1.1\r\nHost: app.localhost\r\nTE: trailers\r\nTrailer: x-sum\r\n\
             Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 1\r\nx-verified-user: me\r\n\r\n",
        )
        .await;
    assert!(client.head().await.contains("trailer: x-sum"));
    assert_eq!(client.until("X-Sum: 2\r\n\r\n").await, "1\r\nb\r\n0\r\nX-Sum: 2\r\n\r\n");
}

#[tokio::test]
async fn a_client_that_expects_continue_hears_it_from_the_server() {
    let bench = Bench::start(|mut wire: Wire| async move {
        assert!(wire.head().await.contains("expect: 100-continue"));
        wire.write("HTTP/1.1 100 Continue\r\n\r\n").await;
        let body = wire.exactly(5).await;
        assert_eq!(body, b"hello");
        wire.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    })
    .await;
    let mut client = bench.client().await;
    let head = "POST / HTTP/1.1\r\nHost: app.localhost\r\nExpect: 100-continue\r\n";
    client.write(format!("{head}Content-Length: 5\r\n\r\n")).await;
    assert_eq!(client.head().await, "http/1.1 100 continue\r\n\r\n");
    client.write("hello").await;
    assert!(client.head().await.starts_with("http/1.1 204 "));
}

#[tokio::test]
async fn events_arrive_while_their_stream_is_open() {
    let bench = Bench::start(|mut wire: Wire| async move {
        wire.head().await;
        wire.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
        // It ends only after the client has gone.
        wire.rest().await;
    })
    .await;
    let mut client = bench.client().await;
    assert!(client.get("/").await.contains("text/event-stream"));
    assert_eq!(client.until("data: 1\n\n").await, "9\r\ndata: 1\n\n");
}

#[tokio::test]
async fn large_bodies_pass_whole() {
    const SIZE: usize = 40 << 20;
    let bench = Bench::start(|mut wire: Wire| async move {
        assert!(wire.head().await.contains(&format!("content-length: {SIZE}\r\n")));
        let body = wire.exactly(SIZE).await;
        wire.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        wire.write(body).await;
    })
    .await;
    let body: Vec<u8> = (0..SIZE).map(|place| (place ^ (place >> 9)) as u8).collect();
    let mut client = bench.client().await;
    let head = format!("PUT / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: {SIZE}\r\n\r\n");
    client.write(head).await;
    client.write(&body).await;
    client.head().await;
    assert!(client.exactly(SIZE).await == body);
}

#[tokio::test]
async fn a_slow_reader_slows_the_writer_down() {
    let (told, tell) = tokio::sync::oneshot::channel::<()>();
    let gate = std::sync::Mutex::new(Some(tell));
    let bench = Bench::start(move |mut wire: Wire| {
        let tell = gate.lock().unwrap().take().expect("one connection");
        async move {
            wire.head().await;
            // It reads only when it is told to.
            tell.await.unwrap();
            wire.exactly(96 << 20).await;
            wire.write("HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    let mut client = bench.client().await;
    let head = "PUT / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 100663296\r\n\r\n";
    client.write(head).await;
    let piece = vec![7; 1 << 20];
    let mut written = 0;
    // What the sockets of this machine and the gateway hold is far less than all.
    loop {
        client.socket.writable().await.unwrap();
        match client.socket.try_write(&piece) {
            Ok(size) => written += size,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let more = tokio::time::timeout(
                    std::time::Duration::from_secs(1),
                    client.socket.writable(),
                );
                if more.await.is_err() {
                    break;
                }
            }
            Err(error) => panic!("{error}"),
        }
        assert!(written < 64 << 20, "the gateway keeps what nobody reads");
    }
    told.send(()).unwrap();
    while written < 96 << 20 {
        let size = piece.len().min((96 << 20) - written);
        client.write(&piece[..size]).await;
        written += size;
    }
    assert!(client.head().await.starts_with("http/1.1 204 "));
}

#[tokio::test]
async fn every_framing_of_an_answer_reaches_every_client() {
    let check = async |answer: &'static str, version: &str, expected: &str| {
        let bench = Bench::start(move |mut wire: Wire| async move {
            wire.head().await;
            wire.write(answer).await;
        })
        .await;
        let mut client = bench.client().await;
        client
            .write(format!(
                "GET / HTTP/{version}\r\nHost: app.localhost\r\nConnection: close\r\n\r\n"
            ))
            .await;
        client.head().await;
        assert_eq!(client.rest().await, expected, "{answer:?} {version}");
    };
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let until_close = "HTTP/1.0 200 OK\r\n\r\nabc";
    check(length, "1.1", "abc").await;
    check(length, "1.0", "abc").await;
    check(chunks, "1.1", "3\r\nabc\r\n0\r\n\r\n").await;
    check(chunks, "1.0", "abc").await;
    check(until_close, "1.1", "3\r\nabc\r\n0\r\n\r\n").await;
    check(until_close, "1.0", "abc").await;
}
