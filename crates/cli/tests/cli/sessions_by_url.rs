//! Sessions at their URLs: woken by a request, by key, for whom they are.

use crate::support::{DEADLINE, Home, Server, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Tells each request what it got: instance, path and fields. `/ticks` is a stream without end.
const TOOL: &str = r#"
import json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/ticks":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            while True:
                self.wfile.write(b"data: tick\n\n")
                time.sleep(0.1)
        fields = {name.lower(): value for name, value in self.headers.items()}
        told = {"instance": os.environ["SPAWNERY_INSTANCE"], "path": self.path, "fields": fields}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer.request_queue_size = 256
ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"#;

/// A server with a template of each kind of access.
fn server(auth: Option<u16>) -> Server {
    let server = Server::start();
    let tool = TOOL.replace('\n', "\n        ");
    let mut manifest = String::from("sessions:\n");
    let auth = auth.map(|port| format!("{{forward: 'http://127.0.0.1:{port}/auth'}}"));
    let kinds = [("tool", Some("public".to_owned())), ("own", None), ("asked", auth)];
    for (name, access) in kinds {
        let access = access.map_or_else(String::new, |access| format!("    access: {access}\n"));
        manifest += &format!(
            "  {name}:\n    run: [python3, /srv/tool.py]\n    ports: [8000]\n    memory: 64M\n\
             {access}    files:\n      /srv/tool.py: |\n        {tool}\n"
        );
    }
    manifest += "  slow:\n    run: 'sleep 3; exec python3 -m http.server --bind 127.0.0.1 8000'\n    \
        ports: [8000]\n    memory: 64M\n    access: public\n";
    manifest += "  broken:\n    run: 'echo no; exit 3'\n    ports: [8000]\n    memory: 16M\n    \
        access: public\n";
    server.apply(&manifest);
    server
}

/// An answer, as far as tests look at it.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}{}", self.head, self.body))
    }

    fn field(&self, name: &str) -> String {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value.to_owned())
            .unwrap_or_default()
    }
}

fn connect(url: &str) -> (TcpStream, String) {
    let address = url.strip_prefix("http://").expect("plain HTTP");
    let socket = TcpStream::connect(address).expect("the server listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    (socket, address.rsplit(':').next().expect("a port").to_owned())
}

/// Asks a host for a path, with further lines in the head.
fn ask(url: &str, host: &str, path: &str, lines: &str) -> Answer {
    let (mut socket, port) = connect(url);
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n{lines}\r\n");
    socket.write_all(head.as_bytes()).expect("it reads");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("it answers");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.get(9..12).and_then(|it| it.parse().ok());
    let head = head.to_ascii_lowercase();
    Answer { status: status.unwrap_or_else(|| panic!("{text:?}")), head, body: body.to_owned() }
}

fn sessions(server: &Server, template: &str) -> usize {
    let found = server.home.json(&["instances", template]);
    found.as_array().expect("a list").len()
}

#[test]
fn requests_to_one_new_key_start_exactly_one_session() {
    let server = server(None);
    let instances: BTreeSet<String> = std::thread::scope(|scope| {
        let one = || {
            let answer = ask(&server.url, "alice.tool.localhost", "/a?b=c%20d", "");
            assert_eq!(answer.status, 200, "{}{}", answer.head, answer.body);
            assert_eq!(answer.json()["path"], "/a?b=c%20d");
            answer.json()["instance"].as_str().expect("an id").to_owned()
        };
        let all: Vec<_> = (0..100).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|it| it.join().expect("an answer")).collect()
    });
    assert_eq!((instances.len(), sessions(&server, "tool")), (1, 1));
    let other = ask(&server.url, "bob.tool.localhost", "/", "").json();
    assert!(!instances.contains(other["instance"].as_str().expect("an id")));
}

#[test]
fn a_session_that_was_ended_is_started_anew() {
    let server = server(None);
    let first = ask(&server.url, "alice.tool.localhost", "/", "").json();
    let first = first["instance"].as_str().expect("an id").to_owned();
    server.home.output(&["session", "end", &first]).expect(0);
    let second = ask(&server.url, "alice.tool.localhost", "/", "").json();
    assert_ne!(second["instance"], first.as_str());
}

