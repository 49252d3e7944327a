//! The contract of placement, as tables.

use spawnery_model::{
    Bytes, Capacity, Constraint, ConstraintOperator, CpuMillis, Id, Name, NodeId,
};
use spawnery_placement::{Pool, Request, choose, eligible, explain};
use std::collections::{BTreeMap, BTreeSet};

fn id(number: u128) -> NodeId {
    NodeId(Id::from_bits(number))
}

fn amount(memory_mib: u64, cpu: u32) -> Capacity {
    Capacity { memory: Bytes::mib(memory_mib), cpu: CpuMillis(cpu) }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn constraint(label: &str, operator: ConstraintOperator, values: &[&str]) -> Constraint {
    Constraint {
        label: label.to_owned(),
        operator,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    }
}

/// A node of the tables: its number is its id, and its name is `n` and its number.
struct Row {
    number: u128,
    zone: &'static str,
    capacity: Capacity,
    reserved: Capacity,
    open: bool,
}

fn row(number: u128, zone: &'static str, capacity: Capacity, reserved: Capacity) -> Row {
    Row { number, zone, capacity, reserved, open: true }
}

fn closed(row: Row) -> Row {
    Row { open: false, ..row }
}

fn pool(rows: &[Row]) -> Pool {
    let mut pool = Pool::default();
    for row in rows {
        let name = Name::new(format!("n{}", row.number)).unwrap();
        let labels = labels(&[("zone", row.zone)]);
        let node = id(row.number);
        pool.insert(node, &name, &labels, row.capacity, row.reserved, row.open);
    }
    pool
}

fn request<'a>(
    amount: Capacity,
    constraints: &'a [Constraint],
    avoid: &'a BTreeSet<NodeId>,
) -> Request<'a> {
    Request { amount, constraints, node: None, avoid }
}

const NOTHING: Capacity = Capacity { memory: Bytes(0), cpu: CpuMillis(0) };

#[test]
fn the_node_with_the_greatest_free_share_that_fits_is_chosen() {
    let rows = [
        // Half free, and the largest by far.
        row(1, "eu", amount(64_000, 64_000), amount(32_000, 32_000)),
        // All free, but small.
        row(2, "eu", amount(1_000, 1_000), NOTHING),
        row(3, "us", amount(1_000, 1_000), NOTHING),
        // Its memory is free, its CPU is all taken.
        row(4, "us", amount(1_000, 1_000), amount(0, 1_000)),
        closed(row(5, "us", amount(64_000, 64_000), NOTHING)),
    ];
    let pool = pool(&rows);
    let check = |wanted, constraints: &[Constraint], avoid: &[u128], expected: Option<u128>| {
        let avoid: BTreeSet<NodeId> = avoid.iter().copied().map(id).collect();
        let request = request(wanted, constraints, &avoid);
        assert_eq!(choose(&pool, &request), expected.map(id), "{request:?}");
    };
    use ConstraintOperator::{Exists, In, NotExists, NotIn};
    let small = amount(100, 100);
    check(small, &[], &[], Some(2));
    check(small, &[], &[2], Some(3));
    check(small, &[], &[2, 3], Some(1));
    check(small, &[], &[1, 2, 3, 4, 5], Some(2));
    check(amount(2_000, 100), &[], &[], Some(1));
    check(amount(2_000, 100), &[], &[1], Some(1));
    check(amount(33_000, 100), &[], &[], None);
    check(amount(100, 0), &[constraint("node", In, &["n4"])], &[], Some(4));
    check(small, &[constraint("zone", In, &["us"])], &[], Some(3));
    check(small, &[constraint("zone", NotIn, &["eu"])], &[], Some(3));
    check(small, &[constraint("zone", Exists, &[])], &[], Some(2));
    check(small, &[constraint("zone", NotExists, &[])], &[], None);
    check(small, &[constraint("disk", In, &["ssd"])], &[], None);
    check(small, &[constraint("disk", Exists, &[])], &[], None);
    check(small, &[constraint("disk", NotExists, &[])], &[], Some(2));
    check(small, &[constraint("node", In, &["n1"])], &[], Some(1));
    check(small, &[constraint("node", In, &["n5"])], &[], None);
    let both = [constraint("zone", In, &["eu"]), constraint("node", NotIn, &["n2"])];
    check(small, &both, &[], Some(1));
}

