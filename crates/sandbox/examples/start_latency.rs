//! Measures the time from a start request to the first output event.
//!
//! `cargo run --release --example start_latency -- LAUNCHER DATA [RUNS]`

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use spawnery_sandbox::client::Client;
use spawnery_sandbox::launcher::{Config, spawn_detached};
use spawnery_sandbox::protocol::{Event, Reply, Request};
use spawnery_sandbox::spec::SandboxSpec;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, launcher, data, rest @ ..] = arguments.as_slice() else {
        return Err("usage: start_latency LAUNCHER DATA [RUNS [PAUSE_MS [SPARES]]]".into());
    };
    let number = |at: usize, default| rest.get(at).and_then(|n| n.parse().ok()).unwrap_or(default);
    let (runs, pause_ms, spares) = (number(0, 200), number(1, 0), number(2, 2));
    let config = Config {
        spares: u32::try_from(spares)?,
        ..Config::new(data)
    };
    spawn_detached(Path::new(launcher), &config)?;
    let mut client = Client::connect(Path::new(data))?;
    let mut first = Vec::new();
    let mut whole = Vec::new();
    for run in 0..runs {
        let instance = format!("r{run}-{}", std::process::id());
        let begin = Instant::now();
        let spec = SandboxSpec::new(["echo", "hi"]);
        match client.request(Request::Start {
            instance: instance.clone(),
            spec,
        })? {
            Reply::Started { .. } => {}
            other => return Err(format!("{other:?}").into()),
        }
        while let Event::Output { .. } = client.next_event(Duration::from_secs(10))? {
            first.push(begin.elapsed());
        }
        whole.push(begin.elapsed());
        client.request(Request::Forget { instance })?;
        std::thread::sleep(Duration::from_millis(pause_ms));
    }
    let mut out = std::io::stdout();
    for (name, mut times) in [("first output", first), ("exit", whole)] {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        writeln!(
            out,
            "{name}: p50 {:?} p99 {:?} n {}",
            at(50),
            at(99),
            times.len()
        )?;
    }
    let pid = client.launcher_pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    for line in status
        .lines()
        .filter(|line| line.starts_with("VmRSS") || line.starts_with("Rss"))
    {
        writeln!(out, "launcher {line}")?;
    }
    client.request(Request::Shutdown { stop_all: true })?;
    Ok(())
}
