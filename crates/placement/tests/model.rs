//! Placement against a model that looks at every node each time.

use proptest::collection::vec;
use proptest::prelude::*;
use spawnery_model::{
    Bytes, Capacity, Constraint, ConstraintOperator, CpuMillis, Id, Name, NodeId,
};
use spawnery_placement::{Pool, Request, choose, eligible, explain};
use std::collections::{BTreeMap, BTreeSet};

/// Few nodes, so that the steps meet the same ones again.
const NODES: u128 = 12;

#[derive(Debug, Clone)]
struct Node {
    labels: BTreeMap<String, String>,
    capacity: Capacity,
    reserved: Capacity,
    open: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Insert(NodeId, Node),
    Remove(NodeId),
    Open(NodeId, bool),
    Relabel(NodeId, BTreeMap<String, String>),
    Resize(NodeId, Capacity),
    Place(Wish),
    /// Releases the placement at this place of the list, counted round.
    Release(usize),
}

#[derive(Debug, Clone)]
struct Wish {
    amount: Capacity,
    constraints: Vec<Constraint>,
    node: Option<NodeId>,
    avoid: BTreeSet<NodeId>,
}

impl Wish {
    fn request(&self) -> Request<'_> {
        Request {
            amount: self.amount,
            constraints: &self.constraints,
            node: self.node,
            avoid: &self.avoid,
        }
    }
}

fn node_id() -> impl Strategy<Value = NodeId> {
    (0..NODES).prop_map(|number| NodeId(Id::from_bits(number)))
}

fn capacity(most: u64) -> impl Strategy<Value = Capacity> {
    (0..=most, 0..=most as u32)
        .prop_map(|(memory, cpu)| Capacity { memory: Bytes(memory), cpu: CpuMillis(cpu) })
}

fn some_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map("[abc]", "[xyz]", 0..3)
}

fn a_constraint() -> impl Strategy<Value = Constraint> {
    use ConstraintOperator::{Exists, In, NotExists, NotIn};
    let operator = prop_oneof![Just(In), Just(NotIn), Just(Exists), Just(NotExists)];
    let of_labels = ("[abc]", operator, vec("[xyz]".prop_map(String::from), 0..3));
    let of_name = (Just("node".to_owned()), Just(In), vec("n1?[0-9]", 1..4));
    prop_oneof![4 => of_labels, 1 => of_name].prop_map(|(label, operator, values)| Constraint {
        label,
        operator,
        values,
    })
}

fn a_node() -> impl Strategy<Value = Node> {
    (some_labels(), capacity(100), capacity(20), any::<bool>()).prop_map(
        |(labels, capacity, reserved, closed)| Node { labels, capacity, reserved, open: !closed },
    )
}

fn a_wish() -> impl Strategy<Value = Wish> {
    let node = proptest::option::weighted(0.1, node_id());
    let avoid = proptest::collection::btree_set(node_id(), 0..4);
    (capacity(60), vec(a_constraint(), 0..3), node, avoid)
        .prop_map(|(amount, constraints, node, avoid)| Wish { amount, constraints, node, avoid })
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (node_id(), a_node()).prop_map(|(id, node)| Step::Insert(id, node)),
        1 => node_id().prop_map(Step::Remove),
        1 => (node_id(), any::<bool>()).prop_map(|(id, open)| Step::Open(id, open)),
        1 => (node_id(), some_labels()).prop_map(|(id, labels)| Step::Relabel(id, labels)),
        1 => (node_id(), capacity(100)).prop_map(|(id, size)| Step::Resize(id, size)),
        12 => a_wish().prop_map(Step::Place),
        4 => any::<usize>().prop_map(Step::Release),
    ]
}

fn name(id: NodeId) -> Name {
    Name::new(format!("n{}", id.0.bits())).unwrap()
}

/// What the model holds: plain maps, searched from end to end.
#[derive(Default)]
struct Naive {
    nodes: BTreeMap<NodeId, Node>,
    placed: Vec<(NodeId, Capacity)>,
}

impl Naive {
    fn meets(&self, id: NodeId, constraints: &[Constraint]) -> bool {
        let mut labels = self.nodes[&id].labels.clone();
        labels.insert("node".to_owned(), name(id).to_string());
        constraints.iter().all(|constraint| constraint.holds(&labels))
    }

    fn choose(&self, wish: &Wish) -> Option<NodeId> {
        let share = |free: u64, whole: u64| (free * 1_000_000).checked_div(whole).unwrap_or(0);
        let fitting = self.nodes.iter().filter(|(id, node)| {
            node.open
                && wish.node.is_none_or(|only| only == **id)
                && self.meets(**id, &wish.constraints)
                && node.capacity.minus(node.reserved).fits(wish.amount)
        });
        let rank = |(id, node): &(&NodeId, &Node)| {
            let free = node.capacity.minus(node.reserved);
            let memory = share(free.memory.0, node.capacity.memory.0);
            let cpu = share(free.cpu.0.into(), node.capacity.cpu.0.into());
            let avoided = wish.avoid.contains(id);
            (avoided, std::cmp::Reverse(memory.min(cpu)), **id)
        };
        fitting.min_by_key(rank).map(|(id, _)| *id)
    }

