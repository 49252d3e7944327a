//! Working inside a session.

use crate::support::{Background, DEADLINE, Server, wait_for};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

fn server() -> (Server, String) {
    let server = Server::start();
    server.apply("sessions: {box: {run: [sleep, '100000'], memory: 128M}}\n");
    let created = server.home.output(&["session", "create", "box"]).expect(0);
    let id = created.stdout.trim().to_owned();
    (server, id)
}

/// `spawnery` on a terminal of the test's.
struct OnTerminal {
    process: Background,
    controller: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl OnTerminal {
    fn start(server: &Server, arguments: &[&str]) -> OnTerminal {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&controller).expect("granted");
        unlockpt(&controller).expect("unlocked");
        let name = ptsname(&controller, Vec::new()).expect("a name");
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let terminal: OwnedFd =
            File::options().read(true).write(true).open(path).expect("it opens").into();
        resize(&controller, 91, 31);
        let mut command = server.home.command(arguments);
        command.env("TERM", "vt100");
        let copy = || terminal.try_clone().expect("a copy");
        command.stdin(copy()).stdout(copy()).stderr(copy());
        let child = command.spawn().expect("the binary runs");
        drop((command, terminal));
        let controller = File::from(controller);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, all) = (controller.try_clone().expect("a copy"), shown.clone());
        // Ends when the last one who has the terminal does.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                all.lock().expect("no panic").extend_from_slice(&buffer[..read]);
            }
        });
        let process = Background::of(child, server.home.path("terminal.log"));
        OnTerminal { process, controller, shown }
    }

    fn type_in(&mut self, text: &str) {
        self.controller.write_all(text.as_bytes()).expect("it takes what is typed");
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("no panic")).into_owned()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        let until = Instant::now() + DEADLINE;
        while !self.shown().contains(text) {
            assert!(Instant::now() < until, "{text:?} is not in {:?}", self.shown());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

fn resize(terminal: impl AsFd, ws_col: u16, ws_row: u16) {
    let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("a size");
}

#[test]
fn a_shell_is_a_real_terminal_that_outlives_being_left() {
    let (server, id) = server();
    let mut shell = OnTerminal::start(&server, &["session", "shell", &id, "--", "sh", "-i"]);
    shell.wait_for("$ ");
    shell.type_in("PS1=; echo $((40+2)) $TERM $(stty size)\r");
    shell.wait_for("42 vt100 31 91");
    resize(&shell.controller, 100, 40);
    shell.process.signal(rustix::process::Signal::WINCH);
    shell.type_in("while test \"$(stty size)\" != '40 100'; do sleep 0.05; done; echo resi''zed\r");
    shell.wait_for("resized");
    // An interrupt is for the program in the foreground, not for us.
    shell.type_in("sleep 1000\r");
    let until = Instant::now() + DEADLINE;
    while !shell.shown().contains("\nalive") {
        assert!(Instant::now() < until, "it was not interrupted: {:?}", shell.shown());
        // Apart, because what comes with an interrupt is thrown away.
        for keys in ["\x03", "echo a''live\r"] {
            shell.type_in(keys);
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
    // It writes on while nobody is there.
    shell.type_in("stty -echo -icanon; i=0; while test $i -lt 300; do i=$((i+1)); echo line $i; sleep 0.01; done\r");
    shell.wait_for("line 20");
    shell.type_in("\x10\x11");
    assert_eq!(shell.process.wait().code(), Some(0));
    let shown = shell.shown();
    let again = shown.split("attach again: spawnery ").nth(1).expect("it says how");
    let again: Vec<&str> = again.split_whitespace().take(6).collect();
    let [_, _, _, process, _, from] = again[..] else { panic!("{again:?}") };

    let mut second =
        OnTerminal::start(&server, &["session", "attach", &id, process, "--from", from]);
    second.wait_for("line 300");
    second.type_in("exit 5\r");
    assert_eq!(second.process.wait().code(), Some(5));
    let both = shown.split("detached").next().expect("a beginning").to_owned() + &second.shown();
    let lines: Vec<u32> = both
        .split("line ")
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect();
    let expected: Vec<u32> = (1..=300).collect();
    assert_eq!(lines, expected, "nothing is missed and nothing repeated");
}

#[test]
fn a_terminal_needs_one_here() {
    let (server, id) = server();
    let ran = server.home.output(&["session", "shell", &id]).expect(2);
    ran.says("there is no terminal here");
    server.home.output(&["session", "exec", "-t", &id, "--", "sh"]).expect(2);
}

#[test]
fn a_further_command_has_its_user_its_time_and_its_streams() {
    let (server, id) = server();
    let home = &server.home;
    let exec = |options: &[&str], script: &str| {
        let before = ["session", "exec"].iter().chain(options).copied();
        let all: Vec<&str> = before.chain([id.as_str(), "--", "sh", "-c", script]).collect();
        home.output(&all)
    };
    let ran = exec(&[], "echo out; echo err >&2; exit 9").expect(9);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
    if rustix::process::geteuid().is_root() {
        assert_eq!(exec(&["--user", "root"], "id -u").expect(0).stdout, "0\n");
    }
    exec(&["--user", "nonesuch"], "true").expect(125).says("nonesuch");
    exec(&["--timeout", "1s"], "echo begun; sleep 1000").expect(124).says("timeout");
    let number = exec(&["--detach"], "read x; echo got $x; echo bad >&2; exit 3").expect(0).stdout;
    let attach = ["session", "attach", &id, number.trim()];
    // Nothing was written for it, so its input is empty.
    let ran = home.output(&attach).expect(3);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("got\n", "bad\n"));
    let from: Vec<&str> = attach.iter().copied().chain(["--from", "2"]).collect();
    assert_eq!(home.output(&from).expect(3).stdout, "");
    home.output(&["session", "attach", &id, "99"]).expect(125).says("no process 99");

    let found = home.json(&["session", "processes", &id]);
    let all = found.as_array().expect("a list");
    assert_eq!((&all[0]["process"], &all[0]["state"]), (&0.into(), &"running".into()));
    assert_eq!(all[0]["run"], serde_json::json!(["sleep", "100000"]));
    assert!(all.iter().any(|found| found["exit"]["timed_out"] == true), "{found}");
    assert!(all.iter().any(|found| found["exit"]["exit_code"] == 9), "{found}");
    let table = home.output(&["session", "processes", &id]).expect(0).stdout;
    assert!(table.contains("exited 9") && table.contains("ended by its timeout"), "{table}");
}

#[test]
fn ports_are_listed_with_their_names() {
    let server = Server::start();
    let script = "use IO::Socket::IP; \
        for (['127.0.0.1', 7001], ['0.0.0.0', 8080]) { \
            push @all, IO::Socket::IP->new(LocalHost => $_->[0], LocalPort => $_->[1], \
                Listen => 1) or die } \
        sleep 1000";
    let manifest = serde_json::json!({"sessions": {"web": {
        "run": ["perl", "-e", script], "ports": [{"name": "http", "port": 8080}], "memory": "128M",
    }}});
    server.apply(&manifest.to_string());
    let id = server.home.output(&["session", "create", "web"]).expect(0).stdout.trim().to_owned();
    let found = wait_for("both ports", || {
        let found = server.home.json(&["session", "ports", &id]);
        (found.as_array()?.len() == 2).then_some(found)
    });
    assert_eq!((&found[0]["port"], &found[0]["loopback_only"]), (&7001.into(), &true.into()));
    assert_eq!((&found[1]["name"], &found[1]["loopback_only"]), (&"http".into(), &false.into()));
}

#[test]
fn files_go_in_and_out_with_their_modes() {
    use std::os::unix::fs::PermissionsExt;
    let (server, id) = server();
    let home = &server.home;
    let run = |script: &str| {
        home.output(&["session", "exec", &id, "--", "sh", "-c", script]).expect(0).stdout
    };
    let copy = |from: &str, to: &str| home.output(&["session", "cp", from, to]);
    let inside = |path: &str| format!("{id}:{path}");
    // A file, larger than any buffer on its way.
    let large: Vec<u8> = (0..5_000_000u32).map(|number| (number % 249) as u8).collect();
    let path = home.path("large");
    std::fs::write(&path, &large).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o751)).unwrap();
    let path = path.display().to_string();
    copy(&path, &inside("/home/user/")).expect(0);
    assert_eq!(run("stat -c '%a %s' ~/large"), "751 5000000\n");
    copy(&inside("/home/user/large"), "back").expect(0);
    assert!(std::fs::read(home.path("back")).unwrap() == large);
    let mode = std::fs::metadata(home.path("back")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o751);
    // A folder, with links, and back into one that is there.
    std::fs::create_dir_all(home.path("tree/below")).unwrap();
    home.write("tree/below/one", "1");
    std::os::unix::fs::symlink("below/one", home.path("tree/link")).unwrap();
    copy("tree", &inside("/tmp/copied")).expect(0);
    assert_eq!(run("cat /tmp/copied/link; readlink /tmp/copied/link"), "1below/one\n");
    run("echo two > /tmp/copied/below/two; chmod 600 /tmp/copied/below/two");
    std::fs::create_dir(home.path("into")).unwrap();
    copy(&inside("/tmp/copied"), "into").expect(0);
    assert_eq!(std::fs::read_to_string(home.path("into/copied/below/two")).unwrap(), "two\n");
    let link = std::fs::read_link(home.path("into/copied/link")).unwrap();
    assert_eq!(link.to_str(), Some("below/one"));
    // Streams.
    let into = ["session", "cp", "-", &inside("/tmp/streamed")];
    home.output_with_input(&into, b"as it comes").expect(0);
    let out = copy(&inside("/tmp/streamed"), "-").expect(0);
    assert_eq!(out.stdout, "as it comes");
    let listed = home.output(&["session", "ls", &id, "/tmp"]).expect(0).stdout;
    assert!(listed.contains("copied/") && listed.contains("streamed"), "{listed}");
    let listed = home.json(&["session", "ls", &id, "/tmp/copied/below"]);
    assert_eq!((&listed[1]["name"], &listed[1]["mode"]), (&"two".into(), &"0600".into()));
    // What is not there, and what may not be.
    copy(&inside("/tmp/none"), "x").expect(1).says("/tmp/none: there is nothing");
    copy(&inside("/proc/self/mem"), "x").expect(2).says("/proc");
    copy("large", "elsewhere").expect(2).says("SESSION:/PATH");
}
