//! Session templates.

use crate::app::App;
use crate::asker::Asker;
use crate::failure::{Answer, Failure, code};
use crate::list::PageParameters;
use crate::parameters::Parameters;
use crate::{views, workloads};
use axum::Json;
use axum::extract::{Path, State};
use spawnery_cluster::state::WorkloadEntry;
use spawnery_wire::api::{Page, SessionTemplateView};

/// What these are called.
const KIND: &str = "session template";

/// Lists session templates, by name.
#[utoipa::path(
    get, path = "/v1/templates", tag = "sessions",
    params(PageParameters),
    responses((status = 200, description = "A page of templates", body = Page<SessionTemplateView>)),
)]
pub(crate) async fn list_templates(
    State(app): State<App>,
    asker: Asker,
    Parameters(page): Parameters<PageParameters>,
) -> Answer<Json<Page<SessionTemplateView>>> {
    let view = move |_: &_, entry: &_| shown(entry, &asker);
    let key = |template: &SessionTemplateView| template.name.to_string();
    workloads::list(&app, page, view, key).await
}

/// Shows a session template.
#[utoipa::path(
    get, path = "/v1/templates/{name}", tag = "sessions",
    params(("name" = String, Path, description = "The template's name")),
    responses((status = 200, description = "The template", body = SessionTemplateView)),
)]
pub(crate) async fn get_template(
    State(app): State<App>,
    asker: Asker,
    Path(name): Path<String>,
) -> Answer<Json<SessionTemplateView>> {
    let sees_all = asker.sees_all();
    let view = move |_: &_, entry: &_| shown(entry, &asker);
    let found = workloads::one(&app, KIND, &name, view).await;
    // Whoever may not see other workloads does not hear of them.
    found.map_err(|failure| match failure.code() {
        code::WORKLOAD_UNKNOWN if !sees_all => {
            let detail = format!("there is no {KIND} called {name}");
            Failure::new(code::WORKLOAD_UNKNOWN, detail)
                .hint("list what there is: GET /v1/templates")
        }
        _ => failure,
    })
}

/// The template, if `asker` may see it: whoever sees all does, others if their tokens are for it.
fn shown(entry: &WorkloadEntry, asker: &Asker) -> Option<SessionTemplateView> {
    let may_see = asker.sees_all() || asker.may_use(&entry.workload.name);
    views::template(entry).filter(|_| may_see)
}
