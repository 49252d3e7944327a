//! What the doctor finds out about this machine.

mod support;

use std::path::Path;

use spawnery_sandbox::capabilities::{Check, Status, probe};
use spawnery_sandbox::protocol::{Reply, Request};
use support::{As, Bench, everybody};

fn status(checks: &[Check], name: &str) -> Status {
    let found = checks.iter().find(|check| check.name == name);
    found.unwrap_or_else(|| panic!("no check {name} in {checks:#?}")).status
}

#[test]
fn a_launcher_that_serves_is_asked_and_keeps_nothing_of_it() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let checks = probe(Path::new("/nonexistent"), bench.dir.path());
        for name in ["user namespaces", "process namespace", "network namespace", "seccomp filter"]
        {
            assert_eq!(status(&checks, name), Status::Enforced, "{whose:?}: {checks:#?}");
        }
        assert_ne!(status(&checks, "disk limit"), Status::Unavailable);
        assert_eq!(status(&checks, "out-of-memory detection"), Status::Enforced, "{checks:#?}");
        if whose == As::PlainUser {
            assert_eq!(status(&checks, "user ids of their own"), Status::Approximate);
            assert_eq!(status(&checks, "cpu limit"), Status::Unavailable);
            assert_eq!(status(&checks, "disk limit"), Status::Approximate);
        }
        for check in &checks {
            let wants_mend = check.status != Status::Enforced;
            assert_eq!(check.mend.is_some(), wants_mend, "{check:?}");
        }
        assert_eq!(bench.ask(Request::List), Reply::Instances { instances: Vec::new() });
    }
}

#[test]
fn without_a_launcher_a_temporary_one_is_used() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let checks = probe(Path::new(env!("CARGO_BIN_EXE_sandbox-test-launcher")), dir.path());
    assert_eq!(status(&checks, "user namespaces"), Status::Enforced, "{checks:#?}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
}

#[test]
fn a_program_that_cannot_run_is_told() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let checks = probe(Path::new("/nonexistent"), dir.path());
    assert_eq!(status(&checks, "launcher"), Status::Unavailable);
}
