//! Environments, secrets and volumes, from the command line to the instance.

use crate::support::{Home, SPAWNERY, Server, wait_for};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const MANIFEST: &str = "\
environments:
  hello:
    directories: {/srv/app: ./app}
    files: {/srv/name: ./name}
    build:
      - tr a-z A-Z < /srv/name > /srv/loud && echo was here
jobs:
  greet: {run: [/srv/app/hello], environment: hello}
sessions:
  shell: {run: [sleep, '600'], environment: hello}
";

fn with_manifest(home: &Home) -> String {
    fs::create_dir(home.path("app")).expect("a writable folder");
    let program = home.write("app/hello", "#!/bin/sh\necho hello $(cat /srv/loud)\n");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(program, executable).expect("our file");
    home.write("name", "world\n");
    home.write("m.yaml", MANIFEST)
}

#[test]
fn an_environment_is_built_once_and_its_instances_find_it() {
    let server = Server::start();
    let home = &server.home;
    let path = with_manifest(home);
    let built = home.output(&["environment", "build", &path]).expect(0);
    let built = built.says("step 2 of 2").says("was here").prints("built hello: ");
    let digest = built.stdout.split_whitespace().nth(2).expect("a digest").to_owned();
    // Built before: the steps are not done again.
    let again = home.output(&["environment", "build", &path]).expect(0).prints(&digest);
    assert!(!again.stderr.contains("was here"), "{again:#?}");
    let listed = home.json(&["environment", "list"]);
    assert_eq!(listed["environments"].as_array().map(Vec::len), Some(1), "{listed}");
    let shown = home.json(&["environment", "show", "hello"]);
    assert!(shown["digest"].as_str().is_some_and(|it| it.starts_with(&digest)), "{shown}");
    assert_eq!(shown["steps"].as_array().map(Vec::len), Some(2), "{shown}");
    assert!(shown["output"].as_str().is_some_and(|it| it.contains("was here")), "{shown}");
    home.output(&["environment", "show", &digest[..6]]).expect(0).prints("Output of the build:");
    home.output(&["apply", &path]).expect(0);
    home.output(&["jobs", "run", "greet", "--wait"]).expect(0);
    home.output(&["logs", "greet"]).expect(0).prints("hello WORLD");
    home.output(&["session", "create", "--file", &path]).expect(0);
    home.instance("shell", "ready");
    let pruned = home.json(&["environment", "prune", "--unused"]);
    assert_eq!(pruned["nodes"][0]["environments"], 0, "it is in use: {pruned}");
}

#[test]
fn a_build_that_fails_names_the_step_and_what_it_said() {
    let server = Server::start();
    let home = &server.home;
    let text = "environments:\n  bad: {build: ['echo no such luck; exit 3']}\n";
    let path = home.write("m.yaml", text);
    let ran = home.output(&["environment", "build", &path]).expect(2);
    ran.says("build command 1 of 1").says("no such luck").says("3");
    let listed = home.json(&["environment", "list"]);
    assert_eq!(listed["environments"], serde_json::json!([]));
    home.output(&["environment", "show", "bad"]).expect(1).says("`spawnery environment list`");
}

#[test]
fn what_is_missing_beside_a_manifest_is_an_error_with_its_place() {
    let home = Home::new();
    let path = home.write("m.yaml", MANIFEST);
    let ran = home.output(&["check", &path]).expect(2);
    ran.says("m.yaml:3:29").says("./app").says("m.yaml:4:24").says("./name");
    with_manifest(&home);
    home.output(&["check", &path]).expect(0);
    fs::remove_file(home.path("name")).expect("our file");
    fs::create_dir(home.path("name")).expect("a writable folder");
    home.output(&["check", &path]).expect(2).says("it is a folder");
}

#[test]
fn a_lock_file_is_written_beside_the_manifest_and_read_again() {
    let server = Server::start();
    let home = &server.home;
    let path = with_manifest(home);
    home.output(&["environment", "lock", &path]).expect(0).prints("m.lock (1 environment)");
    let lock = fs::read_to_string(home.path("m.lock")).expect("a lock file");
    assert!(lock.contains("[environments.hello]\nrecipe = \""), "{lock}");
    home.output(&["environment", "lock", &path, "hello"]).expect(0);
    assert_eq!(fs::read_to_string(home.path("m.lock")).ok(), Some(lock), "nothing has changed");
    home.output(&["environment", "lock", &path, "nope"]).expect(2).says("it has hello");
    home.output(&["apply", &path]).expect(0);
    home.write("m.lock", "[environments.hello]\nrecipe = 5\n");
    home.output(&["apply", &path]).expect(2).says("m.lock:2:10");
    home.output(&["check", &path]).expect(2).says("m.lock:2:10");
}

#[test]
fn a_volume_is_kept_between_instances_until_it_is_removed() {
    let server = Server::start();
    let home = &server.home;
    home.output(&["run", "--volume", "data", "--", "sh", "-c", "echo kept > /srv/data/file"])
        .expect(0);
    home.output(&["run", "--volume", "data:/var/tmp/d", "--", "cat", "/var/tmp/d/file"])
        .expect(0)
        .prints("kept");
    let listed = home.json(&["volume", "list"]);
    assert_eq!(listed[0]["name"], "data", "{listed}");
    assert!(listed[0]["nodes"][0]["size_bytes"].as_u64().is_some_and(|size| size > 0), "{listed}");
    wait_for("the volume to be free", || {
        let ran = home.output(&["volume", "remove", "data"]);
        (ran.status.code() == Some(0)).then_some(())
    });
    home.output(&["volume", "remove", "data"]).expect(1).says("no volume called data");
}

