//! Further processes: users, terminals, time limits, lists, and what listens.

mod support;

use spawnery_sandbox::protocol::{ListeningSocket, ProcessDescription, Reply, Request};
use spawnery_sandbox::spec::{ExecSpec, Exit, LimitReached, SandboxSpec, UserSpec, WindowSize};
use support::{As, Bench, everybody, is_root};

const SIGKILL: i32 = 9;
const SIZE: WindowSize = WindowSize { columns: 101, rows: 33 };

fn sleeping(bench: &mut Bench) {
    bench.start_spec("it", SandboxSpec::new(["sleep", "1000"]));
}

fn exec(bench: &mut Bench, exec: u32, spec: ExecSpec) -> Reply {
    bench.ask(Request::Exec { instance: "it".into(), exec, spec })
}

fn run(bench: &mut Bench, number: u32, spec: ExecSpec) -> (Exit, String) {
    let reply = exec(bench, number, spec);
    assert!(matches!(reply, Reply::Started { .. }), "{reply:?}");
    let exit = bench.exit_of("it", number);
    (exit, bench.output("it", number))
}

fn shell(script: &str) -> ExecSpec {
    ExecSpec::new(["sh", "-c", script])
}

fn terminal(script: &str) -> ExecSpec {
    ExecSpec { terminal: Some(SIZE), ..shell(script) }
}

fn type_in(bench: &mut Bench, process: u32, text: &str) {
    let bytes = text.as_bytes().to_vec();
    let request = Request::WriteStdin { instance: "it".into(), process, bytes, eof: false };
    assert_eq!(bench.ask(request), Reply::Accepted { bytes: text.len() as u64 });
}

#[test]
fn a_terminal_is_the_processes_own_and_has_the_size_that_was_asked_for() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        sleeping(&mut bench);
        // The user opens it by its name, and `/dev/tty` is the same.
        let script = "stty size; test -t 0 && test -t 1 && test -t 2 && echo three; \
            echo named > $(tty); echo own > /dev/tty; stat -c %u $(tty); exit 5";
        let (exit, output) = run(&mut bench, 1, terminal(script));
        assert_eq!(exit.code, Some(5), "{output}");
        assert_eq!(output, "33 101\r\nthree\r\nnamed\r\nown\r\n1000\r\n", "{whose:?}");
    }
}

#[test]
fn a_resized_terminal_tells_its_programs() {
    let mut bench = Bench::new();
    sleeping(&mut bench);
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done";
    exec(&mut bench, 1, terminal(script));
    bench.wait_for_output("it", 1, "ready");
    let resize = |process| {
        let size = WindowSize { columns: 80, rows: 24 };
        Request::Resize { instance: "it".into(), process, size }
    };
    assert_eq!(bench.ask(resize(1)), Reply::Done);
    assert_eq!(bench.exit_of("it", 1).code, Some(0));
    assert!(bench.output("it", 1).contains("24 80"));
    assert_eq!(bench.ask(resize(1)), Reply::NotFound);
    assert!(matches!(bench.ask(resize(0)), Reply::Refused { .. }), "the main one has no terminal");
}

#[test]
fn what_is_typed_is_echoed_and_an_interrupt_reaches_the_foreground() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        sleeping(&mut bench);
        exec(&mut bench, 1, terminal("read line; echo got $line; cat; echo unreachable"));
        type_in(&mut bench, 1, "hello\r");
        bench.wait_for_output("it", 1, "hello\r\ngot hello\r\n");
        type_in(&mut bench, 1, "\x03");
        let exit = bench.exit_of("it", 1);
        assert!(exit.signal == Some(2) || exit.code == Some(130), "{exit:?}");
        assert!(!bench.output("it", 1).contains("unreachable"));
    }
}

#[test]
fn all_that_was_written_to_a_terminal_is_kept() {
    let mut bench = Bench::new();
    sleeping(&mut bench);
    let (exit, output) = run(&mut bench, 1, terminal("stty -opost; seq 1 50000"));
    assert_eq!(exit.code, Some(0));
    let expected: String = (1..=50_000).map(|number| format!("{number}\n")).collect();
    assert!(output == expected, "{} of {} bytes", output.len(), expected.len());
}

