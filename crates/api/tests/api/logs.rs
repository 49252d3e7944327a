//! Output as Server-Sent Events.

use crate::common::Api;
use crate::fake_node::FakeNode;
use spawnery_wire::link::LogFrame;

#[tokio::test]
async fn a_log_is_followed_from_before_its_start_to_the_reason_of_its_end() {
    let api = Api::with_manifest().await;
    let id = api.session().await;
    let mut log = api.stream(&format!("/v1/sessions/{id}/logs?follow=true"), &[]).await;
    let node = FakeNode::join(&api, "one").await;
    node.write(&id, 1, "hello\n");
    let sent = log.expect("output").await;
    assert_eq!(sent.id.as_deref(), Some("1"));
    assert_eq!(sent.data["text"], "hello\n");
    assert_eq!(sent.data["stream"], "stdout");
    node.tell(&id, LogFrame::Gap { from: 2, to: 8 });
    assert_eq!(log.expect("gap").await.data, serde_json::json!({"from": 2, "to": 8}));
    let bytes = vec![0xff, 0xfe];
    node.tell(&id, LogFrame::Record { sequence: 9, at_ms: 7, stream: 2, bytes });
    let sent = log.expect("output").await;
    assert_eq!(sent.data["base64"], "//4=");
    assert_eq!(sent.data["stream"], "stderr");
    node.exit(&id, 7).await;
    let sent = log.expect("exited").await;
    assert_eq!(sent.data["process"], 0);
    assert_eq!(sent.data["exit"]["exit_code"], 7);
    assert_eq!(sent.data["end"]["code"], "failed");
    assert_eq!(log.next().await, None);
}

#[tokio::test]
async fn a_log_goes_on_after_the_last_event_that_was_seen() {
    let api = Api::with_manifest().await;
    let node = FakeNode::join(&api, "one").await;
    let id = api.session().await;
    api.wait_for_phase(&id, "ready").await;
    for sequence in 1..=5 {
        node.write(&id, sequence, &format!("line {sequence}\n"));
    }
    let path = format!("/v1/instances/{id}/logs");
    let mut log = api.stream(&path, &[("last-event-id", "3")]).await;
    assert_eq!(log.expect("output").await.data["text"], "line 4\n");
    assert_eq!(log.expect("output").await.data["text"], "line 5\n");
    log.expect("end").await;
    assert_eq!(log.next().await, None);
}

#[tokio::test]
async fn a_session_that_never_started_has_no_log_but_a_reason() {
    let api = Api::with_manifest().await;
    let id = api.session().await;
    let path = format!("/v1/sessions/{id}/logs");
    let mut log = api.stream(&path, &[]).await;
    log.expect("end").await;
    let mut log = api.stream(&format!("{path}?follow=true"), &[]).await;
    api.delete(&format!("/v1/sessions/{id}")).await.expect(202);
    let sent = log.expect("exited").await;
    assert!(sent.data["exit"].is_null());
    assert_eq!(sent.data["end"]["reason"], "ended by admin");
    assert_eq!(log.next().await, None);
}

#[tokio::test]
async fn a_process_that_is_not_there_is_told_as_a_problem() {
    let api = Api::with_manifest().await;
    let _node = FakeNode::join(&api, "one").await;
    let id = api.session().await;
    api.wait_for_phase(&id, "ready").await;
    let path = format!("/v1/sessions/{id}/logs?process=9&follow=true");
    let mut log = api.stream(&path, &[]).await;
    let sent = log.expect("problem").await;
    assert_eq!(sent.data["type"], "urn:spawnery:problem:process-unknown");
    assert_eq!(log.next().await, None);
}
