//! What a user declares: a service, a job or a session template, checked and complete.
//!
//! These types hold decisions, not text: every default is filled in and every unit is resolved.
//! The crate `manifest` makes them from what a user writes.

use crate::id::Name;
use crate::quantity::{Bytes, CpuMillis, DurationMs};
use crate::session::{Readiness, SessionSettings};
use crate::surroundings::Surroundings;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something that a user wants to run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Workload {
    /// Unique in the cluster, over services, jobs and session templates together.
    #[n(0)]
    pub name: Name,
    /// Service, job or session, with what only that kind has.
    #[n(1)]
    pub kind: Kind,
    /// The process to run, and within which limits.
    #[n(2)]
    pub process: Process,
    /// What to do when an instance ends by itself.
    #[n(3)]
    pub restart: Restart,
    /// How to end an instance.
    #[n(4)]
    pub stop: Stop,
    /// Which nodes it may run on: all of these hold.
    #[n(5)]
    pub constraints: Vec<Constraint>,
    /// For people and their tools; Spawnery only shows and filters by them.
    #[n(6)]
    pub labels: BTreeMap<String, String>,
    /// What its instances find around their process, if anything but the defaults.
    #[n(7)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surroundings: Option<Box<Surroundings>>,
}

/// The kind of a workload and its own settings.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Kept running.
    #[n(0)]
    Service(#[n(0)] ServiceSettings),
    /// Runs to an end.
    #[n(1)]
    Job(#[n(0)] JobSettings),
    /// A template of sessions.
    #[n(2)]
    Session(#[n(0)] SessionSettings),
}

impl Kind {
    /// `service`, `job` or `session`.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Service(_) => "service",
            Kind::Job(_) => "job",
            Kind::Session(_) => "session",
        }
    }
}

/// What only a service has.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ServiceSettings {
    /// How many instances are kept running.
    #[n(0)]
    pub replicas: Replicas,
}

/// How many instances of a service are kept running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replicas {
    /// This many, wherever they fit.
    #[n(0)]
    Count(#[n(0)] u32),
    /// One on every node that the constraints allow.
    #[n(1)]
    EveryNode,
}

/// What only a job has.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct JobSettings {
    /// When it runs by itself; without, only on demand.
    #[n(0)]
    pub schedule: Option<Schedule>,
    /// What happens to an occurrence while an earlier run is not finished.
    #[n(1)]
    pub overlap: Overlap,
    /// What happens to occurrences that could not start in time.
    #[n(2)]
    pub missed: Missed,
    /// How late an occurrence may still start.
    #[n(3)]
    pub start_deadline: DurationMs,
    /// How often one run is tried in all.
    #[n(4)]
    pub attempts_max: u32,
    /// When an attempt is ended because it takes too long.
    #[n(5)]
    pub timeout: Option<DurationMs>,
}

/// When a job runs by itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Schedule {
    /// A cron expression of five or six fields (`crontab(5)`; six with seconds first).
    #[n(0)]
    pub cron: String,
    /// The IANA time zone in which the expression is read.
    #[n(1)]
    pub time_zone: String,
}

/// What happens to an occurrence while an earlier run of the same job is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is recorded as skipped, with the reason.
    #[n(0)]
    Skip,
    /// It starts beside the earlier one.
    #[n(1)]
    Allow,
}

/// What happens to occurrences that fell into a time when nothing could start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// All are recorded as missed.
    #[n(0)]
    Skip,
    /// The latest one runs late, the others are recorded as missed.
    #[n(1)]
    RunLatest,
}

/// A process and the limits that it runs in.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Process {
    /// The program and its arguments.
    #[n(0)]
    pub run: Vec<String>,
    /// Environment variables; a few are added, see the manual.
    #[n(1)]
    pub env: BTreeMap<String, String>,
    /// Memory: reserved at placement, and the most that it may use.
    #[n(2)]
    pub memory: Bytes,
    /// Processor share reserved at placement.
    #[n(3)]
    pub cpu_reserved: CpuMillis,
    /// The most processor share that it may use; without, what is idle.
    #[n(4)]
    pub cpu_max: Option<CpuMillis>,
    /// The most that its private writable layer may hold.
    #[n(5)]
    pub disk_max: Option<Bytes>,
    /// The most processes and threads.
    #[n(6)]
    pub pids_max: u32,
    /// Ports on which it listens.
    #[n(7)]
    pub ports: Vec<Port>,
    /// Where it starts; without, in its HOME.
    #[n(8)]
    pub working_directory: Option<String>,
    /// What it can reach.
    #[n(9)]
    pub network: Network,
    /// Files that are there before it starts.
    #[n(10)]
    pub files: Vec<File>,
    /// Whether its standard input is kept open for a client; without, it is empty.
    #[n(11)]
    pub stdin: Option<bool>,
    /// When it counts as ready; without, when all of its ports are listened on.
    #[n(12)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Readiness>,
}

