//! Starts, ends, and what happens between.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use spawnery_sandbox::protocol::{DialError, InstanceState, Reply, Request};
use spawnery_sandbox::spec::{ExecSpec, SandboxSpec};
use support::{Bench, DEADLINE, everybody, process_exists, wait_until_gone};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

#[test]
fn output_and_exit_codes_come_back() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let (exit, output) = bench.sh("it", "echo out; echo err >&2; exit 7");
        assert_eq!((exit.code, exit.signal, exit.oom), (Some(7), None, false), "{whose:?}");
        assert!(output.contains("out\n") && output.contains("err\n"), "{output}");
        assert_eq!(exit.last_output.len(), output.len());
        assert_eq!(bench.state("it"), Some(InstanceState::Ended { exit }));
    }
}

#[test]
fn an_end_by_a_signal_is_told() {
    let mut bench = Bench::new();
    let (exit, _) = bench.sh("it", "kill -SEGV $$");
    assert_eq!((exit.code, exit.signal), (None, Some(11)));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let table = [
            ("nonesuch", "cannot run `nonesuch`: not found in PATH"),
            ("/nonesuch", "cannot run `/nonesuch`: not found"),
            ("/etc/passwd", "cannot run `/etc/passwd`: Permission denied (os error 13)"),
        ];
        for (number, (program, expected)) in table.into_iter().enumerate() {
            let instance = format!("it-{number}");
            let spec = SandboxSpec::new([program]);
            match bench.ask(Request::Start { instance: instance.clone(), spec: Box::new(spec) }) {
                Reply::StartFailed { reason, .. } => assert_eq!(reason, expected, "{whose:?}"),
                other => panic!("{other:?}"),
            }
            let state = bench.state(&instance);
            assert!(matches!(state, Some(InstanceState::Failed { .. })), "{state:?}");
            assert_eq!(bench.ask(Request::Forget { instance }), Reply::Done);
        }
    }
}

#[test]
fn a_missing_working_directory_is_named() {
    let mut bench = Bench::new();
    let mut spec = SandboxSpec::new(["true"]);
    spec.working_directory = Some("/nowhere".into());
    match bench.ask(Request::Start { instance: "it".into(), spec: Box::new(spec) }) {
        Reply::StartFailed { step, .. } => assert_eq!(step, "change to the folder /nowhere"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_instance_never_starts_twice() {
    let mut bench = Bench::new();
    bench.sh("it", "true");
    let again =
        Request::Start { instance: "it".into(), spec: Box::new(SandboxSpec::new(["true"])) };
    assert_eq!(bench.ask(again.clone()), Reply::AlreadyExists);
    bench.crash_and_restart();
    assert_eq!(bench.ask(again), Reply::AlreadyExists);
}

#[test]
fn a_bad_id_is_refused() {
    let mut bench = Bench::new();
    for id in ["", "..", "a/b", "A", &"a".repeat(65)] {
        let spec = SandboxSpec::new(["true"]);
        let reply = bench.ask(Request::Start { instance: id.into(), spec: Box::new(spec) });
        assert!(matches!(reply, Reply::Refused { .. }), "{id}: {reply:?}");
    }
}

#[test]
fn the_host_sees_the_main_process_under_the_told_id() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let (init_pid, pid) = bench.start_spec("it", SandboxSpec::new(["sleep", "1000"]));
        let comm = |pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("it lives");
        assert_eq!((comm(init_pid).trim(), comm(pid).trim()), ("init", "sleep"));
        let state = InstanceState::Running { init_pid, pid };
        assert_eq!(bench.state("it"), Some(state));
        if support::is_root() {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
            let uid = status.lines().find(|line| line.starts_with("Uid:")).expect("a uid");
            assert!(!uid.split_ascii_whitespace().any(|uid| uid == "0"), "{uid}");
        }
    }
}

#[test]
fn a_process_that_ignores_the_signal_is_killed_after_the_grace() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
        let (init, _) = bench.start_spec("it", SandboxSpec::new(["sh", "-c", script]));
        bench.wait_for_output("it", 0, "ready");
        let stop = Request::Stop { instance: "it".into(), signal: SIGTERM, grace_ms: 200 };
        assert_eq!(bench.ask(stop.clone()), Reply::Done);
        let exit = bench.exit_of("it", 0);
        assert_eq!((exit.code, exit.signal), (None, Some(SIGKILL)), "{whose:?}");
        wait_until_gone(init);
        assert_eq!(bench.ask(stop), Reply::Done, "a second stop");
    }
}

