//! What happened, for people and for programs that follow along.

use spawnery_model::{InstanceId, Name, NodeId, RunId, Timestamp};

/// One thing that happened. Derived from a record, so a replay gives the same events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The position of the record; several events may share one.
    pub position: u64,
    /// When.
    pub at: Timestamp,
    /// What kind of thing, such as `instance.ready`; stays the same over releases.
    pub kind: &'static str,
    /// The workload that it is about.
    pub workload: Option<Name>,
    /// The instance that it is about.
    pub instance: Option<InstanceId>,
    /// The run that it is about.
    pub run: Option<RunId>,
    /// The node that it is about.
    pub node: Option<NodeId>,
    /// The subjects who may see it, beside those who may see everything.
    pub seen_by: Vec<String>,
    /// What happened, in words.
    pub message: String,
}
