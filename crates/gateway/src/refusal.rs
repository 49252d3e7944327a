//! Why a request did not reach an instance.

use crate::answer::Answer;
use crate::h1::head::RequestHead;
use http::StatusCode;
use spawnery_model::Name;

/// Why a request did not reach an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such service.
    #[error("there is no service called {0} here")]
    ServiceUnknown(Name),
    /// It has no such port.
    #[error("the service {service} has no port called {port}")]
    PortUnknown {
        /// The service.
        service: Name,
        /// The port.
        port: Name,
    },
    /// It has no ports at all.
    #[error("the service {0} has no ports, so nothing can be asked of it")]
    NoPorts(Name),
    /// No instance of it is ready.
    #[error("the service {0} has no instance that is ready: try again in a moment")]
    NotReady(Name),
    /// The instance could not be reached.
    #[error("the instance could not be reached: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// The instance answered with something that is no answer.
    #[error("the instance was reached, but {reason}")]
    BadAnswer {
        /// What is wrong.
        reason: String,
    },
    /// The instance did not answer.
    #[error("the instance did not answer in time")]
    TooLate,
}

impl Refusal {
    fn status_and_word(&self) -> (StatusCode, &'static str) {
        match self {
            Refusal::ServiceUnknown(_) => (StatusCode::NOT_FOUND, "service-unknown"),
            Refusal::PortUnknown { .. } => (StatusCode::NOT_FOUND, "port-unknown"),
            Refusal::NoPorts(_) => (StatusCode::NOT_FOUND, "no-ports"),
            Refusal::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, "not-ready"),
            Refusal::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "unreachable"),
            Refusal::BadAnswer { .. } => (StatusCode::BAD_GATEWAY, "bad-answer"),
            Refusal::TooLate => (StatusCode::GATEWAY_TIMEOUT, "too-late"),
        }
    }

    /// As an answer to a request.
    pub fn answer(&self, head: &RequestHead) -> Answer {
        let (status, word) = self.status_and_word();
        Answer::reason(status, word, &self.to_string(), Some(head))
    }
}
