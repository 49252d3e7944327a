//! Whether the server lives and whether it can work. Needs no token, and tells nothing else.

use crate::app::App;
use crate::failure::{Answer, Failure, code};
use axum::extract::State;

/// Whether the process lives.
#[utoipa::path(
    get, path = "/healthz", tag = "server", security(()),
    responses((status = 200, description = "It lives", body = String, content_type = "text/plain")),
)]
pub(crate) async fn get_health() -> &'static str {
    "ok\n"
}

/// Whether changes can be made: the controller rules and the journal can be written.
#[utoipa::path(
    get, path = "/readyz", tag = "server", security(()),
    responses((status = 200, description = "It is ready", body = String, content_type = "text/plain")),
)]
pub(crate) async fn get_readiness(State(app): State<App>) -> Answer<&'static str> {
    if app.controller.statistics().journal_full.is_some() {
        // Why, is for those with a token: see /v1/status.
        return Err(Failure::new(code::JOURNAL_FULL, "the journal cannot be written"));
    }
    app.query(|_| ()).await?;
    Ok("ready\n")
}
