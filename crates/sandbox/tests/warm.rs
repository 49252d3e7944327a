//! Sandboxes that are kept ready.

mod support;

use std::time::Instant;

use spawnery_sandbox::limits::{POOLED_MAX, POOLS_MAX};
use spawnery_sandbox::protocol::{PoolInfo, Reply, Request, WarmSpec};
use spawnery_sandbox::spec::{RootSpec, SandboxSpec, UserSpec};
use support::layers::{Layers, of};
use support::{Bench, DEADLINE, everybody};

fn pools(bench: &mut Bench) -> Vec<PoolInfo> {
    match bench.ask(Request::Pools) {
        Reply::Pools { pools } => pools,
        other => panic!("{other:?}"),
    }
}

/// Waits until each pool has what it wants.
fn wait_until_full(bench: &mut Bench) {
    let until = Instant::now() + DEADLINE;
    while pools(bench).iter().any(|pool| pool.ready < pool.wanted) {
        assert!(Instant::now() < until, "the pools do not fill: {:?}", pools(bench));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn layered(root: Option<RootSpec>, script: &str) -> SandboxSpec {
    let user = Some(UserSpec { uid: 12, gid: 12, groups: Vec::new() });
    SandboxSpec { root, user, ..SandboxSpec::new(["/bin/sh", "-c", script]) }
}

#[test]
fn a_pool_is_filled_used_and_filled_again() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let low = layers.minimal(|_| {});
        let mut bench = Bench::start(whose);
        let spec = layered(of(&[&low]), "id -u; cat /etc/hostname");
        let pool = WarmSpec { spec: Box::new(spec.clone()), count: 3 };
        assert_eq!(bench.client.warm(vec![pool]).expect("an answer"), Reply::Done);
        wait_until_full(&mut bench);
        assert_eq!(pools(&mut bench)[1], PoolInfo { wanted: 3, ready: 3 });
        // More than there are, each with something of its own.
        for number in 0..5 {
            let mut spec = spec.clone();
            spec.hostname = format!("box-{number}");
            let (exit, output) = bench.run_spec(&format!("it-{number}"), spec);
            assert_eq!(output, format!("12\nbox-{number}\n"), "{whose:?} {exit:?}");
        }
        wait_until_full(&mut bench);
        // Another kind gets nothing of it.
        let mut other = layered(of(&[&low]), "id -u");
        other.user = None;
        assert_eq!(bench.run_spec("other", other).1, "0\n", "{whose:?}");
        assert_eq!(bench.client.warm(Vec::new()).expect("an answer"), Reply::Done);
        assert_eq!(pools(&mut bench).len(), 1);
    }
}

#[test]
fn a_pool_of_what_cannot_be_made_harms_nobody() {
    let mut bench = Bench::new();
    let root = Some(RootSpec { layers: vec!["/nowhere/at-all".into()], host: false });
    let pool = WarmSpec { spec: Box::new(layered(root.clone(), "true")), count: 2 };
    assert_eq!(bench.client.warm(vec![pool]).expect("an answer"), Reply::Done);
    assert_eq!(bench.sh("it", "echo yes").1, "yes\n");
    let start = Request::Start { instance: "b".into(), spec: Box::new(layered(root, "true")) };
    match bench.ask(start) {
        Reply::StartFailed { step, .. } => assert_eq!(step, "open /nowhere/at-all/root"),
        other => panic!("{other:?}"),
    }
    assert_eq!(pools(&mut bench)[1].ready, 0);
}

#[test]
fn pools_are_bounded() {
    let mut bench = Bench::new();
    let pool = |count| WarmSpec { spec: Box::new(SandboxSpec::new(["true"])), count };
    let table = [vec![pool(POOLED_MAX + 1)], vec![pool(0); POOLS_MAX + 1]];
    for pools in table {
        let reply = bench.client.warm(pools).expect("an answer");
        assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
    }
}
