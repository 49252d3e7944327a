//! The `spawnery` binary.
//!
//! Invariant: the only crate that prints or exits. A command is one file in `commands`; it uses
//! the client library like any other program would. Every error becomes a [`CliError`] once, and
//! is shown here.

// This is a program for a person at a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod attach;
mod commands;
mod config;
mod context;
mod error;
mod exit;
mod follow;
mod hidden_input;
mod isolation;
mod launcher;
mod local_content;
mod logging;
mod manifest_file;
mod output;
mod place;
mod progress;
mod runtime;
mod serve;
mod table;
mod terminal;
mod words;

use args::Cli;
use clap::{CommandFactory, FromArgMatches};
use config::ParseError;
use context::Context;
use error::CliError;
use exit::ExitCode;

fn main() -> std::process::ExitCode {
    let outcome = run();
    let code = outcome.unwrap_or_else(|error| {
        for line in error.lines() {
            output::note(line);
        }
        error.code
    });
    std::process::ExitCode::from(code.0)
}

fn run() -> Result<ExitCode, CliError> {
    // Before anything else, so that the launcher stays small and has one thread.
    if let Some(outcome) = launcher::run_if_asked() {
        return outcome;
    }
    let environment = |name: &str| std::env::var(name).ok();
    let parsed = config::parse(Cli::command(), std::env::args_os().collect(), &environment);
    let (matches, config) = match parsed {
        Ok(parsed) => parsed,
        Err(ParseError::Config(error)) => return Err(error),
        // Clap prints its own errors, and exits with code 2.
        Err(ParseError::Clap(error)) => error.exit(),
    };
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let context = Context::new(config);
    commands::run(cli.command, &context).map_err(|error| context.config.explain(error))
}
