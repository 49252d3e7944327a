//! What listens in an instance.

use crate::app::App;
use crate::asker::Asker;
use crate::failure::{Answer, Failure, code};
use crate::{find, views};
use axum::Json;
use axum::extract::{Path, State};
use spawnery_model::InstanceId;
use spawnery_wire::api::OpenPortView;
use spawnery_wire::link::SocketEntry;

/// Lists the TCP ports on which something in a session listens.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/ports", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, or its first four characters or more")),
    responses((status = 200, description = "By number", body = Vec<OpenPortView>)),
)]
pub(crate) async fn list_session_ports(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
) -> Answer<Json<Vec<OpenPortView>>> {
    let session = app.query(move |state| find::session(state, &id, &asker).map(|found| found.id));
    list(&app, session.await??).await
}

/// Lists the TCP ports on which something in an instance listens. With the network of the host,
/// these are all of the host's.
#[utoipa::path(
    get, path = "/v1/instances/{id}/ports", tag = "instances",
    params(("id" = String, Path, description = "The instance's id, or its first four characters or more")),
    responses((status = 200, description = "By number", body = Vec<OpenPortView>)),
)]
pub(crate) async fn list_instance_ports(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
) -> Answer<Json<Vec<OpenPortView>>> {
    let instance = app.query(move |state| find::instance(state, &id, &asker).map(|found| found.id));
    list(&app, instance.await??).await
}

async fn list(app: &App, instance: InstanceId) -> Answer<Json<Vec<OpenPortView>>> {
    let sockets = app.controller.sockets(instance).await?;
    let config = app.config.clone();
    let listed = app.query(move |state| {
        let found = state.instance(instance)?;
        let named = &state.definition_of(found).process.ports;
        let view = |socket: &SocketEntry| OpenPortView {
            port: socket.port,
            name: named.iter().find(|it| it.port == socket.port).map(|it| it.name.to_string()),
            loopback_only: socket.loopback_only,
            url: views::port_url(state, found, &config, socket.port),
        };
        Some(sockets.iter().map(view).collect())
    });
    let gone = || Failure::new(code::INSTANCE_UNKNOWN, format!("there is no instance {instance}"));
    listed.await?.map(Json).ok_or_else(gone)
}
