//! A launcher for the tests: what `spawnery launcher` does, and nothing else.

use std::process::ExitCode;

use spawnery_sandbox::launcher::{Config, serve};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
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
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
