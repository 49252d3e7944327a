//! Services, jobs, runs and session templates.

use serde::{Deserialize, Serialize};
use spawnery_model::{InstanceId, Name, NodeId, RunId};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What applying a manifest changed, or would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ManifestReply {
    /// One for each workload of the manifest.
    pub differences: Vec<DifferenceView>,
}

/// What applying does to one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DifferenceView {
    /// The workload.
    #[schema(value_type = String)]
    pub name: Name,
    /// `service`, `job` or `session`.
    pub kind: String,
    /// `added`, `changed` or `unchanged`.
    #[schema(example = "changed")]
    pub verdict: String,
    /// The fields that differ, by the names that a manifest gives them.
    #[schema(example = json!(["memory"]))]
    pub fields: Vec<String>,
}

/// Remove workloads and end their instances: all of them or, if one is unknown, none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveRequest {
    /// Their names.
    #[schema(value_type = Vec<String>)]
    pub names: Vec<Name>,
}

/// Workloads were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemoveReply {
    /// Their names.
    #[schema(value_type = Vec<String>)]
    pub removed: Vec<Name>,
}

/// A workload that is kept running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// How many replicas are wanted; none when it is one on every node.
    pub replicas: Option<u32>,
    /// Whether one replica is wanted on every node that its constraints allow.
    pub every_node: bool,
    /// Its live instances, counted by phase.
    pub phases: PhaseCounts,
    /// Its replicas.
    pub slots: Vec<SlotView>,
    /// Where its ports are reached.
    pub urls: Vec<String>,
    /// What it runs.
    pub process: ProcessView,
    /// What happens when an instance ends by itself.
    pub restart: RestartView,
    /// How an instance is ended.
    pub stop: StopView,
    /// Conditions on the node, as in a manifest.
    pub constraints: Vec<String>,
    /// For people and their tools.
    pub labels: BTreeMap<String, String>,
    /// When it was first applied.
    pub created_at_ms: u64,
    /// When it was last changed.
    pub changed_at_ms: u64,
}

/// Live instances, counted by phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PhaseCounts {
    /// Wanted, and not placed yet.
    pub pending: u64,
    /// Placed or being prepared.
    pub starting: u64,
    /// Running, not ready yet.
    pub running: u64,
    /// Ready.
    pub ready: u64,
    /// Told to end.
    pub stopping: u64,
}

/// One replica of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotView {
    /// Which one, from 0; none when it is one on every node.
    pub index: Option<u32>,
    /// The node that it is for, when it is one on every node.
    #[schema(value_type = Option<String>)]
    pub node: Option<NodeId>,
    /// Its live instance.
    #[schema(value_type = Option<String>)]
    pub instance: Option<InstanceId>,
    /// How often in a row it ended by itself too soon.
    pub failures: u32,
    /// While it has no instance after a failure: when the next one may start.
    pub restarts_at_ms: Option<u64>,
    /// It ended, and its restart policy says that this is the end.
    pub finished: bool,
}

/// A workload that runs to an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// When it runs by itself; without, only on demand.
    pub schedule: Option<ScheduleView>,
    /// The next occurrence.
    pub next_at_ms: Option<u64>,
    /// `skip` or `allow`: what happens to an occurrence while an earlier run is not finished.
    pub overlap: String,
    /// `skip` or `run-latest`: what happens to occurrences that could not start in time.
    pub missed: String,
    /// How late an occurrence may still start.
    pub start_deadline_ms: u64,
    /// How often one run is tried in all.
    pub attempts_max: u32,
    /// When an attempt is ended because it takes too long.
    pub timeout_ms: Option<u64>,
    /// Runs that are not finished.
    #[schema(value_type = Vec<String>)]
    pub active: Vec<RunId>,
    /// The run that finished last.
    pub last: Option<RunView>,
    /// How many occurrences passed without a run.
    pub missed_total: u64,
    /// The latest of them.
    pub missed_last: Option<MissedView>,
    /// What it runs.
    pub process: ProcessView,
    /// What happens when an attempt fails.
    pub restart: RestartView,
    /// How an attempt is ended.
    pub stop: StopView,
    /// Conditions on the node, as in a manifest.
    pub constraints: Vec<String>,
    /// For people and their tools.
    pub labels: BTreeMap<String, String>,
    /// When it was first applied.
    pub created_at_ms: u64,
    /// When it was last changed.
    pub changed_at_ms: u64,
}

