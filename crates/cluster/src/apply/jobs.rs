//! Runs of jobs and their attempts.

use super::services::{delay, restarts};
use super::{About, Applier};
use crate::state::{MissedOccurrence, Run, Timer};
use spawnery_model::{
    EndReason, InstanceId, Kind, Name, RestartPolicy, RunId, StopCause, Timestamp, limits,
};

impl Applier<'_> {
    pub(super) fn run_created(
        &mut self,
        id: RunId,
        job: &Name,
        definition: u64,
        occurrence: Option<Timestamp>,
        by: Option<&str>,
        next: Option<Timestamp>,
    ) {
        let run = Run {
            id,
            job: job.clone(),
            definition,
            occurrence,
            by: by.map(str::to_owned),
            created_at: self.at,
            attempts: 0,
            current: None,
            retry_at: None,
            outcome: None,
        };
        self.state.runs.insert(id, run);
        self.state.agenda.attempts.insert(id);
        if let Some(occurrence) = occurrence {
            self.next_occurrence(job, occurrence, next);
        }
        let entry = self.state.workloads.get_mut(job).expect("a run has its job");
        entry.job.active.insert(id);
        let message = match by {
            Some(by) => format!("a run of {job} was asked for by {by}"),
            None => format!("a run of {job} is due"),
        };
        self.run_event("run.created", id, job, message);
    }

    pub(super) fn occurrences_missed(
        &mut self,
        job: &Name,
        last: Timestamp,
        count: u64,
        reason: &str,
        next: Option<Timestamp>,
    ) {
        self.next_occurrence(job, last, next);
        let entry = self.state.workloads.get_mut(job).expect("an occurrence has its job");
        entry.job.missed_total += count;
        entry.job.missed_last = Some(MissedOccurrence { at: last, reason: reason.to_owned() });
        let times = if count == 1 { "an occurrence" } else { "occurrences" };
        let message = match count {
            1 => format!("{times} of {job} did not start: {reason}"),
            _ => format!("{count} {times} of {job} did not start: {reason}"),
        };
        let about = About { workload: Some(job.clone()), ..About::default() };
        self.event("job.missed", about, message);
    }

    fn next_occurrence(&mut self, job: &Name, considered: Timestamp, next: Option<Timestamp>) {
        let entry = self.state.workloads.get_mut(job).expect("an occurrence has its job");
        entry.job.considered_until = considered;
        let old = std::mem::replace(&mut entry.job.next, next);
        let timers = &mut self.state.agenda.timers;
        if let Some(old) = old {
            timers.remove(&(old, Timer::Occurrence(job.clone())));
        }
        if let Some(next) = next {
            timers.insert((next, Timer::Occurrence(job.clone())));
        }
    }

    pub(super) fn attempt_created(&mut self, id: RunId, instance: InstanceId) {
        let run = self.state.runs.get_mut(&id).expect("an attempt has its run");
        assert!(run.current.is_none(), "two attempts of run {id} at once");
        run.attempts += 1;
        run.current = Some(instance);
        self.state.agenda.attempts.remove(&id);
        if let Some(retry_at) = run.retry_at.take() {
            self.state.agenda.timers.remove(&(retry_at, Timer::Attempt(id)));
        }
    }

    pub(super) fn attempt_ended(&mut self, id: RunId, instance: InstanceId) {
        let ended = &self.state.instances[&instance];
        let reason = ended.end.as_ref().expect("it has ended").reason.clone();
        // What it ran says whether it is tried again: its job may have been changed meanwhile.
        let workload = self.state.definition_of(ended);
        let Kind::Job(job) = &workload.kind else { unreachable!("an attempt runs a job") };
        let (attempts_max, restart) = (job.attempts_max, workload.restart.clone());
        // The job may be gone, and its runs with it.
        let Some(run) = self.state.runs.get_mut(&id) else {
            return;
        };
        run.current = None;
        let attempts = run.attempts;
        if reason == EndReason::Finished {
            return self.finish_run(id, true, reason.words());
        }
        let timed_out = reason == EndReason::Stopped { cause: StopCause::TimedOut };
        let again = match &reason {
            EndReason::Stopped { .. } => timed_out && restart.policy != RestartPolicy::Never,
            _ => restarts(restart.policy, &reason),
        };
        if !again || attempts >= attempts_max {
            let tries =
                if attempts == 1 { String::new() } else { format!(" ({attempts} attempts)") };
            return self.finish_run(id, false, format!("{}{tries}", reason.words()));
        }
        let retry_at = self.at.plus(delay(&restart, attempts, instance));
        self.state.runs.get_mut(&id).expect("it was just looked at").retry_at = Some(retry_at);
        self.state.agenda.timers.insert((retry_at, Timer::Attempt(id)));
    }

    fn finish_run(&mut self, id: RunId, succeeded: bool, reason: String) {
        let outcome = self.outcome(succeeded, reason.clone());
        let run = self.state.runs.get_mut(&id).expect("a run ends once");
        run.outcome = Some(outcome);
        let job = run.job.clone();
        let entry = self.state.workloads.get_mut(&job).expect("a run has its job");
        entry.job.active.remove(&id);
        entry.job.finished.push_back(id);
        if entry.job.finished.len() > limits::RUNS_KEPT_PER_JOB_MAX {
            let oldest = entry.job.finished.pop_front().expect("there are more than none");
            self.state.runs.remove(&oldest);
        }
        let kind = if succeeded { "run.succeeded" } else { "run.failed" };
        self.run_event(kind, id, &job, format!("a run of {job} ended: {reason}"));
    }

    fn run_event(&mut self, kind: &'static str, run: RunId, job: &Name, message: String) {
        let about = About { workload: Some(job.clone()), run: Some(run), ..About::default() };
        self.event(kind, about, message);
    }
}
