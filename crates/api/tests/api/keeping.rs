//! Content, environments, secrets and volumes.

use crate::common::{Api, TOKEN};
use axum::body::{Body, Bytes};
use axum::http::Request;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use spawnery_model::ContentDigest;
use std::io;

fn digest(content: &[u8]) -> String {
    ContentDigest::from_bytes(Sha256::digest(content).into()).to_string()
}

#[tokio::test]
async fn content_is_sent_once_and_then_known() {
    let api = Api::start().await;
    let (here, gone) = (digest(b"here"), digest(b"gone"));
    let asked = json!({ "digests": [gone, here] }).to_string();
    let missing = api.send("POST", "/v1/content/missing", asked.clone()).await.expect(200);
    assert_eq!(missing["missing"], json!([gone, here]));
    api.send("PUT", &format!("/v1/content/{here}"), "here").await.is(204);
    api.send("PUT", &format!("/v1/content/{here}"), "here").await.is(204);
    let missing = api.send("POST", "/v1/content/missing", asked).await.expect(200);
    assert_eq!(missing["missing"], json!([gone]));
}

#[tokio::test]
async fn content_that_is_not_what_was_announced_is_not_kept() {
    let api = Api::start().await;
    let announced = digest(b"announced");
    let path = format!("/v1/content/{announced}");
    api.send("PUT", &path, "something else").await.problem(422, "content-digest");
    api.send("PUT", "/v1/content/abc", "x").await.problem(400, "parameter-invalid");
    let pieces = [Ok(Bytes::from("announ")), Err(io::Error::other("cut off"))];
    let request = Request::builder()
        .method("PUT")
        .uri(&path)
        .header("authorization", format!("Bearer {TOKEN}"))
        .body(Body::from_stream(futures::stream::iter(pieces)))
        .unwrap();
    api.request(request).await.problem(400, "body-invalid");
    let request = Request::builder()
        .method("PUT")
        .uri(&path)
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-length", u64::MAX.to_string())
        .body(Body::empty())
        .unwrap();
    api.request(request).await.problem(413, "body-too-large");
    let asked = json!({ "digests": [announced] }).to_string();
    let missing = api.send("POST", "/v1/content/missing", asked).await.expect(200);
    assert_eq!(missing["missing"], json!([announced]));
}

#[tokio::test]
async fn a_secret_is_set_and_shown_without_its_value() {
    let api = Api::start().await;
    let set = api.send("PUT", "/v1/secrets/db", "hunter2").await.expect(200);
    assert_eq!((set["name"].as_str(), set["version"].as_u64()), (Some("db"), Some(1)));
    let set = api.send("PUT", "/v1/secrets/db", "hunter3").await.expect(200);
    assert_eq!(set["version"], 2);
    let manifest = r#"{"services": {"web": {"run": ["x"], "secrets": ["db"]}}}"#;
    api.put("/v1/manifest", manifest).await.expect(200);
    let answer = api.send("GET", "/v1/secrets", "").await;
    assert!(!String::from_utf8_lossy(&answer.body).contains("hunter"));
    let secrets = answer.expect(200);
    assert_eq!(secrets["items"][0]["used_by"], json!(["web"]));
    api.send("DELETE", "/v1/secrets/db", "").await.problem(409, "secret-in-use");
    api.send("DELETE", "/v1/workloads/web", "").await;
    api.send("DELETE", "/v1/secrets/db", "").await.is(204);
    api.send("DELETE", "/v1/secrets/db", "").await.problem(404, "secret-unknown");
    let secrets = api.get("/v1/secrets").await.expect(200);
    assert_eq!(secrets["items"], json!([]));
}

#[tokio::test]
async fn a_secret_that_cannot_be_is_refused_without_its_value() {
    let api = Api::start().await;
    let check = |answer: crate::common::Answer, status, code| {
        assert!(!String::from_utf8_lossy(&answer.body).contains("hunter2"));
        answer.problem(status, code);
    };
    check(api.send("PUT", "/v1/secrets/db", "").await, 400, "body-invalid");
    let long = "hunter2".repeat(10_000);
    check(api.send("PUT", "/v1/secrets/db", long).await, 400, "body-invalid");
    check(api.send("PUT", "/v1/secrets/DB", "hunter2").await, 400, "parameter-invalid");
    let key = [("idempotency-key", "a")];
    let keyed = api.send_with("PUT", "/v1/secrets/db", &key, "hunter2").await;
    check(keyed, 400, "parameter-invalid");
    let manifest = r#"{"services": {"web": {"run": ["x"], "secrets": ["nope"]}}}"#;
    let answer = api.put("/v1/manifest", manifest).await;
    check(answer, 404, "secret-unknown");
}

#[tokio::test]
async fn a_recipe_that_cannot_be_built_is_refused_with_its_place() {
    let api = Api::start().await;
    let build = |body: Value| api.send("POST", "/v1/environments/build", body.to_string());
    let answer = build(json!({ "recipe": { "base": "hosts" } })).await;
    let problem = answer.problem(422, "manifest-invalid");
    assert_eq!(problem["errors"][0]["field"], "base");
    assert_eq!(problem["errors"][0]["column"], 19);
    let files = json!({ "name": "a", "recipe": { "files": { "/a": "./a" } } });
    let problem = build(files).await.problem(422, "manifest-invalid");
    assert!(problem["detail"].as_str().unwrap().contains("a server reads no files"), "{problem}");
    build(json!({})).await.problem(400, "body-invalid");
    build(json!({ "recipe": {}, "node": "nope" })).await.problem(404, "node-unknown");
    build(json!({ "recipe": {} })).await.problem(503, "node-away");
}

#[tokio::test]
async fn without_nodes_there_are_no_environments_and_no_volumes() {
    let api = Api::start().await;
    let environments = api.get("/v1/environments").await.expect(200);
    assert_eq!(environments, json!({ "environments": [], "silent_nodes": [] }));
    assert_eq!(api.get("/v1/volumes").await.expect(200)["items"], json!([]));
    api.get("/v1/environments/tools").await.problem(404, "environment-unknown");
    api.get("/v1/environments/tools/export").await.problem(404, "environment-unknown");
    api.get("/v1/environments/tools/export?format=zip").await.problem(400, "parameter-invalid");
    api.send("DELETE", "/v1/volumes/data", "").await.problem(404, "volume-unknown");
    let both = json!({ "limit_bytes": 1, "unused": true }).to_string();
    api.send("POST", "/v1/environments/prune", both).await.problem(400, "body-invalid");
    let pruned = api.send("POST", "/v1/environments/prune", "").await.expect(200);
    assert_eq!(pruned, json!({ "nodes": [] }));
}
