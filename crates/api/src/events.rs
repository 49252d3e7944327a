//! What happens in the cluster, as Server-Sent Events.

use crate::app::App;
use crate::asker::Asker;
use crate::failure::Answer;
use crate::parameters::{Parameters, invalid};
use crate::{find, sse};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event as SentEvent;
use futures::StreamExt;
use serde::Deserialize;
use spawnery_cluster::Event;
use spawnery_controller::{EventCursor, EventItem, EventStart};
use spawnery_model::{InstanceId, Name};
use spawnery_wire::api::{EventGapView, EventView, stream_event};
use utoipa::IntoParams;

/// Which events.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventParameters {
    /// Only those about this workload.
    workload: Option<String>,
    /// Only those about this instance: its id, or the beginning of it.
    instance: Option<String>,
    /// From after this id, or from the `oldest` that is kept. Without, from now on.
    after: Option<String>,
}

/// Sends what happens, as Server-Sent Events: whoever does not see everything gets the events of
/// its own sessions.
///
/// Events: `event`, and `gap` when some that were asked for are no longer kept. To go on after a
/// broken connection, connect again with `Last-Event-ID`.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after this event"),
        EventParameters,
    ),
    responses((status = 200, description = "The events; the data of an `event` is an EventView",
        body = EventView, content_type = "text/event-stream")),
)]
pub(crate) async fn follow_events(
    State(app): State<App>,
    asker: Asker,
    Parameters(parameters): Parameters<EventParameters>,
    headers: HeaderMap,
) -> Answer<Response> {
    let after = sse::last_event_id(&headers).or(parameters.after.as_deref());
    let start = start(after)?;
    let filter = Filter {
        workload: parameters.workload.as_deref().map(find::name).transpose()?,
        instance: parameters.instance,
        asker,
    };
    // Looked at first, so that whoever comes back with it may see an event twice, but misses none.
    let position = app.controller.statistics().position;
    let now = EventCursor { position, index: u32::MAX };
    let greeting = (start == EventStart::Now).then(|| id(now));
    let events = app.controller.events(start).into_stream();
    let events = events.filter_map(move |item| std::future::ready(filter.told(item)));
    sse::respond(&app, greeting, events)
}

/// Sends what happens to one instance, for as long as the client listens; `held` goes with it.
pub(crate) fn follow_instance<T: Send + 'static>(
    app: &App,
    asker: Asker,
    instance: InstanceId,
    headers: &HeaderMap,
    held: T,
) -> Answer<Response> {
    let start = start(sse::last_event_id(headers))?;
    let filter = Filter { workload: None, instance: Some(instance.to_string()), asker };
    let position = app.controller.statistics().position;
    let now = EventCursor { position, index: u32::MAX };
    let greeting = (start == EventStart::Now).then(|| id(now));
    let events = app.controller.events(start).into_stream();
    let events = events.filter_map(move |item| {
        let _ = &held;
        std::future::ready(filter.told(item))
    });
    sse::respond(app, greeting, events)
}

fn start(after: Option<&str>) -> Answer<EventStart> {
    match after {
        None => Ok(EventStart::Now),
        Some("oldest") => Ok(EventStart::Oldest),
        Some(id) => cursor(id)
            .map(EventStart::After)
            .ok_or_else(|| invalid("the id of an event has the form POSITION.INDEX, such as 17.0")),
    }
}

fn cursor(id: &str) -> Option<EventCursor> {
    let (position, index) = id.split_once('.')?;
    Some(EventCursor { position: position.parse().ok()?, index: index.parse().ok()? })
}

fn id(cursor: EventCursor) -> String {
    format!("{}.{}", cursor.position, cursor.index)
}

struct Filter {
    workload: Option<Name>,
    /// The beginning of an id. The instance may be long gone, so it is compared as text.
    instance: Option<String>,
    asker: Asker,
}

impl Filter {
    fn told(&self, item: EventItem) -> Option<SentEvent> {
        match item {
            EventItem::Event(cursor, event) => self.takes(&event).then(|| {
                let view = view(cursor, &event);
                sse::event(stream_event::EVENT, Some(view.id.clone()), &view)
            }),
            EventItem::Gap { after, oldest } => {
                let gap = EventGapView { after: id(after), oldest: id(oldest) };
                Some(sse::event(stream_event::GAP, None, &gap))
            }
        }
    }

    fn takes(&self, event: &Event) -> bool {
        let workload = self.workload.as_ref();
        let instance = self.instance.as_ref();
        self.may_see(event)
            && workload.is_none_or(|name| event.workload.as_ref() == Some(name))
            && instance.is_none_or(|wanted| {
                event.instance.is_some_and(|id| id.to_string().starts_with(wanted))
            })
    }

    fn may_see(&self, event: &Event) -> bool {
        self.asker.sees_all() || event.seen_by.contains(&self.asker.subject)
    }
}

fn view(cursor: EventCursor, event: &Event) -> EventView {
    EventView {
        id: id(cursor),
        at_ms: event.at.0,
        kind: event.kind.to_owned(),
        workload: event.workload.clone(),
        instance: event.instance,
        run: event.run,
        node: event.node,
        message: event.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_a_position_and_an_index() {
        let check = |text: &str, expected: Option<(u64, u32)>| {
            let cursor = cursor(text);
            assert_eq!(cursor.map(|cursor| (cursor.position, cursor.index)), expected);
            if let Some(cursor) = cursor {
                assert_eq!(id(cursor), text);
            }
        };
        check("17.0", Some((17, 0)));
        check("17", None);
        check("17.", None);
        check("a.b", None);
        check("-1.0", None);
        check("", None);
    }
}