#[test]
fn a_path_leads_to_the_same_session_and_is_told() {
    let server = server(None);
    let by_host = ask(&server.url, "alice.tool.localhost", "/", "X-Verified-User: root\r\n").json();
    let by_path = ask(&server.url, "127.0.0.1", "/s/tool/alice/x/?y=z", "").json();
    assert_eq!(by_path["instance"], by_host["instance"]);
    assert_eq!(by_path["path"], "/x/?y=z");
    assert_eq!(by_path["fields"]["x-forwarded-prefix"], "/s/tool/alice");
    assert_eq!(by_host["fields"]["x-verified-user"], Value::Null);
    let bare = ask(&server.url, "127.0.0.1", "/s/tool/alice?a=b", "");
    assert_eq!((bare.status, bare.field("location").as_str()), (308, "/s/tool/alice/?a=b"));
    let unknown = ask(&server.url, "alice.nothing.localhost", "/", "");
    assert_eq!((unknown.status, unknown.field("spawnery-reason").is_empty()), (404, false));
    assert_eq!(ask(&server.url, "tool.localhost", "/", "").field("spawnery-reason"), "key-needed");
}

#[test]
fn a_start_that_fails_is_told_with_its_reason() {
    let server = server(None);
    let answer = ask(&server.url, "alice.broken.localhost", "/", "");
    assert_eq!((answer.status, answer.field("spawnery-reason").as_str()), (502, "start-failed"));
    assert!(answer.body.contains("exit code 3"), "{}", answer.body);
}

#[test]
fn a_browser_waits_on_a_page_that_follows_the_start() {
    let server = server(None);
    let page = ask(&server.url, "alice.slow.localhost", "/", "Accept: text/html,*/*\r\n");
    assert_eq!((page.status, page.field("spawnery-reason").as_str()), (202, "starting"));
    assert!(page.body.contains("data-wait=\"/.spawnery/wait\""), "{}", page.body);
    let mut states = BTreeSet::new();
    wait_for("the session", || {
        let state = ask(&server.url, "alice.slow.localhost", "/.spawnery/wait", "").json();
        let state = state["state"].as_str().expect("a state").to_owned();
        states.insert(state.clone());
        (state == "ready").then_some(())
    });
    assert!(states.is_subset(&["starting", "ready"].map(str::to_owned).into()), "{states:?}");
    let listing = ask(&server.url, "alice.slow.localhost", "/", "Accept: text/html,*/*\r\n");
    assert_eq!(listing.status, 200, "{}", listing.body);
    let failed = ask(&server.url, "alice.broken.localhost", "/", "Accept: text/html\r\n");
    let told = match failed.status {
        202 => wait_for("the failure", || {
            let state = ask(&server.url, "alice.broken.localhost", "/.spawnery/wait", "").json();
            (state["state"] == "failed").then(|| state["note"].as_str().unwrap_or("").to_owned())
        }),
        _ => failed.body,
    };
    assert!(told.contains("exit code 3"), "{told}");
}

#[test]
fn a_request_that_lasts_keeps_its_session_awake() {
    let server = Server::start();
    let tool = TOOL.replace('\n', "\n        ");
    server.apply(&format!(
        "sessions:\n  tool:\n    run: [python3, /srv/tool.py]\n    ports: [8000]\n    \
         memory: 64M\n    access: public\n    idle_timeout: 1s\n    files:\n      /srv/tool.py: |\n        {tool}\n"
    ));
    let (mut socket, port) = connect(&server.url);
    let head = format!("GET /ticks HTTP/1.1\r\nHost: alice.tool.localhost:{port}\r\n\r\n");
    socket.write_all(head.as_bytes()).expect("it reads");
    let lines = BufReader::new(socket).lines().map(|line| line.expect("it goes on"));
    // Four times as long as it may be idle.
    assert_eq!(lines.filter(|line| line.contains("tick")).take(40).count(), 40);
    wait_for("its end", || {
        let found = server.home.json(&["instances", "tool", "--phase", "ended"]);
        found.as_array().is_some_and(|found| !found.is_empty()).then_some(())
    });
}

