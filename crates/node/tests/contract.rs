//! What an agent's state machine promises, told as what comes in and what goes out.

use proptest::prelude::*;
use spawnery_model::{
    Bytes, Capacity, CpuMillis, DurationMs, Exit, Id, InstanceId, Introduction, Name, Network,
    NodeId, Notice, Observation, Order, Orders, Port, Process, Readiness, Report, SessionOrder,
    StartOrder, Stop, Timestamp, Want, WarningCause, limits,
};
use spawnery_node::{Action, Check, Found, Input, Node, Noted};
use std::collections::BTreeMap;

const INCARNATION: u64 = 1000;

/// An agent, the time, and the number of the last message that it was sent.
struct Bench {
    node: Node,
    now: u64,
    sequence: u64,
}

impl Bench {
    fn new() -> Bench {
        Bench { node: node(INCARNATION), now: 1_000_000, sequence: 0 }
    }

    /// An agent that has introduced itself and was told that nothing is wanted of it.
    fn introduced() -> Bench {
        let mut bench = Bench::new();
        bench.tell(Input::LinkUp);
        let answer = bench.full(1, vec![]);
        bench.tell(answer);
        bench
    }

    /// Hands it something and returns what it does, in words.
    fn tell(&mut self, input: Input) -> Vec<String> {
        self.node.handle(input, Timestamp(self.now));
        self.actions()
    }

    /// Lets time pass and returns what it does meanwhile, in words.
    fn pass(&mut self, ms: u64) -> Vec<String> {
        let until = self.now + ms;
        let mut actions = Vec::new();
        while let Some(at) = self.node.poll_timeout().filter(|at| at.0 <= until) {
            assert!(at.0 > self.now, "no timer is left behind");
            self.now = at.0;
            self.node.handle_timeout(at);
            actions.extend(self.actions());
        }
        self.now = until;
        actions
    }

    fn actions(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.node.poll_action()).map(|action| words(&action)).collect()
    }

    /// All that is wanted, as the controller says it in `epoch`.
    fn full(&mut self, epoch: u64, orders: Vec<Order>) -> Input {
        self.sequence = 1;
        Input::Orders(Box::new(Orders { full: true, ..message(epoch, 1, orders) }))
    }

    /// What is wanted in addition, in epoch 1.
    fn delta(&mut self, orders: Vec<Order>) -> Input {
        self.sequence += 1;
        Input::Orders(Box::new(message(1, self.sequence, orders)))
    }

    /// The number of the last of these reports.
    fn last_number(&self, reports: &[String]) -> u64 {
        let last = reports.last().expect("a report");
        let number = last.strip_prefix("report ").and_then(|it| it.split(':').next());
        number.expect("a report").parse().expect("a number")
    }

    /// Confirms these reports.
    fn confirm(&mut self, reports: &[u64]) -> Vec<String> {
        self.sequence += 1;
        let mut orders = message(1, self.sequence, vec![]);
        orders.received = reports.to_vec();
        self.tell(Input::Orders(Box::new(orders)))
    }
}

fn node(incarnation: u64) -> Node {
    let introduction = Introduction {
        name: Name::new("a").unwrap(),
        labels: BTreeMap::new(),
        capacity: Capacity::default(),
        version: "1".to_owned(),
        incarnation,
        allowances: None,
    };
    Node::new(NodeId(Id::from_bits(1)), introduction)
}

fn message(epoch: u64, sequence: u64, orders: Vec<Order>) -> Orders {
    Orders {
        reign: 1,
        epoch,
        sequence,
        received: Vec::new(),
        lease: limits::LEASE,
        introduce: false,
        full: false,
        orders,
        incarnation: INCARNATION,
        pools: None,
    }
}

fn id(number: u128) -> InstanceId {
    InstanceId(Id::from_bits(number))
}

fn start_order(ports: &[u16]) -> Box<StartOrder> {
    let port = |port: &u16| Port { name: Name::new("http").unwrap(), port: *port };
    Box::new(StartOrder {
        workload: Name::new("web").unwrap(),
        epoch: 1,
        process: Process {
            run: vec!["serve".to_owned()],
            env: BTreeMap::new(),
            memory: Bytes::mib(1),
            cpu_reserved: CpuMillis(1),
            cpu_max: None,
            disk_max: None,
            pids_max: 1,
            ports: ports.iter().map(port).collect(),
            working_directory: None,
            network: Network::None,
            files: Vec::new(),
            stdin: None,
            ready: None,
        },
        stop: Stop { signal: 15, grace: DurationMs(100) },
        surroundings: None,
        session: None,
    })
}

