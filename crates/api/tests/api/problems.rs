//! Every error is a problem document, whoever noticed it.

use crate::common::Api;
use spawnery_api::limits::BODY_BYTES_MAX;

#[tokio::test]
async fn whatever_goes_wrong_has_its_code() {
    let api = Api::with_manifest().await;
    let session = api.session().await;
    let check = async |request: &str, body: &str, status: u16, code: &str| {
        let (method, path) = request.split_once(' ').unwrap();
        let path = path.replace("SESSION", &session);
        let answer = api.send(method, &path, body.to_owned()).await;
        let problem = answer.problem(status, code);
        assert_eq!(problem["instance"], path.split('?').next().unwrap());
    };
    check("GET /v1/nothing", "", 404, "route-unknown").await;
    check("GET /", "", 404, "route-unknown").await;
    check("PATCH /v1/services", "", 405, "method-unknown").await;
    check("POST /v1/status", "", 405, "method-unknown").await;
    check("GET /v1/services/nope", "", 404, "workload-unknown").await;
    check("GET /v1/services/shell", "", 404, "workload-unknown").await;
    check("GET /v1/services/NOT%20A%20NAME", "", 400, "parameter-invalid").await;
    check("GET /v1/jobs/nope", "", 404, "workload-unknown").await;
    check("GET /v1/templates/web", "", 404, "workload-unknown").await;
    check("GET /v1/runs/0000000000000000", "", 404, "run-unknown").await;
    check("GET /v1/runs?job=web", "", 404, "workload-unknown").await;
    check("GET /v1/instances/0000000000000000", "", 404, "instance-unknown").await;
    check("GET /v1/instances/00", "", 400, "parameter-invalid").await;
    check("GET /v1/instances/%ff%fe", "", 400, "request-invalid").await;
    check("DELETE /v1/instances/0000000000000000", "", 404, "instance-unknown").await;
    check("GET /v1/instances?limit=0", "", 400, "parameter-invalid").await;
    check("GET /v1/instances?limit=1001", "", 400, "parameter-invalid").await;
    check("GET /v1/instances?limit=many", "", 400, "parameter-invalid").await;
    check("GET /v1/instances?after=x", "", 400, "parameter-invalid").await;
    check("GET /v1/instances?state=odd", "", 400, "parameter-invalid").await;
    check("GET /v1/instances?kind=odd", "", 400, "parameter-invalid").await;
    check("GET /v1/instances?colour=red", "", 400, "parameter-invalid").await;
    check("GET /v1/instances?node=nope", "", 404, "node-unknown").await;
    check("GET /v1/services?limit=0", "", 400, "parameter-invalid").await;
    check("GET /v1/nodes/nope", "", 404, "node-unknown").await;
    check("POST /v1/nodes/nope/drain", r#"{"draining":true}"#, 404, "node-unknown").await;
    check("POST /v1/nodes/nope/drain", "{}", 400, "body-invalid").await;
    check("DELETE /v1/nodes/nope", "", 404, "node-unknown").await;
    check("POST /v1/join-tokens", r#"{"life_ms":0}"#, 400, "body-invalid").await;
    check("POST /v1/join-tokens", "[", 400, "body-invalid").await;
    check("POST /v1/jobs/web/runs", "", 409, "workload-kind").await;
    check("POST /v1/jobs/nope/runs", "", 404, "workload-unknown").await;
    check("POST /v1/sessions", "", 400, "body-invalid").await;
    check("POST /v1/sessions", "{}", 400, "body-invalid").await;
    check("POST /v1/sessions", r#"{"template":"nope"}"#, 404, "workload-unknown").await;
    check("POST /v1/sessions", r#"{"template":"web"}"#, 409, "workload-kind").await;
    check("POST /v1/sessions", r#"{"template":"shell","name":"x"}"#, 400, "body-invalid").await;
    let both = r#"{"template":"shell","session":{"run":["a"]}}"#;
    check("POST /v1/sessions", both, 400, "body-invalid").await;
    check("POST /v1/sessions", r#"{"session":{}}"#, 422, "manifest-invalid").await;
    check("POST /v1/workloads/remove", r#"{"names":["nope"]}"#, 404, "workload-unknown").await;
    check("POST /v1/workloads/remove", r#"{"names":["N"]}"#, 400, "body-invalid").await;
    check("DELETE /v1/workloads/nope", "", 404, "workload-unknown").await;
    check("PUT /v1/manifest", "{", 422, "manifest-invalid").await;
    check("PUT /v1/manifest", "", 422, "manifest-invalid").await;
    check("POST /v1/manifest/diff", "[]", 422, "manifest-invalid").await;
    check("POST /v1/sessions/SESSION/exec", r#"{"run":["ls"]}"#, 409, "not-running").await;
    check("POST /v1/sessions/SESSION/exec", r#"{"run":[]}"#, 400, "body-invalid").await;
    check("POST /v1/sessions/SESSION/signal", r#"{"signal":0}"#, 400, "body-invalid").await;
    check("POST /v1/sessions/SESSION/signal", r#"{"signal":15}"#, 409, "not-running").await;
    check("POST /v1/sessions/SESSION/stdin", "x", 409, "not-running").await;
    check("GET /v1/sessions/SESSION/logs?tail=1&since=1", "", 400, "parameter-invalid").await;
    check("GET /v1/events?after=x", "", 400, "parameter-invalid").await;
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_answered_with_those_it_takes() {
    let api = Api::start().await;
    let answer = api.put("/v1/sessions", "{}").await;
    assert_eq!(answer.headers["allow"], "POST,GET,HEAD");
    answer.problem(405, "method-unknown");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let api = Api::start().await;
    let body = " ".repeat(BODY_BYTES_MAX + 1);
    api.put("/v1/manifest", &body).await.problem(413, "body-too-large");
    api.post("/v1/sessions", &body).await.problem(413, "body-too-large");
}
