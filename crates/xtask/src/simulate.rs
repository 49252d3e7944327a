//! `cargo xtask simulate`: whole clusters with faults, seed after seed.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use spawnery_simulator::Outcome;

use crate::Failure;

/// Seeds when no number is given: a minute or so.
const SEEDS_DEFAULT: u64 = 1000;

/// Broken promises after which it stops: the first ones are enough to work on.
const FAILURES_MAX: usize = 3;

/// How often the number of seeds that are done is shown, on a terminal.
const SEEDS_PER_LINE: u64 = 50;

/// What was asked for.
struct Options {
    first: u64,
    count: u64,
    threads: usize,
    coverage: bool,
}

impl Options {
    fn parse(mut arguments: lexopt::Parser) -> Result<Options, Failure> {
        let (mut first, mut count, mut threads, mut coverage) = (None, None, None, false);
        while let Some(argument) = arguments.next().map_err(|error| error.to_string())? {
            match argument {
                lexopt::Arg::Long("seed") => first = Some(crate::number(&mut arguments)?),
                lexopt::Arg::Long("seeds") => count = Some(crate::number(&mut arguments)?),
                lexopt::Arg::Long("threads") => threads = Some(crate::number(&mut arguments)?),
                lexopt::Arg::Long("coverage") => coverage = true,
                other => return Err(other.unexpected().to_string()),
            }
        }
        // A seed by itself is one to look at.
        let count = count.unwrap_or(if first.is_some() { 1 } else { SEEDS_DEFAULT });
        let processors = std::thread::available_parallelism().map_or(1, |it| it.get());
        let threads = threads.map_or(processors, |threads| threads as usize);
        Ok(Options { first: first.unwrap_or(0), count, threads, coverage })
    }
}

/// Runs each seed twice, which must give the same bytes.
///
/// # Errors
///
/// When a promise was broken. It is printed with the command that shows it again.
pub fn run(arguments: lexopt::Parser) -> Result<(), Failure> {
    let options = Options::parse(arguments)?;
    let Options { first, count, threads, coverage } = options;
    let start = Instant::now();
    let done = AtomicU64::new(0);
    let show = std::io::stderr().is_terminal();
    let progress = |_: &Outcome| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if show && done.is_multiple_of(SEEDS_PER_LINE) {
            eprint!("\r{done} of {count} seeds");
        }
    };
    let simulation = spawnery_simulator::Options::default();
    let seeds = first..first.saturating_add(count);
    let summary = spawnery_simulator::run_many(seeds, threads, FAILURES_MAX, &simulation, progress);
    if show && count >= SEEDS_PER_LINE {
        eprintln!();
    }
    if coverage {
        print!("{}", summary.coverage);
    }
    for failure in &summary.failures {
        println!("{failure}\n");
    }
    let simulated = summary.simulated_ms as f64 / 1000.0;
    // Each seed ran twice.
    let ratio = 2.0 * simulated / start.elapsed().as_secs_f64();
    println!(
        "{} seeds, each twice: {} steps, {} records, {simulated:.0} simulated seconds in {:.1} s \
         ({ratio:.0} × real time on {threads} threads)",
        summary.seeds,
        summary.steps,
        summary.records,
        start.elapsed().as_secs_f64(),
    );
    match summary.failures.len() {
        0 => Ok(()),
        broken => Err(format!("{broken} of {} seeds broke a promise", summary.seeds)),
    }
}
