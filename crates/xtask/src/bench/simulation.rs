//! How much faster than real time a whole cluster is simulated.

use std::time::Instant;

use super::figure::Figure;
use super::options::Options;
use super::row::{Goal, Row};
use crate::Failure;

/// Simulated time of each run: ten minutes, so that leases, back-offs and schedules all happen.
const SIMULATED_MS: u64 = 600_000;

/// Runs of different seeds.
const RUNS: u64 = 3;

/// 100 nodes with 1,000 workloads, with faults.
pub fn measure(_: &Options) -> Result<Vec<Row>, Failure> {
    let start = Instant::now();
    let mut simulated_ms = 0;
    for seed in 1..=RUNS {
        let outcome = spawnery_simulator::run_scale(seed, SIMULATED_MS);
        if let Some(failure) = outcome.error {
            return Err(failure.to_string());
        }
        simulated_ms += outcome.simulated_ms;
    }
    let times = simulated_ms as f64 / 1000.0 / start.elapsed().as_secs_f64();
    let figure = Figure::Factor { times, count: RUNS as usize };
    let what = "simulated time to real time, 100 nodes, 1,000 workloads, faults";
    Ok(vec![Row::new(what, figure, Goal::AtLeast(1000.0))])
}
