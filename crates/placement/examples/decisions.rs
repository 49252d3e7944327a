//! How many placement decisions a second, in a cluster of 10,000 nodes that holds 100,000
//! instances: `cargo run --release -p spawnery-placement --example decisions`.
//!
//! Each decision is a choice and its reservation; while the cluster is kept at its size, also the
//! release of the oldest instance. At the end the reservations are counted anew.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark measures and prints"
)]

use spawnery_model::{
    Bytes, Capacity, Constraint, ConstraintOperator, CpuMillis, Id, Name, NodeId,
};
use spawnery_placement::{Pool, Request, choose};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

const NODES: u128 = 10_000;
const INSTANCES: usize = 100_000;
const DECISIONS: usize = 300_000;

type Placed = VecDeque<(NodeId, Capacity)>;

fn main() {
    let mut pool = cluster();
    let mut placed = Placed::new();
    let eu = [is("zone", "eu")];
    let rare = [is("gpu", "yes")];
    let both = [is("zone", "us"), is("disk", "ssd")];
    measure("filling it", INSTANCES, || {
        for number in 0..INSTANCES {
            place(&mut pool, &mut placed, amount(number), &[]);
        }
    });
    churn("any node", &mut pool, &mut placed, &[]);
    churn("zone == eu", &mut pool, &mut placed, &eu);
    churn("zone == us, disk == ssd", &mut pool, &mut placed, &both);
    churn("gpu == yes (1 node in 100)", &mut pool, &mut placed, &rare);
    let too_large = Capacity { memory: Bytes::mib(1 << 20), cpu: CpuMillis(1) };
    measure("refusing what is too large", DECISIONS, || {
        for _ in 0..DECISIONS {
            assert_eq!(ask(&pool, too_large, &eu), None);
        }
    });
    refuse_at_worst();
    while let Some((node, amount)) = placed.pop_front() {
        pool.release(node, amount);
    }
    assert!(
        pool.iter().all(|(_, node)| node.reserved == Capacity::default()),
        "what was reserved was released"
    );
}

/// The slowest question: one half of the nodes has no memory left, the other no processor share, so
/// that only a look at each tells.
fn refuse_at_worst() {
    let mut pool = cluster();
    let nodes: Vec<(NodeId, Capacity)> =
        pool.iter().map(|(node, entry)| (node, entry.capacity)).collect();
    for (number, (node, mut amount)) in nodes.into_iter().enumerate() {
        match number % 2 {
            0 => amount.memory = Bytes(0),
            _ => amount.cpu = CpuMillis(0),
        }
        pool.reserve(node, amount);
    }
    measure("refusing at worst", DECISIONS / 100, || {
        for number in 0..DECISIONS / 100 {
            assert_eq!(ask(&pool, amount(number), &[]), None);
        }
    });
}

/// Three zones, two kinds of disk, a few processors of a rare kind, three sizes.
fn cluster() -> Pool {
    let mut pool = Pool::default();
    for number in 0..NODES {
        let name = Name::new(format!("node-{number}")).expect("it is a DNS label");
        let pick = |from: &[&str]| from[number as usize % from.len()].to_owned();
        let labels = BTreeMap::from([
            ("zone".to_owned(), pick(&["eu", "us", "asia"])),
            ("disk".to_owned(), pick(&["ssd", "hdd"])),
            ("gpu".to_owned(), pick(&[&["yes"][..], &["no"; 99]].concat())),
        ]);
        let size = 1 << (number % 3);
        let capacity =
            Capacity { memory: Bytes::mib(16_384 * size), cpu: CpuMillis(8_000 * size as u32) };
        // Spread over all ids, as random ones are.
        let id = NodeId(Id::from_bits((number + 1) * 0x9e37_79b9_7f4a_7c15_f39d));
        pool.insert(id, &name, &labels, capacity, Capacity::default(), true);
    }
    pool
}

fn is(label: &str, value: &str) -> Constraint {
    Constraint {
        label: label.to_owned(),
        operator: ConstraintOperator::In,
        values: vec![value.to_owned()],
    }
}

fn amount(number: usize) -> Capacity {
    Capacity {
        memory: Bytes::mib(256 << (number % 4)),
        cpu: CpuMillis(100 + (number % 7) as u32 * 50),
    }
}

fn ask(pool: &Pool, amount: Capacity, constraints: &[Constraint]) -> Option<NodeId> {
    let avoid = BTreeSet::new();
    let request = Request { amount, constraints, node: None, avoid: &avoid };
    choose(pool, &request)
}

fn place(pool: &mut Pool, placed: &mut Placed, amount: Capacity, constraints: &[Constraint]) {
    if let Some(node) = ask(pool, amount, constraints) {
        pool.reserve(node, amount);
        placed.push_back((node, amount));
    }
}

fn churn(what: &str, pool: &mut Pool, placed: &mut Placed, constraints: &[Constraint]) {
    measure(what, DECISIONS, || {
        for number in 0..DECISIONS {
            place(pool, placed, amount(number), constraints);
            while placed.len() > INSTANCES {
                let (node, amount) = placed.pop_front().expect("it is not empty");
                pool.release(node, amount);
            }
        }
    });
}

fn measure(what: &str, count: usize, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    let per_second = count as f64 / start.elapsed().as_secs_f64();
    println!("{what:30} {per_second:>12.0} decisions/s");
}
