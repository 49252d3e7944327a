//! What limits promise: none is ever exceeded, and who waits gets a turn.

mod town;

use spawnery_cluster::{Command, Rejection, Reply};
use spawnery_model::{
    Bytes, CpuMillis, DurationMs, Instance, InstanceId, OwnerLimits, Phase, SessionLimits,
    SessionTerms, Workload, limits,
};
use town::{Town, exit_code, keyed, session, session_settings};

/// Sessions of the template `room` for which one node has memory.
const ROOMS_PER_NODE: usize = 10;

fn room() -> Workload {
    let mut room = session("room", None);
    room.process.cpu_reserved = CpuMillis(10);
    room
}

fn town() -> Town {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(room());
    town
}

fn allowed(allowed: OwnerLimits) -> SessionTerms {
    SessionTerms { allowed, ..SessionTerms::default() }
}

fn sessions(limit: u32) -> SessionTerms {
    allowed(OwnerLimits { sessions: Some(limit), ..OwnerLimits::default() })
}

fn per_minute(limit: u32) -> SessionTerms {
    allowed(OwnerLimits { creates_per_minute: Some(limit), ..OwnerLimits::default() })
}

fn at_once() -> SessionTerms {
    SessionTerms { at_once: true, ..SessionTerms::default() }
}

fn found(town: &Town, instance: InstanceId) -> &Instance {
    town.state().instance(instance).unwrap()
}

fn session_limits(town: &Town, instance: InstanceId) -> SessionLimits {
    found(town, instance).session.as_ref().unwrap().limits.clone()
}

fn waiting(town: &Town) -> Vec<InstanceId> {
    let pending = town.state().instances().filter(|it| it.phase == Phase::Pending);
    pending.map(|instance| instance.id).collect()
}

#[test]
fn each_limit_is_the_smaller_of_what_is_asked_and_what_is_allowed() {
    let mut town = Town::with_nodes(&["a"]);
    let mut template = session("lab", Some(600_000));
    template.process.cpu_max = Some(CpuMillis(1000));
    template.process.disk_max = Some(Bytes::mib(100));
    let settings = session_settings(&mut template);
    settings.clients_max = Some(8);
    settings.idle_timeout = Some(DurationMs(60_000));
    town.apply(template);
    let of = |size: u64| SessionLimits {
        memory: Some(Bytes::mib(size)),
        cpu: Some(CpuMillis(size as u32)),
        disk: Some(Bytes::mib(size)),
        pids: Some(size as u32),
        clients: Some(size as u32),
        duration: Some(DurationMs(size)),
        idle_timeout: Some(DurationMs(size)),
        transfer: Some(Bytes::mib(size)),
    };
    let allow = |size: u64| {
        let of = of(size);
        OwnerLimits {
            memory: of.memory,
            cpu: of.cpu,
            disk: of.disk,
            pids: of.pids,
            clients: of.clients,
            duration: of.duration,
            idle_timeout: of.idle_timeout,
            transfer: of.transfer,
            ..OwnerLimits::default()
        }
    };
    let mut check = |wanted: u64, allowed: Option<u64>, expected: u64| {
        let allowed = allowed.map(allow).unwrap_or_default();
        let terms = SessionTerms { wanted: of(wanted), allowed, ..SessionTerms::default() };
        let instance = town.created("lab", "tester", terms);
        let limits = session_limits(&town, instance);
        assert_eq!(limits, of(expected), "{wanted} {allowed:?}", allowed = expected);
        town.end(instance);
    };
    check(4, None, 4);
    check(4, Some(5), 4);
    check(5, Some(4), 4);
    check(7, Some(7), 7);
}

#[test]
fn a_session_reserves_what_its_own_limits_say() {
    let mut town = town();
    let memory = Some(Bytes::mib(40));
    let wanted = SessionLimits { memory, cpu: Some(CpuMillis(7)), ..SessionLimits::default() };
    town.created("room", "tester", SessionTerms { wanted, ..SessionTerms::default() });
    let reserved = town.state().node(town.node("a")).unwrap().node.reserved;
    assert_eq!((reserved.memory, reserved.cpu), (Bytes::mib(40), CpuMillis(7)));
}

