//! What is asked for sessions, and what their templates say.

use crate::random::Random;
use spawnery_cluster::{Command, SessionSource};
use spawnery_model::{
    Bytes, CpuMillis, DurationMs, Name, OwnerLimits, SessionLimits, SessionSettings, SessionTerms,
    Warnings,
};
use std::collections::{BTreeMap, BTreeSet};

/// Those who ask for sessions.
const OWNERS: [&str; 4] = ["ann", "bob", "eve", "max"];

/// Keys of each template: few, so that they meet.
const KEYS: [&str; 3] = ["k", "l", "m"];

pub(super) fn owner(random: &mut Random) -> String {
    (*random.pick(&OWNERS)).to_owned()
}

/// What the token of an owner allows.
pub(crate) fn allowed(owner: &str) -> OwnerLimits {
    let unlimited = OwnerLimits::default();
    match owner {
        "bob" => OwnerLimits { sessions: Some(3), creates_per_minute: Some(6), ..unlimited },
        "eve" => OwnerLimits {
            memory: Some(Bytes::mib(200)),
            duration: Some(DurationMs(15_000)),
            idle_timeout: Some(DurationMs(4000)),
            sessions: Some(1),
            ..unlimited
        },
        "max" => OwnerLimits { creates_per_minute: Some(3), ..unlimited },
        _ => unlimited,
    }
}

pub(super) fn create(source: SessionSource, random: &mut Random) -> Command {
    let owner = owner(random);
    let terms = Box::new(terms(&owner, random));
    Command::CreateSession { source, owner, terms }
}

fn terms(owner: &str, random: &mut Random) -> SessionTerms {
    let key = random.chance(600).then(|| Name::new(*random.pick(&KEYS)).expect("it is a label"));
    let tags = match random.chance(60) {
        true => BTreeMap::from([("map".to_owned(), "moon".to_owned())]),
        false => BTreeMap::new(),
    };
    // Most share, so that keys meet.
    let shared_with = match random.chance(800) {
        true => OWNERS.iter().map(|owner| (*owner).to_owned()).collect(),
        false => BTreeSet::new(),
    };
    let wanted = SessionLimits {
        memory: random.chance(100).then(|| Bytes::mib(random.between(16, 300))),
        cpu: random.chance(100).then(|| CpuMillis(random.between(10, 900) as u32)),
        duration: time(150, 500, 30_000, random),
        idle_timeout: time(150, 500, 20_000, random),
        ..SessionLimits::default()
    };
    SessionTerms {
        key,
        tags,
        shared_with,
        wanted,
        allowed: allowed(owner),
        beyond_template: random.chance(200),
        at_once: random.chance(150),
        queue_deadline: time(300, 500, 30_000, random),
    }
}

pub(super) fn settings(random: &mut Random) -> SessionSettings {
    let warnings = random.chance(500).then(|| {
        Box::new(Warnings {
            before_duration: time(500, 100, 8000, random),
            before_idle: time(500, 1, 8000, random),
            signal: random.chance(700).then_some(10),
            file: None,
        })
    });
    SessionSettings {
        duration_max: time(400, 500, 20_000, random),
        idle_timeout: time(400, 500, 15_000, random),
        duration_limit: time(300, 20_000, 60_000, random),
        idle_timeout_limit: None,
        warnings,
        queue_deadline: time(300, 2000, 60_000, random),
        stale_period: time(500, 500, 30_000, random),
        key_lease: time(900, 4000, 22_000, random),
        ..SessionSettings::default()
    }
}

/// How long sessions may stay on a drained node.
pub(super) fn drain_deadline(draining: bool, random: &mut Random) -> Option<DurationMs> {
    if draining { time(700, 500, 40_000, random) } else { None }
}

/// A time, so many times in a thousand.
fn time(per_mille: u32, low: u64, high: u64, random: &mut Random) -> Option<DurationMs> {
    random.chance(per_mille).then(|| DurationMs(random.between(low, high)))
}
