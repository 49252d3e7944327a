//! Which runs and attempts are due?

use crate::admit::occurrence_after;
use crate::command::Ids;
use crate::record::Change;
use crate::state::{State, WorkloadEntry};
use spawnery_model::{
    InstanceId, JobSettings, Kind, Missed, Name, Origin, Overlap, RunId, Timestamp,
};
use spawnery_schedule::Cron;

/// Occurrences that are looked at for one decision; the rest follow in the next.
const OCCURRENCES_PER_DECISION_MAX: usize = 10_000;

/// The first attempt of a run that has none yet.
pub(super) fn next_attempt(state: &State, ids: &mut dyn Ids) -> Option<Change> {
    state.agenda.attempts.first().map(|run| attempt(state, *run, ids))
}

/// The next attempt of `run`.
pub(super) fn attempt(state: &State, run: RunId, ids: &mut dyn Ids) -> Change {
    let found = state.run(run).expect("what is on the agenda exists");
    let entry = state.workload(&found.job).expect("a run goes with its job");
    Change::InstanceCreated {
        instance: InstanceId(ids.fresh()),
        workload: found.job.clone(),
        definition: entry.definition,
        inline: None,
        origin: Origin::Attempt { run, attempt: found.attempts + 1 },
        session: None,
    }
}

/// What becomes of the occurrences of `job` up to `now`.
pub(super) fn occurrence_due(
    state: &State,
    job: &Name,
    now: Timestamp,
    ids: &mut dyn Ids,
) -> Change {
    let entry = state.workload(job).expect("an occurrence goes with its job");
    let Kind::Job(settings) = &entry.workload.kind else {
        unreachable!("only a job has occurrences")
    };
    let due = due(entry, settings, now);
    let latest = *due.last().expect("the timer was set to an occurrence");
    let late = latest.plus(settings.start_deadline) < now;
    if late && settings.missed == Missed::Skip {
        let reason =
            format!("nothing could be started within {} of its time", settings.start_deadline);
        return missed(entry, &due, reason);
    }
    if due.len() > 1 {
        let reason = "a later occurrence was already due".to_owned();
        return missed(entry, &due[..due.len() - 1], reason);
    }
    if settings.overlap == Overlap::Skip && !entry.job.active.is_empty() {
        return missed(entry, &due, "an earlier run was not finished".to_owned());
    }
    Change::RunCreated {
        run: RunId(ids.fresh()),
        job: job.clone(),
        definition: entry.definition,
        occurrence: Some(latest),
        by: None,
        next: occurrence_after(&entry.workload, latest),
    }
}

/// The occurrences up to `now` that have neither a run nor a reason, oldest first.
fn due(entry: &WorkloadEntry, settings: &JobSettings, now: Timestamp) -> Vec<Timestamp> {
    let next = entry.job.next.expect("the timer was set to an occurrence");
    let mut due = vec![next];
    let schedule = settings.schedule.as_ref();
    let cron = schedule.and_then(|s| Cron::parse(&s.cron, &s.time_zone).ok());
    if let Some(cron) = cron {
        due.extend(cron.between(next, now, OCCURRENCES_PER_DECISION_MAX).times);
    }
    due
}

/// Records that `missed` have no run, and looks for the next occurrence after them.
fn missed(entry: &WorkloadEntry, missed: &[Timestamp], reason: String) -> Change {
    let (first, last) = (missed[0], missed[missed.len() - 1]);
    Change::OccurrencesMissed {
        job: entry.workload.name.clone(),
        first,
        last,
        count: missed.len() as u64,
        reason,
        next: occurrence_after(&entry.workload, last),
    }
}
