//! What can go wrong between a client and its server.

use spawnery_wire::api::Problem;
use std::time::Duration;

/// A request was not done, or it is not known whether it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The server's address cannot be used.
    #[error("`{url}` is not the address of a server: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No server answers.
    #[error("no server answers at {url}: {reason}")]
    Connect {
        /// The server's address.
        url: String,
        /// What the system said.
        reason: String,
    },
    /// The connection broke before the answer was complete.
    #[error("the connection to {url} broke: {reason}")]
    Broken {
        /// The server's address.
        url: String,
        /// What the system said.
        reason: String,
    },
    /// The answer did not come in time.
    #[error("{url} did not answer within {} s", after.as_secs())]
    TimedOut {
        /// The server's address.
        url: String,
        /// How long it had.
        after: Duration,
    },
    /// The answer is not one of Spawnery's API.
    #[error("{url} gave an answer that is not understood: {reason}")]
    Protocol {
        /// The server's address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server refused, and says why.
    #[error("{0}")]
    Problem(Box<Problem>),
}

/// What kind of obstacle an error is, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no server, or the way to it is broken.
    NoServer,
    /// The token is missing, wrong or does not allow it.
    Refused,
    /// What was named does not exist.
    NotFound,
    /// The request is wrong and will always be.
    BadInput,
    /// The state of things does not allow it now.
    Conflict,
    /// The server cannot do it now.
    Failed,
}

impl ClientError {
    /// What kind of obstacle it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ClientError::Url { .. } => ErrorKind::BadInput,
            ClientError::Connect { .. }
            | ClientError::Broken { .. }
            | ClientError::TimedOut { .. } => ErrorKind::NoServer,
            ClientError::Protocol { .. } => ErrorKind::Failed,
            ClientError::Problem(problem) => match problem.status {
                401 | 403 => ErrorKind::Refused,
                404 | 410 => ErrorKind::NotFound,
                400 | 405 | 406 | 411 | 413 | 414 | 415 | 422 => ErrorKind::BadInput,
                409 | 412 => ErrorKind::Conflict,
                _ => ErrorKind::Failed,
            },
        }
    }

    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            ClientError::Url { .. } => "give it as http://HOST:PORT",
            ClientError::Connect { .. } => {
                "start one with `spawnery server`, or say where it is with --url or SPAWNERY_URL"
            }
            ClientError::Broken { .. } => "see whether the server still runs, then try again",
            ClientError::TimedOut { .. } => "see the server's log, then try again",
            ClientError::Protocol { .. } => {
                "see whether the address is that of a Spawnery server of this version"
            }
            ClientError::Problem(problem) => return problem.hint.clone(),
        };
        Some(hint.to_owned())
    }

    /// Whether the same request may well succeed a little later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            ClientError::Connect { .. }
            | ClientError::Broken { .. }
            | ClientError::TimedOut { .. } => true,
            ClientError::Problem(problem) => problem.status >= 500 || problem.status == 429,
            ClientError::Url { .. } | ClientError::Protocol { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_sorted_by_its_status() {
        let check = |status: u16, kind: ErrorKind| {
            let problem = Problem {
                kind: "about:blank".to_owned(),
                title: "t".to_owned(),
                status,
                detail: "d".to_owned(),
                instance: None,
                hint: Some("h".to_owned()),
                errors: Vec::new(),
            };
            let error = ClientError::Problem(Box::new(problem));
            assert_eq!(error.kind(), kind, "{status}");
            assert_eq!(error.hint().as_deref(), Some("h"));
            assert_eq!(error.to_string(), "d");
        };
        check(401, ErrorKind::Refused);
        check(403, ErrorKind::Refused);
        check(404, ErrorKind::NotFound);
        check(409, ErrorKind::Conflict);
        check(422, ErrorKind::BadInput);
        check(429, ErrorKind::Failed);
        check(503, ErrorKind::Failed);
    }
}
