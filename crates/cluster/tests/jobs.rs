//! What jobs are promised: each occurrence has one run or a recorded reason.

mod town;

use spawnery_cluster::{Change, Command};
use spawnery_model::{Missed, Overlap, RestartPolicy, Timestamp};
use town::{BEGINNING, Town, exit_code, job, job_settings, label};

/// The occurrences that ran, in seconds since the beginning.
fn ran(town: &Town) -> Vec<u64> {
    let runs = town.journal.iter().filter_map(|record| match record.change {
        Change::RunCreated { occurrence, .. } => occurrence,
        _ => None,
    });
    runs.map(|at| (at.0 - BEGINNING) / 1000).collect()
}

/// Why others did not, with their number and the first of them.
fn missed(town: &Town) -> Vec<(u64, u64, &str)> {
    let missed = town.journal.iter().filter_map(|record| match &record.change {
        Change::OccurrencesMissed { first, count, reason, .. } => {
            Some(((first.0 - BEGINNING) / 1000, *count, reason.as_str()))
        }
        _ => None,
    });
    missed.collect()
}

fn finish(town: &mut Town, name: &str) {
    let attempt = town.live(name);
    town.exits(attempt, exit_code(0));
}

#[test]
fn a_job_runs_at_each_occurrence_and_never_early() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(job("tick", "*/20 * * * * *", "UTC"));
    town.pass(19_999);
    assert_eq!(ran(&town), Vec::<u64>::new());
    town.pass(1);
    assert_eq!(ran(&town), [20]);
    finish(&mut town, "tick");
    town.pass(20_000);
    finish(&mut town, "tick");
    assert_eq!(ran(&town), [20, 40]);
    assert_eq!(town.told("run.succeeded").len(), 2);
}

#[test]
fn an_occurrence_that_overlaps_is_skipped_with_a_reason_or_runs_beside() {
    let check = |overlap, runs: &[u64], skipped: usize| {
        let mut town = Town::with_nodes(&["a"]);
        let mut tick = job("tick", "*/20 * * * * *", "UTC");
        job_settings(&mut tick).overlap = overlap;
        town.apply(tick);
        town.pass(45_000);
        assert_eq!(ran(&town), runs);
        assert_eq!(missed(&town).len(), skipped);
        if let Some((at, count, reason)) = missed(&town).first() {
            assert_eq!((*at, *count), (40, 1));
            assert_eq!(*reason, "an earlier run was not finished");
        }
    };
    check(Overlap::Skip, &[20], 1);
    check(Overlap::Allow, &[20, 40], 0);
}

#[test]
fn what_was_missed_is_recorded_and_the_latest_runs_late_if_the_manifest_says_so() {
    let check = |policy, runs: &[u64], reasons: &[(u64, u64, &str)]| {
        let mut town = Town::with_nodes(&["a"]);
        let mut tick = job("tick", "* * * * *", "UTC");
        job_settings(&mut tick).missed = policy;
        town.apply(tick);
        // The controller is away for a bit more than five minutes.
        town.now.0 += 330_000;
        town.restart_controller();
        assert_eq!(ran(&town), runs);
        assert_eq!(missed(&town), reasons);
    };
    let late = "nothing could be started within 10s of its time";
    check(Missed::Skip, &[], &[(60, 5, late)]);
    let later = "a later occurrence was already due";
    check(Missed::RunLatest, &[300], &[(60, 4, later)]);
}

#[test]
fn a_day_of_seconds_that_was_missed_is_recorded_to_the_last_one() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(job("tick", "* * * * * *", "UTC"));
    town.now.0 += 86_400_000;
    town.restart_controller();
    let total: u64 = missed(&town).iter().map(|(_, count, _)| count).sum();
    assert_eq!((ran(&town), total), (vec![86_400], 86_399));
    let job = town.state().workload(&label("tick")).unwrap();
    assert_eq!(job.job.missed_total, total);
}

#[test]
fn an_occurrence_that_is_a_little_late_still_runs() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(job("tick", "* * * * *", "UTC"));
    town.now.0 += 69_000;
    town.restart_controller();
    assert_eq!(ran(&town), [60]);
}

