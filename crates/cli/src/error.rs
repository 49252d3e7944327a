//! Errors as the user sees them: what happened, what to do, and with which code to exit.

use crate::exit::ExitCode;
use spawnery_client::{ClientError, ErrorKind};
use std::fmt;
use std::io;

/// Why a command stopped. Every error of a library is folded into one of these, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CliError {
    /// The code to exit with.
    pub(crate) code: ExitCode,
    /// What happened. Empty when everything was said already.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl CliError {
    /// What was asked for did not work.
    pub(crate) fn failed(message: impl fmt::Display) -> CliError {
        CliError::new(ExitCode::FAILED, message)
    }

    /// What was given is wrong.
    pub(crate) fn usage(message: impl fmt::Display) -> CliError {
        CliError::new(ExitCode::USAGE, message)
    }

    /// There is no server.
    pub(crate) fn no_server(message: impl fmt::Display) -> CliError {
        CliError::new(ExitCode::NO_SERVER, message)
    }

    /// Everything was said already; only the code is left.
    pub(crate) fn silent(code: ExitCode) -> CliError {
        CliError::new(code, "")
    }

    fn new(code: ExitCode, message: impl fmt::Display) -> CliError {
        CliError { code, message: message.to_string(), hint: None }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> CliError {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with another code.
    pub(crate) fn with_code(mut self, code: ExitCode) -> CliError {
        self.code = code;
        self
    }

    /// As lines for standard error.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.message.is_empty() {
            lines.push(format!("error: {}", self.message));
        }
        if let Some(hint) = &self.hint {
            lines.push(format!("hint: {hint}"));
        }
        lines
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> CliError {
        let code = match error.kind() {
            ErrorKind::NoServer => ExitCode::NO_SERVER,
            ErrorKind::Refused => ExitCode::REFUSED,
            ErrorKind::BadInput => ExitCode::USAGE,
            ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Failed => ExitCode::FAILED,
        };
        let hint = match &error {
            ClientError::Problem(problem) => command_for(problem.code()).map(str::to_owned),
            _ => None,
        };
        let hint = hint.or_else(|| error.hint());
        CliError { code, message: error.to_string(), hint }
    }
}

/// What to do about a problem, where that is a command; the API's own hints are about its paths.
fn command_for(code: &str) -> Option<&'static str> {
    Some(match code {
        "token-invalid" => {
            "set SPAWNERY_TOKEN to a token of this server: it keeps one for its owner in the file \
             admin.token of its data folder"
        }
        "forbidden" => "`spawnery token show` says what your token allows",
        "token-unknown" => "`spawnery token list` lists what there is",
        "workload-unknown" => "`spawnery services` and `spawnery jobs` list what there is",
        "instance-unknown" | "process-unknown" => "`spawnery instances --all` lists what there is",
        "run-unknown" => "`spawnery jobs runs` lists what there is",
        "node-unknown" => "`spawnery nodes` lists what there is",
        "environment-unknown" => "`spawnery environment list` lists what there is",
        "secret-unknown" => "`spawnery secret set NAME` sets it",
        "secret-in-use" => "`spawnery secret list` shows which workloads use it",
        "volume-unknown" => "`spawnery volume list` lists what there is",
        "volume-in-use" => "`spawnery volume list` shows which instances use it",
        "id-ambiguous" => "give more characters of the id",
        "joining-off" => "start the server with --link-listen ADDR:PORT, such as 0.0.0.0:9001",
        _ => return None,
    })
}

/// An error while writing to standard output. Who reads us may have had enough: that is no error
/// to speak of.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> CliError {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::silent(ExitCode::BROKEN_PIPE),
            _ => CliError::failed(format!("cannot write the output: {error}")),
        }
    }
}