/// A TCP port on which a workload listens.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Port {
    /// What people call it.
    #[n(0)]
    pub name: Name,
    /// The port number inside the instance.
    #[n(1)]
    pub port: u16,
}

/// What an instance can reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nothing but itself.
    #[default]
    #[n(0)]
    None,
    /// All that its node can: it shares the node's network.
    #[n(1)]
    Host,
    /// What its egress rules allow, from an address of its own behind address translation.
    #[n(2)]
    Private,
}

/// A file that is put into an instance before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct File {
    /// Absolute path inside the instance.
    #[n(0)]
    pub path: String,
    /// Permission bits, as in `chmod(2)`.
    #[n(1)]
    pub mode: u32,
    /// What is in it.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub content: Vec<u8>,
}

/// What to do when an instance ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Restart {
    /// After which ends.
    #[n(0)]
    pub policy: RestartPolicy,
    /// Before the first restart; doubled for each failure in a row.
    #[n(1)]
    pub delay: DurationMs,
    /// The longest that the delay grows to.
    #[n(2)]
    pub delay_max: DurationMs,
    /// An instance that ran this long has its failures forgotten.
    #[n(3)]
    pub reset_after: DurationMs,
    /// How often in a row at most; without, any number of times.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts_max: Option<u32>,
}

/// After which ends an instance is started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// After none.
    #[n(0)]
    Never,
    /// After those with an exit code other than 0, by a signal, or for lack of memory.
    #[n(1)]
    OnFailure,
    /// After all.
    #[n(2)]
    Always,
}

/// How to end an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Stop {
    /// The signal number sent first (`signal(7)`).
    #[n(0)]
    pub signal: i32,
    /// How long after it the whole tree is killed.
    #[n(1)]
    pub grace: DurationMs,
}

/// One condition on a node's labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
pub struct Constraint {
    /// The key of the label. `node` is the node's name.
    #[n(0)]
    pub label: String,
    /// How it is compared.
    #[n(1)]
    pub operator: ConstraintOperator,
    /// With what: one value for `==` and `!=`, any number for `in` and `not in`, none otherwise.
    #[n(2)]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ConstraintOperator {
    /// It is there and is one of the values.
    #[n(0)]
    In,
    /// It is not there, or is none of the values.
    #[n(1)]
    NotIn,
    /// It is there.
    #[n(2)]
    Exists,
    /// It is not there.
    #[n(3)]
    NotExists,
}

impl Constraint {
    /// Whether a node with `labels` meets it.
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.label);
        match self.operator {
            ConstraintOperator::In => value.is_some_and(|value| self.values.contains(value)),
            ConstraintOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            ConstraintOperator::Exists => value.is_some(),
            ConstraintOperator::NotExists => value.is_none(),
        }
    }
}

impl std::fmt::Display for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let label = &self.label;
        let values = self.values.join(", ");
        match (self.operator, self.values.len()) {
            (ConstraintOperator::In, 1) => write!(f, "{label} == {values}"),
            (ConstraintOperator::NotIn, 1) => write!(f, "{label} != {values}"),
            (ConstraintOperator::In, _) => write!(f, "{label} in {values}"),
            (ConstraintOperator::NotIn, _) => write!(f, "{label} not in {values}"),
            (ConstraintOperator::Exists, _) => write!(f, "has {label}"),
            (ConstraintOperator::NotExists, _) => write!(f, "not has {label}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constraint_compares_one_label() {
        let labels = BTreeMap::from([("zone".to_owned(), "eu".to_owned())]);
        let check = |label: &str, operator, values: &[&str], holds: bool, shown: &str| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            let constraint = Constraint { label: label.to_owned(), operator, values };
            assert_eq!(constraint.holds(&labels), holds, "{constraint}");
            assert_eq!(constraint.to_string(), shown);
        };
        check("zone", ConstraintOperator::In, &["eu"], true, "zone == eu");
        check("zone", ConstraintOperator::In, &["us", "eu"], true, "zone in us, eu");
        check("zone", ConstraintOperator::NotIn, &["eu"], false, "zone != eu");
        check("disk", ConstraintOperator::In, &["ssd"], false, "disk == ssd");
        check("disk", ConstraintOperator::NotIn, &["ssd"], true, "disk != ssd");
        check("zone", ConstraintOperator::Exists, &[], true, "has zone");
        check("zone", ConstraintOperator::NotExists, &[], false, "not has zone");
    }
}