fn order(number: u128, revision: u64, want: Want) -> Order {
    Order { instance: id(number), revision, want }
}

fn run(number: u128, revision: u64) -> Order {
    order(number, revision, Want::Run(start_order(&[])))
}

fn stop(number: u128, revision: u64) -> Order {
    order(number, revision, Want::Stop)
}

fn forget(number: u128, revision: u64) -> Order {
    order(number, revision, Want::Forget)
}

fn started(number: u128) -> Input {
    Input::Started { instance: id(number), pid: 7 }
}

fn ended(number: u128, code: i32) -> Input {
    let exit = Exit { code: Some(code), ..Exit::default() };
    Input::Ended { instance: id(number), exit }
}

fn found(number: u128, pid: Option<u32>, exit: Option<Exit>) -> Found {
    let (order, noted) = (start_order(&[]), Noted::default());
    Found { instance: id(number), order, pid, exit, noted }
}

/// `start 1`, `probe 1`, `stop 1`, `forget 1`, or what a report says.
fn words(action: &Action) -> String {
    let number = |instance: &InstanceId| instance.0.bits();
    match action {
        Action::Start { instance, .. } => format!("start {}", number(instance)),
        Action::Probe { instance, .. } => format!("probe {}", number(instance)),
        Action::Renew { sent_at } => format!("renew {}", sent_at.0),
        Action::Note { instance, noted } => format!("note {} {}", number(instance), noted.ready),
        Action::Notify { instance, notices, noted } => {
            let told = notices.iter().map(|notice| {
                let signal = notice.signal.map_or_else(String::new, |it| format!(" by {it}"));
                format!(" {:?} {}{signal}", notice.cause, notice.ends_at.0)
            });
            let told: String = told.collect();
            format!("notify {}:{told}; {} noted", number(instance), noted.notices.len())
        }
        Action::Stop { instance, .. } => format!("stop {}", number(instance)),
        Action::Warm { pools } => format!("warm {}", pools.len()),
        Action::Abandon { instance } => format!("abandon {}", number(instance)),
        Action::Forget { instance } => format!("forget {}", number(instance)),
        Action::Send(report) => report_words(report),
    }
}

/// `report 3: received [2], 1 ready`, or `introduction 3: ...`.
fn report_words(report: &Report) -> String {
    let seen = report.observed.iter().map(|seen| {
        let state = match &seen.observation {
            Observation::Starting { .. } => "starting",
            Observation::Running { .. } => "running",
            Observation::Ready { .. } => "ready",
            Observation::Stopping { .. } => "stopping",
            Observation::Ended { exit } if exit.failure.is_some() => "failed",
            Observation::Ended { .. } => "ended",
        };
        format!(", {} {state}", seen.instance.0.bits())
    });
    let seen: String = seen.collect();
    let kind = match report.introduction {
        Some(_) => "introduction",
        None => "report",
    };
    format!("{kind} {}: received {:?}{seen}", report.sequence, report.received)
}

#[test]
fn it_introduces_itself_on_each_link_until_it_is_answered() {
    let mut bench = Bench::new();
    assert_eq!(bench.tell(Input::LinkUp), ["introduction 1: received []"]);
    assert_eq!(bench.pass(limits::RESEND.0), ["introduction 2: received []"]);
    let answer = bench.full(1, vec![]);
    assert_eq!(bench.tell(answer), ["report 3: received [1]"]);
    assert!(bench.node.is_introduced());
    bench.tell(Input::LinkDown);
    assert_eq!(bench.pass(60_000), Vec::<String>::new());
    assert_eq!(bench.tell(Input::LinkUp), ["introduction 4: received []"]);
}

#[test]
fn it_reports_often_enough_to_keep_its_lease() {
    let mut bench = Bench::introduced();
    let reports = bench.pass(limits::LEASE.0).len() as u64;
    assert_eq!(reports, limits::LEASE.0 / limits::HEARTBEAT.0);
}

