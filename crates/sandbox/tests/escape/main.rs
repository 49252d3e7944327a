//! The red team: programs that try to get out of their sandbox, or to disturb others from within.
//!
//! Every attempt must be held, by a launcher with root and by one without. And for every
//! protection there is an attempt that gets through when that protection alone is switched off:
//! so nothing here is held by accident, and no protection is lost unnoticed.
//!
//! All of it happens on a host that the test made itself (`world.rs`). Every bomb ends by itself,
//! and sits inside outer limits of time, memory, processes and disk (`outer.rs`), which the last
//! test here tries without any sandbox.

mod attempts;
// An engine is in the suite of the runtimes only.
#[allow(dead_code)]
mod outer;
mod outer_tests;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod trial;
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use spawnery_sandbox::protections::Protection;
use support::{As, is_root, skip};
use table::{ATTEMPTS, Attempt, PROBES, Probe};
use trial::{Home, Trial, Verdict};
use world::World;

#[test]
fn with_root_every_attempt_is_held() {
    check_attempts(As::Us);
}

#[test]
fn without_root_every_attempt_is_held() {
    check_attempts(As::PlainUser);
}

#[test]
fn with_root_every_protection_that_is_switched_off_is_noticed() {
    check_switches(As::Us);
}

#[test]
fn without_root_every_protection_that_is_switched_off_is_noticed() {
    check_switches(As::PlainUser);
}

fn check_attempts(whose: As) {
    if !is_root() {
        return skip("only root makes a host for attempts to aim at");
    }
    let world = World::new();
    let home = Home::new(&world, whose);
    let mut trial = Trial::new(&home, &world, whose, &[]);
    let attempts: Vec<&Attempt> = ATTEMPTS.iter().filter(|it| it.is_for(whose)).collect();
    let failures: Vec<String> = attempts
        .iter()
        .filter_map(|attempt| match trial.make(attempt) {
            Verdict::Held => None,
            other => Some(format!("{}: {other:?}", describe(attempt))),
        })
        .collect();
    let count = (failures.len(), attempts.len());
    assert!(failures.is_empty(), "{} of {} attempts:\n{}", count.0, count.1, failures.join("\n"));
}

fn describe(attempt: &Attempt) -> String {
    let who = if attempt.is_root { "user 0" } else { "user" };
    format!("{} as {who} ({:?})", attempt.name, attempt.shape)
}

fn check_switches(whose: As) {
    if !is_root() {
        return skip("only root makes a host for attempts to aim at");
    }
    let world = World::new();
    let home = Home::new(&world, whose);
    let probes: Vec<&Probe> = PROBES.iter().filter(|it| it.with.is_for(whose)).collect();
    let failures: Vec<String> =
        probes.iter().filter_map(|probe| check_switch(&home, &world, whose, probe).err()).collect();
    let count = (failures.len(), probes.len());
    assert!(failures.is_empty(), "{} of {} switches:\n{}", count.0, count.1, failures.join("\n"));
}

/// Whether somebody notices that a protection is off, and would not notice what is off besides.
fn check_switch(home: &Home, world: &World, whose: As, probe: &Probe) -> Result<(), String> {
    let name = probe.protection.name();
    let attempts: Vec<&Attempt> =
        ATTEMPTS.iter().filter(|it| it.is_for(whose) && probe.names.contains(&it.name)).collect();
    if !probe.beside.is_empty() {
        let mut trial = Trial::new(home, world, whose, probe.beside);
        for attempt in &attempts {
            let verdict = trial.make(attempt);
            if verdict != Verdict::Held {
                return Err(format!("{name} is on: {}: {verdict:?}", describe(attempt)));
            }
        }
    }
    let without = [&[probe.protection], probe.beside].concat();
    let mut trial = Trial::new(home, world, whose, &without);
    let mut verdicts = Vec::new();
    for attempt in attempts {
        let verdict = trial.make(attempt);
        if matches!(verdict, Verdict::Through(_)) {
            return Ok(());
        }
        verdicts.push(format!("{}: {verdict:?}", describe(attempt)));
    }
    Err(format!("nobody notices that {name} is off: {}", verdicts.join("; ")))
}

#[test]
fn the_tables_are_whole() {
    let names: BTreeSet<&str> = ATTEMPTS.iter().map(|it| it.name).collect();
    assert!(names.len() >= 60, "{} attempts", names.len());
    let programs = attempts::FILES.iter().map(|(_, text)| *text);
    let functions = programs.flat_map(|text| text.split("@attempt\ndef ").skip(1));
    let defined: BTreeSet<&str> = functions.filter_map(|it| it.split('(').next()).collect();
    assert_eq!(names, defined);
    let probed: Vec<Protection> = PROBES.iter().map(|it| it.protection).collect();
    assert_eq!(probed, Protection::ALL, "each protection has its probe, in the same order");
    let unknown = PROBES.iter().flat_map(|it| it.names).find(|it| !names.contains(*it));
    assert_eq!(unknown, None);
}

/// Protections can be switched off by a test's own program only: no other source names them.
#[test]
fn nothing_in_the_product_switches_a_protection_off() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of the crates");
    let mut found = Vec::new();
    for entry in fs::read_dir(crates).expect("listed").flatten() {
        search(&entry.path().join("src"), &["serve_weakened", ".without(Protection"], &mut found);
    }
    found.retain(|it| !it.ends_with("sandbox/src/protections.rs"));
    let serve = ["sandbox/src/launcher/mod.rs", "sandbox/src/launcher/serve.rs"];
    found.retain(|it| !serve.iter().any(|serve| it.ends_with(serve)));
    assert!(found.is_empty(), "{found:?}");
    let source = fs::read_to_string(crates.join(serve[1])).expect("read");
    assert!(source.contains("serve_weakened(config, Protections::all())"));
    assert_eq!(source.matches("serve_weakened").count(), 2, "its definition and that call");
}

fn search(dir: &Path, words: &[&str], found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            search(&path, words, found);
        } else {
            let text = fs::read_to_string(&path).unwrap_or_default();
            if words.iter().any(|word| text.contains(word)) {
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
}
