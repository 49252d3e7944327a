//! The red team in containers: the attempts that are made on the process runtime's sandbox, made on
//! instances of the `oci` and `docker` runtimes.
//!
//! The programs, the host that they aim at and its outer limits are those of the sandbox's escape
//! suite. Every attempt must be held but for those in `differences.rs`, each of which is there with
//! its reason, and must get through: so the table says what is, and nothing that was.

#![cfg(feature = "docker")]

// Of what is shared not everything is of use here: protections are switched off, and outer limits
// are tried, in the sandbox's own suite.
#[path = "../../../sandbox/tests/escape/attempts.rs"]
mod attempts;
mod differences;
#[path = "../support/engine.rs"]
mod engine;
#[allow(dead_code)]
#[path = "../../../sandbox/tests/escape/outer.rs"]
mod outer;
mod private_network;
mod support;
#[allow(dead_code)]
#[path = "../../../sandbox/tests/escape/table.rs"]
mod table;
mod trial;
#[allow(dead_code)]
#[path = "../../../sandbox/tests/escape/world.rs"]
mod world;

use differences::{DIFFERENCES, LEFT_OUT};
use engine::Engine;
use spawnery_model::RuntimeKind;
use spawnery_runtime::Runtimes;
use support::is_root;
use table::{ATTEMPTS, Attempt};
use trial::{NAMESPACES, Trial, Verdict};
use world::World;

#[tokio::test]
async fn with_runc_every_attempt_is_held() {
    if !is_root() {
        return support::skip("only root makes a host for attempts to aim at");
    }
    let world = World::new();
    let trial = Trial::new(&world, RuntimeKind::Oci, Runtimes::default()).await;
    check(trial).await;
}

#[tokio::test]
async fn with_docker_every_attempt_is_held() {
    if !is_root() {
        return support::skip("only root makes a host for attempts to aim at");
    }
    let world = World::new();
    let group = world.outer().group_of_engine().map(|group| format!("--cgroup-parent={group}"));
    let options: Vec<String> = group.into_iter().collect();
    let before = world.enter_with(NAMESPACES);
    let engine = Engine::start_in(world.folder_beside(), &before, &options);
    let trial = Trial::new(&world, RuntimeKind::Docker, engine.runtimes()).await;
    check(trial).await;
}

/// Makes all attempts that make sense, and compares with what is expected.
async fn check(mut trial: Trial<'_>) {
    let kind = trial.kind();
    let is_left_out = |it: &&Attempt| LEFT_OUT.iter().any(|out| out.is_about(it, kind));
    let attempts: Vec<&Attempt> = ATTEMPTS.iter().filter(|it| !is_left_out(it)).collect();
    assert!(attempts.len() > 100, "{} attempts", attempts.len());
    let mut failures = Vec::new();
    for attempt in attempts {
        let verdict = trial.make(attempt).await;
        let differs = DIFFERENCES.iter().find(|it| it.is_about(attempt, kind));
        let is_expected = match (&verdict, differs) {
            (Verdict::Held, None) => true,
            (Verdict::Through(what), Some(differs)) => what.contains(differs.shows),
            _ => false,
        };
        if !is_expected {
            let who = if attempt.is_root { "user 0" } else { "user" };
            let expected = differs.map_or("held", |it| it.reason);
            failures.push(format!(
                "{} as {who} ({:?}): {verdict:?}, expected: {expected}",
                attempt.name, attempt.shape
            ));
        }
    }
    assert!(failures.is_empty(), "{} {}:\n{}", failures.len(), kind.word(), failures.join("\n"));
}

#[test]
fn the_tables_are_about_attempts_that_there_are() {
    for differs in DIFFERENCES {
        let is_there = ATTEMPTS.iter().any(|it| differs.is_about(it, differs.kind));
        assert!(is_there && !differs.reason.is_empty(), "{}", differs.name);
    }
    for out in LEFT_OUT {
        assert!(ATTEMPTS.iter().any(|it| out.is_about(it, RuntimeKind::Docker)), "{}", out.reason);
    }
}
