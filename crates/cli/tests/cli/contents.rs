//! What instances find: archives of environments, images, users, secrets and volumes of `run`, and
//! the tools that a machine needs for all that.

use crate::servers::{image, run};
use crate::support::{Background, Home, Server};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const MANIFEST: &str = "\
environments:
  box:
    base: {image: ./image}
    directories: {/srv/app: ./app}
    build: ['echo made > /srv/made']
";

/// A server with an environment called `box`, which was built.
fn with_box() -> Server {
    let server = Server::start();
    let home = &server.home;
    image(home, "image", "good");
    fs::create_dir(home.path("app")).expect("a folder");
    let program = home.write("app/tool", "#!/bin/sh\necho a tool\n");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("our file");
    let path = home.write("m.yaml", MANIFEST);
    home.output(&["environment", "build", &path]).expect(0);
    server
}

#[test]
fn an_exported_archive_has_all_files_as_they_are() {
    let server = with_box();
    let home = &server.home;
    let archive = home.path("box.tar").display().to_string();
    home.output(&["environment", "export", "box", "-o", &archive]).expect(0).prints("wrote ");
    let folder = home.path("unpacked");
    fs::create_dir(&folder).expect("a folder");
    run("tar", &["-xf", &archive, "-C", &folder.display().to_string()]);
    let text = |path: &str| fs::read_to_string(folder.join(path)).expect(path);
    assert_eq!(text("srv/hello"), "hello from the image\n");
    assert_eq!(text("srv/made"), "made\n");
    assert_eq!(text("srv/app/tool"), "#!/bin/sh\necho a tool\n");
    let mode = fs::metadata(folder.join("srv/app/tool")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    let link = fs::read_link(folder.join("bin/sh")).expect("a link");
    assert_eq!(link.to_str(), Some("busybox"));
    // Standard output has the same bytes.
    let ran = home.output(&["environment", "export", "box"]).expect(0);
    assert!(ran.bytes == fs::read(&archive).expect("read"), "{} bytes", ran.bytes.len());
    home.output(&["environment", "export", "none", "-o", &archive]).expect(1).says("none");
    let home_of_none = home.output(&["environment", "export", "box", "-o", "/nowhere/x"]);
    home_of_none.expect(1).says("cannot write /nowhere/x");
}

#[test]
fn an_exported_image_is_read_by_other_tools_and_by_run() {
    let server = with_box();
    let home = &server.home;
    let archive = home.path("box.oci.tar").display().to_string();
    home.output(&["environment", "export", "box", "--format", "oci", "-o", &archive]).expect(0);
    let from = format!("oci-archive:{archive}");
    let said = run("skopeo", &["--insecure-policy", "inspect", "--config", &from]);
    let config: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(config["os"], "linux", "{config}");
    let env = config["config"]["Env"].as_array().expect("a list");
    assert!(env.contains(&"COLOUR=red".into()), "{config}");
    let layout = format!("oci:{}:it", home.path("copied").display());
    run("skopeo", &["--insecure-policy", "copy", "--quiet", &from, &layout]);
    // The whole circle: what was written is an image.
    let script = "cat /srv/made /srv/hello; /srv/app/tool; echo $COLOUR";
    let ran = home.output(&["run", "--image", &archive, "--", "sh", "-c", script]).expect(0);
    assert_eq!(ran.stdout, "made\nhello from the image\na tool\nred\n");
}

#[test]
fn run_takes_an_image_with_its_command_and_its_user() {
    let home = Home::new();
    let layout = image(&home, "image", "good").display().to_string();
    let ran = home.output(&["run", "--image", &layout]).expect(0);
    assert_eq!(ran.stdout, "hello from the image\n");
    home.output(&["run", "--image", &layout, "--", "id", "-u"]).expect(0).prints("33\n");
    home.output(&["run", "--image", "./nothing", "--", "id"]).expect(2).says("nothing");
    let cut = image(&home, "cut", "truncated").display().to_string();
    let ran = home.output(&["run", "--image", &cut, "--", "id"]);
    ran.expect(125).says("image").says("but should have");
}

#[test]
fn run_is_whoever_it_is_told_to_be() {
    if !rustix::process::geteuid().is_root() {
        // Without root there is one user only.
        return;
    }
    let home = Home::new();
    for (user, expected) in [("1234", "1234 1234\n"), ("7:8", "7 8\n"), ("0:0", "0 0\n")] {
        let script = "echo $(id -u) $(id -g)";
        let ran = home.output(&["run", "--user", user, "--", "sh", "-c", script]).expect(0);
        assert_eq!(ran.stdout, expected);
    }
    home.output(&["run", "--user", "me", "--", "id"]).expect(2).says("--user");
    home.output(&["run", "--user", "70000", "--", "id"]).expect(2).says("--user");
}

#[test]
fn run_is_isolated_by_the_runtime_that_is_asked_for() {
    let home = Home::new();
    let script = "id -u; ls -d /proc/[0-9]* | wc -l; ls /root; echo own > /etc/own; cat /etc/own";
    for runtime in ["process", "oci"] {
        if runtime == "oci" && !rustix::process::geteuid().is_root() {
            continue;
        }
        let ran = home.output(&["run", "--runtime", runtime, "--", "sh", "-c", script]);
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let count: u32 = lines.get(1).and_then(|it| it.parse().ok()).expect("a number");
        assert_eq!((lines[0], lines[2]), ("1000", "own"), "{runtime}: {ran:#?}");
        assert!((2..=6).contains(&count), "{runtime}: {ran:#?}");
    }
    // What would isolate it is asked for, and its absence is the reason.
    for (runtime, variable, value) in [
        ("oci", "SPAWNERY_OCI_RUNTIME", "no-such-runtime"),
        ("docker", "SPAWNERY_DOCKER_SOCKET", "/nonexistent/docker.sock"),
    ] {
        let mut command = home.command(&["run", "--runtime", runtime, "--", "true"]);
        command.env(variable, value);
        let mut waiting = Background::start(command, home.path("run.log"));
        waiting.wait_for_line(&format!("does not have the runtime {runtime}"));
        waiting.interrupt();
        assert_ne!(waiting.wait().code(), Some(0), "{}", waiting.printed());
    }
    home.output(&["run", "--runtime", "vm", "--", "true"]).expect(2).says("--runtime");
}

#[test]
fn run_is_given_secrets_as_files_and_variables() {
    let server = Server::start();
    let home = &server.home;
    home.output_with_input(&["secret", "set", "pw"], b"open sesame\n").expect(0);
    // Turned around, so that what is shown is not the secret.
    let script = "tr a-z b-za < /run/secrets/pw; echo; echo $WORD | tr a-z b-za; \
        stat -c %a /run/secrets/pw; echo x > /run/secrets/pw";
    let arguments = ["run", "--secret", "pw", "--secret", "pw=WORD", "--", "sh", "-c", script];
    let ran = home.output(&arguments);
    assert_eq!(ran.stdout, "pqfo tftbnf\npqfo tftbnf\n400\n", "{ran:#?}");
    assert_ne!(ran.status.code(), Some(0), "a secret cannot be written");
    let ran = home.output(&["run", "--timeout", "5s", "--secret", "none", "--", "true"]);
    assert_ne!(ran.status.code(), Some(0), "{ran:#?}");
    ran.says("none");
}

#[test]
fn run_shares_a_volume_at_the_place_that_it_is_told() {
    let server = Server::start();
    let home = &server.home;
    let write = ["run", "--volume", "v:/var/lib/v", "--", "sh", "-c", "echo 7 > /var/lib/v/n"];
    home.output(&write).expect(0);
    home.output(&["run", "--volume", "v", "--", "cat", "/srv/v/n"]).expect(0).prints("7\n");
    home.output(&["run", "--volume", "v:/proc/x", "--", "true"]).expect(2).says("/proc/x");
}

#[test]
fn the_doctor_tells_which_tools_are_there_and_how_to_get_the_others() {
    let home = Home::new();
    let folder = home.path("bin");
    fs::create_dir(&folder).expect("a folder");
    let git = home.write("bin/git", "#!/bin/sh\n");
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).expect("our file");
    let doctor = |arguments: &[&str]| {
        let mut command = home.command(&["doctor"]);
        command.args(arguments).env("PATH", &folder);
        command.env("SPAWNERY_DOCKER_SOCKET", "/nonexistent/docker.sock");
        command.env("SPAWNERY_OCI_RUNTIME", "no-such-runtime");
        let output = command.output().expect("the binary runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let checks: serde_json::Value = serde_json::from_str(&doctor(&["--json"])).expect("JSON");
    let table = doctor(&[]);
    let check = |name: &str, status: &str, parts: &[&str]| {
        let mut checks = checks.as_array().expect("a list").iter();
        let found = checks.find(|it| it["check"] == name).expect(name);
        assert_eq!(found["status"], status, "{found}");
        let line = table.lines().find(|line| line.starts_with(&format!("{name} ")));
        assert!(line.is_some_and(|line| line.contains(status)), "{name}: {table}");
        for part in parts {
            let text = found.to_string();
            assert!(text.contains(part) && table.contains(part), "{part}: {text}\n{table}");
        }
    };
    check("git", "found", &[&git]);
    check("uv", "absent", &["`python` of environments", "pip install uv"]);
    check("apt", "absent", &["apt-get", "Debian"]);
    check("oci", "absent", &["--oci-runtime"]);
    check("docker", "absent", &["/nonexistent/docker.sock", "--docker-socket"]);
}
