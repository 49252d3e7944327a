//! Measures the time from a start request to the first output event, and to the exit.
//!
//! `start_latency LAUNCHER DATA [RUNS [PAUSE_MS [SPARES [CALLERS]]]]`, where LAUNCHER is a
//! program that serves when it is run with the arguments of `launcher::Config::arguments`.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use spawnery_sandbox::client::Client;
use spawnery_sandbox::launcher::{Config, spawn_detached};
use spawnery_sandbox::protocol::{Event, Reply, Request};
use spawnery_sandbox::spec::SandboxSpec;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, launcher, data, rest @ ..] = arguments.as_slice() else {
        return Err(
            "usage: start_latency LAUNCHER DATA [RUNS [PAUSE_MS [SPARES [CALLERS]]]]".into()
        );
    };
    let number = |at: usize, default| rest.get(at).and_then(|n| n.parse().ok()).unwrap_or(default);
    let (runs, pause_ms, spares, callers) =
        (number(0, 200u64), number(1, 0), number(2, 2), number(3, 1));
    let data = Path::new(data);
    let config = Config { spares: u32::try_from(spares)?, ..Config::new(data) };
    let pid = spawn_detached(Path::new(launcher), &config)?;
    let measured: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..callers)
            .map(|caller| scope.spawn(move || measure(data, caller, runs, pause_ms)))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let mut first = Vec::new();
    let mut whole = Vec::new();
    for times in measured {
        let (to_first, to_exit) = times?;
        first.extend(to_first);
        whole.extend(to_exit);
    }
    let mut out = std::io::stdout();
    for (name, mut times) in [("first output", first), ("exit", whole)] {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        writeln!(out, "{name}: p50 {:?} p99 {:?} n {}", at(50), at(99), times.len())?;
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    for line in status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("Rss")) {
        writeln!(out, "launcher {line}")?;
    }
    let schedule = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let nanos: u64 = schedule.split(' ').next().unwrap_or_default().parse()?;
    writeln!(out, "launcher CPU: {} us a start", nanos / 1000 / (runs * callers).max(1))?;
    Client::connect(data)?.request(Request::Shutdown { stop_all: true })?;
    Ok(())
}

/// One caller after another start: the times to the first output and to the exit.
fn measure(
    data: &Path,
    caller: u64,
    runs: u64,
    pause_ms: u64,
) -> Result<(Vec<Duration>, Vec<Duration>), Failure> {
    let mut client = Client::connect(data)?;
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let instance = format!("{caller}-{run}-{}", std::process::id());
        let begin = Instant::now();
        let spec = SandboxSpec::new(["echo", "hi"]);
        match client.request(Request::Start { instance: instance.clone(), spec: Box::new(spec) })? {
            Reply::Started { .. } => {}
            other => return Err(format!("{other:?}").into()),
        }
        loop {
            match client.next_event(Duration::from_secs(60))? {
                Event::Output { instance: of, .. } if of == instance => first.push(begin.elapsed()),
                Event::Exited { instance: of, .. } if of == instance => break,
                _ => {}
            }
        }
        whole.push(begin.elapsed());
        client.request(Request::Forget { instance })?;
        std::thread::sleep(Duration::from_millis(pause_ms));
    }
    Ok((first, whole))
}
