//! Server-Sent Events (WHATWG HTML, section 9.2).

use crate::app::App;
use crate::failure::Answer;
use crate::limits::HEARTBEAT;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;

/// When a client whose stream broke should connect again.
const RETRY: Duration = Duration::from_secs(1);

/// Asks a proxy in between not to hold events back.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A response that sends `events` until they end, with comments while there is nothing to send.
/// With `start`, a client that loses the stream before the first event goes on from there.
pub(crate) fn respond<S>(app: &App, start: Option<String>, events: S) -> Answer<Response>
where
    S: Stream<Item = Event> + Send + 'static,
{
    let permit = app.stream_permit()?;
    let stopping = app.config.stopping.clone();
    let mut greeting = Event::default().comment("spawnery").retry(RETRY);
    if let Some(start) = start {
        greeting = greeting.id(start);
    }
    let events = stream::once(async { greeting }).chain(events.take_until(stopping.stopped()));
    let events = events.map(move |event| {
        // The right to the stream is given back when the stream is dropped.
        let _ = &permit;
        Ok::<_, Infallible>(event)
    });
    let heartbeat = KeepAlive::new().interval(HEARTBEAT);
    let mut response = Sse::new(events).keep_alive(heartbeat).into_response();
    response.headers_mut().insert(NO_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// One event with `content` as JSON.
pub(crate) fn event(kind: &str, id: Option<String>, content: &impl Serialize) -> Event {
    let json = serde_json::to_string(content).expect("views have text and numbers only");
    let event = Event::default().event(kind).data(json);
    match id {
        Some(id) => event.id(id),
        None => event,
    }
}

/// The id of the last event that the client saw before.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("last-event-id")?.to_str().ok()?;
    (!value.is_empty()).then_some(value)
}
