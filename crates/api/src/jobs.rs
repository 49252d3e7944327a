//! Jobs and their runs.

use crate::app::App;
use crate::body::Change;
use crate::failure::Answer;
use crate::list::{self, PageParameters};
use crate::parameters::Parameters;
use crate::rejections::other_answer;
use crate::{find, views, workloads};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use spawnery_cluster::state::Run;
use spawnery_cluster::{Command, Rejection, Reply};
use spawnery_model::Kind;
use spawnery_wire::api::{JobView, Page, RunCreated, RunView};
use utoipa::IntoParams;

/// Lists jobs, by name.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs",
    params(PageParameters),
    responses((status = 200, description = "A page of jobs", body = Page<JobView>)),
)]
pub(crate) async fn list_jobs(
    State(app): State<App>,
    Parameters(page): Parameters<PageParameters>,
) -> Answer<Json<Page<JobView>>> {
    workloads::list(&app, page, views::job, |job: &JobView| job.name.to_string()).await
}

/// Shows a job.
#[utoipa::path(
    get, path = "/v1/jobs/{name}", tag = "jobs",
    params(("name" = String, Path, description = "The job's name")),
    responses((status = 200, description = "The job", body = JobView)),
)]
pub(crate) async fn get_job(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Answer<Json<JobView>> {
    workloads::one(&app, "job", &name, views::job).await
}

/// Runs a job now, whatever its schedule says.
#[utoipa::path(
    post, path = "/v1/jobs/{name}/runs", tag = "jobs",
    params(
        ("name" = String, Path, description = "The job's name"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless"),
    ),
    responses((status = 201, description = "A run was created", body = RunCreated)),
)]
pub(crate) async fn create_run(
    State(app): State<App>,
    Path(name): Path<String>,
    change: Change,
) -> Answer<impl IntoResponse> {
    let job = find::name(&name)?;
    let by = change.by();
    match app.controller.submit(Command::RunJob { job, by }, change.key).await? {
        Reply::Run(id) => {
            let location = [(header::LOCATION, format!("/v1/runs/{id}"))];
            Ok((StatusCode::CREATED, location, Json(RunCreated { id })))
        }
        _ => Err(other_answer()),
    }
}

/// Which runs are listed.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RunParameters {
    /// Only those of this job.
    job: Option<String>,
    /// At most so many items; 100 when it is left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// Lists runs, by id.
#[utoipa::path(
    get, path = "/v1/runs", tag = "jobs",
    params(RunParameters),
    responses((status = 200, description = "A page of runs", body = Page<RunView>)),
)]
pub(crate) async fn list_runs(
    State(app): State<App>,
    Parameters(parameters): Parameters<RunParameters>,
) -> Answer<Json<Page<RunView>>> {
    let limit = list::limit(parameters.limit)?;
    let job = parameters.job.as_deref().map(find::name).transpose()?;
    let after = parameters.after.unwrap_or_default();
    let listed = app.query(move |state| {
        let is_after = |run: &&Run| after.is_empty() || run.id.to_string() > after;
        let key = |run: &RunView| run.id.to_string();
        let Some(name) = job else {
            let runs = state.runs().filter(is_after);
            return Ok(list::page(runs, limit, views::run, key));
        };
        let entry = state.workload(&name);
        let entry = entry.filter(|entry| matches!(entry.workload.kind, Kind::Job(_)));
        let Some(entry) = entry else {
            return Err(Rejection::WorkloadUnknown { kind: "job", name });
        };
        let ids = entry.job.active.iter().chain(&entry.job.finished);
        let mut runs: Vec<&Run> = ids.filter_map(|id| state.run(*id)).filter(is_after).collect();
        runs.sort_by_key(|run| run.id);
        Ok(list::page(runs.into_iter(), limit, views::run, key))
    });
    Ok(Json(listed.await??))
}

/// Shows a run.
#[utoipa::path(
    get, path = "/v1/runs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The run's id, or its first four characters or more")),
    responses((status = 200, description = "The run", body = RunView)),
)]
pub(crate) async fn get_run(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Answer<Json<RunView>> {
    let found = app.query(move |state| find::run(state, &id).map(views::run));
    Ok(Json(found.await??))
}
