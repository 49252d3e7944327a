//! A client's connection from its first request to its last.

use super::answer::Asked;
use super::exchange::{AHEAD_BYTES_MAX, Broken, Ended, Exchange};
use super::head::{BadHead, Framing, RequestHead};
use super::side::Side;
use super::tunnel::tunnel;
use crate::answer::Answer;
use crate::clock::Ticks;
use crate::guide::{Ask, Decision, Forward, Pending, Target, Without};
use crate::headers::{self, Peer};
use crate::io::{ClientIo, UpstreamIo};
use crate::refusal::Refusal;
use crate::worker::{Seat, Worker};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How long a client may take to send the head of a request, and to ask again.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a client that is still writing may take to see the answer that ends its connection.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// How a client who speaks HTTP/2 without having been asked begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that somebody else goes on with.
pub(crate) struct Handover {
    /// What was read of it.
    pub(crate) first: Bytes,
    pub(crate) io: ClientIo,
    pub(crate) peer: Peer,
    pub(crate) seat: Seat,
    pub(crate) is_http2: bool,
}

/// A client's connection.
pub(crate) struct Connection {
    side: Side<ClientIo>,
    peer: Peer,
    seat: Seat,
    ticks: Ticks,
    worker: Arc<Worker>,
}

/// What comes after a request.
enum Next {
    Another,
    Close,
    /// The client may still be writing: let it see the answer.
    Linger,
}

/// What a request comes to.
enum Turn {
    Next(Next),
    Tunnel {
        upstream: Side<UpstreamIo>,
        forward: Box<Forward>,
    },
    /// It could not be sent; this is the answer, unless there is another way.
    Unsent(Answer),
}

/// What comes over a connection.
enum Incoming {
    Head(RequestHead),
    Bad(BadHead),
    Http2,
    End,
}

impl Connection {
    pub(crate) fn new(io: ClientIo, peer: Peer, seat: Seat, worker: Arc<Worker>) -> Connection {
        Connection { side: Side::new(io), peer, seat, ticks: Ticks::new(), worker }
    }

    /// Serves requests until one of them is for somebody else.
    pub(crate) async fn serve(mut self) -> Option<Handover> {
        let mut is_first = true;
        loop {
            self.side.shrink();
            self.seat.rest();
            if self.worker.is_stopping() {
                return None;
            }
            let incoming = self.incoming(std::mem::take(&mut is_first)).await;
            self.seat.work();
            let head = match incoming {
                Incoming::Head(head) => head,
                Incoming::Bad(bad) => {
                    let answer = Answer::reason(bad.status, "malformed", bad.reason, None);
                    self.answer(&answer, None, false).await;
                    self.linger().await;
                    return None;
                }
                Incoming::Http2 => return Some(self.hand_over(BytesMut::new(), true)),
                Incoming::End => return None,
            };
            let ask = Ask { head: &head, peer: &self.peer };
            let mut decision = self.worker.decide(&ask);
            let mut is_first_way = true;
            let next = loop {
                match decision {
                    Decision::Api => return Some(self.hand_over(head.into_bytes(), false)),
                    Decision::Answer(answer) => {
                        break self.answer(&answer, Some(&head), true).await;
                    }
                    Decision::Forward(forward) => match self.forward(&head, forward).await {
                        Turn::Next(next) => break next,
                        Turn::Unsent(_) if is_first_way => {
                            is_first_way = false;
                            let ask = Ask { head: &head, peer: &self.peer };
                            decision = self.worker.decide(&ask);
                        }
                        Turn::Unsent(answer) => {
                            break self.answer(&answer, Some(&head), true).await;
                        }
                        Turn::Tunnel { upstream, forward } => {
                            self.become_tunnel(upstream, *forward);
                            return None;
                        }
                    },
                    Decision::Later(later) => match self.while_there(later).await {
                        Some(found) => decision = found,
                        None => break Next::Close,
                    },
                }
            };
            match next {
                Next::Another => {}
                Next::Close => return None,
                Next::Linger => {
                    self.linger().await;
                    return None;
                }
            }
        }
    }

    fn hand_over(self, mut first: BytesMut, is_http2: bool) -> Handover {
        first.unsplit(self.side.input);
        let (io, peer, seat) = (self.side.io, self.peer, self.seat);
        Handover { first: first.freeze(), io, peer, seat, is_http2 }
    }

