//! What instances use.

use crate::common::Api;
use crate::fake_node::FakeNode;
use serde_json::json;

#[tokio::test]
async fn the_node_is_asked_and_what_it_cannot_tell_is_null() {
    let api = Api::with_manifest().await;
    let node = FakeNode::join(&api, "one").await;
    let id = api.session().await;
    api.wait_for_phase(&id, "ready").await;
    for kind in ["sessions", "instances"] {
        let usage = api.get(&format!("/v1/{kind}/{id}/usage")).await.expect(200);
        let expected = json!({
            "memory_bytes": 1_048_576, "cpu_us": null, "pids": 2,
            "network_bytes_in": 84, "network_bytes_out": 0,
        });
        assert_eq!(usage, expected, "{kind}");
    }
    node.was_asked(&format!("usage of {id}")).await;
}

#[tokio::test]
async fn what_is_not_placed_uses_nothing_that_could_be_told() {
    let api = Api::with_manifest().await;
    let id = api.session().await;
    let path = format!("/v1/instances/{id}/usage");
    api.get(&path).await.problem(409, "not-running");
    api.get("/v1/instances/0000000000000000/usage").await.problem(404, "instance-unknown");
}
