//! Errors, as problem documents (RFC 9457).

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What stands before the code in [`Problem::type`](Problem#structfield.kind).
pub const PROBLEM_TYPE_PREFIX: &str = "urn:spawnery:problem:";

/// Why a request was not done (RFC 9457). Sent as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem; stays the same over releases.
    #[serde(rename = "type")]
    #[schema(example = "urn:spawnery:problem:workload-unknown")]
    pub kind: String,
    /// The kind of problem in a few words.
    #[schema(example = "no such workload")]
    pub title: String,
    /// The HTTP status code.
    #[schema(example = 404)]
    pub status: u16,
    /// What happened this time: the place and the reason.
    #[schema(example = "there is no job called tick")]
    pub detail: String,
    /// The request's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "list what there is: GET /v1/jobs")]
    pub hint: Option<String>,
    /// Of a manifest: all that is wrong with it, in the order of its text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
}

impl Problem {
    /// The last part of the type, such as `workload-unknown`: what programs branch on.
    pub fn code(&self) -> &str {
        let code = self.kind.strip_prefix(PROBLEM_TYPE_PREFIX);
        code.unwrap_or(&self.kind)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        self.errors.iter().try_for_each(|error| write!(f, "\n{error}"))
    }
}

impl std::error::Error for Problem {}

/// One thing that is wrong with a manifest or a session's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldProblem {
    /// The line in the request's body, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The field; empty when the text as a whole is meant.
    #[schema(example = "services.web.memory")]
    pub field: String,
    /// What was found, and what was expected instead.
    #[schema(example = "`64X` is no amount; expected an amount such as 512M")]
    pub message: String,
    /// How to mend it, where that can be guessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_last_part_of_the_type() {
        let check = |kind: &str, code: &str| {
            let text = format!(r#"{{"type":"{kind}","title":"t","status":404,"detail":"d"}}"#);
            let problem: Problem = serde_json::from_str(&text).unwrap();
            assert_eq!(problem.code(), code);
        };
        check("urn:spawnery:problem:job-unknown", "job-unknown");
        check("about:blank", "about:blank");
    }
}
