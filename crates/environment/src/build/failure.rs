//! Why an environment could not be built.

use crate::lock::LockError;
use crate::recipe::RecipeError;

/// Why an environment could not be built. Nothing half-built is left then; the layers of the steps
/// before stay for the next try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The recipe says something that cannot be carried out.
    #[error("recipe: {0}")]
    Recipe(#[from] RecipeError),
    /// The lock cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A version could not be found out.
    #[error("resolving {what}: {reason}{}", last(last_output))]
    Resolve {
        /// What was looked for.
        what: String,
        /// Why it was not found.
        reason: String,
        /// The end of the tool's output.
        last_output: String,
    },
    /// A step failed.
    #[error("step {number} of {of}: {title}: {reason}{}", last(last_output))]
    Step {
        /// Its number, from 1.
        number: usize,
        /// How many steps there are.
        of: usize,
        /// What it is for people.
        title: String,
        /// What went wrong.
        reason: String,
        /// The end of the output of its commands.
        last_output: String,
    },
    /// Nobody waited for it any more.
    #[error("the build was cancelled")]
    Cancelled,
    /// The result could not be put into the store.
    #[error("putting the environment together: {0}")]
    Store(String),
}

/// Why one step failed, before it is known which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    Step { reason: String, last_output: String },
    Cancelled,
}

impl Failure {
    pub(super) fn new(reason: impl Into<String>) -> Failure {
        Failure::Step { reason: reason.into(), last_output: String::new() }
    }

    pub(super) fn of(error: impl std::fmt::Display) -> Failure {
        Failure::new(error.to_string())
    }

    pub(super) fn at_step(self, number: usize, of: usize, title: &str) -> BuildError {
        match self {
            Failure::Cancelled => BuildError::Cancelled,
            Failure::Step { reason, last_output } => {
                BuildError::Step { number, of, title: title.to_owned(), reason, last_output }
            }
        }
    }

    pub(super) fn resolving(self, what: &str) -> BuildError {
        match self {
            Failure::Cancelled => BuildError::Cancelled,
            Failure::Step { reason, last_output } => {
                BuildError::Resolve { what: what.to_owned(), reason, last_output }
            }
        }
    }
}

fn last(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!("; its last output:\n{output}") }
}
