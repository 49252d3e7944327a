//! What applying workloads would change.

use crate::state::State;
use minicbor::{Decode, Encode};
use spawnery_model::{Name, Workload};

/// What applying does to one workload.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Difference {
    /// The workload.
    #[n(0)]
    pub name: Name,
    /// `service`, `job` or `session`.
    #[n(1)]
    pub kind: String,
    /// What happens to it.
    #[n(2)]
    pub verdict: Verdict,
    /// The fields that differ, by the names that a manifest gives them.
    #[n(3)]
    pub fields: Vec<String>,
}

/// What happens to a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Verdict {
    /// It is new.
    #[n(0)]
    Added,
    /// Its definition changes, and its instances are replaced where that matters.
    #[n(1)]
    Changed,
    /// It stays as it is.
    #[n(2)]
    Unchanged,
}

impl Verdict {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Added => "added",
            Verdict::Changed => "changed",
            Verdict::Unchanged => "unchanged",
        }
    }
}

/// What applying `workloads` would change, in their order.
pub fn diff(state: &State, workloads: &[Workload]) -> Vec<Difference> {
    workloads
        .iter()
        .map(|workload| {
            let (verdict, fields) = match state.workload(&workload.name) {
                None => (Verdict::Added, Vec::new()),
                Some(entry) if entry.workload == *workload => (Verdict::Unchanged, Vec::new()),
                Some(entry) => (Verdict::Changed, fields_changed(&entry.workload, workload)),
            };
            let kind = workload.kind.word().to_owned();
            Difference { name: workload.name.clone(), kind, verdict, fields }
        })
        .collect()
}

fn fields_changed(old: &Workload, new: &Workload) -> Vec<String> {
    let (a, b) = (&old.process, &new.process);
    let pairs = [
        ("kind", old.kind.word() != new.kind.word()),
        ("settings", old.kind.word() == new.kind.word() && old.kind != new.kind),
        ("run", a.run != b.run),
        ("env", a.env != b.env),
        ("memory", a.memory != b.memory),
        ("cpu", (a.cpu_reserved, a.cpu_max) != (b.cpu_reserved, b.cpu_max)),
        ("disk", a.disk_max != b.disk_max),
        ("pids", a.pids_max != b.pids_max),
        ("ports", a.ports != b.ports),
        ("working_directory", a.working_directory != b.working_directory),
        ("network", a.network != b.network),
        ("files", a.files != b.files),
        ("stdin", a.stdin != b.stdin),
        ("restart", old.restart != new.restart),
        ("stop", old.stop != new.stop),
        ("constraints", old.constraints != new.constraints),
        ("labels", old.labels != new.labels),
    ];
    pairs.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name.to_owned()).collect()
}