#[test]
fn a_process_that_obeys_ends_within_the_grace() {
    let mut bench = Bench::new();
    let script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done";
    bench.start_spec("it", SandboxSpec::new(["sh", "-c", script]));
    bench.wait_for_output("it", 0, "ready");
    bench.ask(Request::Stop { instance: "it".into(), signal: SIGTERM, grace_ms: 60_000 });
    assert_eq!(bench.exit_of("it", 0).code, Some(3));
    assert!(bench.output("it", 0).contains("bye"));
}

#[test]
fn a_daemon_ends_with_its_sandbox() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script = "(setsid sh -c 'echo daemon; exec sleep 1000' &) ; sleep 0.2; exit 0";
        let (init, _) = bench.start_spec("it", SandboxSpec::new(["sh", "-c", script]));
        assert_eq!(bench.exit_of("it", 0).code, Some(0));
        assert!(bench.output("it", 0).contains("daemon"));
        wait_until_gone(init);
        let user = support::PLAIN_USER.to_string();
        assert!(!sleeps_for_ever(&user), "{whose:?}");
    }
}

/// Whether a `sleep 1000` of the ids that sandboxes have still lives.
fn sleeps_for_ever(user: &str) -> bool {
    let output = std::process::Command::new("ps")
        .args(["-o", "stat=,args=", "-u", user])
        .output()
        .expect("ps runs");
    String::from_utf8_lossy(&output.stdout).lines().any(|line| line.contains("sleep 1000"))
}

#[test]
fn orphans_are_reaped() {
    let mut bench = Bench::new();
    let script = "for i in 1 2 3 4 5; do (sleep 0.01 &) ; done; sleep 0.3; \
        grep -l 'State:.Z' /proc/[0-9]*/status | wc -l";
    assert_eq!(bench.sh("it", script).1.trim(), "0");
}

#[test]
fn an_exec_runs_in_the_same_sandbox_under_the_same_restrictions() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let main = ["sh", "-c", "echo $$ > /tmp/shared; echo ready; exec sleep 1000"];
        bench.start_spec("it", SandboxSpec::new(main));
        bench.wait_for_output("it", 0, "ready");
        let script = "cat /tmp/shared; id -u; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status \
            | tr -d '\\t'; exit 4";
        let spec = ExecSpec::new(["sh", "-c", script]);
        let exec = Request::Exec { instance: "it".into(), exec: 3, spec };
        assert!(matches!(bench.ask(exec.clone()), Reply::Started { .. }));
        assert_eq!(bench.exit_of("it", 3).code, Some(4));
        let expected = "2\n1000\nCapEff:0000000000000000\nNoNewPrivs:1\nSeccomp:2\n";
        assert_eq!(bench.output("it", 3), expected, "{whose:?}");
        assert_eq!(bench.ask(exec), Reply::AlreadyExists);
        let missing = ExecSpec::new(["nonesuch"]);
        let exec = Request::Exec { instance: "it".into(), exec: 4, spec: missing };
        assert!(matches!(bench.ask(exec), Reply::StartFailed { .. }));
        assert!(matches!(bench.state("it"), Some(InstanceState::Running { .. })));
    }
}

#[test]
fn a_signal_reaches_the_process_that_is_meant() {
    let mut bench = Bench::new();
    bench.start_spec("it", SandboxSpec::new(["sleep", "1000"]));
    let spec = ExecSpec::new(["sleep", "1000"]);
    bench.ask(Request::Exec { instance: "it".into(), exec: 1, spec });
    let signal = |process| Request::Signal { instance: "it".into(), process, signal: SIGTERM };
    assert_eq!(bench.ask(signal(1)), Reply::Done);
    assert_eq!(bench.exit_of("it", 1).signal, Some(SIGTERM));
    assert_eq!(bench.ask(signal(1)), Reply::NotFound);
    assert!(matches!(bench.state("it"), Some(InstanceState::Running { .. })));
    assert_eq!(bench.ask(signal(0)), Reply::Done);
    assert_eq!(bench.exit_of("it", 0).signal, Some(SIGTERM));
}

