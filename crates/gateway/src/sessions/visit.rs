//! One request for a session, from its head to its way.

use super::access::{COOKIE, QUERY_TOKEN, TokenPlace, Turned, Visitor};
use super::live::Key;
use super::page::{self, RESERVED, WAIT_PATH};
use super::wake::{Waker, Waking};
use super::{HELD_TIME_MAX, PAGE_AFTER, Sessions};
use crate::answer::{Answer, wants_html};
use crate::guide::{Ask, Decision, Forward, Pending, Target};
use crate::headers;
use crate::refusal::Refusal;
use crate::routes::Template;
use http::StatusCode;
use spawnery_model::{Instance, Name};
use std::fmt::Write;
use std::sync::Arc;
use std::task::{Context, Poll};

/// How often a request looks for a session anew, because the one that it was led to ends.
const TRIES_MAX: usize = 4;

/// Below which path of a session a token may come, once.
const PATH_TOKEN: &str = "/.spawnery/token/";

/// Which session, by its host name or its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) template: Name,
    pub(crate) key: Name,
    pub(crate) port: Option<Name>,
    /// How much of the path names the session.
    pub(crate) prefix_length: usize,
}

/// What of a request decides where it goes.
pub(crate) struct Visit {
    pub(super) template: Name,
    pub(super) key: Name,
    port: Option<Name>,
    /// What of the path names the session; empty if its host does.
    prefix: String,
    /// The rest of the path, with the query.
    rest: String,
    pub(super) target: String,
    pub(super) method: String,
    pub(super) scheme: String,
    pub(super) host: String,
    pub(super) client: String,
    pub(super) token: Option<(String, TokenPlace)>,
    /// Whether a page of another origin made it.
    pub(super) is_cross_origin: bool,
    is_plain_get: bool,
    /// Whether a person waits for a page.
    is_navigation: bool,
    wants_html: bool,
    /// The fields that a server gets that decides who may come.
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Visit {
    pub(crate) fn new(ask: &Ask<'_>, place: Place, needs_fields: bool) -> Visit {
        let head = ask.head;
        let target = String::from_utf8_lossy(head.target()).into_owned();
        let (prefix, rest) = target.split_at(place.prefix_length);
        let method = String::from_utf8_lossy(head.method()).into_owned();
        let is_plain = head.upgrade().is_none();
        let changes = !matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS") || !is_plain;
        let own = |origin: &str| {
            origin.split_once("://").is_some_and(|(_, host)| host.eq_ignore_ascii_case(head.host()))
        };
        let is_cross_origin = changes && head.field("origin").is_some_and(|origin| !own(origin));
        let for_page = head.field("sec-fetch-dest");
        let for_page = for_page.is_none_or(|it| matches!(it, "document" | "iframe" | "frame"));
        let wants_html = wants_html(head);
        let passed = |name: &[u8]| {
            !headers::is_hop_by_hop(name)
                && !headers::is_reserved(name)
                && !name.eq_ignore_ascii_case(b"host")
                && !name.eq_ignore_ascii_case(b"expect")
        };
        let fields = match needs_fields {
            true => head.fields().filter(|(name, _)| passed(name)).collect(),
            false => Vec::new(),
        };
        Visit {
            prefix: prefix.to_owned(),
            rest: rest.to_owned(),
            token: token_of(ask, rest),
            is_plain_get: method == "GET" && is_plain,
            is_navigation: method == "GET" && is_plain && wants_html && for_page,
            scheme: ask.scheme().to_owned(),
            host: head.host().to_owned(),
            client: ask.peer().ip().to_canonical().to_string(),
            fields: fields
                .into_iter()
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
            template: place.template,
            key: place.key,
            port: place.port,
            target,
            method,
            is_cross_origin,
            wants_html,
        }
    }

    fn names(&self) -> Key {
        (self.template.clone(), self.key.clone())
    }
}

/// The token of a request: in its URL, as a bearer token or in a cookie.
fn token_of(ask: &Ask<'_>, rest: &str) -> Option<(String, TokenPlace)> {
    if let Some((token, _)) = split_url_token(rest) {
        return Some((token, TokenPlace::Url));
    }
    let bearer = ask.head.field("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    if let Some(token) = bearer {
        return Some((token, TokenPlace::Bearer));
    }
    let cookies = ask.head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"cookie"));
    let cookies = cookies.filter_map(|(_, value)| std::str::from_utf8(value).ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|it| it.split_once('='));
    let token = pairs.find(|(name, _)| name.trim() == COOKIE)?.1.trim().to_owned();
    Some((token, TokenPlace::Cookie))
}