#[test]
fn an_instance_is_started_once_and_told_of_until_that_is_confirmed() {
    let mut bench = Bench::introduced();
    let run_it = bench.delta(vec![run(1, 5)]);
    assert_eq!(bench.tell(run_it), ["start 1", "report 3: received [2], 1 starting"]);
    assert_eq!(bench.tell(started(1)), ["report 4: received [], 1 ready"]);
    // The old news is confirmed, the new is not.
    bench.confirm(&[3]);
    assert_eq!(bench.node.observations_unconfirmed(), 1);
    assert_eq!(bench.pass(limits::RESEND.0), ["report 5: received [], 1 ready"]);
    bench.confirm(&[5]);
    assert_eq!(bench.node.observations_unconfirmed(), 0);
    assert_eq!(bench.pass(limits::HEARTBEAT.0), ["report 6: received []"]);
    // The order is repeated, because its acknowledgement was lost.
    let again = bench.delta(vec![run(1, 5)]);
    assert_eq!(bench.tell(again), ["report 7: received [5], 1 ready"]);
}

#[test]
fn one_with_ports_is_ready_when_they_listen() {
    let mut bench = Bench::introduced();
    let with_port = order(1, 5, Want::Run(start_order(&[80])));
    let run_it = bench.delta(vec![with_port]);
    bench.tell(run_it);
    assert_eq!(bench.tell(started(1)), ["probe 1", "report 4: received [], 1 running"]);
    let ready = Input::Ready { instance: id(1) };
    assert_eq!(bench.tell(ready), ["note 1 true", "report 5: received [], 1 ready"]);
}

#[test]
fn what_is_checked_before_it_is_ready_is_as_its_order_says() {
    let check = |what: &str, ports: &[(&str, u16)], ready, expected: Option<Check>| {
        let name = |name: &str| Name::new(name).unwrap();
        let port = |(of, port): &(&str, u16)| Port { name: name(of), port: *port };
        let mut order = start_order(&[]);
        order.process.ports = ports.iter().map(port).collect();
        order.process.ready = ready;
        let mut bench = Bench::introduced();
        let run_it = bench.delta(vec![self::order(1, 5, Want::Run(order))]);
        bench.tell(run_it);
        bench.node.handle(started(1), Timestamp(bench.now));
        let probe = std::iter::from_fn(|| bench.node.poll_action()).find_map(|it| match it {
            Action::Probe { check, .. } => Some(check),
            _ => None,
        });
        assert_eq!(probe, expected, "{what}");
    };
    let port = |name: &str, port| Port { name: Name::new(name).unwrap(), port };
    let (web, admin) = (port("web", 80), port("admin", 81));
    let both = [("web", 80), ("admin", 81)];
    let text = || "listening on".to_owned();
    check("nothing", &[], None, None);
    check("all ports", &both, None, Some(Check::Ports(vec![web.clone(), admin.clone()])));
    let one = Readiness::Port { port: admin.name.clone() };
    check("one port", &both, Some(one), Some(Check::Ports(vec![admin.clone()])));
    let http = |port| Some(Readiness::Http { path: "/up".to_owned(), port });
    let asked = |port| Some(Check::Http { path: "/up".to_owned(), port });
    check("HTTP of the first port", &both, http(None), asked(web));
    check("HTTP of one port", &both, http(Some(admin.name.clone())), asked(admin));
    let output = Readiness::Output { text: text() };
    check("output", &[], Some(output), Some(Check::Output { text: text() }));
}

#[test]
fn one_that_was_ready_is_ready_for_the_next_agent_without_a_check() {
    let mut bench = Bench::new();
    let noted = Noted { ready: true, notices: Vec::new() };
    let was_ready = Found { order: start_order(&[80]), noted, ..found(1, Some(7), None) };
    let was_not = Found { order: start_order(&[80]), ..found(2, Some(8), None) };
    assert_eq!(bench.tell(Input::Found(vec![was_ready, was_not])), ["probe 2"]);
    let introduction = "introduction 1: received [], 1 ready, 2 running";
    assert_eq!(bench.tell(Input::LinkUp), [introduction]);
}

#[test]
fn a_confirmed_report_renews_leases_from_when_it_was_sent() {
    let mut bench = Bench::new();
    assert_eq!(bench.tell(Input::LinkUp), ["introduction 1: received []"]);
    bench.now += 700;
    let Input::Orders(answer) = bench.full(1, vec![run(1, 5)]) else { unreachable!() };
    let answer = Input::Orders(Box::new(Orders { received: vec![1], ..*answer }));
    // Before the start, so that what is started may go on from then.
    let expected = ["renew 1000000", "start 1", "report 2: received [1], 1 starting"];
    assert_eq!(bench.tell(answer), expected);
    let heartbeats = bench.pass(2 * limits::HEARTBEAT.0);
    assert!(heartbeats.len() >= 2, "{heartbeats:?}");
    let sent = bench.now;
    // The introduction was sent again; old confirmations say nothing new.
    assert_eq!(bench.confirm(&[1]), Vec::<String>::new());
    let last = bench.last_number(&heartbeats);
    bench.now += 900;
    let renewed = bench.confirm(&[last]);
    let at: u64 = renewed[0].strip_prefix("renew ").expect("renewed").parse().unwrap();
    assert!(at > 1_000_700 && at <= sent, "{at}");
    assert_eq!(bench.confirm(&[last]), Vec::<String>::new());
}

