//! Files of instances.

use crate::common::Api;

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_a_node_is_asked() {
    let api = Api::with_manifest().await;
    let id = api.session().await;
    let path = format!("/v1/sessions/{id}");
    api.get(&format!("{path}/files")).await.problem(400, "parameter-invalid");
    let both = format!("{path}/files?path=/a&offset=3");
    let range = [("content-range", "bytes 3-5/*")];
    api.send_with("PUT", &both, &range, "abc").await.problem(400, "parameter-invalid");
    let mode = api.send_with("PUT", &format!("{path}/files?path=/a&mode=rw"), &[], "abc").await;
    mode.problem(400, "parameter-invalid");
    api.get(&format!("{path}/folders?path=/&limit=0")).await.problem(400, "parameter-invalid");
    let nothing = api.post(&format!("{path}/files/info?path=/a"), "{}").await;
    nothing.problem(400, "body-invalid");
    api.get("/v1/sessions/0000/files?path=/a").await.problem(404, "instance-unknown");
}
