//! What contributors run: `cargo xtask <command>`.
//!
//! Invariant: needs nothing but cargo to start. Without features it has two small dependencies;
//! `simulate` and `bench` build themselves in release when they are asked for.

// This is a program for a person at a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod fuzz;
mod packages;
mod process;
mod simulate;
mod stage;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

/// What `cargo xtask` and `cargo xtask help` print.
const HELP: &str = "\
What contributors run.

Usage: cargo xtask <command> [options]

  test      install what the tests need, then check and test everything
              --fast         leave clippy and the simulator out
              --seeds N      how many seeds the simulator runs (default 200)
  tidy      check the rules that the compiler does not know
  fuzz      run the property tests with many more cases
              --seconds N    for how long (default 60)
  help      print this

CONTRIBUTING.md says what each is for.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Why a command of xtask stopped: a sentence for the person who ran it.
type Failure = String;

fn run() -> Result<(), Failure> {
    let mut arguments = lexopt::Parser::from_env();
    let command = match arguments.next().map_err(|error| error.to_string())? {
        None => "help".to_owned(),
        Some(lexopt::Arg::Short('h') | lexopt::Arg::Long("help")) => "help".to_owned(),
        Some(lexopt::Arg::Value(command)) => command.to_string_lossy().into_owned(),
        Some(other) => return Err(other.unexpected().to_string()),
    };
    match command.as_str() {
        "test" => test::run(&test::Options::parse(arguments)?),
        "tidy" => tidy::command(),
        "fuzz" => fuzz::run(&fuzz::Options::parse(arguments)?),
        "help" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!(
            "there is no command {other:?}; `cargo xtask help` lists them"
        )),
    }
}

/// The number after an option.
fn number(arguments: &mut lexopt::Parser) -> Result<u64, Failure> {
    let value = arguments.value().map_err(|error| error.to_string())?;
    let text = value.to_string_lossy();
    text.parse()
        .map_err(|_| format!("{text:?} is not a whole number"))
}
