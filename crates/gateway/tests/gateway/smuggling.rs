//! What could be read in two ways gets through to nobody.

use crate::support::{Bench, Wire, telling};
use std::sync::{Arc, Mutex};

/// Sends `bytes`, ends, and says the statuses of all answers.
async fn statuses(bench: &Bench, bytes: &str) -> Vec<u16> {
    let mut client = bench.client().await;
    client.write(bytes).await;
    let answers = client.rest().await;
    let statuses = answers.split("HTTP/1.1 ").skip(1);
    statuses.map(|rest| rest[..3].parse().expect("a status")).collect()
}

#[tokio::test]
async fn no_request_is_smuggled() {
    let seen = Arc::new(Mutex::new(String::new()));
    let into = seen.clone();
    let bench = Bench::start(move |mut wire: Wire| {
        let into = into.clone();
        async move {
            loop {
                let head = wire.until("\r\n\r\n").await;
                into.lock().unwrap().push_str(&head);
                if !head.ends_with("\r\n\r\n") {
                    return;
                }
            }
        }
    })
    .await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: app.localhost\r\n\r\n";
    let check = async |fields: &str, body: &str, expected: u16| {
        let head = format!("POST / HTTP/1.1\r\nHost: app.localhost\r\n{fields}\r\n");
        let found = statuses(&bench, &format!("{head}{body}{smuggled}")).await;
        assert_eq!(found, [expected], "{fields:?}");
        assert!(!seen.lock().unwrap().contains("smuggled"), "{fields:?}");
    };
    check("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", 400).await;
    check("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n", 400).await;
    check("Content-Length: 0\r\nContent-Length: 44\r\n", "", 400).await;
    check("Content-Length: 0\r\nContent-Length: 0\r\n", "", 400).await;
    check("Content-Length: 0, 0\r\n", "", 400).await;
    check("Content-Length: -1\r\n", "", 400).await;
    check("Content-Length: +0\r\n", "", 400).await;
    check("Content-Length: 0\n", "", 400).await;
    check("Content-Length : 0\r\n", "", 400).await;
    check("Content-Length\t: 0\r\n", "", 400).await;
    check("X: a\r\n Content-Length: 44\r\n", "", 400).await;
    check("X: a\r\n\tTransfer-Encoding: chunked\r\n", "", 400).await;
    check(" X: a\r\n", "", 400).await;
    check("X\0: a\r\n", "", 400).await;
    check("X: a\0b\r\n", "", 400).await;
    check("X: a\rContent-Length: 44\r\n", "", 400).await;
    check("Transfer-Encoding: xchunked\r\n", "", 501).await;
    check("Transfer-Encoding: chunked, identity\r\n", "", 501).await;
    check("Transfer-Encoding: identity\r\n", "", 501).await;
    check("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "", 501).await;
    check("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", 400).await;
    check("Transfer-Encoding: \"chunked\"\r\n", "", 501).await;
    check("Transfer-Encoding : chunked\r\n", "0\r\n\r\n", 400).await;
    check("Host: other\r\n", "", 400).await;
    let chunked = "Transfer-Encoding: chunked\r\n";
    check(chunked, "zz\r\n", 400).await;
    check(chunked, "0x5\r\nhello\r\n0\r\n\r\n", 400).await;
    check(chunked, "-5\r\nhello\r\n0\r\n\r\n", 400).await;
    check(chunked, "5\r\nhelloX\r\n0\r\n\r\n", 400).await;
    check(chunked, "5\nhello\r\n0\r\n\r\n", 400).await;
    check(chunked, "5 \r\nhello\r\n0\r\n\r\n", 400).await;
    check(chunked, "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n", 400).await;
    check(chunked, "0\r\nX: a\n\r\n\r\n", 400).await;
    check(chunked, "0\r\nX : a\r\n\r\n", 400).await;
}

#[tokio::test]
async fn malformed_request_lines_are_refused() {
    let bench = Bench::start(telling).await;
    let check = async |line: &str, expected: u16| {
        let text = format!("{line}\r\nHost: app.localhost\r\n\r\n");
        assert_eq!(statuses(&bench, &text).await, [expected], "{line:?}");
    };
    check("GET  / HTTP/1.1", 400).await;
    check("GET /\t HTTP/1.1", 400).await;
    check("GET / HTTP/1.1 x", 400).await;
    check("GET / HTTP/9.1", 400).await;
    check("GET /a b HTTP/1.1", 400).await;
    check("GET nothing HTTP/1.1", 400).await;
    check("CONNECT other:443 HTTP/1.1", 501).await;
    check("(GET) / HTTP/1.1", 400).await;
    assert_eq!(statuses(&bench, "GET / HTTP/1.1\r\n\r\n").await, [400]);
    assert_eq!(bench.connections(), 0);
}

#[tokio::test]
async fn an_answer_that_means_two_things_is_none() {
    let check = async |head: &'static str| {
        let bench = Bench::start(move |mut wire: Wire| async move {
            wire.head().await;
            wire.write(format!("{head}\r\n0\r\n\r\nHTTP/1.1 200 smuggled\r\n\r\n")).await;
        })
        .await;
        let mut client = bench.client().await;
        let answer = client.get("/").await;
        assert!(answer.starts_with("http/1.1 502 "), "{head}: {answer}");
        assert!(answer.contains("spawnery-reason: bad-answer"), "{head}: {answer}");
    };
    check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n").await;
    check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n").await;
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n").await;
    check("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n").await;
    check("nonsense\r\n").await;
}
