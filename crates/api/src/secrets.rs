//! Secrets: values that come in and never go out again, but to instances.

use crate::app::App;
use crate::body::Change;
use crate::failure::{Answer, Failure, code};
use crate::find;
use crate::list::{self, PageParameters};
use crate::parameters::Parameters;
use crate::rejections::unfinished;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use spawnery_controller::SecretInfo;
use spawnery_wire::api::{Page, SecretView};

/// Gives a secret a value, which is the body. Instances that run keep the old one.
#[utoipa::path(
    put, path = "/v1/secrets/{name}", tag = "secrets",
    params(("name" = String, Path, description = "The secret's name")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The value: 1 to 65,536 bytes"),
    responses((status = 200, description = "The secret, without its value", body = SecretView)),
)]
pub(crate) async fn set_secret(
    State(app): State<App>,
    Path(name): Path<String>,
    change: Change,
) -> Answer<Json<SecretView>> {
    let name = find::name(&name)?;
    if change.key.is_some() {
        let detail = "setting a secret cannot be repeated by a key";
        return Err(Failure::new(code::PARAMETER, detail).hint("leave Idempotency-Key out"));
    }
    let by = change.by();
    app.controller.set_secret(name.clone(), change.body.to_vec(), by).await?;
    let secrets = app.controller.secrets().await?;
    let set = secrets.into_iter().find(|secret| secret.name == name);
    // Somebody may have removed it since.
    set.map(|secret| Json(view(secret))).ok_or_else(|| unfinished("setting the secret"))
}

/// Lists secrets, by name, without their values.
#[utoipa::path(
    get, path = "/v1/secrets", tag = "secrets",
    params(PageParameters),
    responses((status = 200, description = "A page of secrets", body = Page<SecretView>)),
)]
pub(crate) async fn list_secrets(
    State(app): State<App>,
    Parameters(page): Parameters<PageParameters>,
) -> Answer<Json<Page<SecretView>>> {
    let (limit, after) = page.checked()?;
    let after = after.unwrap_or_default();
    let secrets = app.controller.secrets().await?.into_iter();
    let secrets = secrets.filter(|secret| secret.name.as_str() > after.as_str());
    Ok(Json(list::page(secrets, limit, view, |secret| secret.name.to_string())))
}

fn view(secret: SecretInfo) -> SecretView {
    SecretView {
        name: secret.name,
        version: secret.version,
        changed_at_ms: secret.changed_at.0,
        by: secret.by,
        used_by: secret.used_by,
    }
}

/// Forgets a secret that no workload uses.
#[utoipa::path(
    delete, path = "/v1/secrets/{name}", tag = "secrets",
    params(("name" = String, Path, description = "The secret's name")),
    responses((status = 204, description = "It is forgotten")),
)]
pub(crate) async fn remove_secret(
    State(app): State<App>,
    Path(name): Path<String>,
    change: Change,
) -> Answer<StatusCode> {
    app.controller.remove_secret(find::name(&name)?, change.by()).await?;
    Ok(StatusCode::NO_CONTENT)
}
