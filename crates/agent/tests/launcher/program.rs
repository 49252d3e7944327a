//! The launcher as the `spawnery` binary runs it, for the tests of this crate.

use spawnery_sandbox::launcher::{self, Config};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let mut config = Config::new(after("--data").ok_or("--data is missing")?);
    config.spares = after("--spares").ok_or("--spares is missing")?.parse()?;
    Ok(launcher::serve(config)?)
}
