//! The output of a process, as Server-Sent Events.

use crate::app::App;
use crate::asker::Asker;
use crate::failure::Answer;
use crate::follower::{Follower, News, Wanted};
use crate::parameters::{Parameters, invalid};
use crate::{find, sse};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::response::sse::Event;
use futures::stream;
use serde::Deserialize;
use spawnery_model::InstanceId;
use spawnery_wire::api::{LogRecordView, stream_event};
use spawnery_wire::link::LogStart;
use std::time::{SystemTime, UNIX_EPOCH};
use utoipa::IntoParams;

/// Which output.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParameters {
    /// Of which process: 0, the main one, when it is left out.
    #[serde(default)]
    process: u32,
    /// Go on until the process has ended; wait for it if it has not started yet.
    #[serde(default)]
    follow: bool,
    /// Only the last so many lines.
    tail: Option<u64>,
    /// Only what was written since: milliseconds since 1970, or how long ago, such as `10m`.
    since: Option<String>,
}

/// Sends the output of a process of a session, as Server-Sent Events.
///
/// Events: `output` (its id is the sequence number), `gap`, then `exited` or, when it is not
/// followed, `end`. After a `problem` or a broken connection, connect again with `Last-Event-ID`.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/logs", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Go on after this sequence number"),
        LogParameters,
    ),
    responses((status = 200, description = "The output; the data of an `output` event is a LogRecordView",
        body = LogRecordView, content_type = "text/event-stream")),
)]
pub(crate) async fn follow_session_logs(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
    Parameters(parameters): Parameters<LogParameters>,
    headers: HeaderMap,
    uri: Uri,
) -> Answer<Response> {
    let session = app.query(move |state| find::session(state, &id, &asker).map(|found| found.id));
    let session = session.await??;
    respond(app, session, parameters, &headers, uri)
}

/// Sends the output of a process of an instance, as Server-Sent Events.
///
/// Events: `output` (its id is the sequence number), `gap`, then `exited` or, when it is not
/// followed, `end`. After a `problem` or a broken connection, connect again with `Last-Event-ID`.
#[utoipa::path(
    get, path = "/v1/instances/{id}/logs", tag = "instances",
    params(
        ("id" = String, Path, description = "The instance's id, or its first four characters or more"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Go on after this sequence number"),
        LogParameters,
    ),
    responses((status = 200, description = "The output; the data of an `output` event is a LogRecordView",
        body = LogRecordView, content_type = "text/event-stream")),
)]
pub(crate) async fn follow_instance_logs(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
    Parameters(parameters): Parameters<LogParameters>,
    headers: HeaderMap,
    uri: Uri,
) -> Answer<Response> {
    let instance = app.query(move |state| find::instance(state, &id, &asker).map(|found| found.id));
    let instance = instance.await??;
    respond(app, instance, parameters, &headers, uri)
}

fn respond(
    app: App,
    instance: InstanceId,
    parameters: LogParameters,
    headers: &HeaderMap,
    uri: Uri,
) -> Answer<Response> {
    let start = start(&parameters, headers)?;
    let wanted = Wanted {
        instance,
        process: parameters.process,
        start,
        follow: parameters.follow,
        path: uri.path().to_owned(),
    };
    let follower = Follower::new(app.clone(), wanted);
    let events = stream::unfold(follower, |mut follower| async move {
        let news = follower.next().await?;
        Some((event(news), follower))
    });
    sse::respond(&app, None, events)
}

/// From where to read: after what the client saw last, or as its parameters say.
fn start(parameters: &LogParameters, headers: &HeaderMap) -> Answer<LogStart> {
    if let Some(last) = sse::last_event_id(headers) {
        let last: u64 = last
            .parse()
            .map_err(|_| invalid("Last-Event-ID is not the sequence number of an output event"))?;
        return Ok(LogStart::Sequence(last.saturating_add(1)));
    }
    match (parameters.tail, parameters.since.as_deref()) {
        (None, None) => Ok(LogStart::Sequence(1)),
        (Some(lines), None) => Ok(LogStart::Tail(lines)),
        (None, Some(since)) => Ok(LogStart::Since(since_ms(since)?)),
        (Some(_), Some(_)) => Err(invalid("give one of `tail` and `since`")),
    }
}

fn since_ms(text: &str) -> Answer<u64> {
    if let Ok(at_ms) = text.parse() {
        return Ok(at_ms);
    }
    let age = spawnery_manifest::parse_duration(text)
        .map_err(|error| invalid(format!("`since`: {error}")))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((now.as_millis() as u64).saturating_sub(age.0))
}

fn event(news: News) -> Event {
    match news {
        News::Output { sequence, at_ms, stream, bytes } => {
            let record = LogRecordView::new(sequence, at_ms, stream, bytes);
            sse::event(stream_event::OUTPUT, Some(sequence.to_string()), &record)
        }
        News::Gap(gap) => sse::event(stream_event::GAP, Some(gap.to.to_string()), &gap),
        News::Exited(exited) => sse::event(stream_event::EXITED, None, &exited),
        News::End => sse::event(stream_event::END, None, &serde_json::Map::new()),
        News::Problem(problem) => sse::event(stream_event::PROBLEM, None, &problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_starts_where_the_client_says() {
        let check = |tail, since: Option<&str>, last: Option<&str>, expected| {
            let parameters =
                LogParameters { tail, since: since.map(str::to_owned), ..LogParameters::default() };
            let mut headers = HeaderMap::new();
            if let Some(last) = last {
                headers.insert("last-event-id", last.parse().unwrap());
            }
            assert_eq!(start(&parameters, &headers).ok(), expected);
        };
        check(None, None, None, Some(LogStart::Sequence(1)));
        check(Some(5), None, None, Some(LogStart::Tail(5)));
        check(None, Some("1700000000000"), None, Some(LogStart::Since(1_700_000_000_000)));
        check(None, Some("yesterday"), None, None);
        check(Some(5), Some("1"), None, None);
        check(Some(5), None, Some("41"), Some(LogStart::Sequence(42)));
        check(None, None, Some("17.0"), None);
        check(None, None, Some("18446744073709551615"), Some(LogStart::Sequence(u64::MAX)));
    }
}