    fn eligible(&self, constraints: &[Constraint]) -> Vec<NodeId> {
        let open = self.nodes.iter().filter(|(_, node)| node.open);
        open.map(|(id, _)| *id).filter(|id| self.meets(*id, constraints)).collect()
    }

    /// The pool that has these nodes, inserted in the given direction.
    fn pool(&self, reversed: bool) -> Pool {
        let mut pool = Pool::default();
        let mut ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        if reversed {
            ids.reverse();
        }
        for id in ids {
            insert(&mut pool, id, &self.nodes[&id]);
        }
        pool
    }
}

fn insert(pool: &mut Pool, id: NodeId, node: &Node) {
    let (capacity, reserved) = (node.capacity, node.reserved);
    pool.insert(id, &name(id), &node.labels, capacity, reserved, node.open);
}

/// Takes one step in both.
fn take(step: &Step, pool: &mut Pool, naive: &mut Naive) -> Result<(), TestCaseError> {
    let known = |naive: &Naive, id: &NodeId| naive.nodes.contains_key(id);
    match step {
        Step::Insert(id, node) => {
            insert(pool, *id, node);
            naive.nodes.insert(*id, node.clone());
            naive.placed.retain(|(placed, _)| placed != id);
        }
        Step::Remove(id) => {
            pool.remove(*id);
            naive.nodes.remove(id);
            naive.placed.retain(|(placed, _)| placed != id);
        }
        Step::Open(id, open) if known(naive, id) => {
            pool.set_open(*id, *open);
            naive.nodes.get_mut(id).unwrap().open = *open;
        }
        Step::Relabel(id, labels) if known(naive, id) => {
            pool.set_labels(*id, labels);
            naive.nodes.get_mut(id).unwrap().labels = labels.clone();
        }
        Step::Resize(id, capacity) if known(naive, id) => {
            pool.set_capacity(*id, *capacity);
            naive.nodes.get_mut(id).unwrap().capacity = *capacity;
        }
        Step::Open(..) | Step::Relabel(..) | Step::Resize(..) => {}
        Step::Place(wish) => place(wish, pool, naive)?,
        Step::Release(_) if naive.placed.is_empty() => {}
        Step::Release(place) => {
            let (id, amount) = naive.placed.swap_remove(place % naive.placed.len());
            pool.release(id, amount);
            let reserved = &mut naive.nodes.get_mut(&id).unwrap().reserved;
            *reserved = reserved.minus(amount);
        }
    }
    Ok(())
}

fn place(wish: &Wish, pool: &mut Pool, naive: &mut Naive) -> Result<(), TestCaseError> {
    let chosen = choose(pool, &wish.request());
    prop_assert_eq!(chosen, naive.choose(wish));
    let Some(id) = chosen else {
        let refusal = explain(pool, &wish.request());
        let unmet = refusal.constraint_unmet.values().sum::<usize>();
        let counted = refusal.closed + unmet + refusal.memory_short + refusal.cpu_short;
        prop_assert_eq!(counted, refusal.nodes, "{}", refusal);
        return Ok(());
    };
    pool.reserve(id, wish.amount);
    let node = naive.nodes.get_mut(&id).unwrap();
    let before = node.reserved;
    node.reserved = before.plus(wish.amount);
    // A node can have more reserved than it has, if it shrank; then it takes no more of that.
    prop_assert!(node.reserved.memory <= node.capacity.memory.max(before.memory));
    prop_assert!(node.reserved.cpu <= node.capacity.cpu.max(before.cpu));
    naive.placed.push((id, wish.amount));
    Ok(())
}

proptest! {
    #[test]
    fn choices_agree_with_a_look_at_every_node(steps in vec(a_step(), 0..120), last in a_wish()) {
        let (mut pool, mut naive) = (Pool::default(), Naive::default());
        for step in &steps {
            take(step, &mut pool, &mut naive)?;
        }
        for (id, entry) in pool.iter() {
            prop_assert_eq!(entry.reserved, naive.nodes[&id].reserved);
        }
        let found: Vec<NodeId> = eligible(&pool, &last.constraints).collect();
        prop_assert_eq!(found, naive.eligible(&last.constraints));
        for reversed in [false, true] {
            let rebuilt = naive.pool(reversed);
            prop_assert_eq!(&rebuilt, &pool);
            prop_assert_eq!(
                choose(&rebuilt, &last.request()),
                choose(&pool, &last.request())
            );
        }
    }
}
