//! What a stream promises when its connection breaks: nothing missed, nothing twice.

use spawnery_client::api::LogRecordView;
use spawnery_client::{Client, ErrorKind, LogItem, LogQuery};
use spawnery_model::{Id, InstanceId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn output(sequence: u64) -> String {
    let data = format!(
        r#"{{"sequence":{sequence},"at_ms":0,"stream":"stdout","text":"line {sequence}\n"}}"#
    );
    format!("event: output\nid: {sequence}\ndata: {data}\n\n")
}

const EXITED: &str = "event: exited\ndata: {\"process\":0,\"exit\":null,\"end\":null}\n\n";

/// Reads the head of a request.
async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

/// Answers each connection with the next of `answers`; gives back the heads of the requests.
async fn serve(listener: TcpListener, answers: Vec<String>) -> Vec<String> {
    let mut heads = Vec::new();
    for answer in answers {
        let (mut socket, _) = listener.accept().await.unwrap();
        heads.push(head(&mut socket).await);
        socket.write_all(answer.as_bytes()).await.unwrap();
    }
    heads
}

fn stream(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{body}")
}

fn problem(status: u16) -> String {
    let body =
        format!(r#"{{"type":"about:blank","title":"t","status":{status},"detail":"the reason"}}"#);
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

async fn start(answers: Vec<String>) -> (Client, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(serve(listener, answers));
    (Client::new(&url, None).unwrap(), served)
}

fn instance() -> InstanceId {
    InstanceId(Id::from_bits(7))
}

#[tokio::test]
async fn a_log_goes_on_after_the_last_record_when_its_connection_breaks() {
    let answers = vec![
        // Cut in the middle of the third record.
        stream(&format!("{}{}{}", output(1), output(2), &output(3)[..20])),
        problem(503),
        // A server that repeats a record is not believed.
        stream(&format!("{}{}{}{EXITED}", output(2), output(3), output(4))),
    ];
    let (client, served) = start(answers).await;
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let mut log = client.logs(instance(), &query);
    let mut sequences = Vec::new();
    while let Some(item) = log.next().await.unwrap() {
        if let LogItem::Output(LogRecordView { sequence, .. }) = item {
            sequences.push(sequence);
        }
    }
    assert_eq!(sequences, [1, 2, 3, 4]);
    let heads = served.await.unwrap();
    assert!(!heads[0].contains("last-event-id"));
    assert!(heads[2].contains("last-event-id: 2\r\n"), "{}", heads[2]);
}

#[tokio::test]
async fn a_refusal_is_told_at_once_with_its_reason() {
    let (client, served) = start(vec![problem(404)]).await;
    let error = client.logs(instance(), &LogQuery::default()).next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "the reason");
    served.await.unwrap();
}

#[tokio::test]
async fn no_server_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(&url, None).unwrap();
    let mut events = client.events(None);
    let error = events.next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoServer);
    assert!(error.hint().unwrap().contains("spawnery server"));
}

#[tokio::test]
async fn a_creating_call_is_repeated_under_the_same_key() {
    let created = r#"{"id":"0000000000000007"}"#;
    let length = created.len();
    let answers = vec![
        // The connection breaks before the answer is complete.
        "HTTP/1.1 2".to_owned(),
        format!("HTTP/1.1 201 Created\r\ncontent-length: {length}\r\n\r\n{created}"),
    ];
    let (client, served) = start(answers).await;
    let created = client.run_job("tick").await.unwrap();
    assert_eq!(created.id.to_string(), "0000000000000007");
    let heads = served.await.unwrap();
    let key = |head: &String| {
        let line = head.lines().find(|line| line.starts_with("idempotency-key:"));
        line.unwrap().to_owned()
    };
    assert!(heads[0].starts_with("post /v1/jobs/tick/runs "));
    assert_eq!(key(&heads[0]), key(&heads[1]));
}
