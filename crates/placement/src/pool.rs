//! The nodes that can take something, indexed for choosing.

use crate::ranking::Ranking;
use spawnery_model::{Capacity, Constraint, ConstraintOperator, Name, NodeId};
use std::collections::BTreeMap;

/// The label that every node has: its name. A label of that key given by a user is hidden by it.
pub const NODE_LABEL: &str = "node";

/// Begins a label that stands for something which a node allows by configuration, such as
/// `allows:network host`. A refusal says so in words.
pub const ALLOWANCE_PREFIX: &str = "allows:";

/// Values of one label up to which `has label` is looked up in the index. With more, almost each
/// node has its own value, and looking them up costs more than asking each node.
const VALUES_LOOKED_UP_MAX: usize = 16;

/// Classes of nodes up to which each is asked whether it meets the constraints: a few
/// microseconds. With more, nodes have labels of their own, and classes tell little.
const CLASSES_ASKED_MAX: usize = 128;

/// The nodes of a cluster with what is free on each.
///
/// Derived from the cluster's state: rebuild it after a restart by inserting every node. Two pools
/// are equal if they hold the same nodes, in whatever order these came.
///
/// Beside the nodes it keeps rankings of those that are open: one of all, one for each label and
/// value, so that a constraint which few nodes meet is as quick as none, and one for each class of
/// nodes (the same labels but for the name), so that several constraints are as quick as one. A
/// change of one node updates as many rankings as it has labels, and two more.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    nodes: BTreeMap<NodeId, PoolNode>,
    open: Ranking,
    open_by_label: BTreeMap<String, BTreeMap<String, Ranking>>,
    open_by_class: BTreeMap<BTreeMap<String, String>, Ranking>,
}

/// What a pool knows of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolNode {
    /// Its labels, with its name under [`NODE_LABEL`].
    pub labels: BTreeMap<String, String>,
    /// What it has for instances.
    pub capacity: Capacity,
    /// What is reserved of it.
    pub reserved: Capacity,
    /// Whether it takes new instances: it is up and not draining.
    pub open: bool,
    /// Its labels without its name.
    class: BTreeMap<String, String>,
}

impl PoolNode {
    /// What is not reserved.
    pub fn free(&self) -> Capacity {
        self.capacity.minus(self.reserved)
    }

    fn set_labels(&mut self, name: String, labels: &BTreeMap<String, String>) {
        self.class = labels.clone();
        self.class.remove(NODE_LABEL);
        self.labels = self.class.clone();
        self.labels.insert(NODE_LABEL.to_owned(), name);
    }

    /// The first of `constraints` that it does not meet.
    pub(crate) fn unmet<'a>(&self, constraints: &'a [Constraint]) -> Option<&'a Constraint> {
        constraints.iter().find(|constraint| !constraint.holds(&self.labels))
    }
}

impl PartialEq for Pool {
    fn eq(&self, other: &Pool) -> bool {
        // The rankings follow from the nodes, but their layout tells in which order these came.
        self.nodes == other.nodes
    }
}

impl Eq for Pool {}

impl Pool {
    /// Inserts `node`, or replaces all that is known of it. `open` tells whether it takes new
    /// instances: it is up and not draining. Where more is reserved than it has (its machine
    /// shrank), nothing is free.
    pub fn insert(
        &mut self,
        node: NodeId,
        name: &Name,
        labels: &BTreeMap<String, String>,
        capacity: Capacity,
        reserved: Capacity,
        open: bool,
    ) {
        self.remove(node);
        let mut entry =
            PoolNode { labels: BTreeMap::new(), capacity, reserved, open, class: BTreeMap::new() };
        entry.set_labels(name.as_str().to_owned(), labels);
        self.nodes.insert(node, entry);
        self.rank(node);
    }

    /// Forgets `node`, if it is there.
    pub fn remove(&mut self, node: NodeId) {
        self.unrank(node);
        self.nodes.remove(&node);
    }

    /// Reserves `amount` on `node`, open or not.
    ///
    /// # Panics
    ///
    /// If the node is not in the pool or has no room for it: the caller must have asked before.
    pub fn reserve(&mut self, node: NodeId, amount: Capacity) {
        let entry = self.entry(node);
        assert!(
            entry.free().fits(amount),
            "a reservation must fit: {amount:?} on node {node} with {:?} free",
            entry.free()
        );
        entry.reserved = entry.reserved.plus(amount);
        self.rank(node);
    }

    /// Gives back `amount` on `node`.
    ///
    /// # Panics
    ///
    /// If the node is not in the pool or less than that is reserved on it.
    pub fn release(&mut self, node: NodeId, amount: Capacity) {
        let entry = self.entry(node);
        assert!(
            entry.reserved.fits(amount),
            "only what is reserved can be released: {amount:?} on node {node} with {:?} reserved",
            entry.reserved
        );
        entry.reserved = entry.reserved.minus(amount);
        self.rank(node);
    }

    /// Opens `node` for new instances, or closes it.
    ///
    /// # Panics
    ///
    /// If the node is not in the pool.
    pub fn set_open(&mut self, node: NodeId, open: bool) {
        self.entry(node).open = open;
        if open {
            self.rank(node);
        } else {
            self.unrank(node);
        }
    }

