//! Who may come to a session.

use super::Sessions;
use super::visit::Visit;
use super::wake::Waker;
use crate::answer::Answer;
use crate::guide::{Pending, Without};
use crate::refusal::Refusal;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use spawnery_controller::access::Caller;
use spawnery_model::{Access, Instance, OwnerLimits};
use std::sync::OnceLock;
use std::time::Duration;

/// The cookie in which a browser keeps a token that came in a URL.
pub(super) const COOKIE: &str = "spawnery_session";

/// The parameter of a query that may carry a token, once.
pub(super) const QUERY_TOKEN: &str = "spawnery_token";

/// Whose sessions are that everybody may come to.
const PUBLIC_OWNER: &str = "public";

/// How long the server that decides who may come may take.
const FORWARD_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of its answer when it refuses, such as a page to sign in. More: cut off.
const FORWARD_BODY_BYTES_MAX: usize = 256 << 10;

/// How the fields begin that it tells about who comes.
const VERIFIED_PREFIX: &str = "x-verified-";

/// Where a token was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenPlace {
    Bearer,
    Cookie,
    Url,
}

/// Who comes, and may.
pub(super) struct Visitor {
    /// As the token says, if there is one.
    caller: Option<Caller>,
    pub(super) waker: Waker,
    /// Lines about who it is, for the instance.
    pub(super) lines: Vec<u8>,
    /// What the instance must not see.
    pub(super) without: Vec<Without>,
    /// Over when it may no longer come.
    pub(super) withdrawn: Option<Pending<()>>,
}

/// Somebody may not come; this is the answer.
pub(super) enum Turned {
    Refused(Refusal),
    /// What the server said that decides.
    Answered(Box<Answer>),
}

impl From<Refusal> for Turned {
    fn from(refusal: Refusal) -> Turned {
        Turned::Refused(refusal)
    }
}

impl Visitor {
    /// Whether this session is one that it may use.
    pub(super) fn may_use(&self, instance: &Instance) -> Result<(), Refusal> {
        match &self.caller {
            Some(caller) if !caller.may_touch(instance) => {
                let reason = "this session belongs to somebody else".to_owned();
                Err(Refusal::Forbidden { reason })
            }
            _ => Ok(()),
        }
    }

    fn public() -> Visitor {
        let owner = PUBLIC_OWNER.to_owned();
        let waker = Waker { owner, allowed: OwnerLimits::default(), of_others: true };
        Visitor { caller: None, waker, lines: Vec::new(), without: Vec::new(), withdrawn: None }
    }
}

impl Sessions {
    /// Who comes, if it may.
    pub(super) async fn admit(
        &self,
        visit: &Visit,
        access: Option<&Access>,
    ) -> Result<Visitor, Turned> {
        match access {
            Some(Access::Public) => Ok(Visitor::public()),
            None | Some(Access::Token) => Ok(self.by_token(visit).await?),
            Some(Access::Forward { url }) => self.forward_auth.ask(url, visit).await,
        }
    }

    async fn by_token(&self, visit: &Visit) -> Result<Visitor, Refusal> {
        let unauthorized = |reason: &str| Refusal::Unauthorized { reason: reason.to_owned() };
        let Some((token, place)) = &visit.token else {
            return Err(unauthorized("a token is needed: as a bearer token, or once in the URL"));
        };
        let verifier = self.verifier.as_ref();
        let verifier = verifier.ok_or_else(|| unauthorized("no tokens are taken here"))?;
        let verified = verifier.verify(token).await;
        let caller = verified.map_err(|denied| unauthorized(&denied.to_string()))?;
        if !caller.may_use(&visit.template) {
            let reason = "the token is not for sessions of this template".to_owned();
            return Err(Refusal::Forbidden { reason });
        }
        if *place == TokenPlace::Cookie && visit.is_cross_origin {
            // A page of another session must not act in the name of who looks at it.
            let reason = "the request comes from a page of another origin".to_owned();
            return Err(Refusal::Forbidden { reason });
        }
        let roles: Vec<&str> = caller.roles.iter().map(|role| role.word()).collect();
        let lines = format!(
            "x-verified-user: {}\r\nx-verified-roles: {}\r\n",
            caller.subject,
            roles.join(",")
        );
        let without = match place {
            TokenPlace::Bearer => vec![Without::Authorization, Without::Cookie(COOKIE.to_owned())],
            TokenPlace::Cookie | TokenPlace::Url => vec![Without::Cookie(COOKIE.to_owned())],
        };
        let watched = verifier.watch(&caller);
        let waker = Waker {
            owner: caller.subject.clone(),
            allowed: caller.limits.clone(),
            of_others: caller.may_operate(),
        };
        Ok(Visitor {
            caller: Some(caller),
            waker,
            lines: lines.into_bytes(),
            without,
            withdrawn: Some(Box::pin(async move {
                watched.await;
            })),
        })
    }
}

