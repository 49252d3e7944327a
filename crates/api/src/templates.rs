//! Session templates.

use crate::app::App;
use crate::failure::Answer;
use crate::list::PageParameters;
use crate::parameters::Parameters;
use crate::{views, workloads};
use axum::Json;
use axum::extract::{Path, State};
use spawnery_wire::api::{Page, SessionTemplateView};

/// Lists session templates, by name.
#[utoipa::path(
    get, path = "/v1/templates", tag = "sessions",
    params(PageParameters),
    responses((status = 200, description = "A page of templates", body = Page<SessionTemplateView>)),
)]
pub(crate) async fn list_templates(
    State(app): State<App>,
    Parameters(page): Parameters<PageParameters>,
) -> Answer<Json<Page<SessionTemplateView>>> {
    let view = |_: &_, entry: &_| views::template(entry);
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
    Path(name): Path<String>,
) -> Answer<Json<SessionTemplateView>> {
    let view = |_: &_, entry: &_| views::template(entry);
    workloads::one(&app, "session template", &name, view).await
}
