//! The output of a process, as Server-Sent Events.

use crate::app::App;
use crate::failure::{Answer, Failure, code};
use crate::limits::END_TIME_MAX;
use crate::parameters::{Parameters, invalid};
use crate::{find, sse, views};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::response::sse::Event;
use futures::stream;
use serde::Deserialize;
use spawnery_cluster::Rejection;
use spawnery_controller::{EventItem, EventStart, EventStream, LogStream, StreamError};
use spawnery_model::{Exit, InstanceId, NodeStatus, Phase};
use spawnery_wire::api::{EndView, ExitedView, GapView, LogRecordView, OutputStream, stream_event};
use spawnery_wire::link::{LogFrame, LogStart};
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
    Path(id): Path<String>,
    Parameters(parameters): Parameters<LogParameters>,
    headers: HeaderMap,
    uri: Uri,
) -> Answer<Response> {
    let session = app.query(move |state| find::session(state, &id).map(|found| found.id));
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
    Path(id): Path<String>,
    Parameters(parameters): Parameters<LogParameters>,
    headers: HeaderMap,
    uri: Uri,
) -> Answer<Response> {
    let instance = app.query(move |state| find::instance(state, &id).map(|found| found.id));
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
    let follower = Follower {
        // Before the state is looked at, so that no news in between is missed.
        events: app.controller.events(EventStart::Now),
        app: app.clone(),
        instance,
        process: parameters.process,
        follow: parameters.follow,
        path: uri.path().to_owned(),
        start,
        stage: Stage::Opening,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((event, follower))
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

/// Reads the output of one process, from before it starts until the reason of its end is known.
struct Follower {
    app: App,
    events: EventStream,
    instance: InstanceId,
    process: u32,
    follow: bool,
    path: String,
    /// From where to read next.
    start: LogStart,
    stage: Stage,
}

enum Stage {
    /// The log is not open yet.
    Opening,
    /// Output comes.
    Flowing(LogStream),
    /// The main process has ended so; the instance's end is awaited.
    Ending(Exit),
    /// All is told.
    Over,
}

/// What came of trying to open a log.
enum Opened {
    Log(LogStream),
    /// There is none yet.
    NotYet,
    /// There is none any more, or never was: the instance has ended.
    Ended(EndView),
}

/// What the controller knows of the instance.
struct Look {
    phase: Phase,
    end: Option<EndView>,
    is_node_gone: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let told = match &mut self.stage {
                Stage::Over => return None,
                Stage::Opening => self.open().await,
                Stage::Flowing(log) => {
                    let frame = log.next().await;
                    Ok(self.tell(frame))
                }
                Stage::Ending(exit) => {
                    let exit = exit.clone();
                    let end = tokio::time::timeout(END_TIME_MAX, self.end()).await;
                    end.unwrap_or(Ok(None)).map(|end| Some(self.exited(Some(&exit), end)))
                }
            };
            match told {
                Ok(None) => {}
                Ok(Some(event)) => return Some(event),
                Err(failure) => return Some(self.problem(failure)),
            }
        }
    }

    /// Opens the log, or waits for news that may bring it.
    async fn open(&mut self) -> Result<Option<Event>, Failure> {
        match self.try_open().await? {
            Opened::Log(log) => self.stage = Stage::Flowing(log),
            Opened::Ended(end) => return Ok(Some(self.exited(None, Some(end)))),
            Opened::NotYet if self.follow => self.news().await?,
            Opened::NotYet => return Ok(Some(self.end_for_now())),
        }
        Ok(None)
    }

    async fn try_open(&self) -> Result<Opened, Failure> {
        let Look { phase, end, is_node_gone } = self.look().await?;
        let log = self.app.controller.logs(self.instance, self.process, self.start, self.follow);
        match log.await {
            Ok(log) => Ok(Opened::Log(log)),
            Err(
                error @ (StreamError::Unknown(_)
                | StreamError::NotRunning(_)
                | StreamError::NotPlaced { .. }),
            ) => match end {
                Some(end) => Ok(Opened::Ended(end)),
                // Only the main process is there to come; others were started before they have
                // a number.
                None if self.process == 0 || phase < Phase::Running => Ok(Opened::NotYet),
                None => Err(error.into()),
            },
            Err(error) => match (error, end) {
                // Nobody can say whether its log comes back; how it ended is known.
                (StreamError::NodeAway { .. }, Some(end)) if is_node_gone => Ok(Opened::Ended(end)),
                (error, _) => Err(error.into()),
            },
        }
    }

    async fn look(&self) -> Result<Look, Failure> {
        let instance = self.instance;
        let found = self.app.query(move |state| {
            let found = state.instance(instance)?;
            let node = found.node.and_then(|node| state.node(node));
            Some(Look {
                phase: found.phase,
                end: found.end.as_ref().map(views::end),
                is_node_gone: node.is_none_or(|entry| entry.node.status == NodeStatus::Lost),
            })
        });
        let found = found.await?;
        found.ok_or_else(|| Rejection::InstanceUnknown { instance }.into())
    }

    /// Waits until something happens to the instance.
    async fn news(&mut self) -> Result<(), Failure> {
        loop {
            match self.events.next().await {
                Some(EventItem::Event(_, event)) if event.instance != Some(self.instance) => {}
                Some(_) => return Ok(()),
                None => return Err(Failure::new(code::STOPPING, "the controller is stopping")),
            }
        }
    }

    /// Waits until the instance has ended, and says how.
    async fn end(&mut self) -> Result<Option<EndView>, Failure> {
        loop {
            if let Some(end) = self.look().await?.end {
                return Ok(Some(end));
            }
            self.news().await?;
        }
    }

    fn tell(&mut self, frame: Option<Result<LogFrame, StreamError>>) -> Option<Event> {
        match frame {
            Some(Ok(LogFrame::Record { sequence, at_ms, stream, bytes })) => {
                self.start = LogStart::Sequence(sequence.saturating_add(1));
                let stream = match stream {
                    2 => OutputStream::Stderr,
                    _ => OutputStream::Stdout,
                };
                let record = LogRecordView::new(sequence, at_ms, stream, bytes);
                Some(sse::event(stream_event::OUTPUT, Some(sequence.to_string()), &record))
            }
            Some(Ok(LogFrame::Gap { from, to })) => {
                self.start = LogStart::Sequence(to.saturating_add(1));
                let gap = GapView { from, to };
                Some(sse::event(stream_event::GAP, Some(to.to_string()), &gap))
            }
            Some(Ok(LogFrame::Exited { exit })) if self.process == 0 => {
                self.stage = Stage::Ending(exit);
                None
            }
            Some(Ok(LogFrame::Exited { exit })) => Some(self.exited(Some(&exit), None)),
            Some(Ok(LogFrame::End)) => Some(self.end_for_now()),
            Some(Err(error)) => Some(self.problem(broken(error.to_string()))),
            None => Some(self.problem(broken("the log broke off".to_owned()))),
        }
    }

    fn exited(&mut self, exit: Option<&Exit>, end: Option<EndView>) -> Event {
        self.stage = Stage::Over;
        let exited = ExitedView { process: self.process, exit: exit.map(views::exit), end };
        sse::event(stream_event::EXITED, None, &exited)
    }

    fn end_for_now(&mut self) -> Event {
        self.stage = Stage::Over;
        sse::event(stream_event::END, None, &serde_json::Map::new())
    }

    fn problem(&mut self, failure: Failure) -> Event {
        self.stage = Stage::Over;
        sse::event(stream_event::PROBLEM, None, &failure.into_problem(&self.path))
    }
}

/// A log broke in the middle: its node went away, and may come back with all of it.
fn broken(detail: String) -> Failure {
    Failure::new(code::NODE_AWAY, detail).hint("connect again with Last-Event-ID")
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
