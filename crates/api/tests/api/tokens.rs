//! Tokens are made, listed and revoked, and what is open in their name ends.

use crate::common::{Api, DEADLINE, TOKEN};
use crate::fake_node::FakeNode;
use axum::body::Body;
use axum::http::Request;
use futures::StreamExt;
use serde_json::json;
use std::convert::Infallible;
use tower::ServiceExt;

#[tokio::test]
async fn a_token_is_made_listed_and_revoked_at_once() {
    let api = Api::start().await;
    let request = json!({
        "subject": "ann", "roles": ["user", "viewer"], "templates": ["shell"],
        "limits": {"memory": "512M", "sessions": 2}, "life_ms": 3_600_000,
    });
    let made = api.post("/v1/tokens", &request.to_string()).await.expect(201);
    let token = made["token"].as_str().unwrap();
    let caller = api.send_as(token, "GET", "/v1/caller", "").await.expect(200);
    assert_eq!(caller["subject"], "ann");
    assert_eq!(caller["roles"], json!(["user", "viewer"]));
    assert_eq!(caller["templates"], json!(["shell"]));
    assert_eq!(caller["limits"], json!({"memory": 536_870_912, "sessions": 2}));
    assert_eq!(caller["expires_at_ms"], made["expires_at_ms"]);
    let listed = api.get("/v1/tokens").await.expect(200);
    let entry = &listed["items"][0];
    assert_eq!(entry["id"], made["id"]);
    assert_eq!(entry["by"], "admin");
    assert_eq!(entry["revoked"], false);
    let signature = token.rsplit('.').next().unwrap();
    assert!(!listed.to_string().contains(signature), "the token itself is kept by nobody");
    let prefix = &made["id"].as_str().unwrap()[..6];
    let revoke = json!({ "id": prefix }).to_string();
    let revoked = api.post("/v1/tokens/revoke", &revoke).await.expect(200);
    assert_eq!(revoked["tokens"], json!([made["id"]]));
    let refused = api.send_as(token, "GET", "/v1/caller", "").await.problem(401, "token-invalid");
    assert_eq!(refused["detail"], "the token was revoked");
    assert_eq!(api.get("/v1/tokens").await.expect(200)["items"][0]["revoked"], true);
    let figures = api.get("/metrics").await;
    let figures = String::from_utf8(figures.body.to_vec()).unwrap();
    assert!(figures.contains(r#"spawnery_tokens_refused_total{reason="revoked"} 1"#), "{figures}");
    // Revoking again changes nothing.
    let again = api.post("/v1/tokens/revoke", &revoke).await.expect(200);
    assert_eq!(again["tokens"], json!([]));
}

#[tokio::test]
async fn revoking_a_subject_spares_its_later_tokens_and_those_of_others() {
    let api = Api::start().await;
    let (first, _) = api.token("ann", &["user"]).await;
    let (second, _) = api.token("ann", &["viewer"]).await;
    let (other, _) = api.token("bob", &["user"]).await;
    let revoked = api.post("/v1/tokens/revoke", r#"{"subject": "ann"}"#).await.expect(200);
    assert_eq!(revoked["tokens"].as_array().unwrap().len(), 2);
    let is_good =
        async |token: &str| api.send_as(token, "GET", "/v1/caller", "").await.status == 200;
    assert!(!is_good(&first).await && !is_good(&second).await);
    assert!(is_good(&other).await && is_good(TOKEN).await);
    let (later, _) = api.token("ann", &["user"]).await;
    assert!(is_good(&later).await);
}

#[tokio::test]
async fn what_cannot_be_made_or_revoked_is_refused_with_the_reason() {
    let api = Api::start().await;
    let check = async |path: &str, body: serde_json::Value, status: u16, code: &str, part: &str| {
        let problem = api.post(path, &body.to_string()).await.problem(status, code);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(part), "{detail:?} does not say {part:?}");
    };
    let make = "/v1/tokens";
    check(make, json!({"subject": "ann", "roles": ["root"]}), 400, "body-invalid", "root").await;
    check(make, json!({"subject": "ann", "roles": []}), 400, "body-invalid", "no role").await;
    check(make, json!({"subject": "", "roles": ["user"]}), 400, "body-invalid", "subject").await;
    let reserved = json!({"subject": "admin", "roles": ["user"]});
    check(make, reserved, 400, "body-invalid", "stands for the admin token").await;
    let typo = json!({"subject": "ann", "roles": ["user"], "limits": {"memroy": 1}});
    check(make, typo, 400, "body-invalid", "memroy").await;
    let long = json!({"subject": "ann", "roles": ["user"], "life_ms": 40_000_000_000_000u64});
    check(make, long, 400, "body-invalid", "366 days").await;
    let revoke = "/v1/tokens/revoke";
    check(revoke, json!({}), 400, "body-invalid", "one of").await;
    check(revoke, json!({"id": "0000"}), 404, "token-unknown", "0000").await;
    let both = json!({"id": "x", "foreign": true, "end_sessions": true});
    check(revoke, both, 400, "body-invalid", "not known").await;
    let foreign = json!({"id": "from-elsewhere", "foreign": true}).to_string();
    api.post(revoke, &foreign).await.expect(200);
}

#[tokio::test]
async fn the_same_idempotency_key_gives_the_same_token() {
    let api = Api::start().await;
    let body = json!({"subject": "ann", "roles": ["user"]}).to_string();
    let key = [("idempotency-key", "one")];
    let first = api.send_with("POST", "/v1/tokens", &key, body.clone()).await.expect(201);
    let again = api.send_with("POST", "/v1/tokens", &key, body).await.expect(201);
    assert_eq!(first, again);
    assert_eq!(api.get("/v1/tokens").await.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn subjects_cannot_meet_in_their_idempotency_keys() {
    let api = Api::with_manifest().await;
    let create = async |token: &str, key: &str| {
        let request = Request::builder().method("POST").uri("/v1/sessions");
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = request.header("idempotency-key", key);
        let answer = api.request(request.body(r#"{"template": "shell"}"#.into()).unwrap()).await;
        answer.expect(201)["id"].as_str().unwrap().to_owned()
    };
    let (one, _) = api.token("a:b", &["user"]).await;
    let (other, _) = api.token("a", &["user"]).await;
    assert_ne!(create(&one, "c").await, create(&other, "b:c").await);
}

#[tokio::test]
async fn streams_end_with_the_reason_when_their_token_is_revoked() {
    let api = Api::with_manifest().await;
    let _node = FakeNode::join(&api, "one").await;
    let (token, id) = api.token("ann", &["user"]).await;
    let (kept, _) = api.token("ann", &["user"]).await;
    let created = api.send_as(&token, "POST", "/v1/sessions", r#"{"template": "shell"}"#).await;
    let session = created.expect(201)["id"].as_str().unwrap().to_owned();
    api.wait_for_phase(&session, "ready").await;
    let mut events = api.stream_as(&token, "/v1/events", &[]).await;
    let path = format!("/v1/sessions/{session}/logs?follow=true");
    let mut logs = api.stream_as(&token, &path, &[]).await;
    let mut others = api.stream_as(&kept, "/v1/events", &[]).await;
    others.start().await;
    let body = Body::from_stream(
        futures::stream::once(async { Ok::<_, Infallible>("typed") })
            .chain(futures::stream::pending()),
    );
    let request = Request::builder().method("POST").uri(format!("/v1/sessions/{session}/stdin"));
    let request = request.header("authorization", format!("Bearer {token}"));
    let stdin = tokio::spawn(api.router.clone().oneshot(request.body(body).unwrap()));
    let revoke = json!({ "id": id }).to_string();
    api.post("/v1/tokens/revoke", &revoke).await.expect(200);
    for stream in [&mut events, &mut logs] {
        let last = async {
            loop {
                let sent = stream.next().await.expect("the stream says why it ends");
                if sent.kind == "problem" {
                    return sent;
                }
            }
        };
        let last = tokio::time::timeout(DEADLINE, last).await.expect("it ends");
        assert_eq!(last.data["status"], 401);
        assert_eq!(last.data["detail"], "the token was revoked");
        assert!(stream.next().await.is_none(), "nothing comes after it");
    }
    let answer = tokio::time::timeout(DEADLINE, stdin).await.expect("it ends").unwrap().unwrap();
    assert_eq!(answer.status(), 401);
    // The other token of the same subject is not touched.
    let end = format!("/v1/sessions/{session}");
    api.send_as(&kept, "DELETE", &end, "").await.expect(202);
    others.expect("event").await;
}

#[tokio::test]
async fn the_sessions_of_a_revoked_owner_end_if_that_is_asked_for() {
    let api = Api::with_manifest().await;
    let _node = FakeNode::join(&api, "one").await;
    let mut sessions = Vec::new();
    for subject in ["ann", "bob"] {
        let (token, _) = api.token(subject, &["user"]).await;
        let body = r#"{"template": "shell"}"#;
        let created = api.send_as(&token, "POST", "/v1/sessions", body).await.expect(201);
        sessions.push(created["id"].as_str().unwrap().to_owned());
    }
    for session in &sessions {
        api.wait_for_phase(session, "ready").await;
    }
    let revoke = r#"{"subject": "ann", "end_sessions": true}"#;
    let revoked = api.post("/v1/tokens/revoke", revoke).await.expect(200);
    assert_eq!(revoked["sessions_ending"], 1);
    let ended = api.wait_for_phase(&sessions[0], "ended").await;
    assert!(ended["end"]["reason"].as_str().unwrap().contains("admin"), "{ended}");
    let other = api.get(&format!("/v1/sessions/{}", sessions[1])).await.expect(200);
    assert_eq!(other["phase"], "ready");
}
