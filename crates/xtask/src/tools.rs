//! Tools that the tests need and Debian does not have: from PyPI, kept in the build folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::process;
use crate::workspace;

/// The versions of uv that the tests were written with.
const UV: &str = "uv==0.13.*";

/// Makes sure that there is `uv`, which makes Python environments, and says in which folder it is
/// if that is not on the `PATH`. It is installed by pip, with this machine's settings of pip, into
/// an environment of its own, so that nothing outside of the build folder changes.
///
/// # Errors
///
/// When it is not there and cannot be installed.
pub fn install_uv() -> Result<Option<PathBuf>, Failure> {
    if process::works(Command::new("uv").arg("--version")) {
        return Ok(None);
    }
    let folder = build_folder().join("tools/uv");
    let programs = folder.join("bin");
    if !process::works(Command::new(programs.join("uv")).arg("--version")) {
        println!("   uv is missing: needed for Python environments");
        make(&folder)?;
    }
    Ok(Some(programs))
}

fn make(folder: &Path) -> Result<(), Failure> {
    let environment = ["-m", "venv", "--clear"];
    process::run(Command::new("/usr/bin/python3").args(environment).arg(folder))?;
    let arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV];
    process::run(Command::new(folder.join("bin/python")).args(arguments))
}

/// The `PATH` with another folder first.
pub fn path_with(folder: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).unwrap_or(path)
}

fn build_folder() -> PathBuf {
    let given = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    workspace::root().join(given.unwrap_or_else(|| PathBuf::from("target")))
}