/// A token in a path or query, and the path and query without it.
fn split_url_token(rest: &str) -> Option<(String, String)> {
    if let Some(after) = rest.strip_prefix(PATH_TOKEN) {
        let end = after.find(['/', '?']).unwrap_or(after.len());
        let slash = if after[end..].starts_with('/') { "" } else { "/" };
        return Some((after[..end].to_owned(), format!("{slash}{}", &after[end..])));
    }
    let (path, query) = rest.split_once('?')?;
    let is_token =
        |part: &&str| part.strip_prefix(QUERY_TOKEN).is_some_and(|it| it.starts_with('='));
    let token = query.split('&').find(is_token)?[QUERY_TOKEN.len() + 1..].to_owned();
    let others: Vec<&str> = query.split('&').filter(|part| !is_token(part)).collect();
    let mark = if others.is_empty() { "" } else { "?" };
    Some((token, format!("{path}{mark}{}", others.join("&"))))
}

impl Sessions {
    /// Decides about a request, at once if nothing has to be waited for.
    pub(crate) fn decide(self: &Arc<Sessions>, visit: Visit, template: Arc<Template>) -> Decision {
        let sessions = self.clone();
        let mut deciding: Pending<Decision> = Box::pin(async move {
            match sessions.try_decide(&visit, &template).await {
                Ok(decision) => decision,
                Err(Turned::Refused(refusal)) => {
                    Decision::Answer(refusal.answer_to(visit.wants_html))
                }
                Err(Turned::Answered(answer)) => Decision::Answer(*answer),
            }
        });
        // Whoever waits for it polls it again.
        match deciding.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(decision) => decision,
            Poll::Pending => Decision::Later(deciding),
        }
    }

    async fn try_decide(&self, visit: &Visit, template: &Template) -> Result<Decision, Turned> {
        if visit.rest.is_empty() || visit.rest.starts_with('?') {
            let place = format!("{}/{}", visit.prefix, visit.rest);
            return Ok(Decision::Answer(Answer::redirect(StatusCode::PERMANENT_REDIRECT, &place)));
        }
        let access = template.settings.access.as_deref();
        let visitor = self.admit(visit, access).await?;
        let by_url = matches!(visit.token, Some((_, TokenPlace::Url)));
        let url_token = visit.token.as_ref().filter(|_| by_url && visitor.withdrawn.is_some());
        // Nobody but who asks for a page goes where a redirect leads.
        if let Some((token, _)) = url_token.filter(|_| visit.is_plain_get) {
            return Ok(Decision::Answer(keep_token(visit, token)));
        }
        let port = template.port(visit.port.as_ref());
        let port = port.ok_or_else(|| Refusal::SessionPort(visit.template.clone()))?;
        if url_token.is_none() && visit.rest.starts_with(RESERVED) {
            return Ok(Decision::Answer(self.reserved(visit, &visitor)));
        }
        for _ in 0..TRIES_MAX {
            let instance = match self.live.get(&visit.names()) {
                Some(instance) => instance,
                None => match self.woken(visit, visitor.waker.clone()).await? {
                    Ok(instance) => instance,
                    Err(page) => return Ok(Decision::Answer(page)),
                },
            };
            visitor.may_use(&instance)?;
            let Ok(using) = self.controller.activity().begin(instance.id).await else {
                // It is being ended because nobody came: the next one is asked for.
                self.live.forget(instance.id);
                continue;
            };
            let mut forward = Forward::to(Target { instance: instance.id, port });
            forward.held = Some(Box::new(using));
            forward.lines = visitor.lines;
            if url_token.is_some() {
                forward.path = split_url_token(&visit.rest).map(|(_, rest)| rest.into_bytes());
            }
            if !visit.prefix.is_empty() {
                let rest = || visit.rest.clone().into_bytes();
                forward.path = forward.path.or_else(|| Some(rest()));
                forward.lines.extend_from_slice(b"x-forwarded-prefix: ");
                forward.lines.extend_from_slice(visit.prefix.as_bytes());
                forward.lines.extend_from_slice(b"\r\n");
            }
            forward.without = visitor.without;
            forward.withdrawn = visitor.withdrawn;
            return Ok(Decision::Forward(forward));
        }
        Err(Refusal::StillStarting.into())
    }

    /// The session once it is ready, or a page to show meanwhile.
    async fn woken(
        &self,
        visit: &Visit,
        waker: Waker,
    ) -> Result<Result<Arc<Instance>, Answer>, Refusal> {
        let _held = self.hold()?;
        let mut start = self.wakes.wake(&visit.names(), waker);
        let time_max = if visit.is_navigation { PAGE_AFTER } else { HELD_TIME_MAX };
        let settled = async {
            let over = |waking: &Waking| !matches!(waking, Waking::Starting(_));
            start.wait_for(over).await.map(|waking| waking.clone())
        };
        let settled = tokio::time::timeout(time_max, settled).await;
        let waking = match settled {
            Ok(Ok(waking)) => waking,
            Ok(Err(_)) => return Err(Refusal::ControllerAway),
            Err(_) => start.borrow().clone(),
        };
        match waking {
            Waking::Ready(instance) => Ok(Ok(instance)),
            Waking::Failed(refusal) => Err(refusal),
            Waking::Starting(note) if visit.is_navigation => {
                Ok(Err(page::waiting(&visit.template, &visit.key, &visit.prefix, &note)))
            }
            Waking::Starting(_) => Err(Refusal::StillStarting),
        }
    }

    /// What only the gateway answers.
    fn reserved(&self, visit: &Visit, visitor: &Visitor) -> Answer {
        if visit.rest.split('?').next() != Some(WAIT_PATH) {
            let text = "there is nothing here: paths below /.spawnery/ are the gateway's";
            return Answer::reason_to(StatusCode::NOT_FOUND, "reserved", text, visit.wants_html);
        }
        let names = visit.names();
        if self.live.get(&names).is_some() {
            return page::state("ready", "is ready");
        }
        match self.wakes.under_way(&names, &visitor.waker.owner) {
            Some(Waking::Starting(note)) => page::state("starting", &note),
            Some(Waking::Ready(_)) => page::state("ready", "is ready"),
            Some(Waking::Failed(refusal)) => page::state("failed", &refusal.to_string()),
            None => page::state("none", "nobody waits for it"),
        }
    }
}

