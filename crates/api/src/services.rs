//! Services.

use crate::app::App;
use crate::failure::Answer;
use crate::list::PageParameters;
use crate::parameters::Parameters;
use crate::{views, workloads};
use axum::Json;
use axum::extract::{Path, State};
use spawnery_wire::api::{Page, ServiceView};

/// Lists services, by name.
#[utoipa::path(
    get, path = "/v1/services", tag = "services",
    params(PageParameters),
    responses((status = 200, description = "A page of services", body = Page<ServiceView>)),
)]
pub(crate) async fn list_services(
    State(app): State<App>,
    Parameters(page): Parameters<PageParameters>,
) -> Answer<Json<Page<ServiceView>>> {
    let config = app.config.clone();
    let view = move |state: &_, entry: &_| views::service(state, entry, &config);
    workloads::list(&app, page, view, |service: &ServiceView| service.name.to_string()).await
}

/// Shows a service.
#[utoipa::path(
    get, path = "/v1/services/{name}", tag = "services",
    params(("name" = String, Path, description = "The service's name")),
    responses((status = 200, description = "The service", body = ServiceView)),
)]
pub(crate) async fn get_service(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Answer<Json<ServiceView>> {
    let config = app.config.clone();
    let view = move |state: &_, entry: &_| views::service(state, entry, &config);
    workloads::one(&app, "service", &name, view).await
}
