//! What instances use now.

use crate::app::App;
use crate::asker::Asker;
use crate::failure::Answer;
use crate::find;
use axum::Json;
use axum::extract::{Path, State};
use spawnery_model::InstanceId;
use spawnery_wire::api::UsageView;

/// Shows what a session uses now: memory, processor time, processes and, of a private network, the
/// bytes that it has carried. Its node is asked for it.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/usage", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, or its first four characters or more")),
    responses((status = 200, description = "What it uses", body = UsageView)),
)]
pub(crate) async fn get_session_usage(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
) -> Answer<Json<UsageView>> {
    let session = app.query(move |state| find::session(state, &id, &asker).map(|found| found.id));
    usage(&app, session.await??).await
}

/// Shows what an instance uses now: memory, processor time, processes and, of a private network,
/// the bytes that it has carried. Its node is asked for it.
#[utoipa::path(
    get, path = "/v1/instances/{id}/usage", tag = "instances",
    params(("id" = String, Path, description = "The instance's id, or its first four characters or more")),
    responses((status = 200, description = "What it uses", body = UsageView)),
)]
pub(crate) async fn get_instance_usage(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
) -> Answer<Json<UsageView>> {
    let instance = app.query(move |state| find::instance(state, &id, &asker).map(|found| found.id));
    usage(&app, instance.await??).await
}

async fn usage(app: &App, instance: InstanceId) -> Answer<Json<UsageView>> {
    let report = app.controller.usage(instance).await?;
    Ok(Json(UsageView {
        memory_bytes: report.memory_bytes,
        cpu_us: report.cpu_us,
        pids: report.pids,
        network_bytes_in: report.network_bytes_in,
        network_bytes_out: report.network_bytes_out,
    }))
}
