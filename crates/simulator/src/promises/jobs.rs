//! Every occurrence of a job has one run or one recorded reason, in order.

use super::{Broken, ensure};
use spawnery_cluster::{Change, Record};
use spawnery_model::{Kind, Name, Timestamp, Workload};
use spawnery_schedule::Cron;
use std::collections::BTreeMap;

const PROMISE: &str = "every occurrence of a job has one run or one recorded reason";

/// Occurrences that a record may skip at once in these simulations.
const SKIPPED_MAX: usize = 100_000;

/// The occurrences of all jobs, found without looking at the controller's state.
#[derive(Debug, Default)]
pub(crate) struct JobModels {
    jobs: BTreeMap<Name, JobModel>,
}

#[derive(Debug)]
struct JobModel {
    cron: Option<Cron>,
    /// The first occurrence that has neither run nor reason.
    next: Option<Timestamp>,
}

impl JobModels {
    pub(super) fn record(&mut self, record: &Record) -> Result<(), Broken> {
        match &record.change {
            Change::WorkloadsApplied { workloads, .. } => {
                for applied in workloads {
                    self.applied(&applied.workload, record.at)?;
                }
            }
            Change::WorkloadsRemoved { names, .. } => {
                for name in names {
                    self.jobs.remove(name);
                }
            }
            Change::RunCreated { job, occurrence: Some(occurrence), .. } => {
                let model = self.jobs.get_mut(job);
                let next = model.as_ref().and_then(|model| model.next);
                ensure!(
                    next == Some(*occurrence),
                    PROMISE,
                    "{job} runs for {occurrence:?}, due was {next:?}"
                );
                ensure!(
                    *occurrence <= record.at,
                    "a job is never early",
                    "{job} runs for {occurrence:?} at {:?}",
                    record.at
                );
                self.advance(job, *occurrence);
            }
            Change::OccurrencesMissed { job, first, last, count, reason, .. } => {
                let model = self.jobs.get(job);
                let next = model.and_then(|model| model.next);
                ensure!(next == Some(*first), PROMISE, "{job} missed {first:?}, due was {next:?}");
                ensure!(!reason.is_empty(), PROMISE, "{job} missed {first:?}");
                let cron = model.and_then(|model| model.cron.as_ref());
                let rest = cron.map(|cron| cron.between(*first, *last, SKIPPED_MAX).times.len());
                ensure!(
                    rest.map(|rest| rest as u64 + 1) == Some(*count),
                    PROMISE,
                    "{job} missed {count} from {first:?} to {last:?}, but it is {rest:?} + 1"
                );
                self.advance(job, *last);
            }
            _ => {}
        }
        Ok(())
    }

    fn applied(&mut self, workload: &Workload, at: Timestamp) -> Result<(), Broken> {
        let name = &workload.name;
        let old = self.jobs.remove(name);
        let Kind::Job(job) = &workload.kind else {
            return Ok(());
        };
        // What was due before the change still needs its run or its reason.
        let due = old.and_then(|old| old.next);
        ensure!(
            due.is_none_or(|due| due > at),
            PROMISE,
            "{name} was changed at {at:?}, and {due:?} has neither"
        );
        let schedule = job.schedule.as_ref();
        let cron = schedule.and_then(|s| Cron::parse(&s.cron, &s.time_zone).ok());
        let next = cron.as_ref().and_then(|cron| cron.next_after(at));
        self.jobs.insert(name.clone(), JobModel { cron, next });
        Ok(())
    }

    fn advance(&mut self, job: &Name, considered: Timestamp) {
        if let Some(model) = self.jobs.get_mut(job) {
            model.next = model.cron.as_ref().and_then(|c| c.next_after(considered));
        }
    }

    /// An occurrence that was due by `now` and has neither run nor reason.
    pub(crate) fn overdue(&self, now: Timestamp) -> Option<&Name> {
        let overdue = |model: &JobModel| model.next.is_some_and(|next| next <= now);
        let mut found = self.jobs.iter().filter(|(_, model)| overdue(model));
        found.next().map(|(name, _)| name)
    }
}
