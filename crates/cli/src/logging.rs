//! What servers and agents tell about their work, on standard error.

use crate::config::{Config, Source};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Begins to tell. Without a word of the user, as much as `level` says.
pub(crate) fn start(config: &Config, level: &str) {
    let given = config.value("log_level");
    let given = given.filter(|value| value.source != Source::Default);
    let level = given.map_or(level, |value| value.items[0].as_str());
    // What libraries tell about themselves is for those who ask for everything.
    let filter = match level {
        "trace" => "trace".to_owned(),
        "off" => "off".to_owned(),
        _ => format!("warn,spawnery={level}{}", crates(level)),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .compact();
    // Only the first of a process can be set, and there is one.
    let _ = subscriber.try_init();
}

fn crates(level: &str) -> String {
    const CRATES: [&str; 6] = ["agent", "api", "controller", "gateway", "journal", "runtime"];
    let directives = CRATES.iter().map(|name| format!(",spawnery_{name}={level}"));
    directives.collect()
}
