//! A set of nodes, searched by room and ranked by free share.

use spawnery_model::{Capacity, Id, NodeId};
use std::collections::BTreeMap;

/// A free share is counted in parts per million: fine enough to tell apart nodes that differ by
/// one small instance, and readable in a debugger.
const SHARE_WHOLE: u64 = 1_000_000;

/// A set of nodes with what is free on each.
///
/// It is a tournament tree: each inner place holds the most free memory, the most free processor
/// share and the best rank of what is below it, so a search passes over whole subtrees that have
/// no room or no better node. Changing one node costs the logarithm of their number; a search
/// costs as much while most nodes fit alike, and at worst looks at each node once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ranking {
    /// The root at 1, the children of `i` at `2i` and `2i + 1`, the leaves in the second half.
    places: Vec<Place>,
    /// The leaf of each node, counted from the first leaf. Leaves are filled from the left.
    leaves: BTreeMap<NodeId, usize>,
}

/// What is free below a place of the tree, and the best rank there; of a leaf, its node's own.
#[derive(Debug, Clone, Copy)]
struct Place {
    free: Capacity,
    rank: Rank,
}

/// What nodes are compared by: a greater share is better, then a lower id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rank {
    share: u64,
    id: u128,
}

impl Rank {
    /// Worse than the rank of any node: ids have 80 bits.
    const WORST: Rank = Rank { share: 0, id: u128::MAX };

    fn is_better_than(self, other: Rank) -> bool {
        self.share > other.share || (self.share == other.share && self.id < other.id)
    }

    /// The node with this rank.
    pub(crate) fn node(self) -> NodeId {
        NodeId(Id::from_bits(self.id))
    }
}

impl Place {
    const EMPTY: Place = Place {
        free: Capacity { memory: spawnery_model::Bytes(0), cpu: spawnery_model::CpuMillis(0) },
        rank: Rank::WORST,
    };

    fn above(left: Place, right: Place) -> Place {
        Place {
            free: Capacity {
                memory: left.free.memory.max(right.free.memory),
                cpu: left.free.cpu.max(right.free.cpu),
            },
            rank: if right.rank.is_better_than(left.rank) { right.rank } else { left.rank },
        }
    }
}

impl Ranking {
    /// How many nodes it holds.
    pub(crate) fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Puts `node` in, or changes what is free on it.
    pub(crate) fn set(&mut self, node: NodeId, capacity: Capacity, free: Capacity) {
        let next = self.leaves.len();
        let leaf = *self.leaves.entry(node).or_insert(next);
        if leaf >= self.places.len() / 2 {
            self.grow();
        }
        let rank = Rank { share: share(capacity, free), id: node.0.bits() };
        self.put(leaf, Place { free, rank });
    }

    /// Takes `node` out, if it is there.
    pub(crate) fn remove(&mut self, node: NodeId) {
        let Some(leaf) = self.leaves.remove(&node) else {
            return;
        };
        let last = self.leaves.len();
        if leaf != last {
            let moved = self.places[self.places.len() / 2 + last];
            self.leaves.insert(moved.rank.node(), leaf);
            self.put(leaf, moved);
        }
        self.put(last, Place::EMPTY);
    }

    /// The best node that has room for `amount`, that `accept` takes and that is better than
    /// `best`; else `best`.
    pub(crate) fn search(
        &self,
        amount: Capacity,
        accept: &mut impl FnMut(NodeId) -> bool,
        best: Option<Rank>,
    ) -> Option<Rank> {
        if self.places.is_empty() {
            return best;
        }
        let mut best = best;
        self.search_below(1, amount, accept, &mut best);
        best
    }

    fn search_below(
        &self,
        index: usize,
        amount: Capacity,
        accept: &mut impl FnMut(NodeId) -> bool,
        best: &mut Option<Rank>,
    ) {
        let place = self.places[index];
        let found = best.unwrap_or(Rank::WORST);
        if !place.rank.is_better_than(found) || !place.free.fits(amount) {
            return;
        }
        if index >= self.places.len() / 2 {
            if accept(place.rank.node()) {
                *best = Some(place.rank);
            }
            return;
        }
        let (left, right) = (2 * index, 2 * index + 1);
        // The better side first: what it finds rules out most of the other side.
        let (first, second) = if self.places[right].rank.is_better_than(self.places[left].rank) {
            (right, left)
        } else {
            (left, right)
        };
        self.search_below(first, amount, accept, best);
        self.search_below(second, amount, accept, best);
    }

    fn put(&mut self, leaf: usize, place: Place) {
        let mut index = self.places.len() / 2 + leaf;
        self.places[index] = place;
        while index > 1 {
            index /= 2;
            self.places[index] = Place::above(self.places[2 * index], self.places[2 * index + 1]);
        }
    }

    fn grow(&mut self) {
        let leaves_before = self.places.len() / 2;
        let leaves = (2 * leaves_before).max(1);
        let mut places = vec![Place::EMPTY; 2 * leaves];
        places[leaves..leaves + leaves_before].copy_from_slice(&self.places[leaves_before..]);
        for index in (1..leaves).rev() {
            places[index] = Place::above(places[2 * index], places[2 * index + 1]);
        }
        self.places = places;
    }
}

/// The lesser of the two shares that are free, in parts of [`SHARE_WHOLE`]. What a node has none
/// of is all taken.
fn share(capacity: Capacity, free: Capacity) -> u64 {
    let part = |free: u64, whole: u64| {
        let parts = u128::from(free) * u128::from(SHARE_WHOLE);
        parts.checked_div(u128::from(whole)).unwrap_or(0) as u64
    };
    let memory = part(free.memory.0, capacity.memory.0);
    memory.min(part(free.cpu.0.into(), capacity.cpu.0.into()))
}
