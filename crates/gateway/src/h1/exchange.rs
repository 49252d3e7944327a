//! One request on its way to an instance and its answer on its way back, both at once.

use super::answer::{AnswerHead, Asked, BadAnswer};
use super::body::{BadBody, Encoding, Relay, WAITING_BYTES_MAX};
use super::head::Framing;
use super::side::Side;
use crate::clock::Ticks;
use crate::guide::Pending;
use crate::io::{ClientIo, UpstreamIo};
use bytes::Buf;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long an instance may take to begin its answer. Longer than any sensible page, short enough
/// that a hanging instance does not hold connections for ever.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);

/// How long a client may leave an answer unread.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(120);

/// Bytes of further requests that are read before their turn comes: it shows that the client is
/// still there.
pub(crate) const AHEAD_BYTES_MAX: usize = 16 << 10;

/// Interim answers (RFC 9110, section 15.2) before the real one. Nobody sends more than two.
const INTERIM_MAX: usize = 32;

/// How an exchange came to its end.
#[derive(Debug)]
pub(crate) enum Ended {
    Complete {
        keep_client: bool,
        keep_upstream: bool,
    },
    /// Both sides speak another protocol from now on.
    Upgraded,
}

/// Why an exchange came to no end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the client has gone")]
    ClientGone,
    #[error("the client does not read")]
    ClientStalls,
    #[error(transparent)]
    BadBody(#[from] BadBody),
    #[error(transparent)]
    BadAnswer(#[from] BadAnswer),
    /// Before the first byte of an answer.
    #[error("it closed the connection without an answer")]
    NoAnswer,
    #[error("it closed the connection in the middle of its answer: {0}")]
    Truncated(String),
    #[error("it did not answer in time")]
    TooLate,
    #[error("access was withdrawn")]
    Withdrawn,
}

#[derive(Debug)]
enum Stage {
    Head { interim: usize },
    Body(Relay),
    Upgraded,
}

/// One request and its answer. The head of the request is in the output to the instance already.
pub(crate) struct Exchange<'a> {
    client: &'a mut Side<ClientIo>,
    upstream: &'a mut Side<UpstreamIo>,
    ticks: &'a mut Ticks,
    withdrawn: Option<&'a mut Pending<()>>,
    asked: Asked<'a>,
    upload: Relay,
    /// The instance takes no more of the body. It may answer all the same.
    refuses_body: bool,
    stage: Stage,
    keep_client: bool,
    keep_upstream: bool,
    /// Whether a byte of the final answer was given to the client's connection.
    pub(crate) answered: bool,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        client: &'a mut Side<ClientIo>,
        upstream: &'a mut Side<UpstreamIo>,
        ticks: &'a mut Ticks,
        withdrawn: Option<&'a mut Pending<()>>,
        asked: Asked<'a>,
        framing: Framing,
    ) -> Exchange<'a> {
        let encoding = match framing {
            Framing::Chunked => Encoding::Chunked,
            _ => Encoding::Raw,
        };
        ticks.restart();
        Exchange {
            client,
            upstream,
            ticks,
            withdrawn,
            asked,
            upload: Relay::new(framing, encoding),
            refuses_body: false,
            stage: Stage::Head { interim: 0 },
            keep_client: asked.keep_alive,
            keep_upstream: false,
            answered: false,
        }
    }

    /// Carries it to its end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Ended, Broken>> {
        let mut progress = false;
        loop {
            let moved = self.send(cx)? | self.receive(cx)?;
            if let Some(ended) = self.ended() {
                return Poll::Ready(Ok(ended));
            }
            if !moved {
                break;
            }
            progress = true;
        }
        if let Some(withdrawn) = &mut self.withdrawn
            && withdrawn.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(Broken::Withdrawn));
        }
        match self.ticks.poll(progress, cx) {
            Some(idle) if !self.client.is_drained() && idle > UNREAD_TIME_MAX => {
                Poll::Ready(Err(Broken::ClientStalls))
            }
            Some(idle) if matches!(self.stage, Stage::Head { .. }) && idle > ANSWER_TIME_MAX => {
                Poll::Ready(Err(Broken::TooLate))
            }
            _ => Poll::Pending,
        }
    }

    fn ended(&self) -> Option<Ended> {
        match &self.stage {
            Stage::Upgraded => Some(Ended::Upgraded),
            Stage::Body(relay) if relay.is_done() && self.client.is_drained() => {
                let sent = self.upload.is_done() && !self.refuses_body;
                let sent = sent && self.upstream.output.is_empty();
                let clean = self.upstream.input.is_empty();
                Some(Ended::Complete {
                    keep_client: self.keep_client && self.upload.is_done(),
                    keep_upstream: self.keep_upstream && sent && clean,
                })
            }
            _ => None,
        }
    }

    /// From the client to the instance.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<bool, Broken> {
        let mut moved = false;
        let is_uploading = !self.upload.is_done() && !self.refuses_body;
        let wants_more = match is_uploading {
            true => {
                moved |= self.upload.pass(&mut self.client.input, &mut self.upstream.output)?;
                !self.upload.is_done() && self.upstream.output.len() < WAITING_BYTES_MAX
            }
            false => self.client.input.len() < AHEAD_BYTES_MAX,
        };
        if wants_more {
            match self.client.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(Broken::ClientGone),
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Pending => {}
            }
        }
        if self.refuses_body {
            return Ok(moved);
        }
        match self.upstream.drain(cx) {
            Ok(progress) => Ok(moved | progress),
            Err(_) => {
                self.refuses_body = true;
                self.upstream.output.clear();
                Ok(true)
            }
        }
    }

    /// From the instance to the client.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, Broken> {
        let moved = match &self.stage {
            Stage::Head { interim } => self.receive_head(*interim, cx)?,
            Stage::Body(_) => self.receive_body(cx)?,
            Stage::Upgraded => false,
        };
        let drained = self.client.drain(cx).map_err(|_| Broken::ClientGone)?;
        Ok(moved | drained)
    }

    fn receive_head(&mut self, interim: usize, cx: &mut Context<'_>) -> Result<bool, Broken> {
        let before = self.client.output.len();
        let (input, output) = (&mut self.upstream.input, &mut self.client.output);
        let found =
            if input.is_empty() { None } else { AnswerHead::pass(self.asked, input, output)? };
        let Some(head) = found else {
            return match self.upstream.poll_fill(cx) {
                Poll::Ready(Ok(0)) => Err(self.no_head(None)),
                Poll::Ready(Err(error)) => Err(self.no_head(Some(error))),
                Poll::Ready(Ok(_)) => Ok(true),
                Poll::Pending => Ok(false),
            };
        };
        if head.status != 101 && head.status < 200 {
            if interim == INTERIM_MAX {
                return Err(BadAnswer("there are too many interim answers").into());
            }
            if self.asked.minor_version == 0 {
                // It would not understand them (RFC 9110, section 15.2).
                output.truncate(before);
            }
            self.stage = Stage::Head { interim: interim + 1 };
            return Ok(true);
        }
        self.answered = true;
        self.stage = match head.status {
            101 => Stage::Upgraded,
            _ => Stage::Body(Relay::new(head.framing, head.encoding)),
        };
        self.keep_client = head.keep_client;
        self.keep_upstream = head.keep_upstream;
        Ok(true)
    }

    fn no_head(&self, error: Option<io::Error>) -> Broken {
        if self.upstream.input.has_remaining() {
            let reason = error.map_or("it ended".to_owned(), |error| error.to_string());
            return Broken::Truncated(reason);
        }
        Broken::NoAnswer
    }

    fn receive_body(&mut self, cx: &mut Context<'_>) -> Result<bool, Broken> {
        let Stage::Body(relay) = &mut self.stage else {
            return Ok(false);
        };
        let (upstream, output) = (&mut *self.upstream, &mut self.client.output);
        if relay.is_done() || output.len() >= WAITING_BYTES_MAX {
            return Ok(false);
        }
        let passed = relay.pass(&mut upstream.input, output);
        let passed = passed.map_err(|bad| Broken::Truncated(bad.to_string()))?;
        if relay.is_done() || output.len() >= WAITING_BYTES_MAX {
            return Ok(passed);
        }
        let plain = relay.plain_bytes().filter(|_| upstream.input.is_empty());
        let read = match plain {
            Some(bytes_max) => upstream.poll_fill_into(output, bytes_max, cx),
            None => upstream.poll_fill(cx),
        };
        match read {
            Poll::Ready(Ok(0)) if relay.end(output) => Ok(true),
            Poll::Ready(Ok(0)) => Err(Broken::Truncated("it ended".to_owned())),
            Poll::Ready(Err(error)) => Err(Broken::Truncated(error.to_string())),
            Poll::Ready(Ok(size)) => {
                if plain.is_some() {
                    relay.passed(size);
                }
                Ok(true)
            }
            Poll::Pending => Ok(passed),
        }
    }
}