#[test]
fn what_the_node_does_not_list_is_refused() {
    let server = Server::start_with(Home::new(), &["--allow-mount", "/usr/share"]);
    let home = &server.home;
    let manifest = |from: &str| {
        format!("services: {{a: {{run: [sleep, '600'], mounts: [{{from: {from}, to: /srv/m}}]}}}}")
    };
    let path = home.write("m.yaml", &manifest("/etc"));
    home.output(&["apply", &path]).expect(0);
    let waits = wait_for("the reason", || {
        let instances = home.json(&["instances"]);
        instances[0]["waits_for"].as_str().map(str::to_owned)
    });
    assert!(waits.contains("/etc"), "{waits}");
    home.output(&["services"]).expect(0).prints("pending: ");
    let path = home.write("m.yaml", &manifest("/usr/share"));
    home.output(&["apply", &path]).expect(0);
    home.instance("a", "ready");
    for (option, value) in [("--allow-device", "/etc/x"), ("--allow-mount", "usr")] {
        home.output(&["server", option, value]).expect(2).says(option);
    }
}

/// The value that nobody may see, as a process would have it in its arguments.
const VALUE: &str = "hunter2-5f8f0ad1c6e94a4b";

#[test]
fn secrets_are_never_shown() {
    let server = Server::start_with(Home::new(), &["--log-level", "trace"]);
    let home = &server.home;
    let ran = home.output_with_input(&["secret", "set", "pw"], format!("{VALUE}\n").as_bytes());
    let mut shown = vec![ran.expect(0)];
    home.write("value", VALUE);
    shown.push(home.output(&["secret", "set", "other", "--file", "value"]).expect(0));
    let text = "\
services:
  web:
    run: [sh, -c, 'test \"$(cat /run/secrets/pw)\" = \"$OTHER\" && echo same && sleep 600']
    secrets: [pw, {name: other, variable: OTHER}]
";
    let path = home.write("m.yaml", text);
    shown.push(home.output(&["apply", &path]).expect(0));
    let instance = home.instance("web", "ready");
    wait_for("the secrets in the instance", || {
        home.output(&["logs", "web"]).stdout.contains("same").then_some(())
    });
    for command in [
        &["secret", "list"][..],
        &["instances", "--all"],
        &["services"],
        &["events", "--all"],
        &["diff", &path],
        &["secret", "remove", "pw"],
        &["secret", "set", VALUE],
        &["config"],
    ] {
        for json in [&[][..], &["--json"]] {
            shown.push(home.output(&[command, json].concat()));
        }
    }
    for ran in shown {
        let is_own = ran.command.contains(VALUE);
        let both = format!("{}{}", ran.stdout, ran.stderr);
        assert!(is_own || !both.contains(VALUE), "{ran:#?}");
    }
    let own = instance["pid"].as_u64().expect("it runs");
    assert_not_in_processes(server.process.child.id(), own);
    assert_not_in_files(home.folder.path(), &["value"]);
    assert!(!server.process.printed().contains(VALUE), "it is in the log");
}

/// Checks the arguments and variables of all processes of the server but those of the instance.
fn assert_not_in_processes(server: u32, instance: u64) {
    let parent = |pid: u64| -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let is_of_instance =
        |pid: u64| std::iter::successors(Some(pid), |pid| parent(*pid)).any(|pid| pid == instance);
    let mut seen_server = false;
    for entry in fs::read_dir("/proc").expect("there is /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()) else {
            continue;
        };
        let is_ours = fs::read_link(entry.path().join("exe"))
            .is_ok_and(|exe| exe.as_os_str().as_encoded_bytes().starts_with(SPAWNERY.as_bytes()));
        seen_server |= pid == u64::from(server);
        if !is_ours || is_of_instance(pid) {
            continue;
        }
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            assert!(!holds(&bytes), "it is in {file} of process {pid}");
        }
    }
    assert!(seen_server, "the server runs");
}

/// Checks all files below `folder` but `except`: journal, logs, spools, manifests.
fn assert_not_in_files(folder: &Path, except: &[&str]) {
    let mut folders = vec![folder.to_owned()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let name = entry.file_name();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && !except.iter().any(|except| name == *except) {
                count += 1;
                let bytes = fs::read(entry.path()).unwrap_or_default();
                assert!(!holds(&bytes), "it is in {}", entry.path().display());
            }
        }
    }
    assert!(count > 5, "there is a journal and more");
}

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes())
}

#[test]
fn a_secret_is_no_argument() {
    let home = Home::new();
    home.output(&["secret", "set", "pw", "value"]).expect(2);
    let help = Command::new(SPAWNERY).args(["secret", "set", "--help"]).output();
    let help = String::from_utf8(help.expect("the binary runs").stdout).expect("text");
    assert!(help.contains("never an argument"), "{help}");
}