#[test]
fn orders_of_a_controller_that_is_overtaken_renew_nothing() {
    let mut bench = Bench::introduced();
    bench.pass(limits::HEARTBEAT.0);
    let confirming = |orders: Orders| Orders { received: vec![3], ..orders };
    let old = [
        confirming(message(0, 9, vec![])),
        confirming(Orders { reign: 0, ..message(1, 9, vec![]) }),
        confirming(Orders { incarnation: INCARNATION - 1, ..message(1, 9, vec![]) }),
    ];
    for orders in old {
        assert_eq!(bench.tell(Input::Orders(Box::new(orders))), Vec::<String>::new());
    }
    let sent = bench.now;
    let renewed = bench.confirm(&[3]);
    assert_eq!(renewed, [format!("renew {sent}")]);
}

fn with_notices(ports: &[u16], notices: &[Notice]) -> Box<StartOrder> {
    let mut order = start_order(ports);
    let notices = notices.to_vec();
    order.session = Some(Box::new(SessionOrder { notices, ..SessionOrder::default() }));
    order
}

fn notice(cause: WarningCause, ends_at: u64, signal: Option<i32>) -> Notice {
    Notice { cause, ends_at: Timestamp(ends_at), signal, file: Some("/tmp/end".to_owned()) }
}

#[test]
fn each_warning_is_given_once_and_not_before_the_instance_is_ready() {
    let mut bench = Bench::introduced();
    let idle = notice(WarningCause::Idle, 70, Some(10));
    let longest = notice(WarningCause::Duration, 90, None);
    let wanted = |notices: &[Notice], revision| {
        vec![order(1, revision, Want::Run(with_notices(&[80], notices)))]
    };
    let run_it = bench.delta(wanted(&[], 5));
    bench.tell(run_it);
    let warn = bench.delta(wanted(std::slice::from_ref(&idle), 6));
    assert_eq!(bench.tell(warn), ["report 4: received [3], 1 starting"]);
    assert_eq!(bench.tell(started(1)), ["probe 1", "report 5: received [], 1 running"]);
    let told = bench.tell(Input::Ready { instance: id(1) });
    let given = "notify 1: Idle 70 by 10; 1 noted";
    assert_eq!(told, ["note 1 true", given, "report 6: received [], 1 ready"]);
    // The same order again, and one with a further warning.
    let again = bench.delta(wanted(std::slice::from_ref(&idle), 6));
    assert_eq!(bench.tell(again), ["report 7: received [4], 1 ready"]);
    let more = bench.delta(wanted(&[idle, longest], 7));
    let told = bench.tell(more);
    assert_eq!(told, ["notify 1: Duration 90; 2 noted", "report 8: received [5], 1 ready"]);
}

#[test]
fn the_next_agent_repeats_no_signal_and_writes_the_file_again() {
    let mut bench = Bench::new();
    let first = notice(WarningCause::Idle, 70, Some(10));
    let second = notice(WarningCause::Idle, 90, Some(10));
    let noted = Noted { ready: true, notices: vec![first.clone()] };
    bench.tell(Input::Found(vec![Found { noted, ..found(1, Some(7), None) }]));
    bench.tell(Input::LinkUp);
    let wanted = |notices: &[Notice]| order(1, 9, Want::Run(with_notices(&[], notices)));
    let full = bench.full(1, vec![wanted(&[first, second])]);
    let given = "notify 1: Idle 70 Idle 90 by 10; 2 noted";
    assert_eq!(bench.tell(full), [given, "report 2: received [1], 1 ready"]);
}

#[test]
fn one_that_is_being_ended_is_not_warned_any_more() {
    let mut bench = Bench::introduced();
    let run_it = bench.delta(vec![run(1, 5)]);
    bench.tell(run_it);
    bench.tell(started(1));
    let stop_it = bench.delta(vec![stop(1, 6)]);
    bench.tell(stop_it);
    let late = with_notices(&[], &[notice(WarningCause::Drain, 70, Some(10))]);
    let warn = bench.delta(vec![order(1, 7, Want::Run(late))]);
    let told = bench.tell(warn);
    assert!(!told.iter().any(|it| it.starts_with("notify")), "{told:?}");
}

