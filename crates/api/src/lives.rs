//! How long a session lives, and who uses it: keeping it alive, extending it, attaching to it.

use crate::app::App;
use crate::asker::Asker;
use crate::body::Change;
use crate::failure::{Answer, Failure, code};
use crate::parameters::Parameters;
use crate::rejections::other_answer;
use crate::{events, find};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use spawnery_cluster::terms::clients_of;
use spawnery_cluster::{Command, Reply};
use spawnery_controller::AttachError;
use spawnery_model::limits::LABEL_LENGTH_MAX;
use spawnery_model::{DurationMs, InstanceId, Phase, Timestamp};
use spawnery_wire::api::{ClientsView, EventView, ExtendReply, ExtendRequest};
use utoipa::IntoParams;

/// Says that a session is used, so that it is not ended for being idle.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/keep-alive", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, or its first four characters or more")),
    responses((status = 204, description = "Its idle time begins anew")),
)]
pub(crate) async fn keep_session_alive(
    State(app): State<App>,
    Path(id): Path<String>,
    change: Change,
) -> Answer<StatusCode> {
    let instance = live(&app, id, &change.asker).await?;
    app.controller.activity().touch(instance);
    // Now, by the core's clock: one that was set back must not make it look idle.
    let active_at = Timestamp(u64::MAX);
    let command = Command::SessionSeen { instance, active_at };
    app.controller.submit(command, change.key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a session live longer, within what its template and the owner's token allow.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/extend", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, or its first four characters or more")),
    request_body = ExtendRequest,
    responses((status = 200, description = "When it ends now", body = ExtendReply)),
)]
pub(crate) async fn extend_session(
    State(app): State<App>,
    Path(id): Path<String>,
    change: Change,
) -> Answer<Json<ExtendReply>> {
    let ExtendRequest { by_ms } = change.json()?;
    if by_ms == 0 {
        return Err(Failure::new(code::BODY, "`by_ms` is 0: say by how many milliseconds"));
    }
    let instance = live(&app, id, &change.asker).await?;
    let by = change.by();
    let command = Command::ExtendSession { instance, by_time: DurationMs(by_ms), by };
    match app.controller.submit(command, change.key).await? {
        Reply::Extended { ends_at } => Ok(Json(ExtendReply { ends_at_ms: ends_at.0 })),
        _ => Err(other_answer()),
    }
}

/// Who attaches.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AttachParameters {
    /// The name that the client gives itself. With the same name it comes back to its place.
    client: String,
}

/// Attaches a client to a session, and sends what happens to it as Server-Sent Events.
///
/// For as long as the connection is open the session counts as used. A client that loses it keeps
/// its place for the template's `client_grace`. Events are those of `/v1/events`, such as
/// `session.warning` and `instance.ended`.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/attach", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after this event"),
        AttachParameters,
    ),
    responses((status = 200, description = "The events; the data of an `event` is an EventView",
        body = EventView, content_type = "text/event-stream")),
)]
pub(crate) async fn attach_client(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
    Parameters(AttachParameters { client }): Parameters<AttachParameters>,
    headers: HeaderMap,
) -> Answer<Response> {
    if client.is_empty() || client.len() > LABEL_LENGTH_MAX {
        let detail = format!("`client` is a name of 1 to {LABEL_LENGTH_MAX} bytes");
        return Err(Failure::new(code::PARAMETER, detail));
    }
    let instance = live(&app, id, &asker).await?;
    let rules = app.query(move |state| state.instance(instance).map(|it| clients_of(state, it)));
    let (clients_max, grace) = rules.await?.unwrap_or((None, DurationMs(0)));
    let activity = app.controller.activity();
    let using = activity.attach(instance, &client, clients_max, grace).await;
    let using = using.map_err(|error| match error {
        AttachError::Ending(_) => Failure::new(code::NOT_RUNNING, error.to_string()),
        AttachError::Full { .. } => Failure::new(code::CLIENTS_FULL, error.to_string())
            .hint("wait until a client leaves; its place is kept for a moment")
            .retry_after_secs(5),
    })?;
    events::follow_instance(&app, asker, instance, &headers, using)
}

/// Lists the clients that are attached to a session.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/clients", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, or its first four characters or more")),
    responses((status = 200, description = "The clients", body = ClientsView)),
)]
pub(crate) async fn list_clients(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
) -> Answer<Json<ClientsView>> {
    let found = app.query(move |state| {
        let found = find::session(state, &id, &asker)?;
        Ok::<_, Failure>((found.id, clients_of(state, found).0))
    });
    let (instance, clients_max) = found.await??;
    let clients = app.controller.activity().clients(instance);
    Ok(Json(ClientsView { clients, clients_max }))
}

/// The session that `id` means, which lives and which `asker` may use.
async fn live(app: &App, id: String, asker: &Asker) -> Answer<InstanceId> {
    let asker = asker.clone();
    let found = app.query(move |state| {
        let found = find::session_to_use(state, &id, &asker)?;
        match found.phase {
            Phase::Ended => Err(Failure::new(code::NOT_RUNNING, "the session has ended")),
            _ => Ok(found.id),
        }
    });
    found.await?
}
