//! The choice of a node.

use crate::pool::Pool;
use spawnery_model::{Capacity, Constraint, NodeId};
use std::collections::BTreeSet;

/// What is wanted of a node.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is to be reserved.
    pub amount: Capacity,
    /// Conditions on the node's labels; all must hold.
    pub constraints: &'a [Constraint],
    /// The only node that will do, if it must be a certain one.
    pub node: Option<NodeId>,
    /// Nodes that are taken only if no other fits, such as those that hold a replica of the same
    /// service.
    pub avoid: &'a BTreeSet<NodeId>,
}

/// The node that should take `request`, or `None` if none can. [`crate::explain`] tells why.
///
/// It takes the time of a few look-ups while most nodes that meet the constraints have room or
/// most have none; at worst it looks at each of them once.
pub fn choose(pool: &Pool, request: &Request<'_>) -> Option<NodeId> {
    if let Some(node) = request.node {
        let entry = pool.get(node)?;
        let fits = entry.open
            && entry.unmet(request.constraints).is_none()
            && entry.free().fits(request.amount);
        return fits.then_some(node);
    }
    let preferred = search(pool, request, |node| !request.avoid.contains(&node));
    if preferred.is_some() || request.avoid.is_empty() {
        return preferred;
    }
    search(pool, request, |node| request.avoid.contains(&node))
}

fn search(
    pool: &Pool,
    request: &Request<'_>,
    considered: impl Fn(NodeId) -> bool,
) -> Option<NodeId> {
    let mut accept = |node| {
        let entry = pool.get(node).expect("a ranking holds nodes of its pool");
        considered(node) && entry.unmet(request.constraints).is_none()
    };
    let rankings = pool.narrowest(request.constraints);
    let best = rankings
        .into_iter()
        .fold(None, |best, ranking| ranking.search(request.amount, &mut accept, best));
    best.map(|rank| rank.node())
}

/// The open nodes that meet `constraints`, whatever is free on them, in the order of their ids:
/// where a service with one instance on every node belongs.
pub fn eligible<'a>(
    pool: &'a Pool,
    constraints: &'a [Constraint],
) -> impl Iterator<Item = NodeId> + 'a {
    pool.iter()
        .filter(|(_, entry)| entry.open && entry.unmet(constraints).is_none())
        .map(|(node, _)| node)
}