    /// The next head of a request.
    async fn incoming(&mut self, is_first: bool) -> Incoming {
        self.ticks.restart();
        poll_fn(|cx| {
            loop {
                let input = &mut self.side.input;
                if is_first && PREFACE.starts_with(&input[..input.len().min(PREFACE.len())]) {
                    if input.len() >= PREFACE.len() {
                        return Poll::Ready(Incoming::Http2);
                    }
                } else if !input.is_empty() {
                    match RequestHead::take(input) {
                        Ok(Some(head)) => return Poll::Ready(Incoming::Head(head)),
                        Ok(None) => {}
                        Err(bad) => return Poll::Ready(Incoming::Bad(bad)),
                    }
                }
                match self.side.poll_fill(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Incoming::End),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            // Whoever sends a byte now and then is late all the same.
            match self.ticks.poll(false, cx) {
                Some(idle) if idle > HEAD_TIME_MAX => Poll::Ready(Incoming::End),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// Waits for something as long as the client is there.
    async fn while_there<T>(&mut self, mut later: Pending<T>) -> Option<T> {
        poll_fn(|cx| {
            if let Poll::Ready(found) = later.as_mut().poll(cx) {
                return Poll::Ready(Some(found));
            }
            match self.poll_gone(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Ready when the client has gone. What it says meanwhile is kept, up to a limit.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.side.input.len() < AHEAD_BYTES_MAX {
            match self.side.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    /// Gives an answer of the gateway's own.
    async fn answer(&mut self, answer: &Answer, head: Option<&RequestHead>, go_on: bool) -> Next {
        // A body that nobody reads would be taken for the next request.
        let has_body = head.is_none_or(|head| head.framing != Framing::Empty);
        let keeps = head.is_some_and(|head| head.keep_alive && head.minor_version == 1);
        let keep_alive = go_on && keeps && !has_body && !self.worker.is_stopping();
        let is_head = head.is_some_and(RequestHead::is_head);
        answer.write(is_head, keep_alive, &mut self.side.output);
        let sent = tokio::time::timeout(HEAD_TIME_MAX, poll_fn(|cx| self.side.poll_drained(cx)));
        match sent.await {
            Ok(Ok(())) if keep_alive => Next::Another,
            Ok(Ok(())) => Next::Linger,
            _ => Next::Close,
        }
    }

    /// Lets the client see our answer before its connection ends: closing while it writes would
    /// make its system throw the answer away (RFC 9112, section 9.6).
    async fn linger(&mut self) {
        use tokio::io::AsyncWriteExt;
        let gone = async {
            let _ = self.side.io.shutdown().await;
            poll_fn(|cx| self.side.poll_discard(cx)).await;
        };
        // Longer than that nobody needs to see an answer.
        let _ = tokio::time::timeout(LINGER_TIME_MAX, gone).await;
    }

    fn become_tunnel(self, upstream: Side<UpstreamIo>, forward: Forward) {
        let Connection { side, seat, .. } = self;
        let Forward { held, withdrawn, .. } = forward;
        // A task of its own is as small as what it does.
        tokio::spawn(async move {
            tunnel(side, upstream, withdrawn).await;
            drop((held, seat));
        });
    }

    /// Sends a request to an instance and its answer back.
    async fn forward(&mut self, head: &RequestHead, mut forward: Forward) -> Turn {
        let may_reuse = head.upgrade().is_none();
        let pooled = if may_reuse { self.worker.pool().take(forward.target) } else { None };
        let mut pooled = pooled;
        loop {
            let is_reused = pooled.is_some();
            let upstream = match pooled.take() {
                Some(side) => Ok(side),
                None => {
                    let dialed = self.worker.guide().dial(forward.target);
                    match self.while_there(dialed).await {
                        Some(dialed) => dialed.map(Side::new),
                        None => return Turn::Next(Next::Close),
                    }
                }
            };
            let mut upstream = match upstream {
                Ok(upstream) => upstream,
                Err(refusal) => {
                    let answer = refusal.answer(head);
                    if self.worker.guide().forget(forward.target) {
                        return Turn::Unsent(answer);
                    }
                    return Turn::Next(self.answer(&answer, Some(head), true).await);
                }
            };
            write_head(head, &self.peer, &forward, &mut upstream.output);
            let (ended, answered) = self.exchange(head, &mut forward, &mut upstream).await;
            match ended {
                Ok(Ended::Upgraded) => {
                    return Turn::Tunnel { upstream, forward: Box::new(forward) };
                }
                Ok(Ended::Complete { keep_client, keep_upstream }) => {
                    if keep_upstream {
                        self.worker.keep(forward.target, upstream);
                    }
                    let next = if keep_client { Next::Another } else { Next::Linger };
                    return Turn::Next(next);
                }
                Err(Broken::NoAnswer) if is_reused && may_repeat(head, &upstream) => {}
                Err(broken) => return Turn::Next(self.broken(&broken, answered, head).await),
            }
        }
    }

    async fn exchange(
        &mut self,
        head: &RequestHead,
        forward: &mut Forward,
        upstream: &mut Side<UpstreamIo>,
    ) -> (Result<Ended, Broken>, bool) {
        let asked = Asked {
            is_head: head.is_head(),
            minor_version: head.minor_version,
            keep_alive: head.keep_alive && !self.worker.is_stopping(),
            wants_upgrade: head.upgrade().is_some(),
            lines: &forward.answer_lines,
        };
        let withdrawn = forward.withdrawn.as_mut();
        let (client, ticks) = (&mut self.side, &mut self.ticks);
        let mut exchange = Exchange::new(client, upstream, ticks, withdrawn, asked, head.framing);
        let ended = poll_fn(|cx| exchange.poll(cx)).await;
        let answered = exchange.answered;
        (ended, answered)
    }

    /// What comes after an exchange that broke: an answer that says so, if none has begun.
    async fn broken(&mut self, broken: &Broken, answered: bool, head: &RequestHead) -> Next {
        tracing::debug!("a request was not answered: {broken}");
        if answered {
            // The client gets what there is of it, and sees that it is not all.
            let sent = poll_fn(|cx| self.side.poll_drained(cx));
            let _ = tokio::time::timeout(LINGER_TIME_MAX, sent).await;
            return Next::Close;
        }
        let reason = broken.to_string();
        let answer = match broken {
            Broken::ClientGone | Broken::ClientStalls => return Next::Close,
            Broken::BadBody(_) => {
                Answer::reason(StatusCode::BAD_REQUEST, "malformed", &reason, Some(head))
            }
            Broken::Withdrawn => {
                Answer::reason(StatusCode::UNAUTHORIZED, "withdrawn", &reason, Some(head))
            }
            Broken::TooLate => Refusal::TooLate.answer(head),
            Broken::NoAnswer => Refusal::BadAnswer { reason }.answer(head),
            Broken::Truncated(_) => Refusal::BadAnswer { reason }.answer(head),
            Broken::BadAnswer(_) => Refusal::BadAnswer { reason }.answer(head),
        };
        self.answer(&answer, Some(head), false).await
    }
}

/// Whether a request may be sent again after a connection that had been idle ended without an
/// answer: it must have no body, and be one that changes nothing (RFC 9110, section 9.2.2) or not
/// have left.
fn may_repeat(head: &RequestHead, upstream: &Side<UpstreamIo>) -> bool {
    let is_safe = matches!(head.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE");
    head.framing == Framing::Empty && (is_safe || !upstream.wrote)
}

/// Makes of a request to the gateway one to the instance.
fn write_head(head: &RequestHead, peer: &Peer, forward: &Forward, output: &mut BytesMut) {
    output.reserve(1024);
    output.extend_from_slice(head.method());
    output.extend_from_slice(b" ");
    let target = forward.path.as_deref().unwrap_or_else(|| head.target());
    if !matches!(target.first(), Some(b'/' | b'*')) {
        output.extend_from_slice(b"/");
    }
    output.extend_from_slice(target);
    output.extend_from_slice(b" HTTP/1.1\r\n");
    headers::line(output, b"host", head.host().as_bytes());
    let has_connection = head.fields().any(|(name, _)| name.eq_ignore_ascii_case(b"connection"));
    for (name, value) in head.fields() {
        let is_named =
            || headers::named(head.fields()).any(|named| named.eq_ignore_ascii_case(name));
        if headers::is_hop_by_hop(name)
            || headers::is_reserved(name)
            || name.eq_ignore_ascii_case(b"host")
            || has_connection && is_named()
        {
            continue;
        }
        if !forward.without.is_empty() && write_without(name, value, &forward.without, output) {
            continue;
        }
        headers::line(output, name, value);
    }
    peer.write(head, output);
    match head.framing {
        Framing::Length(length) => {
            headers::line(output, b"content-length", length.to_string().as_bytes());
        }
        Framing::Chunked => output.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Empty if matches!(head.method(), b"POST" | b"PUT" | b"PATCH") => {
            output.extend_from_slice(b"content-length: 0\r\n");
        }
        Framing::Empty | Framing::UntilClose => {}
    }
    if let Some(protocol) = head.upgrade() {
        output.extend_from_slice(b"connection: upgrade\r\n");
        headers::line(output, b"upgrade", protocol);
    } else if head.accepts_trailers {
        output.extend_from_slice(b"connection: te\r\nte: trailers\r\n");
    }
    output.extend_from_slice(&forward.lines);
    output.extend_from_slice(b"\r\n");
}

/// Writes what is left of a field without what must not be passed on. Says whether it did.
fn write_without(name: &[u8], value: &[u8], without: &[Without], output: &mut BytesMut) -> bool {
    let authorization = || without.contains(&Without::Authorization);
    if name.eq_ignore_ascii_case(b"authorization") && authorization() {
        return true;
    }
    if !name.eq_ignore_ascii_case(b"cookie") {
        return false;
    }
    let secret = |cookie: &[u8]| {
        let name = cookie.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        without.iter().any(|it| matches!(it, Without::Cookie(secret) if secret.as_bytes() == name))
    };
    let cookies = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let kept: Vec<&[u8]> = cookies.filter(|cookie| !secret(cookie)).collect();
    if !kept.is_empty() {
        headers::line(output, name, &kept.join(&b"; "[..]));
    }
    true
}

impl Worker {
    fn keep(&self, target: Target, upstream: Side<UpstreamIo>) {
        self.pool().put(target, upstream, Instant::now());
    }
}
