//! What a handler answers when it cannot do what was asked.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use spawnery_wire::api::{FieldProblem, PROBLEM_TYPE_PREFIX, Problem};

/// A kind of problem: the last part of its type, its status and its title. Codes stay the same
/// over releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) word: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
}

macro_rules! codes {
    ($($name:ident $word:literal $status:ident $title:literal;)*) => {
        /// All kinds of problems.
        pub(crate) mod code {
            use super::Code;
            use axum::http::StatusCode;
            $(pub(crate) const $name: Code = Code {
                word: $word,
                status: StatusCode::$status,
                title: $title,
            };)*
            /// Every kind, for the API's description.
            pub(crate) const ALL: &[Code] = &[$($name),*];
        }
    };
}

codes! {
    BODY "body-invalid" BAD_REQUEST "the request's body cannot be read";
    PARAMETER "parameter-invalid" BAD_REQUEST "a parameter is not valid";
    REQUEST "request-invalid" BAD_REQUEST "the request is not valid";
    TOKEN "token-invalid" UNAUTHORIZED "a valid token is needed";
    FORBIDDEN "forbidden" FORBIDDEN "the token does not allow this";
    JOIN_TOKEN_INVALID "join-token-invalid" FORBIDDEN "the join token is not valid";
    ROUTE "route-unknown" NOT_FOUND "there is nothing at this path";
    WORKLOAD_UNKNOWN "workload-unknown" NOT_FOUND "no such workload";
    INSTANCE_UNKNOWN "instance-unknown" NOT_FOUND "no such instance";
    SECRET_UNKNOWN "secret-unknown" NOT_FOUND "no such secret";
    SECRET_IN_USE "secret-in-use" CONFLICT "the secret is in use";
    VOLUME_UNKNOWN "volume-unknown" NOT_FOUND "no such volume";
    VOLUME_IN_USE "volume-in-use" CONFLICT "the volume is in use";
    ENVIRONMENT_UNKNOWN "environment-unknown" NOT_FOUND "no such environment";
    RUN_UNKNOWN "run-unknown" NOT_FOUND "no such run";
    NODE_UNKNOWN "node-unknown" NOT_FOUND "no such node";
    TOKEN_UNKNOWN "token-unknown" NOT_FOUND "no such token";
    PROCESS_UNKNOWN "process-unknown" NOT_FOUND "no such process";
    FILE_UNKNOWN "file-unknown" NOT_FOUND "no such file";
    FILE_DENIED "file-denied" FORBIDDEN "the user inside may not do this";
    FILE_KIND "file-kind" CONFLICT "what is at the path is of another kind";
    FILE_EXISTS "file-exists" CONFLICT "there is something at the path";
    FOLDER_NOT_EMPTY "folder-not-empty" CONFLICT "the folder is not empty";
    RANGE "range-invalid" RANGE_NOT_SATISFIABLE "the file has no such part";
    METHOD "method-unknown" METHOD_NOT_ALLOWED "this path does not take this method";
    WORKLOAD_KIND "workload-kind" CONFLICT "the workload is of another kind";
    ID_AMBIGUOUS "id-ambiguous" CONFLICT "more than one id begins like this";
    NODE_NOT_LOST "node-not-lost" CONFLICT "the node is not lost";
    NODE_NAME_TAKEN "node-name-taken" CONFLICT "the name is taken";
    NOT_RUNNING "not-running" CONFLICT "it does not run";
    JOINING_OFF "joining-off" CONFLICT "this server takes no agents from other machines";
    LIMIT "limit" CONFLICT "a limit is reached";
    CLIENTS_FULL "clients-full" CONFLICT "as many clients as may be use the session";
    TAGS_DIFFER "tags-differ" CONFLICT "the session has other tags";
    NOT_EXTENDED "not-extended" CONFLICT "the session cannot live longer";
    KEY_OF_OTHER "key-of-other" FORBIDDEN "the key names a session of somebody else";
    SESSIONS_OF_OWNER "sessions-of-owner" TOO_MANY_REQUESTS "there are as many sessions as allowed";
    CREATES_TOO_FAST "creates-too-fast" TOO_MANY_REQUESTS "sessions are created too fast";
    NO_ROOM "no-room" SERVICE_UNAVAILABLE "there is no room";
    BODY_TOO_LARGE "body-too-large" PAYLOAD_TOO_LARGE "the request's body is too large";
    CONTENT_TYPE "content-type" UNSUPPORTED_MEDIA_TYPE "the body's type is not known here";
    HOST "host-unknown" MISDIRECTED_REQUEST "this server does not go by this name";
    MANIFEST "manifest-invalid" UNPROCESSABLE_ENTITY "the manifest is not valid";
    NAME_TWICE "name-twice" UNPROCESSABLE_ENTITY "a name is given twice";
    IDEMPOTENCY_CONFLICT "idempotency-conflict" UNPROCESSABLE_ENTITY "the key was used before";
    PROCESS_FAILED "process-failed" UNPROCESSABLE_ENTITY "the node could not do it";
    CONTENT_DIGEST "content-digest" UNPROCESSABLE_ENTITY "the content is not what was announced";
    BUILD_FAILED "build-failed" UNPROCESSABLE_ENTITY "the environment cannot be built";
    SECRETS_KEY "secrets-key" INTERNAL_SERVER_ERROR "the key of the secrets cannot be used";
    INTERNAL "internal" INTERNAL_SERVER_ERROR "the server failed";
    BUSY "busy" SERVICE_UNAVAILABLE "too much is going on";
    STOPPING "stopping" SERVICE_UNAVAILABLE "the server is stopping";
    NODE_AWAY "node-away" SERVICE_UNAVAILABLE "the node cannot be reached";
    TIME "time-limit" GATEWAY_TIMEOUT "the request took too long";
    DISK_FULL "disk-full" INSUFFICIENT_STORAGE "the disk is full";
    JOURNAL_FULL "journal-full" INSUFFICIENT_STORAGE "the journal cannot be written";
}

