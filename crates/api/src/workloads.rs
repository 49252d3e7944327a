//! What services, jobs and session templates have in common: they are removed in the same way.

use crate::app::App;
use crate::body::Change;
use crate::failure::{Answer, Failure, code};
use crate::find;
use axum::Json;
use axum::extract::{Path, State};
use spawnery_cluster::Command;
use spawnery_cluster::state::WorkloadEntry;
use spawnery_model::Name;
use spawnery_wire::api::{Page, RemoveReply, RemoveRequest};

/// Removes workloads and ends their instances: all of them or, if one is unknown, none.
#[utoipa::path(
    post, path = "/v1/workloads/remove", tag = "manifest",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless")),
    request_body = RemoveRequest,
    responses((status = 200, description = "They are removed", body = RemoveReply)),
)]
pub(crate) async fn remove_workloads(
    State(app): State<App>,
    change: Change,
) -> Answer<Json<RemoveReply>> {
    let RemoveRequest { names } = change.json()?;
    remove(&app, change, names).await
}

/// Removes a workload and ends its instances.
#[utoipa::path(
    delete, path = "/v1/workloads/{name}", tag = "manifest",
    params(("name" = String, Path, description = "The workload's name")),
    responses((status = 200, description = "It is removed", body = RemoveReply)),
)]
pub(crate) async fn remove_workload(
    State(app): State<App>,
    Path(name): Path<String>,
    change: Change,
) -> Answer<Json<RemoveReply>> {
    let name = find::name(&name)?;
    remove(&app, change, vec![name]).await
}

/// The same of the workload called `remove`, whose path the removal of several has taken.
pub(crate) async fn remove_workload_called_remove(
    app: State<App>,
    change: Change,
) -> Answer<Json<RemoveReply>> {
    remove_workload(app, Path("remove".to_owned()), change).await
}

async fn remove(app: &App, change: Change, names: Vec<Name>) -> Answer<Json<RemoveReply>> {
    let command = Command::Remove { names: names.clone(), by: change.by() };
    app.controller.submit(command, change.key).await?;
    Ok(Json(RemoveReply { removed: names }))
}

/// A page of those workloads that `view` shows.
pub(crate) async fn list<V: Send + 'static>(
    app: &App,
    page: crate::list::PageParameters,
    view: impl Fn(&spawnery_cluster::State, &WorkloadEntry) -> Option<V> + Send + 'static,
    key: impl Fn(&V) -> String + Send + 'static,
) -> Answer<Json<Page<V>>> {
    let (limit, after) = page.checked()?;
    let listed = app.query(move |state| {
        let after = after.as_deref().unwrap_or_default();
        let entries = state.workloads();
        let entries = entries.skip_while(|entry| entry.workload.name.as_str() <= after);
        let shown = entries.filter_map(|entry| view(state, entry));
        crate::list::page(shown, limit, |shown| shown, key)
    });
    Ok(Json(listed.await?))
}

/// The workload called `name`, if `view` shows it.
pub(crate) async fn one<V: Send + 'static>(
    app: &App,
    kind: &'static str,
    name: &str,
    view: impl Fn(&spawnery_cluster::State, &WorkloadEntry) -> Option<V> + Send + 'static,
) -> Answer<Json<V>> {
    let name = find::name(name)?;
    let found = app.query(move |state| {
        let Some(entry) = state.workload(&name) else {
            return Err(format!("there is no {kind} called {name}"));
        };
        view(state, entry)
            .ok_or_else(|| format!("{name} is a {}, not a {kind}", entry.workload.kind.word()))
    });
    let found = found.await?.map_err(|detail| {
        Failure::new(code::WORKLOAD_UNKNOWN, detail)
            .hint("list what there is: GET /v1/services, /v1/jobs or /v1/templates")
    });
    Ok(Json(found?))
}
