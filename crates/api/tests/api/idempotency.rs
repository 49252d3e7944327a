//! A repeated request is done once.

use crate::common::Api;
use serde_json::Value;

#[tokio::test]
async fn a_request_repeated_under_its_key_gets_the_same_answer() {
    let api = Api::with_manifest().await;
    let check = async |method: &str, path: &str, body: &str| -> Value {
        let key = [("idempotency-key", path)];
        let first = api.send_with(method, path, &key, body.to_owned()).await;
        let second = api.send_with(method, path, &key, body.to_owned()).await;
        assert!(first.status.is_success(), "{path}");
        assert_eq!(first.status, second.status);
        assert_eq!(first.body, second.body, "{path}");
        serde_json::from_slice(&first.body).unwrap()
    };
    check("POST", "/v1/sessions", r#"{"template":"shell"}"#).await;
    check("POST", "/v1/jobs/remove/runs", "").await;
    check("POST", "/v1/join-tokens", "").await;
    check("PUT", "/v1/manifest", r#"{"jobs":{"new":{"run":"date"}}}"#).await;
    let sessions = api.get("/v1/sessions").await.expect(200);
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1);
    let runs = api.get("/v1/runs").await.expect(200);
    assert_eq!(runs["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_of_another_request_is_refused() {
    let api = Api::with_manifest().await;
    let key = [("idempotency-key", "one")];
    let body = r#"{"template":"shell"}"#;
    api.send_with("POST", "/v1/sessions", &key, body).await.expect(201);
    let other = r#"{"session":{"run":["a"]}}"#;
    let answer = api.send_with("POST", "/v1/sessions", &key, other).await;
    answer.problem(422, "idempotency-conflict");
    let long = "x".repeat(256);
    for bad in ["", &long] {
        let key = [("idempotency-key", bad)];
        let answer = api.send_with("POST", "/v1/sessions", &key, body).await;
        answer.problem(400, "parameter-invalid");
    }
}

#[tokio::test]
async fn join_tokens_of_different_requests_differ() {
    let api = Api::start().await;
    let token = async |headers: &[(&str, &str)]| {
        let answer = api.send_with("POST", "/v1/join-tokens", headers, "").await.expect(201);
        answer["token"].as_str().unwrap().to_owned()
    };
    let first = token(&[]).await;
    assert_ne!(first, token(&[]).await);
    assert_ne!(token(&[("idempotency-key", "a")]).await, token(&[("idempotency-key", "b")]).await);
}