fn token(home: &Home, subject: &str) -> (String, String) {
    let made = home.json(&["token", "create", "--subject", subject]);
    let text = |field: &str| made[field].as_str().expect("a text").to_owned();
    (text("token"), text("id"))
}

#[test]
fn a_token_lets_its_owner_in_until_it_is_revoked() {
    let server = server(None);
    let host = "alice.own.localhost";
    let (ann, id) = token(&server.home, "ann");
    let (bob, _) = token(&server.home, "bob");
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let refused = ask(&server.url, host, "/", "");
    assert_eq!((refused.status, refused.field("spawnery-reason").as_str()), (401, "unauthorized"));
    assert_eq!(ask(&server.url, host, "/", &bearer("nonsense")).status, 401);
    assert_eq!(sessions(&server, "own"), 0);
    let told = ask(&server.url, host, "/", &bearer(&ann)).json();
    assert_eq!(told["fields"]["x-verified-user"], "ann");
    assert_eq!(told["fields"]["authorization"], Value::Null);
    assert_eq!(ask(&server.url, host, "/", &bearer(&bob)).status, 403);

    let kept = ask(&server.url, host, &format!("/x?a=b&spawnery_token={ann}"), "");
    assert_eq!((kept.status, kept.field("location").as_str()), (303, "/x?a=b"));
    assert!(kept.field("set-cookie").contains("httponly"), "{}", kept.head);
    let cookie = format!("Cookie: other=1; spawnery_session={ann}\r\n");
    let told = ask(&server.url, host, "/", &cookie).json();
    assert_eq!(told["fields"]["cookie"], "other=1");
    let foreign = format!(
        "{cookie}Origin: http://evil.own.localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    );
    assert_eq!(ask(&server.url, host, "/", &foreign).status, 403);

    let (mut socket, port) = connect(&server.url);
    let head = format!("GET /ticks HTTP/1.1\r\nHost: {host}:{port}\r\n{}\r\n", bearer(&ann));
    socket.write_all(head.as_bytes()).expect("it reads");
    let mut lines = BufReader::new(socket).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("tick")));
    server.home.output(&["token", "revoke", &id]).expect(0);
    // What is open ends, and nothing new begins.
    assert!(lines.count() < 10_000);
    assert_eq!(ask(&server.url, host, "/", &bearer(&ann)).status, 401);
}

#[test]
fn a_server_of_ones_own_says_who_may_come() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let mut head = String::new();
            let mut reader = BufReader::new(socket.try_clone().expect("a second handle"));
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|it| it > 0)
            {
            }
            let head = head.to_ascii_lowercase();
            let is_told = head.contains("x-forwarded-method: get\r\n")
                && head.contains("x-forwarded-uri: /x?y\r\n")
                && head.contains("x-forwarded-host: alice.asked.localhost");
            let answer = match is_told && head.contains("cookie: sid=1") {
                true => "HTTP/1.1 200 OK\r\nX-Verified-User: ann\r\nX-Verified-Team: red\r\n",
                false => "HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\n",
            };
            let end = "Connection: close\r\nContent-Length: 0\r\n\r\n";
            let _ = socket.write_all(format!("{answer}{end}").as_bytes());
        }
    });
    let server = server(Some(port));
    let refused = ask(&server.url, "alice.asked.localhost", "/x?y", "");
    assert_eq!(
        (refused.status, refused.field("location").as_str()),
        (302, "https://login.example/")
    );
    let told = ask(&server.url, "alice.asked.localhost", "/x?y", "Cookie: sid=1\r\n").json();
    let fields = &told["fields"];
    assert_eq!(fields["x-verified-user"], json!("ann"));
    assert_eq!(fields["x-verified-team"], json!("red"));
}
