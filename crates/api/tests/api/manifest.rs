//! Applying, comparing and removing.

use crate::common::{Api, MANIFEST};

#[tokio::test]
async fn applying_twice_changes_nothing_and_a_comparison_tells_so_before() {
    let api = Api::start().await;
    let verdicts = |reply: serde_json::Value| {
        let differences = reply["differences"].as_array().unwrap().clone();
        let words = differences.iter().map(|one| format!("{} {}", one["name"], one["verdict"]));
        words.collect::<Vec<_>>().join(", ").replace('"', "")
    };
    let expected = "web added, remove added, shell added";
    assert_eq!(verdicts(api.post("/v1/manifest/diff", MANIFEST).await.expect(200)), expected);
    assert_eq!(verdicts(api.put("/v1/manifest", MANIFEST).await.expect(200)), expected);
    let expected = expected.replace("added", "unchanged");
    assert_eq!(verdicts(api.put("/v1/manifest", MANIFEST).await.expect(200)), expected);
    let changed = MANIFEST.replace("[\"bash\"]", "[\"zsh\"]");
    let reply = api.post("/v1/manifest/diff", &changed).await.expect(200);
    assert_eq!(reply["differences"][2]["fields"], serde_json::json!(["run"]));
}

#[tokio::test]
async fn a_manifest_may_be_json_yaml_or_toml() {
    let api = Api::start().await;
    let check = async |media_type: &str, body: &str, status: u16| {
        let headers = [("content-type", media_type)];
        let answer = api.send_with("PUT", "/v1/manifest", &headers, body.to_owned()).await;
        assert_eq!(answer.status.as_u16(), status, "{media_type}: {:?}", answer.body);
    };
    check("application/json", r#"{"jobs":{"a":{"run":"date"}}}"#, 200).await;
    check("application/yaml; charset=utf-8", "jobs: {b: {run: date}}", 200).await;
    check("application/toml", "[jobs.c]\nrun = 'date'", 200).await;
    check("application/toml", "jobs: {b: {run: date}}", 422).await;
    check("application/x-www-form-urlencoded", "{}", 415).await;
    let jobs = api.get("/v1/jobs").await.expect(200);
    assert_eq!(jobs["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn what_is_wrong_with_a_manifest_is_told_with_its_places() {
    let api = Api::start().await;
    let body = "{\"jobs\": {\n  \"a\": {\"run\": \"date\", \"memroy\": \"64M\"},\n  \"b\": {}\n}}";
    let problem = api.put("/v1/manifest", body).await.problem(422, "manifest-invalid");
    let errors = problem["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2, "{problem}");
    assert_eq!(errors[0]["line"], 2);
    assert_eq!(errors[0]["column"], 24);
    assert!(errors[0]["hint"].as_str().unwrap().contains("memory"), "{problem}");
    assert_eq!(errors[1]["line"], 3);
    let jobs = api.get("/v1/jobs").await.expect(200);
    assert_eq!(jobs["items"], serde_json::json!([]));
}

#[tokio::test]
async fn a_manifest_that_needs_files_of_its_folder_is_refused() {
    let api = Api::start().await;
    let body = r#"{"jobs":{"a":{"run":"date","files":{"/a":{"source":"a.txt"}}}}}"#;
    let problem = api.put("/v1/manifest", body).await.problem(422, "manifest-invalid");
    assert!(problem["errors"][0]["message"].as_str().unwrap().contains("content"), "{problem}");
    let body = r#"{"session":{"run":"date","files":{"/a":{"source":"a.txt"}}}}"#;
    api.post("/v1/sessions", body).await.problem(422, "manifest-invalid");
}

#[tokio::test]
async fn workloads_are_removed_together_or_not_at_all() {
    let api = Api::with_manifest().await;
    let names = r#"{"names":["web","nope"]}"#;
    api.post("/v1/workloads/remove", names).await.problem(404, "workload-unknown");
    api.get("/v1/services/web").await.expect(200);
    let reply = api.post("/v1/workloads/remove", r#"{"names":["web","shell"]}"#).await.expect(200);
    assert_eq!(reply["removed"], serde_json::json!(["web", "shell"]));
    api.get("/v1/services/web").await.problem(404, "workload-unknown");
    let reply = api.delete("/v1/workloads/remove").await.expect(200);
    assert_eq!(reply["removed"], serde_json::json!(["remove"]));
    api.get("/v1/jobs/remove").await.problem(404, "workload-unknown");
}

#[tokio::test]
async fn no_view_shows_the_value_of_a_variable() {
    let api = Api::with_manifest().await;
    let service = api.get("/v1/services/web").await;
    assert!(!String::from_utf8_lossy(&service.body).contains("hunter2"));
    let service = service.expect(200);
    assert_eq!(service["process"]["env_names"], serde_json::json!(["PASSWORD"]));
    assert_eq!(service["urls"], serde_json::json!(["http://web.localhost:9000/"]));
    let instances = api.get("/v1/instances?workload=web").await.expect(200);
    let id = instances["items"][0]["id"].as_str().unwrap().to_owned();
    let instance = api.get(&format!("/v1/instances/{id}")).await;
    assert!(!String::from_utf8_lossy(&instance.body).contains("hunter2"));
    let instance = instance.expect(200);
    assert_eq!(instance["process"]["env_names"], serde_json::json!(["PASSWORD"]));
    assert_eq!(instance["origin"], "replica 0");
}
