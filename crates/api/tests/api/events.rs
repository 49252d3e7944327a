//! What happens, as Server-Sent Events.

use crate::common::{Api, Stream};

#[tokio::test]
async fn events_go_on_after_the_last_one_that_was_seen() {
    let api = Api::with_manifest().await;
    let id = api.session().await;
    let mut events = api.stream("/v1/events?after=oldest&workload=shell", &[]).await;
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
async fn a_stream_that_breaks_before_its_first_event_goes_on_where_it_began() {
    let api = Api::with_manifest().await;
    let mut events = api.stream("/v1/events?workload=shell", &[]).await;
    let start = events.start().await;
    drop(events);
    let id = api.session().await;
    let headers = [("last-event-id", start.as_str())];
    let mut events = api.stream("/v1/events?workload=shell", &headers).await;
    assert_eq!(created(&mut events).await, id);
}

#[tokio::test]
async fn without_a_place_events_start_now() {
    let api = Api::with_manifest().await;
    let mut events = api.stream("/v1/events?workload=shell", &[]).await;
    let first = api.session().await;
    assert_eq!(created(&mut events).await, first);
    let mut later = api.stream("/v1/events?workload=shell", &[]).await;
    let second = api.session().await;
    assert_eq!(created(&mut events).await, second);
    // An answer may come a little before its event, so the first may just still be told.
    let told = created(&mut later).await;
    assert!(told == second || (told == first && created(&mut later).await == second));
}

/// The next instance that is created.
async fn created(events: &mut Stream) -> String {
    loop {
        let event = events.expect("event").await.data;
        if event["kind"] == "instance.created" {
            return event["instance"].as_str().unwrap().to_owned();
        }
    }
}
