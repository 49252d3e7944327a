//! What a node allows, as labels, and what a workload needs of it, as constraints: so that
//! placement has one question, and its index answers this one too.

use spawnery_model::{Constraint, ConstraintOperator, Network, Node, RuntimeKind, Workload};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Begins the labels that stand for allowances. No label of a user can: `:` is not allowed there.
const PREFIX: &str = spawnery_placement::ALLOWANCE_PREFIX;

/// The labels of a node for placement: its own, and one for each thing that it allows.
pub(crate) fn labels_of(node: &Node) -> Cow<'_, BTreeMap<String, String>> {
    let Some(allowances) = &node.allowances else {
        return Cow::Borrowed(&node.labels);
    };
    let network = allowances.host_network.then(host_network);
    let devices = allowances.devices.iter().map(|path| device(path));
    let mounts = allowances.mounts.iter().map(|path| mount(path));
    let runtimes = allowances.runtimes.iter().map(|kind| runtime(*kind));
    let all = network.into_iter().chain(devices).chain(mounts).chain(runtimes);
    let mut labels = node.labels.clone();
    labels.extend(all.map(|allowance| (allowance, String::new())));
    Cow::Owned(labels)
}

/// The constraints of a workload: its own, and one for each thing that a node must allow.
pub(crate) fn constraints_of(workload: &Workload) -> Cow<'_, [Constraint]> {
    let mut needed = Vec::new();
    if workload.process.network == Network::Host {
        needed.push(host_network());
    }
    if let Some(surroundings) = &workload.surroundings {
        needed.extend(surroundings.devices.iter().map(|path| device(path)));
        needed.extend(surroundings.mounts.iter().map(|it| mount(&it.from)));
        if surroundings.runtime != RuntimeKind::Process {
            needed.push(runtime(surroundings.runtime));
        }
    }
    if needed.is_empty() {
        return Cow::Borrowed(&workload.constraints);
    }
    let allows = needed.into_iter().map(|label| Constraint {
        label,
        operator: ConstraintOperator::Exists,
        values: Vec::new(),
    });
    Cow::Owned(workload.constraints.iter().cloned().chain(allows).collect())
}

fn host_network() -> String {
    format!("{PREFIX}network host")
}

fn device(path: &str) -> String {
    format!("{PREFIX}device {path}")
}

fn mount(path: &str) -> String {
    format!("{PREFIX}mount {path}")
}

fn runtime(kind: RuntimeKind) -> String {
    format!("{PREFIX}runtime {}", kind.word())
}
