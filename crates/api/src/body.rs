//! What a request brings: its body, who asks, and its idempotency key.

use crate::app::App;
use crate::asker::Asker;
use crate::failure::{Answer, Failure, code};
use crate::idempotency;
use crate::limits::BODY_BYTES_MAX;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use spawnery_cluster::IdempotencyKey;

/// A request that changes something.
pub(crate) struct Change {
    /// Who asks.
    pub(crate) asker: Asker,
    /// Makes a repetition harmless.
    pub(crate) key: Option<IdempotencyKey>,
    /// The body.
    pub(crate) body: Bytes,
    /// The media type of the body, without parameters, in lower case.
    pub(crate) media_type: Option<String>,
}

impl FromRequest<App> for Change {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Answer<Change> {
        let (mut parts, body) = request.into_parts();
        let asker = Asker::from_request_parts(&mut parts, app).await?;
        let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(unreadable)?;
        let key = idempotency::key(&parts, &asker.subject, &body)?;
        let media_type = parts.headers.get(header::CONTENT_TYPE).map(|value| {
            let value = value.to_str().unwrap_or_default();
            let media_type = value.split(';').next().unwrap_or_default();
            media_type.trim().to_ascii_lowercase()
        });
        Ok(Change { asker, key, body, media_type })
    }
}

impl Change {
    /// Who asks, as it goes into a record.
    pub(crate) fn by(&self) -> String {
        self.asker.subject.clone()
    }

    /// The body as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Answer<T> {
        serde_json::from_slice(&self.body).map_err(malformed)
    }

    /// The body as JSON, or what stands for an empty one.
    pub(crate) fn json_or_default<T: DeserializeOwned + Default>(&self) -> Answer<T> {
        match self.body.is_empty() {
            true => Ok(T::default()),
            false => self.json(),
        }
    }
}

/// A body is not the JSON that is expected. What was found is not repeated: it may be a secret.
pub(crate) fn malformed(error: serde_json::Error) -> Failure {
    let text = error.to_string();
    let detail = match text.find("expected ") {
        Some(at) if error.is_data() => text[at..].to_owned(),
        _ => text,
    };
    Failure::new(code::BODY, format!("the body is not valid: {detail}"))
        .hint("GET /openapi.json describes what it takes")
}

fn unreadable(error: axum::Error) -> Failure {
    if error.into_inner().is::<LengthLimitError>() {
        let detail = format!("the body has more than {BODY_BYTES_MAX} bytes");
        return Failure::new(code::BODY_TOO_LARGE, detail);
    }
    Failure::new(code::BODY, "the body ended before it was complete")
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_wire::api::ExecRequest;

    #[test]
    fn a_value_that_may_be_secret_is_not_repeated() {
        let check = |body: &str| {
            let error = serde_json::from_str::<ExecRequest>(body).unwrap_err();
            let problem = malformed(error).into_problem("/");
            assert!(!problem.detail.contains("1234"), "{}", problem.detail);
            assert!(problem.detail.contains("expected"), "{}", problem.detail);
        };
        check(r#"{"run": ["a"], "env": {"SECRET": 1234}}"#);
        check(r#"{"run": "1234"}"#);
        check(r#"{"run": [], "stdin": "1234"}"#);
    }
}
