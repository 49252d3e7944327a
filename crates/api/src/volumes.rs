//! Volumes: folders that are kept between instances.

use crate::app::App;
use crate::body::Change;
use crate::failure::Answer;
use crate::find;
use crate::list::{self, PageParameters};
use crate::parameters::Parameters;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use spawnery_wire::api::{Page, VolumeOnNode, VolumeView};

/// Lists volumes, by name, with what they take on disk.
#[utoipa::path(
    get, path = "/v1/volumes", tag = "volumes",
    params(PageParameters),
    responses((status = 200, description = "A page of volumes", body = Page<VolumeView>)),
)]
pub(crate) async fn list_volumes(
    State(app): State<App>,
    Parameters(page): Parameters<PageParameters>,
) -> Answer<Json<Page<VolumeView>>> {
    let (limit, after) = page.checked()?;
    let after = after.unwrap_or_default();
    let volumes = app.controller.volumes().await?.into_iter();
    let volumes = volumes.filter(|volume| volume.name.as_str() > after.as_str());
    Ok(Json(list::page(volumes, limit, view, |volume| volume.name.to_string())))
}

fn view(volume: spawnery_controller::VolumeView) -> VolumeView {
    let nodes = volume.nodes.into_iter();
    VolumeView {
        name: volume.name,
        nodes: nodes.map(|(node, size_bytes)| VolumeOnNode { node, size_bytes }).collect(),
        used_by: volume.used_by,
    }
}

/// Removes a volume that no live instance uses, with all that is in it.
#[utoipa::path(
    delete, path = "/v1/volumes/{name}", tag = "volumes",
    params(("name" = String, Path, description = "The volume's name")),
    responses((status = 204, description = "It is gone")),
)]
pub(crate) async fn remove_volume(
    State(app): State<App>,
    Path(name): Path<String>,
    change: Change,
) -> Answer<StatusCode> {
    app.controller.remove_volume(find::name(&name)?, change.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}
