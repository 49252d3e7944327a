//! From the errors below to problems: which code each has, and what to do about it.

use crate::failure::{Failure, code};
use spawnery_cluster::Rejection;
use spawnery_controller::{BuildError, SecretError, StreamError, SubmitError};
use spawnery_manifest::{ManifestError, ManifestErrors};
use spawnery_wire::api::FieldProblem;

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Failure {
        let detail = rejection.to_string();
        let (code, hint) = match &rejection {
            Rejection::WorkloadUnknown { .. } => (
                code::WORKLOAD_UNKNOWN,
                "list what there is: GET /v1/services, /v1/jobs or /v1/templates",
            ),
            Rejection::WorkloadKind { .. } => {
                (code::WORKLOAD_KIND, "name a workload of the wanted kind")
            }
            Rejection::NameTwice { .. } => (code::NAME_TWICE, "name each workload once"),
            Rejection::InstanceUnknown { .. } => {
                (code::INSTANCE_UNKNOWN, "list what there is: GET /v1/instances")
            }
            Rejection::NodeUnknown { .. } => {
                (code::NODE_UNKNOWN, "list what there is: GET /v1/nodes")
            }
            Rejection::NodeNotLost { .. } => {
                (code::NODE_NOT_LOST, "drain it, stop its agent, and try again once it is lost")
            }
            Rejection::NodeNameTaken { .. } => (code::NODE_NAME_TAKEN, "choose another name"),
            Rejection::JoinTokenInvalid => {
                (code::JOIN_TOKEN_INVALID, "make a new one: POST /v1/join-tokens")
            }
            Rejection::TokenUnknown { .. } => {
                (code::TOKEN_UNKNOWN, "list what there is: GET /v1/tokens")
            }
            Rejection::SecretUnknown { .. } => {
                (code::SECRET_UNKNOWN, "set it: PUT /v1/secrets/NAME")
            }
            Rejection::SecretInUse { .. } => {
                (code::SECRET_IN_USE, "change or remove the workloads that use it")
            }
            Rejection::VolumeUnknown { .. } => {
                (code::VOLUME_UNKNOWN, "list what there is: GET /v1/volumes")
            }
            Rejection::VolumeInUse { .. } => (code::VOLUME_IN_USE, "end the instances that use it"),
            Rejection::TagsDiffer { .. } => {
                (code::TAGS_DIFFER, "end that session, or ask with its tags")
            }
            Rejection::KeyOfOther { .. } => {
                (code::KEY_OF_OTHER, "choose another key, or ask its owner to share the session")
            }
            Rejection::NoRoom { .. } => {
                let failure = Failure::new(code::NO_ROOM, detail).retry_after_secs(5);
                return failure.hint("try again later, or let the request wait for room");
            }
            Rejection::SessionsOfOwner { .. } => {
                (code::SESSIONS_OF_OWNER, "end a session that is no longer needed")
            }
            Rejection::CreatesTooFast { retry_after, .. } => {
                let secs = u32::try_from(retry_after.0.div_ceil(1000)).unwrap_or(u32::MAX);
                return Failure::new(code::CREATES_TOO_FAST, detail).retry_after_secs(secs);
            }
            Rejection::NotExtended { .. } => {
                (code::NOT_EXTENDED, "GET the session: `ends_at_ms` says when it ends")
            }
            Rejection::IdempotencyConflict => (
                code::IDEMPOTENCY_CONFLICT,
                "choose a new Idempotency-Key for each request, and keep it for its repetitions",
            ),
            Rejection::Limit { .. } => (code::LIMIT, "remove or end what is no longer needed"),
            Rejection::JournalFull { .. } => {
                let failure = Failure::new(code::JOURNAL_FULL, detail);
                return failure.hint("free some space on the server's disk").retry_after_secs(5);
            }
        };
        Failure::new(code, detail).hint(hint)
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Failure {
        match error {
            SubmitError::Rejected(rejection) => rejection.into(),
            SubmitError::Busy => Failure::new(code::BUSY, error.to_string()).retry_after_secs(1),
            SubmitError::Stopped => Failure::new(code::STOPPING, error.to_string())
                .hint("try again; with an Idempotency-Key a repetition does no harm")
                .retry_after_secs(2),
        }
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Failure {
        let detail = error.to_string();
        match error {
            StreamError::Unknown(_) => Failure::new(code::PROCESS_UNKNOWN, detail)
                .hint("it may have ended too long ago: its output is kept for a while only"),
            StreamError::NotRunning(_) => Failure::new(code::NOT_RUNNING, detail),
            StreamError::NotPlaced { .. } => Failure::new(code::NOT_RUNNING, detail)
                .hint("GET the instance: `waits_for` says why it is not placed"),
            StreamError::NodeAway { .. } => Failure::new(code::NODE_AWAY, detail)
                .hint("try again; GET /v1/nodes shows which nodes are up")
                .retry_after_secs(2),
            StreamError::Failed(_) => Failure::new(code::PROCESS_FAILED, detail),
            StreamError::Controller(error) => error.into(),
        }
    }
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Failure {
        let detail = error.to_string();
        match error {
            SecretError::Size { .. } => Failure::new(code::BODY, detail),
            SecretError::Vault(_) => Failure::new(code::SECRETS_KEY, detail),
            SecretError::Submit(error) => error.into(),
        }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Failure {
        match error {
            BuildError::NoNode => Failure::new(code::NODE_AWAY, error.to_string())
                .hint("start an agent; GET /v1/nodes shows which nodes are up"),
            BuildError::Secret(error) => error.into(),
            BuildError::Stream(error) => error.into(),
        }
    }
}

/// Work in another thread was cut off, because the server ends.
pub(crate) fn unfinished(what: &str) -> Failure {
    Failure::new(code::INTERNAL, format!("{what} was interrupted"))
}

impl From<ManifestErrors> for Failure {
    fn from(errors: ManifestErrors) -> Failure {
        let errors = errors.errors().iter().map(field_problem);
        manifest_failure("the manifest", errors.collect())
    }
}

/// A command got another command's answer: both came under one idempotency key, and not even their
/// fingerprints differed.
pub(crate) fn other_answer() -> Failure {
    Rejection::IdempotencyConflict.into()
}

/// The failure of `what`, with all that is wrong with it.
pub(crate) fn manifest_failure(what: &str, errors: Vec<FieldProblem>) -> Failure {
    let detail = match errors.as_slice() {
        [only] => format!("{what} is not valid: {only}"),
        errors => format!("{what} has {} errors", errors.len()),
    };
    Failure::new(code::MANIFEST, detail)
        .hint("mend what `errors` names; nothing was changed")
        .errors(errors)
}

/// One error of a manifest, as the API shows it.
pub(crate) fn field_problem(error: &ManifestError) -> FieldProblem {
    FieldProblem {
        line: error.line,
        column: error.column,
        field: error.field.clone(),
        message: format!("{}; expected {}", error.found, error.expected),
        hint: error.hint.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::{DurationMs, Id, InstanceId, Name, NodeId};

    #[test]
    fn every_rejection_keeps_its_code_and_gets_a_status() {
        let check = |rejection: Rejection, status: u16| {
            let failure = Failure::from(rejection.clone());
            assert_eq!(failure.code().word, rejection.code());
            assert_eq!(failure.code().status.as_u16(), status, "{rejection}");
        };
        let name = || Name::new("web").unwrap();
        let id = Id::from_bits(7);
        check(Rejection::WorkloadUnknown { kind: "job", name: name() }, 404);
        let kind = Rejection::WorkloadKind { name: name(), found: "job", wanted: "service" };
        check(kind, 409);
        check(Rejection::NameTwice { name: name() }, 422);
        check(Rejection::InstanceUnknown { instance: InstanceId(id) }, 404);
        check(Rejection::NodeUnknown { node: NodeId(id) }, 404);
        check(Rejection::NodeNotLost { node: name(), status: "up" }, 409);
        check(Rejection::NodeNameTaken { name: name() }, 409);
        check(Rejection::JoinTokenInvalid, 403);
        check(Rejection::TokenUnknown { id: "abcd".to_owned() }, 404);
        check(Rejection::IdempotencyConflict, 422);
        check(Rejection::Limit { what: "too many", limit: 1 }, 409);
        let found = "none".to_owned();
        check(Rejection::TagsDiffer { key: name(), instance: InstanceId(id), found }, 409);
        check(Rejection::KeyOfOther { key: name() }, 403);
        check(Rejection::NoRoom { reason: "full".to_owned() }, 503);
        let owner = || "ada".to_owned();
        check(Rejection::SessionsOfOwner { owner: owner(), limit: 1 }, 429);
        let retry_after = DurationMs(1);
        check(Rejection::CreatesTooFast { owner: owner(), limit: 1, retry_after }, 429);
        let reason = String::new();
        check(Rejection::NotExtended { instance: InstanceId(id), reason }, 409);
        check(Rejection::JournalFull { reason: "full".to_owned() }, 507);
    }

    #[test]
    fn what_may_be_tried_again_says_when() {
        let check = |failure: Failure, status: u16| {
            let response = failure.respond("/v1/x");
            assert_eq!(response.status().as_u16(), status);
            assert!(response.headers().contains_key("retry-after"));
        };
        check(SubmitError::Busy.into(), 503);
        check(SubmitError::Stopped.into(), 503);
        check(StreamError::NodeAway { node: NodeId(Id::from_bits(1)) }.into(), 503);
        check(Rejection::JournalFull { reason: String::new() }.into(), 507);
    }
}
