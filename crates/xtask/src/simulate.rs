//! `cargo xtask simulate`: whole clusters with faults, seed after seed.

use crate::Failure;
use crate::process::{self, cargo};

/// Builds this program in release with the simulator in it, and runs that.
///
/// # Errors
///
/// When a seed fails, or it cannot be built.
pub fn run_in_release(seeds: u64) -> Result<(), Failure> {
    let mut simulate = cargo(&["run", "--release", "--quiet", "--locked"]);
    simulate.args([
        "--package=spawnery-xtask",
        "--features=simulate",
        "--",
        "simulate",
    ]);
    process::run(simulate.arg(format!("--seeds={seeds}")))
}