#[test]
fn standard_input_is_a_pipe_if_asked_for() {
    let mut bench = Bench::new();
    let mut spec = SandboxSpec::new(["cat"]);
    spec.stdin_pipe = true;
    bench.start_spec("it", spec);
    let write = |bytes: &[u8], eof| Request::WriteStdin {
        instance: "it".into(),
        process: 0,
        bytes: bytes.to_vec(),
        eof,
    };
    assert_eq!(bench.ask(write(b"hello\n", false)), Reply::Accepted { bytes: 6 });
    bench.wait_for_output("it", 0, "hello");
    assert_eq!(bench.ask(write(b"end\n", true)), Reply::Accepted { bytes: 4 });
    assert_eq!(bench.exit_of("it", 0).code, Some(0));
    assert_eq!(bench.output("it", 0), "hello\nend\n");
}

#[test]
fn a_full_standard_input_is_not_waited_for() {
    let mut bench = Bench::new();
    let mut spec = SandboxSpec::new(["sleep", "1000"]);
    spec.stdin_pipe = true;
    bench.start_spec("it", spec);
    let bytes = vec![0; 1 << 20];
    let write = Request::WriteStdin { instance: "it".into(), process: 0, bytes, eof: true };
    match bench.ask(write) {
        Reply::Accepted { bytes } => assert!(bytes > 0 && bytes < 1 << 20, "{bytes}"),
        other => panic!("{other:?}"),
    }
}

const SERVER: &str = "
import socket, sys
server = socket.socket(int(sys.argv[1]))
server.bind((sys.argv[2], 8080))
server.listen()
while True:
    peer, _ = server.accept()
    peer.sendall(b'from inside')
    peer.close()
";

