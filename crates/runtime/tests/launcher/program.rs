//! The launcher and the stand-ins as the `spawnery` binary runs them, for the tests of this crate.

use spawnery_sandbox::launcher::{self, Config};
use spawnery_sandbox::network;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(no_job) = spawnery_runtime::run_shim_if_asked(std::env::args_os().skip(1)) {
        return Err(no_job.into());
    }
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|it| it == network::COMMAND) {
        return Ok(network::serve()?);
    }
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let mut config = Config::new(after("--data").ok_or("--data is missing")?);
    config.spares = after("--spares").ok_or("--spares is missing")?.parse()?;
    Ok(launcher::serve(config)?)
}
