//! Who may call, and by which name.

use crate::common::{Answer, Api, TOKEN};
use axum::body::Body;
use axum::http::Request;
use spawnery_api::Config;

#[tokio::test]
async fn only_a_request_that_shows_the_token_is_answered() {
    let api = Api::start().await;
    let check = async |authorization: Option<&str>, path: &str, status: u16| {
        let mut request = Request::builder().uri(path);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer = api.request(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{authorization:?} {path}");
        if status == 401 {
            assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"spawnery\"");
            let body = String::from_utf8(answer.body.to_vec()).unwrap();
            let shown = authorization.and_then(|text| text.split_once(' '));
            assert!(shown.is_none_or(|(_, token)| !body.contains(token)), "{body}");
        }
    };
    let good = format!("Bearer {TOKEN}");
    check(Some(&good), "/v1/status", 200).await;
    check(Some(&good.replace("Bearer", "bearer")), "/v1/status", 200).await;
    check(None, "/v1/status", 401).await;
    check(Some("Bearer spawnery_wrong"), "/v1/status", 401).await;
    check(Some(&good[..good.len() - 1]), "/v1/status", 401).await;
    check(Some(&format!("{good}0")), "/v1/status", 401).await;
    check(Some(&good.replace("Bearer", "Basic")), "/v1/status", 401).await;
    check(Some("Bearer"), "/v1/status", 401).await;
    check(None, "/metrics", 401).await;
    check(None, "/v1/no-such-path", 401).await;
    check(None, "/healthz", 200).await;
    check(None, "/readyz", 200).await;
    check(None, "/openapi.json", 200).await;
}

#[tokio::test]
async fn a_web_page_cannot_call_by_a_name_of_its_own() {
    let names = Some(vec!["spawnery.example".to_owned()]);
    let api = Api::start_with(Config { host_names: names, ..Config::default() }).await;
    let call = async |host: &str| -> Answer {
        let request = Request::builder().uri("/v1/status").header("host", host);
        let request = request.header("authorization", format!("Bearer {TOKEN}"));
        api.request(request.body(Body::empty()).unwrap()).await
    };
    for host in ["127.0.0.1:9000", "localhost:9000", "spawnery.example", "[::1]"] {
        call(host).await.expect(200);
    }
    for host in ["evil.example", "127.0.0.1.evil.example:9000", ""] {
        call(host).await.problem(421, "host-unknown");
    }
    api.get("/v1/status").await.problem(421, "host-unknown");
}
