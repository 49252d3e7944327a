//! Sessions: creating, showing and ending them.

use crate::app::App;
use crate::asker::{Asker, forbidden};
use crate::body::{Change, malformed};
use crate::failure::{Answer, Failure, code};
use crate::instances::{self, InstanceParameters};
use crate::parameters::Parameters;
use crate::rejections::other_answer;
use crate::{find, manifest, views};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::value::RawValue;
use spawnery_cluster::{Command, Reply, SessionSource};
use spawnery_controller::SubmitError;
use spawnery_model::limits::{
    CPU_MAX, DURATION_MAX, LABEL_LENGTH_MAX, MEMORY_MAX, MEMORY_MIN, PIDS_MAX, SESSION_TAGS_MAX,
};
use spawnery_model::{DurationMs, Name, SessionLimits, SessionTerms};
use spawnery_wire::api::{
    InstanceView, LimitsView, Page, SessionCreated, SessionRequest, SessionTermsRequest,
};
use std::collections::{BTreeMap, BTreeSet};

/// The name of a session that brings its definition and no name.
const NAME_DEFAULT: &str = "session";

/// Creates a session, from a template or from a definition of its own.
///
/// The answer comes once the wish is durable; its process may start a little later. Follow its
/// logs right away: they wait for it.
#[utoipa::path(
    post, path = "/v1/sessions", tag = "sessions",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless")),
    request_body = SessionRequest,
    responses(
        (status = 201, description = "A session was created", body = SessionCreated),
        (status = 200, description = "The key names this one", body = SessionCreated),
    ),
)]
pub(crate) async fn create_session(
    State(app): State<App>,
    change: Change,
) -> Answer<impl IntoResponse> {
    let (mut source, terms) = source(&change.body)?;
    if let SessionSource::Inline(workload) = &mut source {
        app.config.session_defaults.fill(workload);
    }
    allowed(&source, &change.asker)?;
    let terms = Box::new(SessionTerms {
        allowed: change.asker.limits.clone(),
        beyond_template: change.asker.may_operate(),
        ..checked(terms)?
    });
    let owner = change.by();
    let command = Command::CreateSession { source, owner, terms };
    let submitted = app.controller.submit(command, change.key).await;
    let reply = submitted.inspect_err(|error| {
        if let SubmitError::Rejected(rejection) = error {
            app.sessions.count_refused(rejection.code());
        }
    })?;
    let (status, id) = match reply {
        Reply::Session(id) => (StatusCode::CREATED, id),
        Reply::SessionFound(id) => (StatusCode::OK, id),
        _ => return Err(other_answer()),
    };
    let created = status == StatusCode::CREATED;
    let location = [(header::LOCATION, format!("/v1/sessions/{id}"))];
    Ok((status, location, Json(SessionCreated { id, created })))
}

/// What the request asks, as the core takes it.
fn checked(request: SessionTermsRequest) -> Answer<SessionTerms> {
    let refused = |detail: String| Err(Failure::new(code::BODY, detail));
    if request.tags.len().max(request.shared_with.len()) > SESSION_TAGS_MAX {
        return refused(format!("a session has at most {SESSION_TAGS_MAX} tags and sharers, each"));
    }
    let words = request.tags.iter().flat_map(|(tag, value)| [tag, value]);
    if words.chain(&request.shared_with).any(|word| word.len() > LABEL_LENGTH_MAX) {
        return refused(format!("a tag or a subject has more than {LABEL_LENGTH_MAX} bytes"));
    }
    let limits = &request.limits;
    let memory_most = MEMORY_MIN.0..=MEMORY_MAX.0;
    let is_good = limits.memory_bytes.is_none_or(|bytes| memory_most.contains(&bytes))
        && limits.cpu_millis.is_none_or(|cpu| (1..=CPU_MAX.0).contains(&cpu))
        && limits.pids.is_none_or(|pids| (1..=PIDS_MAX).contains(&pids))
        && limits.duration_ms.is_none_or(|time| (1..=DURATION_MAX.0).contains(&time))
        && limits.idle_timeout_ms.is_none_or(|time| (1..=DURATION_MAX.0).contains(&time))
        && limits.disk_bytes != Some(0)
        && limits.clients != Some(0);
    if !is_good {
        let hint = "the same amounts are possible as in a manifest";
        return refused("`limits` has an amount that cannot be".to_owned())
            .map_err(|failure: Failure| failure.hint(hint));
    }
    Ok(SessionTerms {
        key: request.key,
        tags: request.tags,
        shared_with: request.shared_with,
        wanted: SessionLimits::from(&request.limits),
        at_once: request.at_once,
        queue_deadline: request.queue_deadline_ms.map(|ms| DurationMs(ms.min(DURATION_MAX.0))),
        ..SessionTerms::default()
    })
}