#[test]
fn an_owner_has_at_most_as_many_sessions_as_its_token_allows() {
    let mut town = town();
    let first = town.created("room", "ann", sessions(2));
    town.created("room", "ann", sessions(2));
    let refused = town.create("room", "ann", sessions(2));
    assert_eq!(refused, Err(Rejection::SessionsOfOwner { owner: "ann".to_owned(), limit: 2 }));
    town.created("room", "bob", sessions(2));
    town.end(first);
    town.created("room", "ann", sessions(2));
}

#[test]
fn finding_a_session_by_its_key_counts_as_none() {
    let mut town = town();
    let terms = || SessionTerms { key: keyed("k").key, ..sessions(1) };
    let first = town.created("room", "ann", terms());
    assert_eq!(town.create("room", "ann", terms()), Ok(Reply::SessionFound(first)));
}

#[test]
fn a_session_that_comes_back_by_itself_counts_while_it_is_away() {
    let mut town = town();
    let first = town.created("room", "ann", sessions(1));
    town.exits(first, exit_code(3));
    assert_eq!(town.create("room", "ann", sessions(1)).unwrap_err().code(), "sessions-of-owner");
    town.pass(5000);
    let second = town.live("room");
    assert_eq!(town.create("room", "ann", sessions(1)).unwrap_err().code(), "sessions-of-owner");
    town.exits(second, exit_code(3));
    town.end(second);
    town.created("room", "ann", sessions(1));
}

#[test]
fn an_owner_creates_at_most_as_many_in_a_minute_as_its_token_allows() {
    let mut town = town();
    town.created("room", "ann", per_minute(2));
    town.pass(20_000);
    town.created("room", "ann", per_minute(2));
    let refused = town.create("room", "ann", per_minute(2));
    let retry_after = DurationMs(40_000);
    let owner = "ann".to_owned();
    assert_eq!(refused, Err(Rejection::CreatesTooFast { owner, limit: 2, retry_after }));
    town.created("room", "bob", per_minute(2));
    town.pass(40_000);
    town.created("room", "ann", per_minute(2));
}

#[test]
fn who_may_create_nothing_creates_nothing_at_any_time() {
    let mut town = town();
    assert_eq!(town.create("room", "ann", per_minute(0)).unwrap_err().code(), "creates-too-fast");
    // Under another token it created one, whose minute is over.
    town.created("room", "ann", SessionTerms::default());
    town.pass(120_000);
    assert_eq!(town.create("room", "ann", per_minute(0)).unwrap_err().code(), "creates-too-fast");
}

#[test]
fn counts_survive_a_restart_of_the_controller() {
    let mut town = town();
    let both = || {
        let creates_per_minute = Some(2);
        allowed(OwnerLimits { sessions: Some(2), creates_per_minute, ..OwnerLimits::default() })
    };
    let first = town.created("room", "ann", both());
    town.created("room", "ann", both());
    town.restart_controller();
    assert_eq!(town.create("room", "ann", both()).unwrap_err().code(), "sessions-of-owner");
    town.end(first);
    assert_eq!(town.create("room", "ann", both()).unwrap_err().code(), "creates-too-fast");
}

#[test]
fn who_does_not_want_to_wait_is_refused_with_the_reason() {
    let mut town = town();
    for _ in 0..ROOMS_PER_NODE {
        town.created("room", "ann", at_once());
    }
    let refused = town.create("room", "ann", at_once()).unwrap_err();
    assert_eq!(refused.code(), "no-room");
    assert!(refused.to_string().contains("memory"), "{refused}");
    // Who waits is not overtaken either.
    town.created("room", "bob", SessionTerms::default());
    town.add_node("b");
    let small = SessionLimits { memory: Some(Bytes::mib(1)), ..SessionLimits::default() };
    town.created("room", "ann", SessionTerms { wanted: small, ..at_once() });
}

#[test]
fn a_key_that_is_not_free_yet_is_no_room_for_who_does_not_want_to_wait() {
    let mut town = town();
    let (first, _) = town.keyed_session("room", "k");
    town.disconnect("a");
    town.end(first);
    let terms = SessionTerms { key: keyed("k").key, ..at_once() };
    assert_eq!(town.create("room", "tester", terms).unwrap_err().code(), "no-room");
}

