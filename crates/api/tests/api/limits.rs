//! What is too much at once is refused, to be tried again.

use crate::common::{Api, TOKEN};
use axum::body::{Body, Bytes};
use axum::http::Request;
use futures::{poll, stream};
use spawnery_api::limits::{REQUESTS_MAX, STREAMS_MAX};
use std::convert::Infallible;
use tower::ServiceExt;

#[tokio::test]
async fn requests_beyond_the_limit_are_refused_until_others_are_done() {
    let api = Api::start().await;
    let mut held = Vec::new();
    for _ in 0..REQUESTS_MAX {
        let pieces = stream::pending::<Result<Bytes, Infallible>>();
        let request = Request::builder().method("POST").uri("/v1/sessions");
        let request = request.header("authorization", format!("Bearer {TOKEN}"));
        let request = request.body(Body::from_stream(pieces)).unwrap();
        let mut call = Box::pin(api.router.clone().oneshot(request));
        assert!(poll!(&mut call).is_pending());
        held.push(call);
    }
    let refused = api.get("/v1/status").await;
    assert_eq!(refused.headers["retry-after"], "1");
    refused.problem(503, "busy");
    held.pop();
    api.get("/v1/status").await.expect(200);
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_until_others_end() {
    let api = Api::start().await;
    let mut held = Vec::new();
    for _ in 0..STREAMS_MAX {
        held.push(api.stream("/v1/events", &[]).await);
    }
    api.get("/v1/events").await.problem(503, "busy");
    held.pop();
    api.stream("/v1/events", &[]).await;
}