#[test]
fn a_certain_node_is_taken_or_nothing() {
    let rows = [
        row(1, "eu", amount(1_000, 1_000), amount(900, 0)),
        row(2, "us", amount(1_000, 1_000), NOTHING),
        closed(row(3, "us", amount(1_000, 1_000), NOTHING)),
    ];
    let pool = pool(&rows);
    let check = |node: u128, wanted, constraints: &[Constraint], why: Option<&str>| {
        let avoid = BTreeSet::from([id(node)]);
        let request = Request { node: Some(id(node)), ..request(wanted, constraints, &avoid) };
        assert_eq!(choose(&pool, &request), why.is_none().then_some(id(node)));
        if let Some(why) = why {
            assert_eq!(explain(&pool, &request).to_string(), why);
        }
    };
    let eu = [constraint("zone", ConstraintOperator::In, &["eu"])];
    check(1, amount(100, 100), &[], None);
    check(1, amount(100, 100), &eu, None);
    let short =
        "the node that it must run on has too little memory (wanted 101M, at most 100M free)";
    check(1, amount(101, 100), &[], Some(short));
    let large = "the node that it must run on is not that large (wanted 1.9G of memory and 0.1 of \
                 CPU; the most that a node has is 1000M and 1)";
    check(1, amount(2_000, 100), &[], Some(large));
    let unmet = "the node that it must run on does not meet `zone == eu`";
    check(2, amount(100, 100), &eu, Some(unmet));
    let closed = "the node that it must run on is draining, stopping or lost";
    check(3, amount(100, 100), &[], Some(closed));
    let absent = "the node that it must run on has not joined";
    check(4, amount(100, 100), &[], Some(absent));
}

#[test]
fn a_refusal_says_what_is_short_in_words() {
    let check = |rows: &[Row], wanted, constraints: &[Constraint], why: &str| {
        let pool = pool(rows);
        let avoid = BTreeSet::new();
        let request = request(wanted, constraints, &avoid);
        assert_eq!(choose(&pool, &request), None);
        assert_eq!(explain(&pool, &request).to_string(), why);
    };
    let eu = [constraint("zone", ConstraintOperator::In, &["eu"])];
    let size = amount(8 << 10, 8_000);
    check(&[], amount(1, 1), &[], "no node has joined");
    check(
        &[
            closed(row(1, "eu", size, NOTHING)),
            row(2, "us", size, NOTHING),
            row(3, "eu", size, amount(6_656, 0)),
        ],
        amount(4 << 10, 100),
        &eu,
        "3 nodes: 1 is draining, stopping or lost, 1 does not meet `zone == eu`, 1 has too little \
         memory (wanted 4G, at most 1.5G free)",
    );
    check(
        &[row(1, "eu", size, amount(0, 7_500)), row(2, "us", size, amount(0, 7_750))],
        amount(1, 1_000),
        &[],
        "2 nodes: 2 have too little CPU (wanted 1, at most 0.5 free)",
    );
    check(
        &[row(1, "eu", size, amount(4 << 10, 0))],
        amount((4 << 10) + 1, 0),
        &[],
        "1 node: 1 has too little memory (wanted 4296015872B, at most 4294967296B free)",
    );
    check(
        &[row(1, "eu", size, NOTHING), closed(row(2, "us", amount(64 << 10, 1_000), NOTHING))],
        amount(4 << 20, 2_000),
        &[],
        "no node is that large (wanted 4T of memory and 2 of CPU; the most that a node has is 64G \
         and 8)",
    );
    let many: Vec<Constraint> = ["a", "b", "c", "d", "e"]
        .map(|key| constraint(key, ConstraintOperator::Exists, &[]))
        .into();
    check(&[row(1, "eu", size, NOTHING)], amount(1, 1), &many, "1 node: 1 does not meet `has a`");
}

#[test]
fn an_explanation_of_what_fits_after_all_says_so() {
    let size = amount(1_000, 1_000);
    let pool = pool(&[row(1, "eu", size, NOTHING), row(2, "eu", size, size)]);
    let avoid = BTreeSet::new();
    let said = explain(&pool, &request(amount(100, 100), &[], &avoid)).to_string();
    let expected = "2 nodes: 1 has too little memory (wanted 100M, at most 0B free), 1 has room";
    assert_eq!(said, expected);
}