/// Keeps a token that came in a URL in a cookie, and leads to the same place without it, so that it
/// stays in no history and goes to no other site.
fn keep_token(visit: &Visit, token: &str) -> Answer {
    let rest = split_url_token(&visit.rest).map_or_else(|| visit.rest.clone(), |(_, rest)| rest);
    let path = if visit.prefix.is_empty() { "/" } else { visit.prefix.as_str() };
    let mut cookie = format!("{COOKIE}={token}; Path={path}; HttpOnly; SameSite=Lax");
    if visit.scheme == "https" {
        // Writing to memory does not fail.
        let _ = write!(cookie, "; Secure");
    }
    // A path that begins with two slashes would be another host.
    let place = format!("{}/{}", visit.prefix, rest.trim_start_matches('/'));
    Answer::redirect(StatusCode::SEE_OTHER, &place)
        .with("set-cookie", &cookie)
        .with("cache-control", "no-store")
        .with("referrer-policy", "no-referrer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_url_is_taken_out_of_it() {
        let check = |rest: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(token, rest)| (token.to_owned(), rest.to_owned()));
            assert_eq!(split_url_token(rest), expected, "{rest}");
        };
        check("/a?spawnery_token=t.o.k&b=c", Some(("t.o.k", "/a?b=c")));
        check("/a?b=c&spawnery_token=t", Some(("t", "/a?b=c")));
        check("/?spawnery_token=t", Some(("t", "/")));
        check("/.spawnery/token/t.o.k/a/b?c=d", Some(("t.o.k", "/a/b?c=d")));
        check("/.spawnery/token/t", Some(("t", "/")));
        check("/.spawnery/token/t?c=d", Some(("t", "/?c=d")));
        check("/a?token=t", None);
        check("/a?xspawnery_token=t", None);
        check("/a", None);
    }
}
