//! Placement decisions in a large cluster.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use spawnery_model::{
    Bytes, Capacity, Constraint, ConstraintOperator, CpuMillis, Id, Name, NodeId,
};
use spawnery_placement::{Pool, Request, choose};

use super::figure::Figure;
use super::options::Options;
use super::row::{Goal, Row};
use crate::Failure;

const NODES: u128 = 10_000;
const INSTANCES: usize = 100_000;
const DECISIONS: usize = 200_000;

/// Chooses a node, reserves on it and releases the oldest reservation, over and over.
pub fn measure(_: &Options) -> Result<Vec<Row>, Failure> {
    let mut cluster = Cluster::new()?;
    for number in 0..INSTANCES {
        cluster.place(number, &[])?;
    }
    let zone = Constraint {
        label: "zone".to_owned(),
        operator: ConstraintOperator::In,
        values: vec!["eu".to_owned()],
    };
    let mut rows = Vec::new();
    for (what, constraints) in [("any node", &[][..]), ("one zone of three", &[zone][..])] {
        let start = Instant::now();
        for number in 0..DECISIONS {
            cluster.release_oldest();
            cluster.place(number, constraints)?;
        }
        let what = format!("placement, 10,000 nodes, 100,000 instances, {what}");
        rows.push(Row::new(what, Figure::rate(DECISIONS, start.elapsed()), Goal::AtLeast(1e5)));
    }
    cluster.check()?;
    Ok(rows)
}

struct Cluster {
    pool: Pool,
    placed: VecDeque<(NodeId, Capacity)>,
}

impl Cluster {
    fn new() -> Result<Cluster, Failure> {
        let mut pool = Pool::default();
        for number in 0..NODES {
            let name = Name::new(format!("node-{number}")).map_err(|error| error.to_string())?;
            let zone = ["eu", "us", "asia"][(number % 3) as usize];
            let labels = BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
            let capacity = Capacity { memory: Bytes::mib(65_536), cpu: CpuMillis(32_000) };
            // Spread over all ids, as random ones are.
            let id = NodeId(Id::from_bits((number + 1) * 0x9e37_79b9_7f4a_7c15_f39d));
            pool.insert(id, &name, &labels, capacity, Capacity::default(), true);
        }
        Ok(Cluster { pool, placed: VecDeque::new() })
    }

    fn place(&mut self, number: usize, constraints: &[Constraint]) -> Result<(), Failure> {
        let amount = Capacity {
            memory: Bytes::mib(256 << (number % 3)),
            cpu: CpuMillis(100 + (number % 7) as u32 * 50),
        };
        let avoid = BTreeSet::new();
        let request = Request { amount, constraints, node: None, avoid: &avoid };
        let node = choose(&self.pool, &request).ok_or("the cluster of this benchmark is full")?;
        self.pool.reserve(node, amount);
        self.placed.push_back((node, amount));
        Ok(())
    }

    fn release_oldest(&mut self) {
        if let Some((node, amount)) = self.placed.pop_front() {
            self.pool.release(node, amount);
        }
    }

    /// What the nodes say is reserved must be what was placed on them.
    fn check(&self) -> Result<(), Failure> {
        let mut expected: BTreeMap<NodeId, Capacity> = BTreeMap::new();
        for (node, amount) in &self.placed {
            let sum = expected.entry(*node).or_default();
            sum.memory.0 += amount.memory.0;
            sum.cpu.0 += amount.cpu.0;
        }
        let exact = self.pool.iter().all(|(id, node)| {
            let sum = expected.get(&id).copied().unwrap_or_default();
            node.reserved == sum
                && sum.memory <= node.capacity.memory
                && sum.cpu <= node.capacity.cpu
        });
        if exact { Ok(()) } else { Err("the reservations are not exact".to_owned()) }
    }
}