/// When a job runs by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleView {
    /// A cron expression.
    #[schema(example = "30 2 * * *")]
    pub cron: String,
    /// The IANA time zone in which it is read.
    #[schema(example = "Europe/Zurich")]
    pub time_zone: String,
}

/// An occurrence without a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissedView {
    /// When it was.
    pub at_ms: u64,
    /// Why it has no run.
    pub reason: String,
}

/// One occurrence of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: RunId,
    /// The job.
    #[schema(value_type = String)]
    pub job: Name,
    /// The occurrence that it is, if the schedule asked for it.
    pub occurrence_ms: Option<u64>,
    /// Who asked for it, if somebody did.
    pub by: Option<String>,
    /// When it was created.
    pub created_at_ms: u64,
    /// How many attempts were made. Their instances: `GET /v1/instances?run=…`.
    pub attempts: u32,
    /// The attempt that is not ended.
    #[schema(value_type = Option<String>)]
    pub current: Option<InstanceId>,
    /// When the next attempt may start, if the last one failed.
    pub retry_at_ms: Option<u64>,
    /// How it ended.
    pub outcome: Option<RunOutcomeView>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunOutcomeView {
    /// Whether an attempt finished well.
    pub succeeded: bool,
    /// Why it ended, in words.
    pub reason: String,
    /// When.
    pub at_ms: u64,
}

/// A run was created; its first attempt may not have started yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunCreated {
    /// Its id.
    #[schema(value_type = String)]
    pub id: RunId,
}

/// A template of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionTemplateView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// When a session is ended because it has lived long enough.
    pub duration_max_ms: Option<u64>,
    /// What it runs.
    pub process: ProcessView,
    /// How a session is ended.
    pub stop: StopView,
    /// Conditions on the node, as in a manifest.
    pub constraints: Vec<String>,
    /// For people and their tools.
    pub labels: BTreeMap<String, String>,
    /// When it was first applied.
    pub created_at_ms: u64,
    /// When it was last changed.
    pub changed_at_ms: u64,
}

/// A process and the limits that it runs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessView {
    /// The program and its arguments.
    pub run: Vec<String>,
    /// The names of its environment variables; their values may be secrets.
    pub env_names: Vec<String>,
    /// Memory: reserved at placement, and the most that it may use.
    pub memory_bytes: u64,
    /// Processor share reserved at placement, in thousandths of a core.
    pub cpu_reserved_millis: u32,
    /// The most processor share that it may use; without, what is idle.
    pub cpu_max_millis: Option<u32>,
    /// The most that its private writable layer may hold.
    pub disk_max_bytes: Option<u64>,
    /// The most processes and threads.
    pub pids_max: u32,
    /// Ports on which it listens.
    pub ports: Vec<PortView>,
    /// Where it starts; without, in its HOME.
    pub working_directory: Option<String>,
    /// `none` or `host`: what it can reach.
    pub network: String,
    /// Files that are there before it starts, without what is in them.
    pub files: Vec<FileView>,
    /// Whether its standard input is kept open for a client.
    pub stdin: bool,
}

/// A port on which a workload listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortView {
    /// What people call it.
    #[schema(value_type = String)]
    pub name: Name,
    /// The port number inside the instance.
    pub port: u16,
}

/// A file that is put into an instance before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileView {
    /// Absolute path inside the instance.
    pub path: String,
    /// Permission bits, as four octal digits.
    #[schema(example = "0644")]
    pub mode: String,
    /// How large it is.
    pub size_bytes: u64,
}

/// What to do when an instance ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestartView {
    /// `never`, `on-failure` or `always`.
    pub policy: String,
    /// Before the first restart; doubled for each failure in a row.
    pub delay_ms: u64,
    /// The longest that the delay grows to.
    pub delay_max_ms: u64,
    /// An instance that ran this long has its failures forgotten.
    pub reset_after_ms: u64,
}

/// How to end an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StopView {
    /// The signal number sent first.
    pub signal: i32,
    /// How long after it the whole tree is killed.
    pub grace_ms: u64,
}