#[test]
fn a_dial_reaches_a_server_inside() {
    for whose in everybody() {
        for (family, address) in [("2", "127.0.0.1"), ("10", "::1")] {
            let mut bench = Bench::start(whose);
            let argv = ["/usr/bin/python3", "-c", SERVER, family, address];
            bench.start_spec("it", SandboxSpec::new(argv));
            let ports = vec![80, 8080];
            let listening = Request::Listening { instance: "it".into(), ports };
            let until = Instant::now() + DEADLINE;
            while bench.ask(listening.clone()) != (Reply::Listening { ports: vec![8080] }) {
                assert!(Instant::now() < until, "{whose:?} {address}: it never listens");
                std::thread::sleep(Duration::from_millis(5));
            }
            let dial = |port| Request::Dial { instance: "it".into(), port };
            let (reply, fd) = bench.client.request_with_fd(dial(8080)).expect("an answer");
            assert_eq!(reply, Reply::Dialed);
            let mut stream = TcpStream::from(fd.expect("a descriptor"));
            stream.set_nonblocking(false).expect("set");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("read");
            assert_eq!(text, "from inside", "{whose:?} {address}");
            match bench.ask(dial(81)) {
                Reply::DialFailed { error, .. } => assert_eq!(error, DialError::Refused),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_lost_connection_loses_nothing() {
    let mut bench = Bench::new();
    let mut spec = SandboxSpec::new(["sh", "-c", "echo one; exec sleep 1000"]);
    spec.tag = b"opaque \xff".to_vec();
    let (init_pid, pid) = bench.start_spec("it", spec);
    bench.reconnect();
    match bench.ask(Request::List) {
        Reply::Instances { instances } => {
            assert_eq!(instances.len(), 1);
            assert_eq!(instances[0].tag, b"opaque \xff");
            assert_eq!(instances[0].state, InstanceState::Running { init_pid, pid });
        }
        other => panic!("{other:?}"),
    }
    bench.ask(Request::Stop { instance: "it".into(), signal: SIGTERM, grace_ms: 1000 });
    assert_eq!(bench.exit_of("it", 0).signal, Some(SIGTERM));
}

#[test]
fn sandboxes_end_with_their_launcher_and_are_lost_afterwards() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script = "(setsid sleep 1000 &); echo ready; exec sleep 1000";
        let (init, pid) = bench.start_spec("it", SandboxSpec::new(["sh", "-c", script]));
        bench.wait_for_output("it", 0, "ready");
        bench.sh("ended", "exit 3");
        bench.kill_launcher();
        wait_until_gone(init);
        wait_until_gone(pid);
        bench.restart();
        assert_eq!(bench.state("it"), Some(InstanceState::Lost), "{whose:?}");
        match bench.state("ended") {
            Some(InstanceState::Ended { exit }) => assert_eq!(exit.code, Some(3)),
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.output("it", 0), "ready\n");
        assert_eq!(bench.sh("next", "echo works").1, "works\n");
    }
}

#[test]
fn forget_removes_everything_of_an_ended_instance_only() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let forget = || Request::Forget { instance: "it".into() };
        assert_eq!(bench.ask(forget()), Reply::NotFound);
        bench.start_spec(
            "it",
            SandboxSpec::new(["sh", "-c", "mkdir -m 0 ~/closed; exec sleep 1000"]),
        );
        assert!(matches!(bench.ask(forget()), Reply::Refused { .. }));
        bench.ask(Request::Stop { instance: "it".into(), signal: SIGKILL, grace_ms: 0 });
        bench.exit_of("it", 0);
        assert_eq!(bench.ask(forget()), Reply::Done);
        assert_eq!(bench.state("it"), None);
        let trash = bench.dir.path().join("trash");
        let until = Instant::now() + DEADLINE;
        while std::fs::read_dir(&trash).expect("listed").count() > 0 {
            assert!(Instant::now() < until, "{whose:?}: the trash is not emptied");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_second_launcher_on_the_same_data_is_refused() {
    let mut bench = Bench::new();
    let mut second = support::run_launcher(bench.dir.path(), support::As::Us);
    assert!(!second.wait().expect("it ends").success());
    assert_eq!(bench.sh("it", "echo alive").1, "alive\n");
}

#[test]
fn a_shutdown_is_refused_while_something_runs_unless_all_is_to_stop() {
    let mut bench = Bench::new();
    let (init, _) = bench.start_spec("it", SandboxSpec::new(["sleep", "1000"]));
    let refused = bench.ask(Request::Shutdown { stop_all: false });
    assert!(matches!(refused, Reply::Refused { .. }), "{refused:?}");
    assert_eq!(bench.ask(Request::Shutdown { stop_all: true }), Reply::Done);
    assert!(bench.child.wait().expect("it ends").success());
    assert!(!process_exists(init));
    bench.restart();
    match bench.state("it") {
        Some(InstanceState::Ended { exit }) => assert_eq!(exit.signal, Some(SIGTERM)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rubbish_on_the_socket_harms_nobody_else() {
    let mut bench = Bench::new();
    let rubbish: [&[u8]; 3] = [&[255; 100], &[4, 0, 0, 0, 1, 2, 3, 4], b"GET / HTTP/1.1\r\n\r\n"];
    for bytes in rubbish {
        let mut socket = spawnery_sandbox::launcher::connect(bench.dir.path()).expect("connected");
        socket.write_all(bytes).expect("written");
    }
    assert_eq!(bench.sh("it", "echo alive").1, "alive\n");
}

#[test]
fn many_starts_at_once_all_run() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        for number in 0..20 {
            bench.start_spec(&format!("i{number}"), SandboxSpec::new(["echo", "hi"]));
        }
        for number in 0..20 {
            let instance = format!("i{number}");
            assert_eq!(bench.exit_of(&instance, 0).code, Some(0));
            assert_eq!(bench.output(&instance, 0), "hi\n");
        }
    }
}

/// More than the kernel gives one user of session keyrings, which each sandbox has.
#[test]
fn several_hundred_sandboxes_live_at_once() {
    const COUNT: u32 = 210;
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        for number in 0..COUNT {
            bench.start_spec(&format!("i{number}"), SandboxSpec::new(["sleep", "1000"]));
        }
        bench.ask(Request::Stop { instance: "i0".into(), signal: 9, grace_ms: 0 });
        assert_eq!(bench.exit_of("i0", 0).signal, Some(9), "{whose:?}");
    }
}
