//! Sessions, jobs and what becomes of them.

use crate::common::Api;
use crate::fake_node::FakeNode;

#[tokio::test]
async fn a_session_waits_with_a_reason_then_runs_then_ends_with_a_reason() {
    let api = Api::with_manifest().await;
    let id = api.session().await;
    let waiting = api.get(&format!("/v1/sessions/{}", &id[..6])).await.expect(200);
    assert_eq!((&waiting["id"], &waiting["phase"]), (&id.clone().into(), &"pending".into()));
    assert!(waiting["waits_for"].as_str().is_some_and(|reason| !reason.is_empty()), "{waiting}");
    assert_eq!(waiting["owner"], "admin");

    let node = FakeNode::join(&api, "one").await;
    let ready = api.wait_for_phase(&id, "ready").await;
    assert_eq!(ready["pid"], 42);
    assert_eq!(ready["node"]["name"], "one");
    assert_eq!(ready["node"]["id"], node.id.to_string());

    node.exit(&id, 3).await;
    let ended = api.wait_for_phase(&id, "ended").await;
    assert_eq!(ended["end"]["code"], "failed");
    assert_eq!(ended["end"]["exit_code"], 3);
    assert_eq!(ended["end"]["last_output"], "bye");
    assert!(ended["end"]["reason"].as_str().unwrap().contains("exit code 3"));
}

#[tokio::test]
async fn a_session_that_is_ended_says_by_whom() {
    let api = Api::with_manifest().await;
    let _node = FakeNode::join(&api, "one").await;
    let created = api.post("/v1/sessions", r#"{"session":{"run":["cat"]},"name":"mine"}"#).await;
    let location = created.headers["location"].to_str().unwrap().to_owned();
    let id = created.expect(201)["id"].as_str().unwrap().to_owned();
    assert_eq!(location, format!("/v1/sessions/{id}"));
    let ready = api.wait_for_phase(&id, "ready").await;
    assert_eq!(ready["workload"], "mine");
    assert_eq!(ready["inline"], true);

    api.delete(&location).await.expect(202);
    let ended = api.wait_for_phase(&id, "ended").await;
    assert_eq!(ended["end"]["code"], "stopped");
    assert_eq!(ended["end"]["reason"], "ended by admin");
    api.delete(&location).await.expect(202);
}

#[tokio::test]
async fn an_instance_of_a_service_is_no_session() {
    let api = Api::with_manifest().await;
    let instances = api.get("/v1/instances?kind=service").await.expect(200);
    let id = instances["items"][0]["id"].as_str().unwrap().to_owned();
    api.get(&format!("/v1/instances/{id}")).await.expect(200);
    api.get(&format!("/v1/sessions/{id}")).await.problem(404, "instance-unknown");
    api.delete(&format!("/v1/sessions/{id}")).await.problem(404, "instance-unknown");
}

#[tokio::test]
async fn a_job_runs_on_demand_and_its_run_tells_how_it_went() {
    let api = Api::with_manifest().await;
    let node = FakeNode::join(&api, "one").await;
    let created = api.post("/v1/jobs/remove/runs", "").await;
    let location = created.headers["location"].to_str().unwrap().to_owned();
    let run = created.expect(201)["id"].as_str().unwrap().to_owned();
    let attempts = async || {
        loop {
            let path = format!("/v1/instances?run={run}");
            let page = api.get(&path).await.expect(200);
            if let Some(instance) = page["items"].get(0) {
                return instance["id"].as_str().unwrap().to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    let instance = tokio::time::timeout(crate::common::DEADLINE, attempts()).await.unwrap();
    let shown = api.wait_for_phase(&instance, "ready").await;
    assert_eq!((&shown["run"], &shown["attempt"]), (&run.clone().into(), &1.into()));
    node.exit(&instance, 0).await;
    api.wait_for_phase(&instance, "ended").await;
    let shown = api.get(&location).await.expect(200);
    assert_eq!(shown["outcome"]["succeeded"], true, "{shown}");
    assert_eq!(shown["by"], "admin");
    let job = api.get("/v1/jobs/remove").await.expect(200);
    assert_eq!(job["last"]["id"], shown["id"]);
    assert!(job["next_at_ms"].as_u64().is_some());
    let runs = api.get("/v1/runs?job=remove").await.expect(200);
    assert_eq!(runs["items"].as_array().unwrap().len(), 1);
}
