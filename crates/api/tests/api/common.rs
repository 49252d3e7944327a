//! An API to test against.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use futures::StreamExt;
use serde_json::Value;
use spawnery_api::{Config, PublicAddress, router};
use spawnery_controller::Controller;
use spawnery_controller::access::{Config as AccessConfig, Verifier};
use std::time::Duration;
use tower::ServiceExt;

pub(crate) const TOKEN: &str = "spawnery_0123456789abcdef0123456789abcdef";
pub(crate) const FINGERPRINT: &str = "c0ffee";

/// How long a test waits for what must come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A manifest with one workload of each kind; the job is called `remove` like a path.
pub(crate) const MANIFEST: &str = r#"{
    "services": {"web": {"run": ["perl", "web.pl"], "ports": [8000], "env": {"PASSWORD": "hunter2"}}},
    "jobs": {"remove": {"run": "date", "schedule": "0 0 1 1 *"}},
    "sessions": {"shell": {"run": ["bash"], "stdin": true}}
}"#;

pub(crate) struct Api {
    pub(crate) router: Router,
    pub(crate) controller: Controller,
    _folder: tempfile::TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Api {
    pub(crate) async fn start() -> Api {
        let config = Config {
            version: "1.2.3".to_owned(),
            host_names: None,
            public: Some(PublicAddress {
                scheme: "http".to_owned(),
                domain: "localhost".to_owned(),
                port: Some(9000),
            }),
            authority_fingerprint: Some(FINGERPRINT.to_owned()),
            ..Config::default()
        };
        Api::start_with(config).await
    }

    pub(crate) async fn start_with(config: Config) -> Api {
        Api::start_for(AccessConfig::of_admin(TOKEN), config).await
    }

    /// Starts for those whom `access` says.
    pub(crate) async fn start_for(access: AccessConfig, config: Config) -> Api {
        let folder = tempfile::tempdir().unwrap();
        let journal = spawnery_controller::Config::in_folder(folder.path());
        let controller = Controller::start(journal).await.unwrap();
        let verifier = Verifier::start(&controller, access).await.unwrap();
        let router = router(controller.clone(), verifier, config);
        Api { router, controller, _folder: folder }
    }

    /// Starts with [`MANIFEST`] applied.
    pub(crate) async fn with_manifest() -> Api {
        let api = Api::start().await;
        api.put("/v1/manifest", MANIFEST).await.expect(200);
        api
    }

    pub(crate) async fn request(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
        Answer { status: head.status, headers: head.headers, body }
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        self.send_with(method, path, &[], body).await
    }

    pub(crate) async fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("authorization", format!("Bearer {TOKEN}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.request(request.body(body.into()).unwrap()).await
    }

    /// Sends a request that shows `token`.
    pub(crate) async fn send_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: impl Into<Body>,
    ) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {token}"));
        self.request(request.body(body.into()).unwrap()).await
    }

    /// Makes a token, and gives it with its id.
    pub(crate) async fn token(&self, subject: &str, roles: &[&str]) -> (String, String) {
        let request = serde_json::json!({ "subject": subject, "roles": roles });
        let created = self.post("/v1/tokens", &request.to_string()).await.expect(201);
        let field = |name: &str| created[name].as_str().unwrap().to_owned();
        (field("token"), field("id"))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Body::empty()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &str) -> Answer {
        self.send("PUT", path, body.to_owned()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, body.to_owned()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, Body::empty()).await
    }

    /// Creates a session from the template and gives its id.
    pub(crate) async fn session(&self) -> String {
        let created = self.post("/v1/sessions", r#"{"template": "shell"}"#).await.expect(201);
        created["id"].as_str().unwrap().to_owned()
    }

    /// Waits until the instance is in this phase.
    pub(crate) async fn wait_for_phase(&self, id: &str, phase: &str) -> Value {
        let wait = async {
            loop {
                let shown = self.get(&format!("/v1/instances/{id}")).await.expect(200);
                if shown["phase"] == phase {
                    return shown;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, wait).await;
        waited.unwrap_or_else(|_| panic!("instance {id} never became {phase}"))
    }

    /// Opens a stream.
    pub(crate) async fn stream(&self, path: &str, headers: &[(&str, &str)]) -> Stream {
        self.stream_as(TOKEN, path, headers).await
    }

    /// Opens a stream that shows `token`.
    pub(crate) async fn stream_as(
        &self,
        token: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Stream {
        let mut request = Request::builder().uri(path);
        request = request.header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let pieces = response.into_body().into_data_stream();
        Stream { pieces, text: String::new() }
    }
}

impl Answer {
    /// The body as JSON, if the status is `status`.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status.as_u16(), status, "{body}");
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {body}"))
    }

    /// Checks the status of an answer without a body.
    #[track_caller]
    pub(crate) fn is(self, status: u16) {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status.as_u16(), status, "{body}");
    }

    /// The problem of this code, with what every problem has.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem = self.expect(status);
        assert_eq!(problem["type"], format!("urn:spawnery:problem:{code}"), "{problem}");
        assert_eq!(problem["status"], status);
        for field in ["title", "detail", "instance"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        problem
    }
}

/// Server-Sent Events, as they come.
pub(crate) struct Stream {
    pieces: axum::body::BodyDataStream,
    text: String,
}

/// One event.
#[derive(Debug, PartialEq)]
pub(crate) struct Sent {
    pub(crate) kind: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl Stream {
    /// The next event; none when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Sent> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let sent = read_event(block);
                self.text = rest.to_owned();
                if sent.is_some() {
                    return sent;
                }
            }
            let piece = tokio::time::timeout(DEADLINE, self.pieces.next()).await;
            let piece = piece.expect("an event comes in time")?.unwrap();
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// The id that the stream begins with.
    pub(crate) async fn start(&mut self) -> String {
        let piece = self.pieces.next().await.unwrap().unwrap();
        let text = std::str::from_utf8(&piece).unwrap();
        let id = text.lines().find_map(|line| line.strip_prefix("id: "));
        id.expect("the greeting has an id").to_owned()
    }

    /// The next event, which is of this kind.
    pub(crate) async fn expect(&mut self, kind: &str) -> Sent {
        let sent = self.next().await.expect("the stream goes on");
        assert_eq!(sent.kind, kind, "{sent:?}");
        sent
    }
}

fn read_event(block: &str) -> Option<Sent> {
    let field = |name: &str| {
        let mut lines = block.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let data = field("data")?;
    Some(Sent {
        kind: field("event").unwrap_or_default().to_owned(),
        id: field("id").map(str::to_owned),
        data: serde_json::from_str(data).unwrap(),
    })
}
