//! Running seeds: one, one twice, or many.

use crate::coverage::Coverage;
use crate::options::{Failure, Options, Outcome};
use crate::world::World;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Runs one seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    finish(World::new(seed, options))
}

/// Runs one seed twice, and fails if the two differ by a byte.
pub fn run_twice(seed: u64, options: &Options) -> Outcome {
    let (mut first, second) = (run(seed, options), run(seed, options));
    if first.error.is_none() && first != second {
        let (hash, other) = (first.trace_hash, second.trace_hash);
        first.error = Some(Failure {
            seed,
            promise: "the same seed gives the same bytes",
            message: format!(
                "the traces hash to {hash:016x} and {other:016x}, after {} and {} steps",
                first.steps, second.steps
            ),
            step: first.steps,
            at_ms: first.simulated_ms,
            trace: Vec::new(),
        });
    }
    first
}

/// Runs 100 machines with 1,000 workloads under moderate faults for a simulated time. Whoever
/// wants to know how fast that is takes the time.
pub fn run_scale(seed: u64, simulated_ms: u64) -> Outcome {
    finish(World::scale(seed, simulated_ms))
}

fn finish(mut world: World) -> Outcome {
    let panic = catch_unwind(AssertUnwindSafe(|| world.run())).err();
    let message = panic.map(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("it does not say").to_owned()
    });
    world.outcome(message)
}

/// What many runs come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many seeds were run, each twice.
    pub seeds: u64,
    /// What happened in them, each seed counted once.
    pub steps: u64,
    /// How much simulated time passed in them, each seed counted once.
    pub simulated_ms: u64,
    /// The records that they wrote.
    pub records: u64,
    /// What they reached.
    pub coverage: Coverage,
    /// The promises that were broken, by seed.
    pub failures: Vec<Failure>,
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.steps += outcome.steps;
        self.simulated_ms += outcome.simulated_ms;
        self.records += outcome.records;
        self.coverage.merge(&outcome.coverage);
        self.failures.extend(outcome.error);
    }
}

/// Runs each of `seeds` twice on so many threads, and stops once `failures_max` have failed.
/// `done` is told of each that is done, in no certain order.
pub fn run_many(
    seeds: Range<u64>,
    threads: usize,
    failures_max: usize,
    options: &Options,
    done: impl Fn(&Outcome) + Sync,
) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let enough = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    let work = || {
        while !enough.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let outcome = run_twice(seed, options);
            done(&outcome);
            let mut summary = summary.lock().expect("no run panics outside its own");
            summary.add(outcome);
            if summary.failures.len() >= failures_max.max(1) {
                enough.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut summary = summary.into_inner().expect("no run panics outside its own");
    summary.failures.sort_by_key(|failure| failure.seed);
    summary
}