#[test]
fn a_stop_that_comes_while_it_starts_is_carried_out_once_it_has_started() {
    let mut bench = Bench::introduced();
    let run_it = bench.delta(vec![run(1, 5)]);
    bench.tell(run_it);
    let stop_it = bench.delta(vec![stop(1, 6)]);
    assert_eq!(bench.tell(stop_it), ["report 4: received [3]"]);
    assert_eq!(bench.tell(started(1)), ["stop 1", "report 5: received [], 1 stopping"]);
    assert_eq!(bench.tell(ended(1, 0)), ["report 6: received [], 1 ended"]);
}

#[test]
fn what_is_stopped_before_it_is_known_has_ended_and_never_starts() {
    let mut bench = Bench::introduced();
    let stop_it = bench.delta(vec![stop(1, 6)]);
    assert_eq!(bench.tell(stop_it), ["report 3: received [2], 1 failed"]);
    // An older wish changes nothing.
    let run_it = bench.delta(vec![run(1, 5)]);
    assert_eq!(bench.tell(run_it), ["report 4: received [3]"]);
    assert_eq!(bench.node.refused(), 1);
}

#[test]
fn what_has_ended_is_forgotten_only_when_that_is_asked_for() {
    let mut bench = Bench::introduced();
    let run_it = bench.delta(vec![run(1, 5)]);
    bench.tell(run_it);
    bench.tell(started(1));
    bench.tell(ended(1, 0));
    assert_eq!(bench.node.instances().count(), 1);
    let forget_it = bench.delta(vec![forget(1, 9)]);
    assert_eq!(bench.tell(forget_it), ["forget 1", "report 6: received [3]"]);
    assert_eq!(bench.node.instances().count(), 0);
}

#[test]
fn a_copy_of_an_old_message_starts_nothing_anew() {
    let mut bench = Bench::introduced();
    let run_it = bench.delta(vec![run(1, 5)]);
    bench.tell(run_it.clone());
    bench.tell(started(1));
    bench.tell(ended(1, 0));
    let forget_it = bench.delta(vec![forget(1, 9)]);
    bench.tell(forget_it);
    assert_eq!(bench.tell(run_it), Vec::<String>::new());
    assert_eq!(bench.node.refused(), 1);
}

#[test]
fn what_is_not_among_all_that_is_wanted_ends_and_is_forgotten() {
    let mut bench = Bench::introduced();
    let both = bench.delta(vec![run(1, 5), run(2, 6)]);
    bench.tell(both);
    bench.tell(started(1));
    bench.tell(started(2));
    bench.tell(Input::LinkDown);
    bench.tell(Input::LinkUp);
    let one = bench.full(2, vec![run(2, 9)]);
    assert_eq!(bench.tell(one), ["stop 1", "report 7: received [1], 1 stopping, 2 ready"]);
    assert_eq!(bench.tell(ended(1, 0)), ["forget 1"]);
}

#[test]
fn old_orders_are_refused_and_counted() {
    let check = |what: &str, orders: Orders| {
        let mut bench = Bench::introduced();
        let run_it = bench.delta(vec![run(1, 5)]);
        bench.tell(run_it);
        let input = Input::Orders(Box::new(orders));
        assert_eq!(bench.tell(input), Vec::<String>::new(), "{what}");
        assert_eq!(bench.node.refused(), 1, "{what}");
    };
    let full = |orders: Orders| Orders { full: true, ..orders };
    check("a copy of the full orders", full(message(1, 1, vec![])));
    check("full orders of an epoch before", full(message(0, 1, vec![])));
    check("an epoch before", message(0, 9, vec![stop(1, 9)]));
    let before = Orders { reign: 0, ..message(1, 9, vec![stop(1, 9)]) };
    check("a reign before", before);
    let process_before = Orders { incarnation: INCARNATION - 1, ..full(message(2, 1, vec![])) };
    check("what was meant for the process before", process_before);
    check("a copy", message(1, 2, vec![stop(1, 9)]));
}

#[test]
fn a_request_to_introduce_itself_counts_only_for_the_present_epoch() {
    let mut bench = Bench::introduced();
    let request = |epoch| {
        Input::Orders(Box::new(Orders {
            introduce: true,
            incarnation: 0,
            ..message(epoch, 0, vec![])
        }))
    };
    assert_eq!(bench.tell(request(0)), Vec::<String>::new());
    assert_eq!(bench.tell(request(1)), ["introduction 3: received []"]);
}

