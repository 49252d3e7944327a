//! Bytes that are no record and no snapshot are refused, and never stop the process.

mod town;

use proptest::prelude::*;
use spawnery_cluster::{Record, State};
use town::{Town, job, service, session};

/// A journal and a snapshot in which many kinds of things happened.
fn eventful() -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.apply(service("web", 3));
    town.apply(job("tick", "*/20 * * * * *", "Europe/Zurich"));
    town.session(session("shell", Some(30_000)));
    town.drain("a", true);
    town.pass(60_000);
    let encode = |record| minicbor::to_vec(record).unwrap();
    let records = town.journal.iter().map(encode).collect();
    (records, town.state().encode())
}

#[test]
fn a_snapshot_reads_back_as_it_was() {
    let (_, snapshot) = eventful();
    let state = State::decode(&snapshot).unwrap();
    state.assert_consistent();
    assert_eq!(state.encode(), snapshot);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rubbish_is_refused(bytes: Vec<u8>) {
        let _ = minicbor::decode::<Record>(&bytes);
        let _ = State::decode(&bytes);
    }

    #[test]
    fn a_part_of_a_record_is_refused(choice: prop::sample::Index, cut: prop::sample::Index) {
        let (records, _) = eventful();
        let record = choice.get(&records);
        let part = &record[..cut.index(record.len())];
        prop_assert!(minicbor::decode::<Record>(part).is_err());
    }

    #[test]
    fn a_damaged_snapshot_stops_nobody(place: prop::sample::Index, flip in 1u8..) {
        let (_, mut snapshot) = eventful();
        let place = place.index(snapshot.len());
        snapshot[place] ^= flip;
        let _ = State::decode(&snapshot);
    }
}