#[test]
fn a_process_runs_as_the_user_that_is_named() {
    if !is_root() {
        return support::skip("without root a sandbox has one user");
    }
    let mut bench = Bench::new();
    sleeping(&mut bench);
    let as_user = |user: &str, script: &str| ExecSpec { user: Some(user.into()), ..shell(script) };
    let table = [
        ("0", "0 0 root"),
        ("root", "0 0 root"),
        ("65534:7", "65534 7 nobody"),
        ("1000", "1000 1000 user"),
        ("4321:1", "4321 1 4321"),
    ];
    for (number, (user, expected)) in (1..).zip(table) {
        let (exit, output) = run(&mut bench, number, as_user(user, "echo $(id -u) $(id -g) $USER"));
        assert_eq!((exit.code, output.trim()), (Some(0), expected), "{user}");
    }
    // The main process has no capabilities, so nobody in its sandbox has.
    let (_, output) = run(&mut bench, 10, as_user("root", "grep CapEff /proc/self/status"));
    assert_eq!(output.trim(), "CapEff:\t0000000000000000");
    match exec(&mut bench, 11, as_user("nonesuch", "true")) {
        Reply::StartFailed { step, reason } => {
            assert_eq!(step, "find the user nonesuch");
            assert_eq!(reason, "`nonesuch` is not in its /etc/passwd");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_user_of_a_root_session_has_fewer_rights() {
    if !is_root() {
        return support::skip("without root a sandbox has one user");
    }
    let mut bench = Bench::new();
    let mut spec = SandboxSpec::new(["sleep", "1000"]);
    spec.user = Some(UserSpec { uid: 0, gid: 0, groups: Vec::new() });
    bench.start_spec("it", spec);
    let script = "grep CapEff /proc/self/status; umask 77; echo mine > /tmp/secret";
    let (_, output) = run(&mut bench, 1, shell(script));
    assert!(!output.contains("0000000000000000"), "{output}");
    let script = "grep CapEff /proc/self/status; cat /tmp/secret";
    let (_, output) = run(&mut bench, 2, ExecSpec { user: Some("1000".into()), ..shell(script) });
    assert!(output.contains("0000000000000000") && !output.contains("mine"), "{output}");
    let script = "stat -c %u $(tty)";
    let spec = ExecSpec { user: Some("1000".into()), ..terminal(script) };
    assert_eq!(run(&mut bench, 3, spec).1, "1000\r\n");
}

#[test]
fn a_launcher_without_root_refuses_another_user() {
    let whose = if is_root() { As::PlainUser } else { As::Us };
    let mut bench = Bench::start(whose);
    sleeping(&mut bench);
    match exec(&mut bench, 1, ExecSpec { user: Some("0".into()), ..shell("true") }) {
        Reply::StartFailed { reason, .. } => assert!(reason.contains("only user"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let same = ExecSpec { user: Some("1000:1000".into()), ..shell("id -u") };
    assert_eq!(run(&mut bench, 2, same).1, "1000\n");
}

#[test]
fn a_process_beyond_its_time_ends_with_all_that_it_started() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        sleeping(&mut bench);
        let script = "sleep 2001 & (sleep 2002 &) ; setsid sleep 2003 & echo ready; sleep 2004";
        let spec = ExecSpec { timeout_ms: Some(700), ..shell(script) };
        exec(&mut bench, 1, spec);
        bench.wait_for_output("it", 1, "ready");
        let other = exec(&mut bench, 2, ExecSpec::new(["sleep", "3000"]));
        assert!(matches!(other, Reply::Started { .. }), "{other:?}");
        let exit = bench.exit_of("it", 1);
        assert_eq!((exit.code, exit.signal), (None, Some(SIGKILL)), "{whose:?}");
        assert_eq!(exit.limit, Some(LimitReached::Time));
        let (_, output) = run(&mut bench, 3, shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"));
        assert!(!output.contains("200"), "{output}");
        assert!(output.contains("sleep 3000") && output.contains("sleep 1000"), "{output}");
        let (exit, _) =
            run(&mut bench, 4, ExecSpec { timeout_ms: Some(60_000), ..shell("exit 3") });
        assert_eq!((exit.code, exit.limit), (Some(3), None));
        let (exit, _) = run(&mut bench, 5, ExecSpec { timeout_ms: Some(0), ..shell("sleep 9") });
        assert_eq!(exit.limit, Some(LimitReached::Time));
    }
}

#[test]
fn the_processes_are_listed_also_after_a_crash() {
    let mut bench = Bench::new();
    sleeping(&mut bench);
    run(&mut bench, 1, shell("exit 3"));
    exec(&mut bench, 2, terminal("sleep 1000"));
    let failed = exec(&mut bench, 3, ExecSpec::new(["nonesuch"]));
    assert!(matches!(failed, Reply::StartFailed { .. }), "{failed:?}");
    let list = |bench: &mut Bench| -> Vec<ProcessDescription> {
        match bench.ask(Request::Processes { instance: "it".into() }) {
            Reply::Processes { processes } => processes,
            other => panic!("{other:?}"),
        }
    };
    let found = list(&mut bench);
    let [main, first, second] = &found[..] else { panic!("{found:?}") };
    assert_eq!((main.process, main.argv.len(), main.terminal), (0, 0, false));
    assert_eq!((first.process, first.argv[2].as_str()), (1, "exit 3"));
    assert_eq!(first.exit.as_ref().and_then(|exit| exit.code), Some(3));
    assert_eq!((second.process, second.terminal, &second.exit), (2, true, &None));
    assert!(main.started_ms > 0 && main.started_ms <= first.started_ms);
    assert!(first.started_ms <= second.started_ms);
    bench.crash_and_restart();
    assert_eq!(list(&mut bench), found);
    let unknown = Request::Processes { instance: "other".into() };
    assert_eq!(bench.ask(unknown), Reply::NotFound);
}

#[test]
fn what_listens_is_listed_with_who_can_reach_it() {
    let mut bench = Bench::new();
    let script = r#"use IO::Socket::IP; $| = 1;
        for (["127.0.0.1", 7001], ["0.0.0.0", 7002], ["::1", 7003], ["::1", 7004],
             ["127.0.0.1", 7004], ["::", 7005]) {
            push @all, IO::Socket::IP->new(LocalHost => $_->[0], LocalPort => $_->[1],
                Listen => 1, V6Only => 1) or die "$_->[1]: $@";
        }
        print "ready\n"; sleep 1000"#;
    bench.start_spec("it", SandboxSpec::new(["perl", "-e", script]));
    bench.wait_for_output("it", 0, "ready");
    let socket = |port, loopback_only| ListeningSocket { port, loopback_only };
    let sockets = [
        socket(7001, true),
        socket(7002, false),
        socket(7003, true),
        socket(7004, true),
        socket(7005, false),
    ];
    let reply = bench.ask(Request::Sockets { instance: "it".into() });
    assert_eq!(reply, Reply::Sockets { sockets: sockets.into() });
}
