//! Sessions: creating, showing and ending them.

use crate::app::App;
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
use spawnery_model::Name;
use spawnery_wire::api::{InstanceView, Page, SessionCreated, SessionRequest};

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
    responses((status = 201, description = "A session was created", body = SessionCreated)),
)]
pub(crate) async fn create_session(
    State(app): State<App>,
    change: Change,
) -> Answer<impl IntoResponse> {
    let source = source(&change.body)?;
    let owner = change.by();
    let command = Command::CreateSession { source, owner, terms: Box::default() };
    match app.controller.submit(command, change.key).await? {
        Reply::Session(id) => {
            let location = [(header::LOCATION, format!("/v1/sessions/{id}"))];
            Ok((StatusCode::CREATED, location, Json(SessionCreated { id })))
        }
        _ => Err(other_answer()),
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
}

fn source(body: &[u8]) -> Answer<SessionSource> {
    let text =
        std::str::from_utf8(body).map_err(|_| Failure::new(code::BODY, "the body is not UTF-8"))?;
    let request: RequestText<'_> = serde_json::from_str(text).map_err(malformed)?;
    match (request.template, request.session) {
        (Some(template), None) if request.name.is_none() => Ok(SessionSource::Template(template)),
        (None, Some(session)) => {
            let default = || Name::new(NAME_DEFAULT).expect("the default is a name");
            let name = request.name.unwrap_or_else(default);
            let workload = manifest::session(&name, session.get(), text)?;
            Ok(SessionSource::Inline(Box::new(workload)))
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
    Parameters(parameters): Parameters<InstanceParameters>,
) -> Answer<Json<Page<InstanceView>>> {
    instances::list(&app, parameters.of_sessions()).await
}

/// Shows a session.
#[utoipa::path(
    get, path = "/v1/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, or its first four characters or more")),
    responses((status = 200, description = "The session", body = InstanceView)),
)]
pub(crate) async fn get_session(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Answer<Json<InstanceView>> {
    let config = app.config.clone();
    let found = app.query(move |state| {
        let found = find::session(state, &id)?;
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
    let session = app.query(move |state| find::session(state, &id).map(|found| found.id));
    instances::end(&app, change, session.await??).await
}
