//! Further processes, signals and standard input.

use crate::common::Api;
use crate::fake_node::FakeNode;
use axum::body::Body;
use futures::stream;

#[tokio::test]
async fn a_process_is_started_signalled_and_fed() {
    let api = Api::with_manifest().await;
    let node = FakeNode::join(&api, "one").await;
    let id = api.session().await;
    api.wait_for_phase(&id, "ready").await;
    for kind in ["sessions", "instances"] {
        let path = format!("/v1/{kind}/{id}");
        let body =
            r#"{"run":["cat","-n"],"env":{"A":"b"},"working_directory":"/tmp","stdin":true}"#;
        let reply = api.post(&format!("{path}/exec"), body).await.expect(201);
        assert_eq!(reply["process"], 3);
        let asked = node.was_asked("exec").await;
        assert_eq!(asked, r#"exec ["cat", "-n"] {"A": "b"} Some("/tmp") true"#);
        let signal = api.post(&format!("{path}/signal"), r#"{"process":3,"signal":2}"#).await;
        assert_eq!(signal.status, 204);
        node.was_asked("signal 2 to 3").await;
        let pieces = ["one ", "two ", kind].map(|piece| Ok::<_, std::io::Error>(piece.to_owned()));
        let body = Body::from_stream(stream::iter(pieces));
        let fed = api.send("POST", &format!("{path}/stdin?process=3"), body).await;
        assert_eq!(fed.status, 204);
        node.was_asked(&format!("input of 3: one two {kind}")).await;
    }
}

#[tokio::test]
async fn what_the_node_cannot_do_is_a_problem() {
    let api = Api::with_manifest().await;
    let _node = FakeNode::join(&api, "one").await;
    let id = api.session().await;
    api.wait_for_phase(&id, "ready").await;
    let path = format!("/v1/sessions/{id}/exec");
    let problem = api.post(&path, r#"{"run":["missing"]}"#).await.problem(422, "process-failed");
    assert_eq!(problem["detail"], "no such program: missing");
    let key = [("idempotency-key", "one")];
    let answer = api.send_with("POST", &path, &key, r#"{"run":["ls"]}"#).await;
    answer.problem(400, "parameter-invalid");
}
