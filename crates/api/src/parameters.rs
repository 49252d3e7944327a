//! The parameters of a query.

use crate::app::App;
use crate::failure::{Answer, Failure, code};
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

/// The parameters after the `?`, or a problem that names the one that is wrong.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Parameters<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Answer<Parameters<T>> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(parameters)) => Ok(Parameters(parameters)),
            Err(rejection) => {
                let text = rejection.body_text();
                let reason = text.strip_prefix("Failed to deserialize query string: ");
                Err(invalid(reason.unwrap_or(&text)))
            }
        }
    }
}

/// A parameter of the path or the query is not valid.
pub(crate) fn invalid(reason: impl Into<String>) -> Failure {
    Failure::new(code::PARAMETER, reason).hint("GET /openapi.json describes all parameters")
}