/// Asks a server who may come.
#[derive(Default)]
pub(super) struct ForwardAuth {
    client: OnceLock<reqwest::Client>,
}

impl ForwardAuth {
    fn client(&self) -> Result<&reqwest::Client, Refusal> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let builder = reqwest::Client::builder().timeout(FORWARD_TIME_MAX);
        let made = builder.redirect(reqwest::redirect::Policy::none()).no_proxy().build();
        let made = made.map_err(|error| Refusal::AuthUnreachable { reason: error.to_string() })?;
        Ok(self.client.get_or_init(|| made))
    }

    async fn ask(&self, url: &str, visit: &Visit) -> Result<Visitor, Turned> {
        let unreachable = |error: reqwest::Error| Refusal::AuthUnreachable {
            // Its URL may hold a secret.
            reason: error.without_url().to_string(),
        };
        let request = self.client()?.get(url).headers(visit.headers_for_auth());
        let mut answer = request.send().await.map_err(unreachable)?;
        if !answer.status().is_success() {
            let mut body = Vec::new();
            while let Some(part) = answer.chunk().await.map_err(unreachable)? {
                body.extend_from_slice(&part);
                if body.len() >= FORWARD_BODY_BYTES_MAX {
                    body.truncate(FORWARD_BODY_BYTES_MAX);
                    break;
                }
            }
            return Err(Turned::Answered(Box::new(refused(
                answer.status(),
                answer.headers(),
                body,
            ))));
        }
        let mut visitor = Visitor::public();
        for (name, value) in answer.headers() {
            if !name.as_str().starts_with(VERIFIED_PREFIX) {
                continue;
            }
            visitor.lines.extend_from_slice(name.as_str().as_bytes());
            visitor.lines.extend_from_slice(b": ");
            visitor.lines.extend_from_slice(value.as_bytes());
            visitor.lines.extend_from_slice(b"\r\n");
            if name == "x-verified-user"
                && let Ok(user) = value.to_str()
            {
                visitor.waker.owner = user.to_owned();
            }
        }
        Ok(visitor)
    }
}

/// The answer of the server that decides, as far as it may be passed on.
fn refused(status: StatusCode, headers: &HeaderMap, body: Vec<u8>) -> Answer {
    let is_html = headers
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/html"));
    let mut answer = match is_html {
        true => Answer::html(status, ""),
        false => Answer::text(status, ""),
    };
    answer.body = body;
    for name in ["location", "set-cookie", "www-authenticate", "cache-control"] {
        for value in headers.get_all(name) {
            if let Ok(value) = value.to_str() {
                answer = answer.with(name, value);
            }
        }
    }
    answer.with(crate::answer::REASON_FIELD, "refused-by-auth")
}

impl Visit {
    /// What the server gets to know that decides: all fields but those of the body, and what was
    /// asked of whom.
    fn headers_for_auth(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.fields {
            let name = HeaderName::from_bytes(name);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        let told = [
            ("x-forwarded-method", &self.method),
            ("x-forwarded-proto", &self.scheme),
            ("x-forwarded-host", &self.host),
            ("x-forwarded-uri", &self.target),
            ("x-forwarded-for", &self.client),
            ("x-original-path", &self.target),
        ];
        for (name, value) in told {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        headers
    }
}
