//! Why a request did not reach a service.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use spawnery_model::Name;

/// The header that names the reason, so that a program can tell the gateway's answer from the
/// service's.
const REASON_HEADER: &str = "x-spawnery-reason";

/// Why a request did not reach a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no service called {0} here")]
    ServiceUnknown(Name),
    #[error("the service {service} has no port called {port}")]
    PortUnknown { service: Name, port: Name },
    #[error("the service {0} has no ports, so nothing can be asked of it")]
    NoPorts(Name),
    #[error("the service {0} has no instance that is ready: try again in a moment")]
    NotReady(Name),
    #[error("the service {service} could not be reached: {reason}")]
    Unreachable { service: Name, reason: String },
    #[error("the service {0} did not answer in time")]
    TooLate(Name),
    #[error("the request names no host, so it cannot be told for whom it is")]
    NoHost,
}

impl Refusal {
    fn status_and_word(&self) -> (StatusCode, &'static str) {
        match self {
            Refusal::ServiceUnknown(_) => (StatusCode::NOT_FOUND, "service-unknown"),
            Refusal::PortUnknown { .. } => (StatusCode::NOT_FOUND, "port-unknown"),
            Refusal::NoPorts(_) => (StatusCode::NOT_FOUND, "no-ports"),
            Refusal::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, "not-ready"),
            Refusal::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "unreachable"),
            Refusal::TooLate(_) => (StatusCode::GATEWAY_TIMEOUT, "too-late"),
            Refusal::NoHost => (StatusCode::BAD_REQUEST, "no-host"),
        }
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let (status, word) = self.status_and_word();
        let mut response = Response::new(Body::from(format!("{self}\n")));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, text);
        headers.insert(REASON_HEADER, HeaderValue::from_static(word));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
