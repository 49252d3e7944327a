//! Logs and events: streams that go on where they were when the connection broke.

use crate::client::Client;
use crate::error::ClientError;
use crate::query::Target;
use crate::sse::{Message, Parser};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use spawnery_wire::api::{
    EventGapView, EventView, ExitedView, GapView, LogRecordView, Problem, stream_event,
};
use std::time::Duration;
use tokio::time::Instant;

/// How long a stream tries to come back before it gives up: long enough to restart a server.
pub(crate) const RECONNECT_WITHIN: Duration = Duration::from_secs(60);

/// The first pause before connecting again; doubled each time.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause before connecting again.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Which part of a process's output is asked for.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Which process; 0 is the main one.
    pub process: u32,
    /// Go on until the process has ended.
    pub follow: bool,
    /// Only the last so many lines of what there is.
    pub tail: Option<u64>,
    /// Only what was written at or after this time, in milliseconds since 1970.
    pub since_ms: Option<u64>,
}

impl LogQuery {
    pub(crate) fn target(&self, target: Target) -> Target {
        target
            .query("process", Some(self.process))
            .query("follow", Some(self.follow))
            .query("tail", self.tail)
            .query("since", self.since_ms)
    }
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// What was written.
    Output(LogRecordView),
    /// These records are gone: the log had reached its limit.
    Gap(GapView),
    /// The process has ended, and this was all. The last item.
    Exited(ExitedView),
    /// This was all for now. The last item of a log that is not followed.
    End,
}

/// The output of a process.
#[derive(Debug)]
pub struct LogStream {
    messages: Resuming,
    /// The last sequence number that was given out.
    sequence: u64,
    is_over: bool,
}

impl LogStream {
    pub(crate) fn new(client: Client, target: Target) -> LogStream {
        LogStream { messages: Resuming::new(client, target), sequence: 0, is_over: false }
    }

    /// The next item; none after the last. May be dropped and called again: nothing is lost.
    pub async fn next(&mut self) -> Result<Option<LogItem>, ClientError> {
        while !self.is_over {
            let message = self.messages.next().await?;
            let item = match message.event.as_str() {
                stream_event::OUTPUT => {
                    let record: LogRecordView = self.messages.read(&message)?;
                    if record.sequence <= self.sequence {
                        continue;
                    }
                    self.sequence = record.sequence;
                    LogItem::Output(record)
                }
                stream_event::GAP => {
                    let gap: GapView = self.messages.read(&message)?;
                    if gap.to <= self.sequence {
                        continue;
                    }
                    self.sequence = gap.to;
                    LogItem::Gap(gap)
                }
                stream_event::EXITED => {
                    self.is_over = true;
                    LogItem::Exited(self.messages.read(&message)?)
                }
                stream_event::END => {
                    self.is_over = true;
                    LogItem::End
                }
                // Of a later version.
                _ => continue,
            };
            return Ok(Some(item));
        }
        Ok(None)
    }
}

/// Something that the stream of events tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventItem {
    /// Something happened.
    Event(EventView),
    /// Some of what happened is no longer told.
    Gap(EventGapView),
}

/// What happens in the cluster.
#[derive(Debug)]
pub struct EventStream {
    messages: Resuming,
}

impl EventStream {
    pub(crate) fn new(client: Client, target: Target) -> EventStream {
        EventStream { messages: Resuming::new(client, target) }
    }

    /// Connects, unless it is connected, so that nothing that happens from now on is missed.
    pub async fn connect(&mut self) -> Result<(), ClientError> {
        self.messages.connect().await
    }

    /// The next item. May be dropped and called again: nothing is lost.
    pub async fn next(&mut self) -> Result<EventItem, ClientError> {
        loop {
            let message = self.messages.next().await?;
            match message.event.as_str() {
                stream_event::EVENT => return Ok(EventItem::Event(self.messages.read(&message)?)),
                stream_event::GAP => return Ok(EventItem::Gap(self.messages.read(&message)?)),
                // Of a later version.
                _ => {}
            }
        }
    }
}

/// Messages of a stream that is opened again, after the last one that came, when it breaks.
#[derive(Debug)]
struct Resuming {
    client: Client,
    target: Target,
    last_id: Option<String>,
    connection: Option<Connection>,
    /// Whether it ever was connected: if not, an error is told at once.
    was_connected: bool,
    /// Since when it tries to come back.
    broken_since: Option<Instant>,
    pause: Duration,
}

#[derive(Debug)]
struct Connection {
    body: Incoming,
    parser: Parser,
}

impl Resuming {
    fn new(client: Client, target: Target) -> Resuming {
        Resuming {
            client,
            target,
            last_id: None,
            connection: None,
            was_connected: false,
            broken_since: None,
            pause: PAUSE_MIN,
        }
    }

    /// The next message. Everything it knows is in `self`, so it may be dropped at any wait.
    async fn next(&mut self) -> Result<Message, ClientError> {
        loop {
            let attempt = match self.connect().await {
                Ok(()) => self.receive().await,
                Err(error) => Err(error),
            };
            match attempt {
                Ok(message) => {
                    self.broken_since = None;
                    self.pause = PAUSE_MIN;
                    self.last_id.clone_from(&message.id);
                    return Ok(message);
                }
                Err(error) => {
                    self.connection = None;
                    self.may_try_again(error)?;
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        if self.connection.is_none() {
            let last_id = self.last_id.as_deref();
            let body = self.client.open(&self.target, last_id).await?;
            let mut parser = Parser::default();
            parser.resume(self.last_id.clone());
            self.connection = Some(Connection { body, parser });
            self.was_connected = true;
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<Message, ClientError> {
        let Some(connection) = &mut self.connection else {
            return Err(self.client.protocol("not connected"));
        };
        loop {
            if let Some(message) = connection.parser.next() {
                return match message.event.as_str() {
                    stream_event::PROBLEM => Err(problem(&self.client, &message)),
                    _ => Ok(message),
                };
            }
            match connection.body.frame().await {
                Some(Ok(frame)) => {
                    let Some(bytes) = frame.data_ref() else {
                        continue;
                    };
                    let pushed = connection.parser.push(bytes);
                    pushed.map_err(|error| self.client.protocol(error))?;
                }
                Some(Err(error)) => return Err(self.client.broken(&error)),
                None => {
                    let ended = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                    return Err(self.client.broken(&ended));
                }
            }
        }
    }

    /// Whether it is of use to connect again after `error`; if not, gives it back.
    fn may_try_again(&mut self, error: ClientError) -> Result<(), ClientError> {
        let since = *self.broken_since.get_or_insert_with(Instant::now);
        let is_of_use = self.was_connected && error.is_passing();
        match is_of_use && since.elapsed() < RECONNECT_WITHIN {
            true => Ok(()),
            false => Err(error),
        }
    }

    fn read<T: DeserializeOwned>(&self, message: &Message) -> Result<T, ClientError> {
        let read = serde_json::from_str(&message.data);
        read.map_err(|error| self.client.protocol(error))
    }
}

fn problem(client: &Client, message: &Message) -> ClientError {
    match serde_json::from_str::<Problem>(&message.data) {
        Ok(problem) => ClientError::Problem(Box::new(problem)),
        Err(error) => client.protocol(error),
    }
}