/// Refuses what the token does not allow, whether it exists or not.
fn allowed(source: &SessionSource, asker: &Asker) -> Answer<()> {
    match source {
        SessionSource::Template(name) if !asker.may_use(name) => {
            Err(forbidden(format!("your token is not for the template {name}")))
        }
        SessionSource::Inline(_) if !asker.may_use_inline() => Err(forbidden(
            "a session with a definition of its own takes a token with the role operator or \
             admin that is for all templates",
        )),
        SessionSource::Template(_) | SessionSource::Inline(_) => Ok(()),
    }
}

/// [`SessionRequest`], as it is read: the definition stays text, for the manifest's own reader.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestText<'a> {
    template: Option<Name>,
    #[serde(borrow)]
    session: Option<&'a RawValue>,
    name: Option<Name>,
    key: Option<Name>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    shared_with: BTreeSet<String>,
    #[serde(default)]
    limits: LimitsView,
    #[serde(default)]
    at_once: bool,
    queue_deadline_ms: Option<u64>,
}

impl RequestText<'_> {
    fn terms(&mut self) -> SessionTermsRequest {
        SessionTermsRequest {
            key: self.key.take(),
            tags: std::mem::take(&mut self.tags),
            shared_with: std::mem::take(&mut self.shared_with),
            limits: std::mem::take(&mut self.limits),
            at_once: self.at_once,
            queue_deadline_ms: self.queue_deadline_ms,
        }
    }
}

fn source(body: &[u8]) -> Answer<(SessionSource, SessionTermsRequest)> {
    let text =
        std::str::from_utf8(body).map_err(|_| Failure::new(code::BODY, "the body is not UTF-8"))?;
    let mut request: RequestText<'_> = serde_json::from_str(text).map_err(malformed)?;
    let terms = request.terms();
    match (request.template, request.session) {
        (Some(template), None) if request.name.is_none() => {
            Ok((SessionSource::Template(template), terms))
        }
        (None, Some(_)) if terms.key.is_some() => {
            Err(Failure::new(code::BODY, "`key` goes with `template` only")
                .hint("apply the session as a template first"))
        }
        (None, Some(session)) => {
            let default = || Name::new(NAME_DEFAULT).expect("the default is a name");
            let name = request.name.unwrap_or_else(default);
            let workload = manifest::session(&name, session.get(), text)?;
            Ok((SessionSource::Inline(Box::new(workload)), terms))
        }
        (Some(_), None) => Err(Failure::new(code::BODY, "`name` goes with `session` only")
            .hint("a session from a template has the template's name")),
        _ => Err(Failure::new(code::BODY, "one of `template` and `session` is needed").hint(
            "for example {\"template\": \"shell\"} or {\"session\": {\"run\": [\"echo\", \"hi\"]}}",
        )),
    }
}

/// Lists sessions, by id. Those that ended are listed for a while.
#[utoipa::path(
    get, path = "/v1/sessions", tag = "sessions",
    params(InstanceParameters),
    responses((status = 200, description = "A page of sessions", body = Page<InstanceView>)),
)]
pub(crate) async fn list_sessions(
    State(app): State<App>,
    asker: Asker,
    Parameters(parameters): Parameters<InstanceParameters>,
) -> Answer<Json<Page<InstanceView>>> {
    instances::list(&app, asker, parameters.of_sessions()).await
}

/// Shows a session.
#[utoipa::path(
    get, path = "/v1/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, or its first four characters or more")),
    responses((status = 200, description = "The session", body = InstanceView)),
)]
pub(crate) async fn get_session(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
) -> Answer<Json<InstanceView>> {
    let config = app.config.clone();
    let found = app.query(move |state| {
        let found = find::session(state, &id, &asker)?;
        Ok::<_, Failure>(views::instance_in_full(state, found, &config))
    });
    Ok(Json(found.await??))
}

/// Ends a session: its stop signal, its grace, then a kill.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, or its first four characters or more")),
    responses((status = 202, description = "It is being ended", body = InstanceView)),
)]
pub(crate) async fn end_session(
    State(app): State<App>,
    Path(id): Path<String>,
    change: Change,
) -> Answer<(StatusCode, Json<InstanceView>)> {
    let asker = change.asker.clone();
    let session =
        app.query(move |state| find::session_to_use(state, &id, &asker).map(|found| found.id));
    instances::end(&app, change, session.await??).await
}
