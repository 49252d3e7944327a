//! `spawnery run`: one isolated command.

use crate::support::{Background, Home, SPAWNERY, Server, wait_for};
use spawnery_sandbox::client::Client as LauncherClient;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

#[test]
fn output_and_exit_code_are_those_of_the_command() {
    let home = Home::new();
    let ran = home.output(&["run", "--", "echo", "hi"]).expect(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("hi\n", ""));
    let ran = home.output(&["run", "--", "sh", "-c", "echo bad >&2; exit 7"]).expect(7);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", "bad\n"));
    home.output(&["run", "--", "sh", "-c", "kill -TERM $$"]).expect(128 + 15);
}

#[test]
fn a_private_server_leaves_nothing_behind() {
    let home = Home::new();
    home.output(&["run", "--", "true"]).expect(0);
    home.output(&["run", "--", "no-such-program"]).expect(125);
    let left: Vec<_> = fs::read_dir(home.path("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!home.data().exists());
}

#[test]
fn too_much_memory_ends_it_with_the_reason() {
    let home = Home::new();
    let greedy = "head -c 400000000 /dev/zero | tail -n 1";
    let ran = home.output(&["run", "--memory", "64M", "--", "sh", "-c", greedy]);
    ran.expect(137).says("error: out of memory").says("64M").says("hint: ");
}

#[test]
fn nothing_of_the_host_is_seen() {
    let home = Home::new();
    let ran = home.output(&["run", "--", "ls", "-A", "/root", "/home"]);
    for folder in ["/root", "/home"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_seen = ran.stdout.lines().any(|line| line == name);
            assert!(!is_seen, "{folder}/{name} is seen: {ran:?}");
        }
    }
    let secret = home.write("secret", "s3cret");
    home.output(&["run", "--", "cat", &secret]).expect(1).says("No such file");
}

#[test]
fn only_its_own_processes_are_seen() {
    let home = Home::new();
    let ran = home.output(&["run", "--", "sh", "-c", "ls -d /proc/[0-9]* | wc -l"]).expect(0);
    let count: u32 = ran.stdout.trim().parse().expect("a number");
    assert!((2..=5).contains(&count), "{count}");
}

#[test]
fn standard_input_is_passed_on_byte_for_byte() {
    let home = Home::new();
    let input: Vec<u8> = (0..=255u8).cycle().take(100_000).collect();
    let ran = home.output_with_input(&["run", "--", "cat"], &input).expect(0);
    assert!(ran.bytes == input, "{} bytes came back", ran.bytes.len());
}

#[test]
fn files_variables_and_the_working_directory_are_given() {
    let home = Home::new();
    let file = home.write("data.bin", "some data");
    let command = ["sh", "-c", "cat copy; echo $A; pwd"];
    let given = format!("{file}:/tmp/copy");
    let mut arguments = vec!["run", "--file", &given, "--env", "A=b", "-w", "/tmp", "--"];
    arguments.extend(command);
    let ran = home.output(&arguments).expect(0);
    assert_eq!(ran.stdout, "some datab\n/tmp\n");
}

#[test]
fn what_is_wrong_is_said_with_the_option_and_the_mend() {
    let home = Home::new();
    let check = |arguments: &[&str], code: i32, parts: &[&str]| {
        let mut all = vec!["run"];
        all.extend(arguments);
        let mut ran = home.output(&all).expect(code);
        for part in parts {
            ran = ran.says(part);
        }
    };
    check(&["--memory", "64X", "--", "ls"], 2, &["--memory", "`64X`", "512M"]);
    check(&["--cpu", "many", "--", "ls"], 2, &["--cpu", "`many`"]);
    check(&["--network", "all", "--", "ls"], 2, &["--network", "none, private, host"]);
    check(&["--file", "a", "--", "ls"], 2, &["--file", "FILE:PATH"]);
    check(&["--file", "none:/a", "--", "ls"], 2, &["--file", "none", "No such file"]);
    check(&["--env", "NOT_THERE", "--", "ls"], 2, &["--env", "NAME=VALUE"]);
    check(&["--timeout", "soon", "--", "ls"], 2, &["--timeout", "`soon`"]);
    check(&[], 2, &["COMMAND"]);
    check(&["--", "no-such-program"], 125, &["no-such-program", "not found"]);
}

#[test]
fn a_timeout_ends_it_with_the_reason() {
    let home = Home::new();
    let ran = home.output(&["run", "--timeout", "1s", "--", "sleep", "1000"]);
    ran.expect(128 + 15).says("error: reached the longest duration allowed");
}

#[test]
fn the_first_signal_goes_to_the_command() {
    let home = Home::new();
    let script = "trap 'echo got; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let mut running = start(&home, script);
    running.interrupt();
    assert_eq!(running.wait().code(), Some(9), "{}", running.printed());
    assert!(running.printed().contains("got"));
}

#[test]
fn the_second_signal_ends_it() {
    let home = Home::new();
    let script = "trap 'echo no' INT; echo ready; while :; do sleep 0.05; done";
    let mut running = start(&home, script);
    running.interrupt();
    running.wait_for_line("no");
    running.interrupt();
    assert_eq!(running.wait().code(), Some(128 + 15), "{}", running.printed());
}

fn start(home: &Home, script: &str) -> Background {
    let command = home.command(&["run", "--", "sh", "-c", script]);
    let mut running = Background::start(command, home.path("run.log"));
    running.wait_for_line("ready");
    running
}

#[test]
fn it_ends_when_nobody_reads_its_output() {
    let home = Home::new();
    let mut command = home.command(&["run", "--", "yes"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let status = wait_for("its end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(141));
}

#[test]
fn it_needs_no_root() {
    // Whoever is not root has shown it by the other tests.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    let binary = home.path("spawnery");
    fs::copy(SPAWNERY, &binary).unwrap();
    let folder = home.path("nobody");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(home.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let script =
        "id -u; grep -c . /proc/self/status >/dev/null; ls -d /proc/[0-9]* | wc -l; exit 3";
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(&binary).args(["run", "--", "sh", "-c", script]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("HOME", &folder).env("TMPDIR", &folder).current_dir(&folder);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{shown}{errors}");
    let count: u32 = shown.lines().last().unwrap().parse().unwrap();
    assert!((2..=5).contains(&count), "{shown}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn what_a_killed_one_left_is_removed_by_the_next_and_nothing_else() {
    let home = Home::new();
    let folders = || -> Vec<_> {
        let entries = fs::read_dir(home.path("tmp")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut killed = start(&home, "echo ready; sleep 1000");
    let left = folders();
    killed.kill();
    let launcher = left[0].join("agent/launcher");
    assert!(LauncherClient::connect(&launcher).is_ok(), "its launcher lives on");
    let script = "trap 'exit 9' INT; echo here; while :; do sleep 0.05; done";
    let live = home.command(&["run", "--", "sh", "-c", script]);
    let mut live = Background::start(live, home.path("live.log"));
    live.wait_for_line("here");
    wait_for("the end of what was left", || (!left[0].exists()).then_some(()));
    assert!(LauncherClient::connect(&launcher).is_err());
    home.output(&["run", "--", "true"]).expect(0);
    assert_eq!(folders().len(), 1, "that of the one that lives");
    live.interrupt();
    assert_eq!(live.wait().code(), Some(9), "{}", live.printed());
    assert!(folders().is_empty(), "{:?}", folders());
}

#[test]
fn it_says_what_it_waits_for_also_without_a_terminal() {
    let server = Server::start();
    let command = server.home.command(&["run", "--cpu", "1000", "--", "true"]);
    let mut waiting = Background::start(command, server.home.path("run.log"));
    waiting.wait_for_line("waiting: ");
}

#[test]
fn its_options_are_in_the_environment_and_in_the_file_too() {
    let home = Home::new();
    let file = home.write("c.toml", "[run]\nenv = [\"A=file\"]\nworking_directory = \"/tmp\"\n");
    let run = |line: &[&str], variables: &[(&str, &str)]| {
        let mut command = home.command(&["run"]);
        command.args(line).args(["--", "sh", "-c", "echo $A; pwd"]);
        command.env("SPAWNERY_CONFIG", &file).envs(variables.iter().copied());
        let output = command.output().expect("the binary runs");
        (String::from_utf8_lossy(&output.stdout).into_owned(), output)
    };
    let variable = [("SPAWNERY_RUN_ENV", "A=variable,B=1")];
    assert_eq!(run(&[], &[]).0, "file\n/tmp\n");
    assert_eq!(run(&[], &variable).0, "variable\n/tmp\n");
    assert_eq!(run(&["--env", "A=option"], &variable).0, "option\n/tmp\n");
    // What only the command itself can judge is named with its place too.
    let (_, output) = run(&[], &[("SPAWNERY_RUN_TIMEOUT", "soon")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("SPAWNERY_RUN_TIMEOUT: ") && said.contains("`soon`"), "{said}");
}
