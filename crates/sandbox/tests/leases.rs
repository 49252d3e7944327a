//! Instances that nobody says may go on.

mod support;

use spawnery_sandbox::clock::boottime_ms;
use spawnery_sandbox::limits::NOTE_BYTES_MAX;
use spawnery_sandbox::protocol::{InstanceInfo, InstanceState, Reply, Request};
use spawnery_sandbox::spec::{LeaseSpec, LimitReached, SandboxSpec};
use support::{Bench, everybody};

const SIGKILL: i32 = 9;

fn lease(lasts_ms: u64, heard_ms: u64, grace_ms: u64) -> Option<LeaseSpec> {
    Some(LeaseSpec { lasts_ms, heard_ms, stop_signal: 15, grace_ms })
}

fn spec(script: &str, lease: Option<LeaseSpec>) -> SandboxSpec {
    SandboxSpec { lease, ..SandboxSpec::new(["sh", "-c", script]) }
}

#[test]
fn without_a_renewal_it_is_asked_to_end_and_says_for_what() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done";
        bench.start_spec("it", spec(script, lease(4000, boottime_ms(), 60_000)));
        let exit = bench.exit_of("it", 0);
        assert_eq!((exit.code, exit.limit), (Some(3), Some(LimitReached::KeyLease)), "{whose:?}");
        assert_eq!(bench.output("it", 0), "up\nbye\n");
        assert_eq!(bench.state("it"), Some(InstanceState::Ended { exit }));
    }
}

#[test]
fn what_does_not_end_when_its_lease_is_over_is_killed_after_the_grace() {
    let mut bench = Bench::new();
    let script = "trap '' TERM; while :; do sleep 1; done";
    bench.start_spec("it", spec(script, lease(300, boottime_ms(), 100)));
    let exit = bench.exit_of("it", 0);
    assert_eq!((exit.signal, exit.limit), (Some(SIGKILL), Some(LimitReached::KeyLease)));
}

#[test]
fn one_that_is_renewed_outlives_its_first_lease_and_one_without_a_lease_stays() {
    let mut bench = Bench::new();
    let now = boottime_ms();
    let forever = "while :; do sleep 1; done";
    // Without a renewal it would end five seconds from now.
    bench.start_spec("renewed", spec(forever, lease(65_000, now.saturating_sub(60_000), 100)));
    bench.start_spec("other", spec(forever, None));
    assert_eq!(bench.ask(Request::Renew { heard_ms: now }), Reply::Done);
    // An older one changes nothing.
    assert_eq!(bench.ask(Request::Renew { heard_ms: 1 }), Reply::Done);
    bench.start_spec("short", spec(forever, lease(6_000, now, 100)));
    assert_eq!(bench.exit_of("short", 0).limit, Some(LimitReached::KeyLease));
    for instance in ["renewed", "other"] {
        let state = bench.state(instance);
        assert!(matches!(state, Some(InstanceState::Running { .. })), "{instance}: {state:?}");
    }
}

#[test]
fn one_whose_lease_is_over_when_it_is_asked_for_does_not_go_on() {
    let mut bench = Bench::new();
    let spec = spec("sleep 1000", lease(1, 1, 100));
    match bench.ask(Request::Start { instance: "it".into(), spec: Box::new(spec) }) {
        Reply::StartFailed { step, .. } => assert_eq!(step, "hold its lease"),
        Reply::Started { .. } => {
            assert_eq!(bench.exit_of("it", 0).limit, Some(LimitReached::KeyLease));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_can_hold_a_lease_by_a_time_to_come() {
    let mut bench = Bench::new();
    let far = boottime_ms() + 3_600_000;
    assert_eq!(bench.ask(Request::Renew { heard_ms: far }), Reply::Done);
    bench.start_spec("it", spec("sleep 1000", lease(300, far, 100)));
    assert_eq!(bench.exit_of("it", 0).limit, Some(LimitReached::KeyLease));
}

#[test]
fn one_that_is_being_stopped_when_its_lease_ends_was_stopped() {
    let mut bench = Bench::new();
    let script = "trap 'echo stopping' TERM; echo up; while :; do sleep 0.05; done";
    bench.start_spec("it", spec(script, lease(5000, boottime_ms(), 0)));
    bench.wait_for_output("it", 0, "up");
    let stop = Request::Stop { instance: "it".into(), signal: 15, grace_ms: 60_000 };
    assert_eq!(bench.ask(stop), Reply::Done);
    let exit = bench.exit_of("it", 0);
    assert_eq!((exit.signal, exit.limit), (Some(SIGKILL), None));
}

#[test]
fn a_note_is_given_back_as_long_as_its_instance_lives() {
    let mut bench = Bench::new();
    let note = |instance: &str, note: &[u8]| Request::Note {
        instance: instance.into(),
        note: note.to_vec(),
    };
    assert_eq!(bench.ask(note("it", b"early")), Reply::NotFound);
    bench.start_spec("it", SandboxSpec::new(["sleep", "1000"]));
    assert_eq!(listed(&mut bench).note, None);
    assert_eq!(bench.ask(note("it", b"one")), Reply::Done);
    assert_eq!(bench.ask(note("it", b"two")), Reply::Done);
    let large = bench.ask(note("it", &vec![0; NOTE_BYTES_MAX + 1]));
    assert!(matches!(large, Reply::Refused { .. }), "{large:?}");
    bench.reconnect();
    assert_eq!(listed(&mut bench).note.as_deref(), Some(b"two".as_slice()));
    let kill = Request::Signal { instance: "it".into(), process: 0, signal: SIGKILL };
    assert_eq!(bench.ask(kill), Reply::Done);
    bench.exit_of("it", 0);
    assert_eq!(listed(&mut bench).note, None);
    assert_eq!(bench.ask(note("it", b"late")), Reply::NotFound);
}

fn listed(bench: &mut Bench) -> InstanceInfo {
    match bench.ask(Request::List) {
        Reply::Instances { mut instances } => instances.remove(0),
        other => panic!("{other:?}"),
    }
}
