//! `cargo xtask test`: everything that must hold before a change goes in.

use std::path::Path;

use crate::Failure;
use crate::packages;
use crate::process::{self, cargo};
use crate::stage::Stages;
use crate::tidy;
use crate::tools;

/// What is built and linted: every crate, and the parts of xtask that are features.
const EVERYTHING: [&str; 3] =
    ["--workspace", "--locked", "--features=spawnery-xtask/simulate,spawnery-xtask/bench"];

/// How many seeds the simulator runs here: enough to meet every fault many times, in well below a
/// minute on two cores. `cargo xtask simulate` runs more.
const SEEDS: u64 = 1000;

/// What was asked for.
pub struct Options {
    fast: bool,
    seeds: u64,
}

impl Options {
    /// # Errors
    ///
    /// On an option that does not exist or has a wrong value.
    pub fn parse(mut arguments: lexopt::Parser) -> Result<Options, Failure> {
        let mut options = Options { fast: false, seeds: SEEDS };
        while let Some(argument) = arguments.next().map_err(|error| error.to_string())? {
            match argument {
                lexopt::Arg::Long("fast") => options.fast = true,
                lexopt::Arg::Long("seeds") => options.seeds = crate::number(&mut arguments)?,
                other => return Err(other.unexpected().to_string()),
            }
        }
        Ok(options)
    }
}

/// Runs all stages; the first that fails ends the command.
///
/// The tests come last, so that their own summary is what one sees last.
///
/// # Errors
///
/// The first stage that failed, and why.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut stages = Stages::default();
    let mut uv = None;
    stages.run("packages", || {
        packages::install(packages::FOR_TESTS)?;
        uv = tools::install_uv()?;
        Ok(())
    })?;
    if has("fmt", "rustfmt") {
        stages.run("format", || process::run(&mut cargo(&["fmt", "--all", "--check"])))?;
    }
    stages.run("tidy", tidy::command)?;
    if !options.fast && has("clippy", "clippy") {
        stages.run("clippy", || {
            let mut clippy = cargo(&["clippy", "--all-targets", "--quiet"]);
            process::run(clippy.args(EVERYTHING).args(["--", "--deny", "warnings"]))
        })?;
    }
    if !options.fast && options.seeds > 0 {
        stages.run("simulator", || {
            crate::release::run("simulate", [format!("--seeds={}", options.seeds)])
        })?;
    }
    stages.run("examples in documentation", || {
        process::run(cargo(&["test", "--doc", "--quiet"]).args(EVERYTHING))
    })?;
    stages.run("tests", || tests(uv.as_deref()))?;
    println!("{}", stages.summary());
    Ok(())
}

/// Runs all tests, with the folder of `uv` on the `PATH`.
fn tests(uv: Option<&Path>) -> Result<(), Failure> {
    let mut command = if process::works(&mut cargo(&["nextest", "--version"])) {
        cargo(&["nextest", "run", "--no-fail-fast", "--status-level=slow"])
    } else {
        cargo(&["test", "--no-fail-fast", "--lib", "--bins", "--tests"])
    };
    if let Some(folder) = uv {
        command.env("PATH", tools::path_with(folder));
    }
    process::run(command.args(EVERYTHING))
}

/// Whether cargo has a subcommand that not every installation brings; says so if not.
fn has(subcommand: &str, component: &str) -> bool {
    if process::works(&mut cargo(&[subcommand, "--version"])) {
        return true;
    }
    let mut rustup = std::process::Command::new("rustup");
    if process::works(rustup.args(["component", "add", component])) {
        return true;
    }
    println!(
        "   left out: there is no `cargo {subcommand}` here (rustup component add {component})"
    );
    false
}