#[test]
fn a_change_of_a_job_loses_no_occurrence_that_was_due() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(job("tick", "* * * * *", "UTC"));
    town.now.0 += 60_000;
    // The command comes before anybody has looked at the clock.
    town.apply(job("tick", "*/2 * * * *", "UTC"));
    assert_eq!(ran(&town), [60]);
}

#[test]
fn an_attempt_that_failed_is_tried_again_as_often_as_the_manifest_says() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(job("work", "", ""));
    let by = "ann".to_owned();
    let job = label("work");
    town.command(Command::RunJob { job, by }).unwrap();
    let attempt = town.live("work");
    town.exits(attempt, exit_code(2));
    town.check("work/try1 ended a: failed with exit code 2");
    town.pass(1250);
    let attempt = town.live("work");
    town.exits(attempt, exit_code(3));
    town.pass(100_000);
    town.check(
        "work/try1 ended a: failed with exit code 2
         work/try2 ended a: failed with exit code 3",
    );
    assert_eq!(
        town.told("run.failed"),
        ["a run of work ended: failed with exit code 3 (2 attempts)"]
    );
}

#[test]
fn an_attempt_that_somebody_ended_is_not_tried_again() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(job("work", "", ""));
    let by = || "ann".to_owned();
    let job = label("work");
    town.command(Command::RunJob { job, by: by() }).unwrap();
    let instance = town.live("work");
    town.command(Command::EndInstance { instance, by: by() }).unwrap();
    town.pass(100_000);
    town.check("work/try1 ended a: ended by ann");
}

#[test]
fn an_attempt_that_takes_too_long_is_ended_and_tried_again() {
    let mut town = Town::with_nodes(&["a"]);
    let mut slow = job("slow", "", "");
    job_settings(&mut slow).timeout = Some(spawnery_model::DurationMs(5000));
    town.apply(slow);
    let by = "ann".to_owned();
    let job = label("slow");
    town.command(Command::RunJob { job, by }).unwrap();
    town.pass(5000);
    town.check("slow/try1 ended a: took longer than its timeout");
    town.pass(1250);
    town.check_live("slow/try2 ready a");
}

#[test]
fn a_run_goes_on_by_what_its_attempt_ran_when_its_job_is_changed() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(job("work", "", ""));
    let by = "ann".to_owned();
    let name = label("work");
    town.command(Command::RunJob { job: name, by }).unwrap();
    let attempt = town.live("work");
    let mut changed = job("work", "", "");
    changed.restart.policy = RestartPolicy::Never;
    town.apply(changed);
    town.exits(attempt, exit_code(2));
    town.pass(1250);
    town.check_live("work/try2 ready a");
}

#[test]
fn a_removed_job_leaves_no_run_and_no_timer() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(job("tick", "*/20 * * * * *", "UTC"));
    town.pass(20_000);
    let attempt = town.live("tick");
    town.exits(attempt, exit_code(1));
    let by = "ann".to_owned();
    let names = vec![label("tick")];
    town.command(Command::Remove { names, by }).unwrap();
    town.pass(100_000);
    town.check("tick/try1 ended a: failed with exit code 1");
    assert_eq!(town.state().runs().count(), 0);
}

#[test]
fn a_daily_job_runs_once_a_day_also_when_the_clocks_change() {
    // Zurich, 2026-10-25: 02:30 comes twice. 2027-03-28: it does not come, so it runs at 03:00.
    let check = |start: u64, runs: &[u64]| {
        let mut town = Town::with_nodes(&["a"]);
        town.now = Timestamp(start);
        town.restart_controller();
        let mut daily = job("daily", "30 2 * * *", "Europe/Zurich");
        job_settings(&mut daily).overlap = Overlap::Allow;
        town.apply(daily);
        for _ in 0..6 {
            town.pass(3_600_000);
        }
        let ran: Vec<_> = ran(&town).iter().map(|at| at + BEGINNING / 1000).collect();
        assert_eq!(ran, runs);
    };
    check(1_792_879_200_000, &[1_792_888_200]);
    check(1_806_188_400_000, &[1_806_195_600]);
}
