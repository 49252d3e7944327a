//! Connections are reused, end as they should, and become tunnels.

use crate::support::{Bench, Wire, soon, telling};
use spawnery_gateway::Settings;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn connections_are_reused_on_both_sides() {
    let bench = Bench::start(telling).await;
    for _ in 0..2 {
        let mut client = bench.client().await;
        for path in ["/a?b=c%20d&&e", "/f//g/../h?", "/?q=a+b&x=%2F"] {
            let head = client.get(path).await;
            let length = head.split("content-length: ").nth(1).expect("a length");
            let length = length.lines().next().unwrap().parse().unwrap();
            let told = String::from_utf8(client.exactly(length).await).unwrap();
            assert!(
                told.starts_with(&format!("GET {path} HTTP/1.1\r\nhost: app.localhost\r\n")),
                "{told}"
            );
        }
    }
    assert_eq!(bench.connections(), 1);
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_their_order() {
    let bench = Bench::start(telling).await;
    let mut client = bench.client().await;
    let request = |path| format!("GET {path} HTTP/1.1\r\nHost: app.localhost\r\n");
    client.write(format!("{}\r\n{}Connection: close\r\n\r\n", request("/1"), request("/2"))).await;
    let answers = client.rest().await;
    assert!(answers.find("GET /1").unwrap() < answers.find("GET /2").unwrap(), "{answers}");
}

#[tokio::test]
async fn fields_of_one_hop_and_what_a_client_must_not_say_stay_behind() {
    let bench = Bench::start(telling).await;
    let mut client = bench.client().await;
    client
        .write(
            "GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\
             Keep-Alive: 5\r\nProxy-Connection: x\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\n\
             X-Verified-User: root\r\nX_Verified_User: root\r\nX-Mine: 1\r\nUpgrade: h2c\r\n\r\n",
        )
        .await;
    let answer = client.rest().await;
    let told = answer.split("\r\n\r\n").nth(1).expect("the head as it came");
    let expected = "GET / HTTP/1.1\r\nhost: app.localhost\r\nX-Mine: 1\r\n\
        x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: app.localhost\r\n\
        forwarded: for=127.0.0.1;host=\"app.localhost\";proto=http";
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let settings = Settings {
        trusted: vec!["127.0.0.0/8".parse().unwrap()],
        threads: Some(1),
        ..Settings::default()
    };
    let bench = Bench::with(settings, telling).await;
    let mut client = bench.client().await;
    client
        .write(
            "GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\
             X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\r\n",
        )
        .await;
    let answer = client.rest().await;
    assert!(answer.contains("x-forwarded-for: 1.2.3.4, 127.0.0.1\r\n"), "{answer}");
    assert!(answer.contains("x-forwarded-proto: https\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_goes_takes_its_request_with_it() {
    let (gone, told) = tokio::sync::oneshot::channel();
    let gone = std::sync::Mutex::new(Some(gone));
    let bench = Bench::start(move |mut wire: Wire| {
        let gone = gone.lock().unwrap().take().expect("one connection");
        async move {
            wire.head().await;
            wire.rest().await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let mut client = bench.client().await;
    client.write("GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    while bench.connections() == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    soon(told).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_ended_for_the_client() {
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let bench = Bench::start(move |mut wire: Wire| async move {
            wire.head().await;
            wire.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n3\r\nabc\r\n")).await;
        })
        .await;
        let mut client = bench.client().await;
        client.get("/").await;
        let rest = client.rest().await;
        assert!(rest.starts_with("3\r\nabc") && !rest.ends_with("0\r\n\r\n"), "{rest}");
    }
}

/// A server that answers the first request of each connection, and closes it at the second.
async fn forgetful(mut wire: Wire, requests: Arc<AtomicUsize>) {
    wire.head().await;
    requests.fetch_add(1, Ordering::Relaxed);
    wire.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    wire.head().await;
}

#[tokio::test]
async fn a_request_on_a_connection_that_had_ended_is_sent_again_if_that_is_safe() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let bench = Bench::start(move |wire| forgetful(wire, counted.clone())).await;
    let mut client = bench.client().await;
    for _ in 0..3 {
        assert!(client.get("/").await.starts_with("http/1.1 200 "));
    }
    assert_eq!((bench.connections(), requests.load(Ordering::Relaxed)), (3, 3));
    let post = "POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: 1\r\n\r\na";
    client.write(post).await;
    let answer = client.head().await;
    assert!(answer.starts_with("http/1.1 502 "), "{answer}");
    assert_eq!(bench.connections(), 3);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_with_a_reason() {
    let bench = Bench::abandoned().await;
    let mut client = bench.client().await;
    let head = client.get("/").await;
    assert!(head.starts_with("http/1.1 502 "), "{head}");
    assert!(head.contains("spawnery-reason: unreachable\r\n"), "{head}");
    assert!(head.contains("text/plain"), "{head}");
    client.until("\n").await;
    client
        .write("GET / HTTP/1.1\r\nHost: app.localhost\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
        .await;
    let page = client.rest().await;
    assert!(page.contains("content-type: text/html") && page.contains("<h1>Bad Gateway</h1>"));
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    let bench = Bench::start(|mut wire: Wire| async move {
        let head = wire.head().await;
        assert!(head.contains("connection: upgrade\r\nupgrade: echo\r\n"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n";
        wire.write(format!("{answer}\r\nwelcome")).await;
        assert_eq!(wire.until("end").await, "early, and later, end");
        wire.write("bye").await;
        assert_eq!(wire.rest().await, "");
        wire.write(", really").await;
    })
    .await;
    let mut client = bench.client().await;
    let head = "GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n";
    client.write(format!("{head}\r\nearly")).await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: echo\r\n"), "{head}");
    assert_eq!(client.until("welcome").await, "welcome");
    client.write(", and later, end").await;
    assert_eq!(client.until("bye").await, "bye");
    client.socket.shutdown().await.unwrap();
    assert_eq!(client.rest().await, ", really");
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let bench = Bench::start(|mut wire: Wire| async move {
        wire.head().await;
        wire.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
        wire.rest().await;
    })
    .await;
    let mut client = bench.client().await;
    let head = "GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n";
    client.write(format!("{head}\r\n")).await;
    assert!(client.head().await.starts_with("http/1.1 403 "));
    assert_eq!(client.exactly(2).await, b"no");
}

#[tokio::test]
async fn one_connection_reaches_services_and_the_api() {
    let bench = Bench::start(telling).await;
    let mut client = bench.client().await;
    for _ in 0..2 {
        assert!(client.get("/x").await.starts_with("http/1.1 200 "));
        client.until("\r\n\r\n").await;
        client.write("GET /api HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(client.head().await.starts_with("http/1.1 200 "));
        assert_eq!(client.until("\n").await, "from the API\n");
    }
}

#[tokio::test]
async fn a_stop_ends_what_is_idle_and_lets_the_rest_finish() {
    let (told, tell) = tokio::sync::oneshot::channel::<()>();
    let gate = std::sync::Mutex::new(Some(tell));
    let bench = Bench::start(move |mut wire: Wire| {
        let tell = gate.lock().unwrap().take().expect("one connection");
        async move {
            wire.head().await;
            wire.write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na").await;
            tell.await.unwrap();
            wire.write("bc").await;
        }
    })
    .await;
    let (mut idle, mut busy) = (bench.client().await, bench.client().await);
    busy.get("/").await;
    idle.write("GET /api HTTP/1.1\r\nHost: app.localhost\r\n").await;
    let stopped = bench.stop();
    assert_eq!(idle.rest().await, "");
    told.send(()).unwrap();
    assert_eq!(busy.rest().await, "abc");
    soon(stopped).await.unwrap().unwrap();
}
