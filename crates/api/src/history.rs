//! What has ended, also long ago.

use crate::app::App;
use crate::asker::Asker;
use crate::failure::{Answer, Failure, code};
use crate::list;
use crate::parameters::{Parameters, invalid};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use spawnery_controller::{HistoryQuery, PastInstance};
use spawnery_wire::api::{Page, PastInstanceView};
use utoipa::IntoParams;

/// Which ended instances are listed: those that meet all conditions.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryParameters {
    /// Of this workload.
    workload: Option<String>,
    /// Sessions of this owner.
    owner: Option<String>,
    /// At most so many items; 100 when it is left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// Lists instances that have ended, the latest end first: also those that are no longer listed
/// elsewhere.
#[utoipa::path(
    get, path = "/v1/history", tag = "instances",
    params(HistoryParameters),
    responses((status = 200, description = "A page of what has ended", body = Page<PastInstanceView>)),
)]
pub(crate) async fn list_history(
    State(app): State<App>,
    asker: Asker,
    Parameters(parameters): Parameters<HistoryParameters>,
) -> Answer<Json<Page<PastInstanceView>>> {
    let limit = list::limit(parameters.limit)?;
    let before = parameters.after.as_deref().map(place).transpose()?;
    // Who sees only some sessions sees only its own here: with whom one was shared is not kept.
    let owner = match asker.sees_all() {
        true => parameters.owner,
        false => Some(asker.subject.clone()),
    };
    let query = HistoryQuery { workload: parameters.workload, owner, before, limit: limit + 1 };
    let history = app.controller.history().clone();
    let listed = tokio::task::spawn_blocking(move || history.list(&query)).await;
    let listed = listed.map_err(|_| crate::rejections::unfinished("reading the history"))?;
    let mut rows = listed.map_err(|error| Failure::new(code::INTERNAL, error.to_string()))?;
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| has_more);
    let next = next.map(|row| format!("{}.{}", row.ended_at_ms, row.id));
    Ok(Json(Page { items: rows.into_iter().map(view).collect(), next }))
}

fn place(after: &str) -> Answer<(u64, String)> {
    let parts = after.split_once('.').and_then(|(at, id)| Some((at.parse().ok()?, id.to_owned())));
    parts.ok_or_else(|| invalid("`after` is the `next` of the page before"))
}

fn view(row: PastInstance) -> PastInstanceView {
    PastInstanceView {
        id: row.id,
        workload: row.workload,
        kind: row.kind,
        owner: row.owner,
        key: row.key,
        node: row.node,
        created_at_ms: row.created_at_ms,
        started_at_ms: row.started_at_ms,
        ended_at_ms: row.ended_at_ms,
        reason: row.reason,
        exit_code: row.exit_code,
        last_output: row.last_output,
    }
}