#[test]
fn a_hundred_that_come_at_once_never_reserve_more_than_there_is() {
    let mut town = Town::with_nodes(&["a", "b"]);
    town.apply(room());
    let create = |number: u64| Command::CreateSession {
        source: spawnery_cluster::SessionSource::Template(town::label("room")),
        owner: format!("owner-{}", number % 7),
        terms: Box::new(if number.is_multiple_of(3) { at_once() } else { SessionTerms::default() }),
    };
    let tickets: Vec<_> = (0..100).map(|number| town.ask(create(number), None)).collect();
    town.settle();
    let answers: Vec<_> = tickets.into_iter().map(|it| town.reply(it).unwrap()).collect();
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    let ready = town.state().instances().filter(|it| it.phase == Phase::Ready).count();
    assert_eq!(ready, 2 * ROOMS_PER_NODE);
    assert_eq!(waiting(&town).len(), 100 - ready - refused);
    for entry in town.state().nodes() {
        assert!(entry.node.capacity.fits(entry.node.reserved), "{:?}", entry.node);
    }
}

#[test]
fn owners_take_turns_whoever_came_with_more() {
    let mut town = town();
    let running: Vec<_> =
        (0..ROOMS_PER_NODE).map(|_| town.created("room", "old", SessionTerms::default())).collect();
    for _ in 0..4 {
        town.created("room", "ann", SessionTerms::default());
    }
    town.pass(1000);
    for owner in ["bob", "bob", "eve"] {
        town.created("room", owner, SessionTerms::default());
    }
    let mut order = Vec::new();
    for instance in running.into_iter().take(7) {
        let before = waiting(&town);
        town.end(instance);
        let after = waiting(&town);
        let placed: Vec<_> = before.into_iter().filter(|id| !after.contains(id)).collect();
        assert_eq!(placed.len(), 1);
        let spawnery_model::Origin::Session { owner, .. } = &found(&town, placed[0]).origin else {
            panic!("it is a session")
        };
        order.push(owner.clone());
    }
    assert_eq!(order, ["ann", "bob", "eve", "ann", "bob", "ann", "ann"]);
}

#[test]
fn a_session_that_waits_too_long_ends_with_that_reason() {
    let mut town = town();
    let mut late = room();
    session_settings(&mut late).queue_deadline = Some(DurationMs(30_000));
    town.apply(late);
    for _ in 0..ROOMS_PER_NODE {
        town.created("room", "ann", SessionTerms::default());
    }
    let waits = town.created("room", "bob", SessionTerms::default());
    let queue_deadline = Some(DurationMs(60_000));
    let own = SessionTerms { queue_deadline, ..SessionTerms::default() };
    let waits_longer = town.created("room", "bob", own);
    town.pass(29_999);
    assert_eq!(town.phase(waits), Phase::Pending);
    town.pass(1);
    assert_eq!(town.phase(waits), Phase::Ended);
    assert!(town.why(waits).contains("no room was found for it in time"), "{}", town.why(waits));
    assert_eq!(town.phase(waits_longer), Phase::Pending);
    town.restart_controller();
    town.pass(30_000);
    assert_eq!(town.phase(waits_longer), Phase::Ended);
    assert_eq!(town.state().owners().live("bob"), 0);
}

#[test]
fn a_session_that_got_its_place_no_longer_has_a_deadline() {
    let mut town = town();
    let placed = town.created("room", "ann", SessionTerms::default());
    town.pass(limits::QUEUE_DEADLINE_DEFAULT.0 * 2);
    assert_eq!(town.phase(placed), Phase::Ready);
}

#[test]
fn the_queue_is_bounded() {
    let mut town = town();
    let mut huge = room();
    huge.process.memory = Bytes::mib(1 << 20);
    town.apply(huge);
    let command = || Command::CreateSession {
        source: spawnery_cluster::SessionSource::Template(town::label("room")),
        owner: "ann".to_owned(),
        terms: Box::default(),
    };
    let tickets: Vec<_> =
        (0..=limits::SESSIONS_QUEUED_MAX).map(|_| town.ask(command(), None)).collect();
    town.settle();
    let answers: Vec<_> = tickets.into_iter().map(|it| town.reply(it).unwrap()).collect();
    let last = answers.last().unwrap().as_ref().unwrap_err();
    assert_eq!(last.code(), "limit");
}
