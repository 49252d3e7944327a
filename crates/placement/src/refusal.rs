//! Why no node can take a request, in words that a person understands.

use crate::choose::Request;
use crate::pool::{ALLOWANCE_PREFIX, Pool, PoolNode};
use spawnery_model::{Bytes, Capacity, CpuMillis};
use std::collections::BTreeMap;
use std::fmt;

/// Unmet constraints that are named in the text; the rest are counted. A workload has at most
/// [`spawnery_model::limits::LABELS_MAX`], too many for one line.
const CONSTRAINTS_NAMED_MAX: usize = 3;

/// Why no node can take a request.
///
/// Each node is counted once, for the first of these that holds of it: it is closed, it does not
/// meet a constraint, it has too little memory, it has too little processor share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// What was to be reserved.
    pub wanted: Capacity,
    /// Whether only a certain node would do. Then the counts are of that node alone.
    pub pinned: bool,
    /// How many nodes were considered.
    pub nodes: usize,
    /// How many are draining, stopping or lost.
    pub closed: usize,
    /// How many do not meet each constraint; only the first that a node does not meet counts.
    pub constraint_unmet: BTreeMap<String, usize>,
    /// How many have too little free memory.
    pub memory_short: usize,
    /// The most free memory of those.
    pub memory_free_max: Bytes,
    /// How many have too little free processor share.
    pub cpu_short: usize,
    /// The most free processor share of those.
    pub cpu_free_max: CpuMillis,
    /// How many could take it if nothing else were on them and they were open.
    pub large_enough: usize,
    /// The most memory and the most processor share that a node has, free or not, among those
    /// that meet the constraints.
    pub capacity_max: Capacity,
}

/// Says why [`crate::choose`] finds no node for `request`. It looks at every node.
///
/// If there is a node that fits, the counts do not add up to [`Refusal::nodes`], and the text says
/// how many fit.
pub fn explain(pool: &Pool, request: &Request<'_>) -> Refusal {
    let mut refusal =
        Refusal { wanted: request.amount, pinned: request.node.is_some(), ..Refusal::default() };
    match request.node {
        Some(node) => pool.get(node).into_iter().for_each(|entry| refusal.count(entry, request)),
        None => pool.iter().for_each(|(_, entry)| refusal.count(entry, request)),
    }
    refusal
}

impl Refusal {
    fn count(&mut self, entry: &PoolNode, request: &Request<'_>) {
        self.nodes += 1;
        let unmet = entry.unmet(request.constraints);
        if unmet.is_none() {
            let most = &mut self.capacity_max;
            most.memory = most.memory.max(entry.capacity.memory);
            most.cpu = most.cpu.max(entry.capacity.cpu);
            self.large_enough += usize::from(entry.capacity.fits(request.amount));
        }
        let free = entry.free();
        if !entry.open {
            self.closed += 1;
        } else if let Some(constraint) = unmet {
            let name = constraint.to_string();
            *self.constraint_unmet.entry(name).or_default() += 1;
        } else if free.memory < request.amount.memory {
            self.memory_short += 1;
            self.memory_free_max = self.memory_free_max.max(free.memory);
        } else if free.cpu < request.amount.cpu {
            self.cpu_short += 1;
            self.cpu_free_max = self.cpu_free_max.max(free.cpu);
        }
    }

    /// Whether it would not fit even if nothing else ran: no node that meets the constraints is
    /// large enough.
    pub fn never_fits(&self) -> bool {
        self.large_enough == 0 && self.capacity_max != Capacity::default()
    }

    /// The reasons, each with the number of nodes that it holds of.
    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let mut reason = |count: usize, one: &str, many: &str, rest: &str| match count {
            0 => {}
            1 if self.pinned => reasons.push(format!("{one}{rest}")),
            1 => reasons.push(format!("1 {one}{rest}")),
            _ => reasons.push(format!("{count} {many}{rest}")),
        };
        let state = " draining, stopping or lost";
        reason(self.closed, "is", "are", state);
        let named = self.constraint_unmet.iter().take(CONSTRAINTS_NAMED_MAX);
        for (constraint, count) in named {
            let constraint = match constraint.split_once(ALLOWANCE_PREFIX) {
                Some((_, runtime)) if runtime.starts_with("runtime ") => {
                    format!(" not have the {runtime} (run `spawnery doctor` there)")
                }
                Some((_, allowance)) => format!(" not allow `{allowance}` by configuration"),
                None => format!(" not meet `{constraint}`"),
            };
            reason(*count, "does", "do", &constraint);
        }
        let others = self.constraint_unmet.values().skip(CONSTRAINTS_NAMED_MAX);
        reason(others.sum(), "does", "do", " not meet another constraint");
        let (wanted, free) = told_apart(self.wanted.memory, self.memory_free_max);
        let memory = format!(" too little memory (wanted {wanted}, at most {free} free)");
        reason(self.memory_short, "has", "have", &memory);
        let (wanted, free) = (self.wanted.cpu, self.cpu_free_max);
        let cpu = format!(" too little CPU (wanted {wanted}, at most {free} free)");
        reason(self.cpu_short, "has", "have", &cpu);
        let counted = self.closed + self.memory_short + self.cpu_short;
        let fit = self.nodes - counted - self.constraint_unmet.values().sum::<usize>();
        reason(fit, "has", "have", " room");
        reasons
    }
}

/// Both amounts as text: in bytes where rounding would make them look the same.
fn told_apart(wanted: Bytes, free: Bytes) -> (String, String) {
    let rounded = (wanted.to_string(), free.to_string());
    if rounded.0 != rounded.1 {
        return rounded;
    }
    (format!("{}B", wanted.0), format!("{}B", free.0))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.nodes, self.pinned) {
            (0, true) => return f.write_str("the node that it must run on has not joined"),
            (0, false) => return f.write_str("no node has joined"),
            _ => {}
        }
        if self.never_fits() {
            let Capacity { memory, cpu } = self.wanted;
            let most = self.capacity_max;
            let subject = match self.pinned {
                true => "the node that it must run on is not that large",
                false => "no node is that large",
            };
            return write!(
                f,
                "{subject} (wanted {memory} of memory and {cpu} of CPU; the most that a node has \
                 is {} and {})",
                most.memory, most.cpu
            );
        }
        match (self.pinned, self.nodes) {
            (true, _) => f.write_str("the node that it must run on ")?,
            (false, 1) => f.write_str("1 node: ")?,
            (false, nodes) => write!(f, "{nodes} nodes: ")?,
        }
        f.write_str(&self.reasons().join(", "))
    }
}

impl std::error::Error for Refusal {}
