//! Nodes, status and figures.

use crate::common::{Api, DEADLINE};
use crate::fake_node::FakeNode;
use spawnery_api::Config;

async fn joined(api: &Api) -> FakeNode {
    let node = FakeNode::join(api, "one").await;
    let up = async {
        while api.get("/v1/nodes/one").await.expect(200)["memory_bytes"] == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, up).await.unwrap();
    node
}

#[tokio::test]
async fn a_node_is_found_by_name_and_id_and_can_be_drained() {
    let api = Api::start().await;
    let node = joined(&api).await;
    let id = node.id.to_string();
    for text in ["one", &id, &id[..4]] {
        let shown = api.get(&format!("/v1/nodes/{text}")).await.expect(200);
        assert_eq!((&shown["name"], &shown["status"]), (&"one".into(), &"up".into()));
        assert_eq!(shown["memory_bytes"], 64u64 << 30);
    }
    for draining in [true, false] {
        let body = format!(r#"{{"draining":{draining}}}"#);
        let shown = api.post("/v1/nodes/one/drain", &body).await.expect(200);
        assert_eq!(shown["draining"], draining);
    }
    api.delete("/v1/nodes/one").await.problem(409, "node-not-lost");
    let nodes = api.get("/v1/nodes").await.expect(200);
    assert_eq!(nodes["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_without_an_authority_lets_nobody_join() {
    let api = Api::start_with(Config::default()).await;
    api.post("/v1/join-tokens", "").await.problem(409, "joining-off");
}

#[tokio::test]
async fn status_and_figures_count_what_there_is() {
    let api = Api::with_manifest().await;
    api.session().await;
    let _node = joined(&api).await;
    let status = api.get("/v1/status").await.expect(200);
    assert_eq!(status["version"], "1.2.3");
    assert_eq!(status["reign"], 1);
    assert_eq!(status["nodes"]["up"], 1);
    assert_eq!(status["instances_live"], 2);
    let workloads = serde_json::json!({"services": 1, "jobs": 1, "session_templates": 1});
    assert_eq!(status["workloads"], workloads);
    assert!(status["journal"]["full"].is_null());

    let metrics = api.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in [
        "spawnery_instances_live 2",
        "spawnery_nodes_up 1",
        "spawnery_links_up 1",
        "spawnery_journal_full 0",
        "spawnery_http_requests_total{status=\"5xx\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}
