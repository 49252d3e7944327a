//! The hidden commands `launcher`, which the agent runs, the process that starts instances, and
//! two that the launcher runs: `network`, the process that carries their private networks, and
//! `shim`, the stand-in for an instance that something else isolates.
//!
//! They are looked for before the command line is parsed, so that the processes stay small and
//! have only one thread, which they need to fork.

use crate::error::CliError;
use crate::exit::ExitCode;
use spawnery_sandbox::launcher::{Config, serve};
use spawnery_sandbox::network;
use std::ffi::OsString;

/// Serves as a launcher or stands in for an instance, if that is what the command line says.
pub(crate) fn run_if_asked() -> Option<Result<ExitCode, CliError>> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(word) if word == "launcher" => Some(run(arguments)),
        Some(word) if word == network::COMMAND => {
            Some(network::serve().map(|()| ExitCode::OK).map_err(CliError::failed))
        }
        Some(word) if word == "shim" => {
            let words = std::iter::once(word).chain(arguments);
            spawnery_runtime::run_shim_if_asked(words).map(|error| Err(CliError::failed(error)))
        }
        _ => None,
    }
}

fn run(arguments: impl Iterator<Item = OsString>) -> Result<ExitCode, CliError> {
    let config = parse(arguments).ok_or_else(|| {
        CliError::usage(
            "usage: spawnery launcher --data DIR [--spares NUMBER] [--resolver ADDRESS:PORT]",
        )
        .hint("the agent runs this; there is no need to run it by hand")
    })?;
    serve(config).map_err(CliError::failed)?;
    Ok(ExitCode::OK)
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Config> {
    let mut data = None;
    let mut spares = None;
    let mut resolvers = Vec::new();
    while let Some(option) = arguments.next() {
        let value = arguments.next()?;
        match option.to_str()? {
            "--data" => data = Some(value),
            "--spares" => spares = Some(value.to_str()?.parse().ok()?),
            "--resolver" => resolvers.push(value.to_str()?.parse().ok()?),
            _ => return None,
        }
    }
    let usual = Config { resolvers, ..Config::new(data?) };
    Some(match spares {
        Some(spares) => Config { spares, ..usual },
        None => usual,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_that_the_sandbox_gives_are_understood() {
        let config = Config {
            spares: 3,
            resolvers: vec![([192, 0, 2, 1], 53).into()],
            ..Config::new("/data")
        };
        let arguments = config.arguments();
        assert_eq!(arguments[0], "launcher");
        assert_eq!(parse(arguments.into_iter().skip(1)), Some(config));
        assert_eq!(parse([OsString::from("--data")].into_iter()), None);
        assert_eq!(parse([].into_iter()), None);
    }
}
