//! Why a request did not reach an instance.

use crate::answer::{Answer, wants_html};
use crate::h1::head::RequestHead;
use http::StatusCode;
use spawnery_cluster::Rejection;
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
    /// There is no such template.
    #[error("there is no session template called {0} here")]
    TemplateUnknown(Name),
    /// A template alone is no session.
    #[error("{0} is a session template: a key must come before its name")]
    KeyNeeded(Name),
    /// The template has no such port, or none at all.
    #[error("the session template {0} has no such port")]
    SessionPort(Name),
    /// A session could not be started.
    #[error("the session did not start: {reason}")]
    StartFailed {
        /// Why, in words.
        reason: String,
    },
    /// It takes longer than requests are held.
    #[error("the session is still starting: try again in a moment")]
    StillStarting,
    /// As many requests as may be are held.
    #[error("too many requests wait for sessions that start: try again in a moment")]
    HeldTooMany,
    /// The core refused to start a session.
    #[error("{0}")]
    Rejected(Box<Rejection>),
    /// There is nobody to ask.
    #[error("the controller does not answer: try again in a moment")]
    ControllerAway,
    /// Who comes shows no token, or one that is not taken.
    #[error("{reason}")]
    Unauthorized {
        /// Why.
        reason: String,
    },
    /// Who comes may not.
    #[error("{reason}")]
    Forbidden {
        /// Why.
        reason: String,
    },
    /// The server that says who may come cannot be asked.
    #[error("the server that decides who may come cannot be asked: {reason}")]
    AuthUnreachable {
        /// Why.
        reason: String,
    },
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
            Refusal::TemplateUnknown(_) => (StatusCode::NOT_FOUND, "template-unknown"),
            Refusal::KeyNeeded(_) => (StatusCode::NOT_FOUND, "key-needed"),
            Refusal::SessionPort(_) => (StatusCode::NOT_FOUND, "port-unknown"),
            Refusal::StartFailed { .. } => (StatusCode::BAD_GATEWAY, "start-failed"),
            Refusal::StillStarting => (StatusCode::GATEWAY_TIMEOUT, "still-starting"),
            Refusal::HeldTooMany => (StatusCode::SERVICE_UNAVAILABLE, "held-too-many"),
            Refusal::Rejected(rejection) => (status_of(rejection), rejection.code()),
            Refusal::ControllerAway => (StatusCode::SERVICE_UNAVAILABLE, "controller-away"),
            Refusal::Unauthorized { .. } => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Refusal::Forbidden { .. } => (StatusCode::FORBIDDEN, "forbidden"),
            Refusal::AuthUnreachable { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "auth-unreachable")
            }
            Refusal::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "unreachable"),
            Refusal::BadAnswer { .. } => (StatusCode::BAD_GATEWAY, "bad-answer"),
            Refusal::TooLate => (StatusCode::GATEWAY_TIMEOUT, "too-late"),
        }
    }

    /// As an answer to a request.
    pub fn answer(&self, head: &RequestHead) -> Answer {
        self.answer_to(wants_html(head))
    }

    /// As an answer to a browser, or to another program.
    pub(crate) fn answer_to(&self, wants_html: bool) -> Answer {
        let (status, word) = self.status_and_word();
        let answer = Answer::reason_to(status, word, &self.to_string(), wants_html);
        match status {
            StatusCode::UNAUTHORIZED => answer.with("www-authenticate", "Bearer"),
            _ => answer,
        }
    }
}

fn status_of(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::WorkloadUnknown { .. } | Rejection::WorkloadKind { .. } => StatusCode::NOT_FOUND,
        Rejection::KeyOfOther { .. } => StatusCode::FORBIDDEN,
        Rejection::TagsDiffer { .. } => StatusCode::CONFLICT,
        Rejection::SessionsOfOwner { .. } | Rejection::CreatesTooFast { .. } => {
            StatusCode::TOO_MANY_REQUESTS
        }
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
