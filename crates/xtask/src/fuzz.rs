//! `cargo xtask fuzz`: the property tests, over and over, with many more cases each.

use std::time::{Duration, Instant};

use crate::Failure;
use crate::process::{self, cargo};

/// Cases of each property in one round: sixteen times what a test run makes, and yet a round ends
/// in minutes, so that the time that was asked for is about kept.
const CASES: &str = "4096";

/// What was asked for.
pub struct Options {
    time: Duration,
}

impl Options {
    /// # Errors
    ///
    /// On an option that does not exist or has a wrong value.
    pub fn parse(mut arguments: lexopt::Parser) -> Result<Options, Failure> {
        let mut options = Options { time: Duration::from_secs(60) };
        while let Some(argument) = arguments.next().map_err(|error| error.to_string())? {
            match argument {
                lexopt::Arg::Long("seconds") => {
                    options.time = Duration::from_secs(crate::number(&mut arguments)?);
                }
                other => return Err(other.unexpected().to_string()),
            }
        }
        Ok(options)
    }
}

/// Runs rounds until the time is over; each draws new cases.
///
/// # Errors
///
/// When a property does not hold: proptest has then printed the smallest case it found, and
/// written it down beside the test, to be committed with the mend.
pub fn run(options: &Options) -> Result<(), Failure> {
    let packages = crate::workspace::Workspace::load()?.packages_with_dependency("proptest");
    let start = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || start.elapsed() < options.time {
        let mut test = cargo(&["test", "--release", "--quiet", "--locked", "--lib", "--tests"]);
        for package in &packages {
            test.args(["--package", package]);
        }
        process::run(test.env("PROPTEST_CASES", CASES))?;
        rounds += 1;
    }
    println!("{rounds} rounds of {CASES} cases for each property, and each held");
    Ok(())
}