    /// Changes what `node` has for instances. Where more is reserved, nothing is free.
    ///
    /// # Panics
    ///
    /// If the node is not in the pool.
    pub fn set_capacity(&mut self, node: NodeId, capacity: Capacity) {
        self.entry(node).capacity = capacity;
        self.rank(node);
    }

    /// Changes the labels of `node`; its name stays.
    ///
    /// # Panics
    ///
    /// If the node is not in the pool.
    pub fn set_labels(&mut self, node: NodeId, labels: &BTreeMap<String, String>) {
        self.unrank(node);
        let entry = self.entry(node);
        let name = entry.labels.remove(NODE_LABEL).expect("insert puts it in");
        entry.set_labels(name, labels);
        self.rank(node);
    }

    /// What is known of `node`.
    pub fn get(&self, node: NodeId) -> Option<&PoolNode> {
        self.nodes.get(&node)
    }

    /// All nodes, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &PoolNode)> {
        self.nodes.iter().map(|(node, entry)| (*node, entry))
    }

    /// How many nodes it holds, open or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it holds no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Rankings that together hold every open node which meets `constraints`, and few others.
    pub(crate) fn narrowest(&self, constraints: &[Constraint]) -> Vec<&Ranking> {
        let size = |rankings: &Vec<&Ranking>| rankings.iter().map(|r| r.len()).sum::<usize>();
        let narrowest = constraints
            .iter()
            .filter_map(|constraint| self.looked_up(constraint))
            .chain([vec![&self.open]])
            .min_by_key(size)
            .expect("the ranking of all is one of them");
        // The classes leave no other node in, but each is to be asked.
        if constraints.is_empty() || self.open_by_class.len() > CLASSES_ASKED_MAX {
            return narrowest;
        }
        if size(&narrowest) <= self.open_by_class.len() {
            return narrowest;
        }
        self.classes(constraints)
    }

    /// The rankings of the classes that meet `constraints`, those on the name left aside.
    fn classes(&self, constraints: &[Constraint]) -> Vec<&Ranking> {
        let meets = |class: &BTreeMap<String, String>| {
            constraints
                .iter()
                .all(|constraint| constraint.label == NODE_LABEL || constraint.holds(class))
        };
        let classes = self.open_by_class.iter();
        classes.filter(|(class, _)| meets(class)).map(|(_, ranking)| ranking).collect()
    }

    /// Rankings that hold exactly the open nodes that meet `constraint`, where the index can tell.
    fn looked_up(&self, constraint: &Constraint) -> Option<Vec<&Ranking>> {
        let by_value = self.open_by_label.get(&constraint.label);
        match (constraint.operator, by_value) {
            (ConstraintOperator::In | ConstraintOperator::Exists, None) => Some(Vec::new()),
            (ConstraintOperator::In, Some(by_value)) => {
                let rankings = constraint.values.iter();
                Some(rankings.filter_map(|value| by_value.get(value)).collect())
            }
            (ConstraintOperator::Exists, Some(by_value)) => {
                (by_value.len() <= VALUES_LOOKED_UP_MAX).then(|| by_value.values().collect())
            }
            (ConstraintOperator::NotIn | ConstraintOperator::NotExists, _) => None,
        }
    }

    fn entry(&mut self, node: NodeId) -> &mut PoolNode {
        let entry = self.nodes.get_mut(&node);
        entry.unwrap_or_else(|| panic!("node {node} must be in the pool"))
    }

    /// Puts `node` into its rankings with what is free on it now, if it is open.
    fn rank(&mut self, node: NodeId) {
        let entry = &self.nodes[&node];
        if !entry.open {
            return;
        }
        let (capacity, free) = (entry.capacity, entry.free());
        self.open.set(node, capacity, free);
        if let Some(ranking) = self.open_by_class.get_mut(&entry.class) {
            ranking.set(node, capacity, free);
        } else {
            let ranking = self.open_by_class.entry(entry.class.clone()).or_default();
            ranking.set(node, capacity, free);
        }
        for (key, value) in &entry.labels {
            // Looked up before it is inserted, because a key is cloned only to be inserted.
            let known = self.open_by_label.get_mut(key);
            if let Some(ranking) = known.and_then(|by_value| by_value.get_mut(value)) {
                ranking.set(node, capacity, free);
                continue;
            }
            let by_value = self.open_by_label.entry(key.clone()).or_default();
            let ranking = by_value.entry(value.clone()).or_default();
            ranking.set(node, capacity, free);
        }
    }

    /// Takes `node` out of its rankings, and those away that hold nothing more.
    fn unrank(&mut self, node: NodeId) {
        let Some(entry) = self.nodes.get(&node) else {
            return;
        };
        self.open.remove(node);
        if let Some(ranking) = self.open_by_class.get_mut(&entry.class) {
            ranking.remove(node);
            if ranking.len() == 0 {
                self.open_by_class.remove(&entry.class);
            }
        }
        for (key, value) in &entry.labels {
            let Some(by_value) = self.open_by_label.get_mut(key) else {
                continue;
            };
            if let Some(ranking) = by_value.get_mut(value) {
                ranking.remove(node);
                if ranking.len() == 0 {
                    by_value.remove(value);
                }
            }
            if by_value.is_empty() {
                self.open_by_label.remove(key);
            }
        }
    }
}
