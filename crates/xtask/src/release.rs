//! Commands that are features of this program, and only make sense when it is built in release.

use std::ffi::OsString;

use crate::Failure;
use crate::process::{self, cargo};

/// Builds this program in release with a feature in it, and runs the command of the same name.
///
/// # Errors
///
/// When it cannot be built, or the command fails.
pub fn run(
    feature: &str,
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<(), Failure> {
    let mut command = cargo(&["run", "--release", "--quiet", "--locked"]);
    command.arg("--package=spawnery-xtask").arg(format!("--features={feature}"));
    command.arg("--").arg(feature).args(arguments.into_iter().map(Into::into));
    process::run(&mut command)
}
