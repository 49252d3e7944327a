//! What contributors run: `cargo xtask <command>`.
//!
//! Invariant: needs nothing but cargo to start. Without features it has two small dependencies;
//! `simulate` and `bench` build themselves in release when they are asked for.

// This is a program for a person at a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[cfg(feature = "bench")]
mod bench;
mod fuzz;
mod packages;
mod process;
mod release;
#[cfg(feature = "simulate")]
mod simulate;
mod stage;
mod test;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

/// What `cargo xtask` and `cargo xtask help` print.
const HELP: &str = "\
What contributors run.

Usage: cargo xtask <command> [options]

  test      install what the tests need, then check and test everything
              --fast         leave clippy and the simulator out
              --seeds N      how many seeds the simulator runs (default 1000)
  tidy      check the rules that the compiler does not know
  simulate  run whole clusters with faults in simulated time
              --seeds N      how many seeds (default 1000)
              --seed N       the first seed; without --seeds, only this one
              --threads N    on how many threads (default: one for each processor)
              --coverage     also show how often each thing happened
  bench     measure the numbers to hold, beside their peers
              --only NAME    only this section (may be repeated)
              --binary FILE  measure this `spawnery` instead of building it
              --json         print for programs
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
        "simulate" => simulate(arguments),
        "bench" => bench(arguments),
        "fuzz" => fuzz::run(&fuzz::Options::parse(arguments)?),
        "help" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no command {other:?}; `cargo xtask help` lists them")),
    }
}

/// Simulates, if this program was built for that; else builds it.
fn simulate(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    #[cfg(feature = "simulate")]
    if !cfg!(debug_assertions) {
        return simulate::run(arguments);
    }
    release::run("simulate", arguments.raw_args().map_err(|error| error.to_string())?)
}

/// Measures, if this program was built for that; else builds it.
fn bench(mut arguments: lexopt::Parser) -> Result<(), Failure> {
    #[cfg(feature = "bench")]
    if !cfg!(debug_assertions) {
        return bench::run(&bench::Options::parse(arguments)?);
    }
    release::run("bench", arguments.raw_args().map_err(|error| error.to_string())?)
}

/// The number after an option.
fn number(arguments: &mut lexopt::Parser) -> Result<u64, Failure> {
    let value = arguments.value().map_err(|error| error.to_string())?;
    let text = value.to_string_lossy();
    text.parse().map_err(|_| format!("{text:?} is not a whole number"))
}
