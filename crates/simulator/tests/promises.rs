//! The simulator keeps its own promises: it is deterministic, it reaches what it should, and it
//! finds what is broken on purpose.

use spawnery_simulator::{Options, Sabotage, coverage, run, run_many, run_twice};

/// Seeds within which each sabotage must be found. Most are within ten; a lease that is ignored
/// matters only where a node is cut off for long and its key is wanted elsewhere.
const SABOTAGE_SEEDS_MAX: u64 = 400;

#[test]
fn no_seed_breaks_a_promise_and_each_runs_twice_the_same() {
    let summary = run_many(0..40, 2, 1, &Options::default(), |_| {});
    if let Some(failure) = summary.failures.first() {
        panic!("{failure}");
    }
    assert_eq!(summary.seeds, 40);
}

#[test]
fn two_seeds_go_two_ways() {
    let options = Options::default();
    assert_ne!(run(1, &options).trace_hash, run(2, &options).trace_hash);
}

/// The promise that each sabotage breaks.
fn promise(sabotage: Sabotage) -> &'static str {
    match sabotage {
        Sabotage::ReleaseBeforeDurable => "nothing is promised before it is durable",
        Sabotage::LoseAcknowledged => "an acknowledged command survives",
        Sabotage::StartTwice => "no instance is started twice",
        Sabotage::RewriteEpochs => "whoever shows an older epoch is refused",
        Sabotage::DropIdempotencyKeys => "a repeated request gets the same answer",
        Sabotage::HideEnds => "everything converges once faults stop",
        Sabotage::IgnoreLeases => "a key names one live session",
        Sabotage::CallIdle => "a session in use is never ended for being idle",
    }
}

#[test]
fn each_sabotage_is_found_and_its_failure_says_how_to_see_it_again() {
    for sabotage in Sabotage::ALL {
        let options = Options { sabotage: Some(sabotage), ..Options::default() };
        let mut runs = (0..SABOTAGE_SEEDS_MAX).map(|seed| run(seed, &options));
        let found = runs.find_map(|outcome| outcome.error);
        let failure = found.unwrap_or_else(|| panic!("{sabotage:?} was not found"));
        assert_eq!(failure.promise, promise(sabotage));
        let shown = failure.to_string();
        let command = format!("cargo xtask simulate --seed {}", failure.seed);
        assert!(shown.contains(&command), "{shown}");
        assert!(!failure.trace.is_empty(), "{shown}");
    }
}

#[test]
fn two_hundred_seeds_reach_every_record_every_end_and_every_rejection() {
    let summary = run_many(1000..1200, 2, 1, &Options::default(), |_| {});
    let names = coverage::CHANGES.iter().chain(&coverage::ENDS).chain(&coverage::REJECTIONS);
    let missing: Vec<_> = names.filter(|name| summary.coverage.of(name) == 0).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

#[test]
fn a_cluster_can_be_as_small_as_one_machine() {
    let options = Options { machines: Some(1), faults_ms: Some(30_000), ..Options::default() };
    let outcome = run_twice(3, &options);
    assert_eq!(outcome.error, None);
    assert!(outcome.simulated_ms >= 30_000);
}
