//! Measures durable appends: batches of 64 entries of 200 bytes, and reading them back.
//!
//! `cargo run --release -p spawnery-journal --example throughput [FOLDER]`

#![expect(clippy::print_stdout, reason = "it is an example that prints figures")]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use spawnery_journal::{Journal, SqliteJournal, SqliteOptions};

const PAYLOAD_SIZE_BYTES: usize = 200;
const DURATION: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for batch_count in [1, 64, 512] {
        let folder = tempfile::tempdir_in(&parent)?;
        let mut journal = SqliteJournal::open(folder.path(), &SqliteOptions::default())?;
        let (entries_per_second, latencies) = append(&mut journal, batch_count)?;
        println!(
            "append, batches of {batch_count}: {entries_per_second:.0} entries/s, \
             p50 {:?}, p99 {:?}",
            latencies[latencies.len() / 2],
            latencies[latencies.len() * 99 / 100],
        );
        let start = Instant::now();
        let count = journal.entries(1).count();
        println!("  read: {:.0} entries/s", count as f64 / start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn append(
    journal: &mut SqliteJournal,
    batch_count: usize,
) -> Result<(f64, Vec<Duration>), Box<dyn Error>> {
    let batch = vec![vec![7; PAYLOAD_SIZE_BYTES]; batch_count];
    let mut latencies = Vec::new();
    let start = Instant::now();
    while start.elapsed() < DURATION {
        let before = Instant::now();
        journal.append(&batch)?;
        latencies.push(before.elapsed());
    }
    let rate = (latencies.len() * batch_count) as f64 / start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    Ok((rate, latencies))
}
