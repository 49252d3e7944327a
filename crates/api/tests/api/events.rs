//! What happens, as Server-Sent Events.

use crate::common::Api;

#[tokio::test]
async fn events_go_on_after_the_last_one_that_was_seen() {
    let api = Api::with_manifest().await;
    let id = api.session().await;
    let mut events = api
        .stream("/v1/events?after=oldest&workload=shell", &[])
        .await;
    let added = events.expect("event").await;
    assert_eq!(added.data["kind"], "workload.added");
    assert_eq!(added.id.as_deref(), added.data["id"].as_str());
    let created = events.expect("event").await;
    assert_eq!(created.data["kind"], "instance.created");
    assert_eq!(created.data["instance"], id);
    drop(events);

    let last = added.id.unwrap();
    let path = format!("/v1/events?instance={}", &id[..8]);
    let mut events = api.stream(&path, &[("last-event-id", &last)]).await;
    assert_eq!(events.expect("event").await, created);
}

#[tokio::test]
async fn without_a_place_events_start_now() {
    let api = Api::with_manifest().await;
    let mut events = api.stream("/v1/events?workload=shell", &[]).await;
    let id = api.session().await;
    assert_eq!(events.expect("event").await.data["instance"], id);
}
