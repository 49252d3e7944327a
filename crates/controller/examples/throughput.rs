//! Durable commands per second in the core and the journal, with 64 callers at once.
//!
//! `cargo run --release -p spawnery-controller --example throughput -- [callers] [seconds]`

use spawnery_cluster::Command;
use spawnery_controller::{Config, Controller, Secret};
use spawnery_model::DurationMs;
use std::io::Write;
use std::time::{Duration, Instant};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let callers = arguments.next().and_then(Result::ok).unwrap_or(64);
    let seconds = arguments.next().and_then(Result::ok).unwrap_or(5);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let line = runtime.block_on(measure(callers, Duration::from_secs(seconds)));
    writeln!(std::io::stdout(), "{line}").expect("the terminal takes a line");
}

async fn measure(callers: u64, time: Duration) -> String {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let config = Config::in_folder(folder.path());
    let controller = Controller::start(config).await.expect("the controller starts");
    let began = Instant::now();
    let tasks: Vec<_> =
        (0..callers).map(|_| tokio::spawn(call(controller.clone(), began + time))).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("a caller does not panic"));
    }
    let rate = latencies.len() as f64 / began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |part: usize| latencies[latencies.len() * part / 100].as_micros();
    let statistics = controller.statistics();
    let batch = statistics.records_total / statistics.batches_total.max(1);
    let append_us = statistics.append_us_total / statistics.batches_total.max(1);
    controller.stop().await;
    format!(
        "{rate:.0} commands/s, p50 {} us, p99 {} us, {batch} records a batch, {append_us} us an append",
        at(50),
        at(99)
    )
}

/// A join token that is out of date at once: a durable command that leaves the state small.
async fn call(controller: Controller, until: Instant) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let hash = Secret::generate().hash();
    while Instant::now() < until {
        let began = Instant::now();
        let by = "bench".to_owned();
        let command = Command::CreateJoinToken { hash, life: DurationMs(0), by };
        controller.submit(command, None).await.expect("it is taken in");
        latencies.push(began.elapsed());
    }
    latencies
}