/// Why a request is not done. Becomes a problem document on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    code: Code,
    problem: Problem,
    retry_after_secs: Option<u32>,
}

impl Failure {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Failure {
        let problem = Problem {
            kind: format!("{PROBLEM_TYPE_PREFIX}{}", code.word),
            title: code.title.to_owned(),
            status: code.status.as_u16(),
            detail: detail.into(),
            instance: None,
            hint: None,
            errors: Vec::new(),
        };
        Failure(Box::new(Inner { code, problem, retry_after_secs: None }))
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.0.problem.hint = Some(hint.into());
        self
    }

    /// Adds the places in a manifest.
    pub(crate) fn errors(mut self, errors: Vec<FieldProblem>) -> Failure {
        self.0.problem.errors = errors;
        self
    }

    /// Says when it may be tried again.
    pub(crate) fn retry_after_secs(mut self, seconds: u32) -> Failure {
        self.0.retry_after_secs = Some(seconds);
        self
    }

    pub(crate) fn code(&self) -> Code {
        self.0.code
    }

    /// The document, about the request for `path`.
    pub(crate) fn into_problem(self, path: &str) -> Problem {
        let mut problem = self.0.problem;
        problem.instance = Some(path.to_owned());
        problem
    }

    /// The whole answer to the request for `path`.
    pub(crate) fn respond(self, path: &str) -> Response {
        let (code, retry_after_secs) = (self.code(), self.0.retry_after_secs);
        let json = serde_json::to_vec(&self.into_problem(path));
        let mut response = json.expect("a problem has text and numbers only").into_response();
        *response.status_mut() = code.status;
        let headers = response.headers_mut();
        let problem = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem);
        if let Some(seconds) = retry_after_secs {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if code == code::TOKEN {
            let scheme = HeaderValue::from_static("Bearer realm=\"spawnery\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl IntoResponse for Failure {
    /// An answer without a body: `guard` writes it, because it knows the path.
    fn into_response(self) -> Response {
        let mut response = self.0.code.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What a handler of this crate answers.
pub(crate) type Answer<T> = Result<T, Failure>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_say_that_something_failed() {
        let words: BTreeSet<_> = code::ALL.iter().map(|code| code.word).collect();
        assert_eq!(words.len(), code::ALL.len());
        for code in code::ALL {
            assert!(code.status.is_client_error() || code.status.is_server_error(), "{code:?}");
        }
    }
}