#[test]
fn many_nodes_with_labels_of_their_own_are_told_apart() {
    let mut pool = Pool::default();
    for number in 1..=300u128 {
        let name = Name::new(format!("n{number}")).unwrap();
        let host = format!("h{number}");
        let zone = if number % 2 == 0 { "eu" } else { "us" };
        let labels = labels(&[("host", &host), ("zone", zone)]);
        pool.insert(id(number), &name, &labels, amount(1_000, 1_000), NOTHING, true);
    }
    use ConstraintOperator::{Exists, In, NotIn};
    let avoid = BTreeSet::new();
    let check = |constraints: &[Constraint], expected: Option<u128>| {
        let chosen = choose(&pool, &request(amount(1, 1), constraints, &avoid));
        assert_eq!(chosen, expected.map(id), "{constraints:?}");
    };
    let eu = constraint("zone", In, &["eu"]);
    check(&[constraint("host", In, &["h250"])], Some(250));
    check(&[constraint("host", In, &["h251"]), eu.clone()], None);
    check(&[constraint("host", NotIn, &["h2", "h4"]), eu.clone()], Some(6));
    check(&[constraint("host", Exists, &[]), eu], Some(2));
}

#[test]
fn open_nodes_that_meet_the_constraints_are_eligible_however_full() {
    let size = amount(1_000, 1_000);
    let pool = pool(&[
        row(3, "eu", size, size),
        closed(row(2, "eu", size, NOTHING)),
        row(1, "eu", size, NOTHING),
        row(4, "us", size, NOTHING),
    ]);
    let eu = [constraint("zone", ConstraintOperator::In, &["eu"])];
    assert_eq!(eligible(&pool, &eu).collect::<Vec<_>>(), [id(1), id(3)]);
}

#[test]
fn a_changed_node_is_chosen_by_what_it_is_now() {
    let size = amount(1_000, 1_000);
    let mut pool = pool(&[row(1, "eu", size, NOTHING), row(2, "eu", size, amount(500, 0))]);
    let avoid = BTreeSet::new();
    let eu = [constraint("zone", ConstraintOperator::In, &["eu"])];
    let chosen = |pool: &Pool| choose(pool, &request(amount(100, 100), &eu, &avoid));
    assert_eq!(chosen(&pool), Some(id(1)));
    pool.reserve(id(1), amount(600, 0));
    assert_eq!(chosen(&pool), Some(id(2)));
    pool.release(id(1), amount(600, 0));
    assert_eq!(chosen(&pool), Some(id(1)));
    pool.set_open(id(1), false);
    assert_eq!(chosen(&pool), Some(id(2)));
    pool.set_labels(id(2), &labels(&[("node", "n1")]));
    assert_eq!(chosen(&pool), None);
    assert_eq!(pool.get(id(2)).unwrap().labels, labels(&[("node", "n2")]));
    pool.set_open(id(1), true);
    assert_eq!(chosen(&pool), Some(id(1)));
    pool.set_capacity(id(1), amount(50, 50));
    assert_eq!(chosen(&pool), None);
    pool.remove(id(1));
    pool.remove(id(1));
    assert_eq!((pool.len(), pool.is_empty()), (1, false));
}

#[test]
fn a_node_that_shrank_below_its_reservations_has_nothing_free() {
    let mut pool = pool(&[row(1, "eu", amount(100, 100), amount(200, 50))]);
    let avoid = BTreeSet::new();
    assert_eq!(choose(&pool, &request(amount(1, 1), &[], &avoid)), None);
    pool.release(id(1), amount(150, 0));
    assert_eq!(choose(&pool, &request(amount(50, 50), &[], &avoid)), Some(id(1)));
}

#[test]
#[should_panic(expected = "a reservation must fit")]
fn a_reservation_that_does_not_fit_is_a_defect() {
    let mut pool = pool(&[row(1, "eu", amount(100, 100), NOTHING)]);
    pool.reserve(id(1), amount(101, 1));
}

#[test]
#[should_panic(expected = "only what is reserved can be released")]
fn a_release_of_more_than_is_reserved_is_a_defect() {
    let mut pool = pool(&[row(1, "eu", amount(100, 100), amount(10, 10))]);
    pool.release(id(1), amount(11, 1));
}

#[test]
#[should_panic(expected = "must be in the pool")]
fn a_reservation_on_an_unknown_node_is_a_defect() {
    Pool::default().reserve(id(1), NOTHING);
}
