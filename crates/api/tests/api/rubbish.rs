//! Rubbish is refused, and never the server's fault.

use crate::common::Api;
use proptest::prelude::*;
use tokio::runtime::Runtime;

/// Requests that take a body or parameters. `ID` is that of a session.
const REQUESTS: [&str; 12] = [
    "PUT /v1/manifest",
    "POST /v1/manifest/diff",
    "POST /v1/workloads/remove",
    "DELETE /v1/workloads/web",
    "POST /v1/sessions",
    "POST /v1/sessions/ID/exec",
    "POST /v1/sessions/ID/signal",
    "POST /v1/sessions/ID/stdin",
    "POST /v1/nodes/one/drain",
    "POST /v1/join-tokens",
    "POST /v1/jobs/remove/runs",
    "GET /v1/instances",
];

/// Bytes, or JSON that is nearly right.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "null",
        "-1",
        "1e999",
        "\"run\"",
        "\"names\"",
        "\"session\"",
        "\"template\"",
        "\"shell\"",
        "\"signal\"",
        "\"draining\"",
        "\"life_ms\"",
        "\"jobs\"",
        "\"\\u0000\"",
        "\u{feff}",
        "services:",
        "\n  ",
        "&a *a",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(words, 0..40).prop_map(|words| words.concat().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_body_or_query_makes_the_server_fail(body in bodies(), query in "[ -~]{0,40}", yaml: bool) {
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        Runtime::new().unwrap().block_on(async {
            let api = Api::with_manifest().await;
            let id = api.session().await;
            for request in REQUESTS {
                let (method, path) = request.split_once(' ').unwrap();
                let media_type = if yaml { "application/yaml" } else { "application/json" };
                let headers = [("content-type", media_type), ("idempotency-key", request)];
                for path in [path.to_owned(), format!("{path}?{query}")] {
                    let path = path.replace("ID", &id);
                    let answer = api.send_with(method, &path, &headers, body.clone()).await;
                    let text = String::from_utf8_lossy(&answer.body);
                    assert!(!answer.status.is_server_error(), "{request}: {text}");
                    if answer.status.is_client_error() {
                        let media_type = &answer.headers["content-type"];
                        assert_eq!(media_type, "application/problem+json", "{request}: {text}");
                    }
                }
            }
            api.get("/readyz").await;
        });
    }

    #[test]
    fn no_path_makes_the_server_fail(path in "(/[a-z0-9%~._-]{0,20}){0,4}") {
        let path = format!("/v1{path}").replace('%', "%25");
        Runtime::new().unwrap().block_on(async {
            let api = Api::start().await;
            let answer = api.get(&path).await;
            assert!(!answer.status.is_server_error(), "{path}");
        });
    }
}
