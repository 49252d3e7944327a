//! How long a question takes: `cargo run --release -p spawnery-schedule --example next_after`.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark measures and prints"
)]

use spawnery_model::Timestamp;
use spawnery_schedule::Cron;
use std::time::Instant;

const QUESTIONS: u32 = 200_000;

/// 2025-01-01, in milliseconds.
const START: Timestamp = Timestamp(1_735_689_600_000);

fn main() {
    for zone in ["UTC", "Europe/Zurich"] {
        for expression in
            ["* * * * *", "*/15 * * * *", "30 2 * * *", "0 9 * * 1-5", "0 0 29 2 *", "@yearly"]
        {
            measure(expression, zone);
        }
    }
}

fn measure(expression: &str, zone: &str) {
    let start = Instant::now();
    let cron = Cron::parse(expression, zone).expect("it is a schedule");
    let parse_us = start.elapsed().as_nanos() as f64 / 1000.0;
    let start = Instant::now();
    let mut time = START;
    for _ in 0..QUESTIONS {
        // Within a thousand years or so, as nobody asks further.
        let next = cron.next_after(time).filter(|next| next.0 < START.0 * 20);
        time = next.unwrap_or(START);
    }
    let each_ns = start.elapsed().as_nanos() / u128::from(QUESTIONS);
    println!("{expression:14} {zone:14} {each_ns:>6} ns/next_after {parse_us:>8.1} us/parse");
}