#[test]
fn a_new_agent_finds_what_the_launcher_has() {
    let mut bench = Bench::new();
    let lost = Exit { code: Some(3), ..Exit::default() };
    let all = vec![found(1, Some(7), None), found(2, None, Some(lost)), found(3, None, None)];
    assert_eq!(bench.tell(Input::Found(all)), Vec::<String>::new());
    assert_eq!(
        bench.tell(Input::LinkUp),
        ["introduction 1: received [], 1 ready, 2 ended, 3 starting"]
    );
    // Nothing that is wanted is started again.
    let wanted = bench.full(1, vec![run(1, 9), run(3, 9)]);
    assert_eq!(bench.tell(wanted), ["forget 2", "report 2: received [1], 1 ready, 3 starting"]);
}

#[test]
fn revisions_grow_over_restarts_of_the_agent() {
    let revision = |incarnation: u64| {
        let mut node = node(incarnation);
        node.handle(Input::Found(vec![found(1, Some(7), None)]), Timestamp(0));
        node.handle(Input::LinkUp, Timestamp(0));
        match node.poll_action() {
            Some(Action::Send(report)) => report.observed[0].revision,
            action => panic!("{action:?}"),
        }
    };
    assert!(revision(2000) > revision(1000));
}

/// Something that may come at any time, about one of three instances.
#[derive(Debug, Clone)]
enum Anything {
    Up,
    Down,
    Full(bool, bool),
    Run(u128),
    Stop(u128),
    Forget(u128),
    Started(u128),
    Ended(u128),
    Pass(u64),
}

fn anything() -> impl Strategy<Value = Anything> {
    prop_oneof![
        Just(Anything::Up),
        Just(Anything::Down),
        any::<(bool, bool)>().prop_map(|(one, two)| Anything::Full(one, two)),
        (1u128..4).prop_map(Anything::Run),
        (1u128..4).prop_map(Anything::Stop),
        (1u128..4).prop_map(Anything::Forget),
        (1u128..4).prop_map(Anything::Started),
        (1u128..4).prop_map(Anything::Ended),
        (1u64..5000).prop_map(Anything::Pass),
    ]
}

fn tell_delta(bench: &mut Bench, epoch: u64, order: Order) -> Vec<String> {
    bench.sequence += 1;
    let orders = message(epoch, bench.sequence, vec![order]);
    bench.tell(Input::Orders(Box::new(orders)))
}

proptest! {
    #[test]
    fn whatever_comes_each_start_has_its_end_before_it_is_forgotten(
        all in prop::collection::vec(anything(), 1..60),
    ) {
        let mut bench = Bench::new();
        let (mut epoch, mut revision) = (0, 0);
        // Those that were started and have not ended.
        let mut alive = std::collections::BTreeSet::new();
        for one in all {
            revision += 1;
            let actions = match one {
                Anything::Up => bench.tell(Input::LinkUp),
                Anything::Down => bench.tell(Input::LinkDown),
                Anything::Full(one, two) => {
                    epoch += 1;
                    let wanted = [(1, one), (2, two)].into_iter();
                    let wanted = wanted.filter(|(_, wanted)| *wanted);
                    let orders = wanted.map(|(number, _)| run(number, revision)).collect();
                    let full = bench.full(epoch, orders);
                    bench.tell(full)
                }
                Anything::Run(number) => tell_delta(&mut bench, epoch, run(number, revision)),
                Anything::Stop(number) => tell_delta(&mut bench, epoch, stop(number, revision)),
                Anything::Forget(number) => tell_delta(&mut bench, epoch, forget(number, revision)),
                Anything::Started(number) => bench.tell(started(number)),
                Anything::Ended(number) => {
                    alive.remove(&number.to_string());
                    bench.tell(ended(number, 0))
                }
                Anything::Pass(ms) => bench.pass(ms),
            };
            for action in actions {
                match action.split_once(' ') {
                    Some(("start", number)) => {
                        prop_assert!(alive.insert(number.to_owned()), "{number} starts twice");
                    }
                    Some(("forget", number)) => {
                        prop_assert!(!alive.contains(number), "{number} still runs");
                    }
                    _ => {}
                }
            }
            let now = Timestamp(bench.now);
            let left_behind = bench.node.poll_timeout().is_some_and(|at| at <= now);
            prop_assert!(!left_behind, "a timer is left behind");
        }
    }
}
