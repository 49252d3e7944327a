//! A launcher for the tests: what `spawnery launcher` does, and, if asked, without some of it.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};
use spawnery_sandbox::launcher::{Config, serve_weakened};
use spawnery_sandbox::protections::{Protection, Protections};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|it| it == spawnery_sandbox::network::COMMAND) {
        return report(spawnery_sandbox::network::serve());
    }
    let value = |name: &str| {
        arguments.iter().position(|it| it == name).and_then(|at| arguments.get(at + 1))
    };
    let Some(data) = value("--data") else {
        return ExitCode::from(2);
    };
    let mut config = Config::new(data);
    if let Some(spares) = value("--spares").and_then(|it| it.to_str()?.parse().ok()) {
        config.spares = spares;
    }
    let options = arguments.windows(2).filter(|it| it[0] == "--resolver");
    config.resolvers = options.filter_map(|it| it[1].to_str()?.parse().ok()).collect();
    let without = arguments.windows(2).filter(|it| it[0] == "--without").map(|it| &it[1]);
    let mut protections = Protections::all();
    for name in without {
        let Some(found) = Protection::ALL.iter().find(|it| name == it.name()) else {
            return ExitCode::from(2);
        };
        protections = protections.without(*found);
    }
    let left_open = value("--leave-open").map(leave_open).transpose();
    if left_open.is_err() {
        return ExitCode::from(2);
    }
    report(serve_weakened(config, protections))
}

/// A descriptor such as a careless caller leaves behind: it does not close by itself on exec.
fn leave_open(path: &OsString) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn report<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
