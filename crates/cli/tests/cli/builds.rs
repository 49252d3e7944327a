//! Builds of environments that must come out the same, and those that cannot come out at all.

use crate::servers::{
    CREDENTIALS, Served, free_port, git_server, image, package_index, push, registry, run, uv,
};
use crate::support::{Background, Home, Server, end_launcher, wait_for};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A repository with one commit, and how to make more.
struct Repository {
    folder: tempfile::TempDir,
    work: PathBuf,
}

impl Repository {
    fn new() -> Repository {
        let folder = tempfile::tempdir().expect("a folder");
        let bare = folder.path().join("app.git").display().to_string();
        let work = folder.path().join("work");
        run("git", &["init", "--quiet", "--bare", "--initial-branch", "main", &bare]);
        run("git", &["clone", "--quiet", &bare, &work.display().to_string()]);
        let repository = Repository { folder, work };
        repository.commit("one");
        repository
    }

    fn commit(&self, text: &str) {
        fs::write(self.work.join("text"), format!("{text}\n")).expect("written");
        let work = self.work.display().to_string();
        let git = |words: &[&str]| run("git", &[&["-C", &work], words].concat());
        git(&["add", "text"]);
        let (name, mail) = ("user.name=Test", "user.email=test@example.test");
        git(&["-c", name, "-c", mail, "commit", "--quiet", "-m", text]);
        git(&["push", "--quiet", "origin", "HEAD:main"]);
    }
}

fn manifest(index: &Served, git: &Served) -> String {
    format!(
        "\
environments:
  app:
    python:
      packages: [spawn-alpha]
      index: 'http://127.0.0.1:{}/simple'
    source: {{git: 'http://127.0.0.1:{}/app.git', branch: main}}
    build: ['python -c \"import spawn_alpha; print(spawn_alpha.VERSION)\" > /srv/version']
",
        index.port, git.port
    )
}

fn start() -> Server {
    let uv = uv();
    Server::start_with(Home::new(), &uv.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Builds the environments of a manifest, and gives the digest and the content of `app`.
fn built(home: &Home, path: &str) -> (String, serde_json::Value) {
    home.output(&["environment", "build", path]).expect(0);
    let shown = home.json(&["environment", "show", "app"]);
    (shown["digest"].as_str().expect("a digest").to_owned(), shown["layers"].clone())
}

#[test]
fn the_same_manifest_and_lock_give_the_same_digest_in_two_data_folders() {
    let (index, repository) = (package_index(), Repository::new());
    let git = git_server(repository.folder.path());
    let text = manifest(&index, &git);
    let (one, two) = (start(), start());
    let path = one.home.write("m.yaml", &text);
    one.home.output(&["environment", "lock", &path]).expect(0).prints("1 environment");
    let lock = fs::read_to_string(one.home.path("m.lock")).expect("a lock");
    assert!(lock.contains("spawn-alpha==1.1 --hash=sha256:"), "{lock}");
    // What is not pinned goes on.
    repository.commit("two");
    let other = two.home.write("m.yaml", &text);
    two.home.write("m.lock", &lock);
    let (first, second) = (built(&one.home, &path), built(&two.home, &other));
    assert_eq!(first, second);
    let archive =
        |server: &Server| server.home.output(&["environment", "export", "app"]).expect(0).bytes;
    assert!(archive(&one) == archive(&two), "the exported files are the same too");
    let folder = two.home.path("unpacked");
    fs::create_dir(&folder).expect("a folder");
    let file = two.home.path("app.tar").display().to_string();
    two.home.output(&["environment", "export", "app", "-o", &file]).expect(0);
    run("tar", &["-xf", &file, "-C", &folder.display().to_string()]);
    assert_eq!(fs::read_to_string(folder.join("srv/version")).ok().as_deref(), Some("1.1\n"));
    assert_eq!(fs::read_to_string(folder.join("srv/source/text")).ok().as_deref(), Some("one\n"));
    // Without the lock it is another one.
    fs::remove_file(two.home.path("m.lock")).expect("removed");
    assert_ne!(built(&two.home, &other).0, first.0);
}

/// What is in the store of a node: layers, environments, and what is being made.
fn store(home: &Home) -> Vec<String> {
    let folder = home.data().join("agent/environments");
    let mut found = Vec::new();
    for name in ["layers", "environments", "building", "content/incoming"] {
        for entry in fs::read_dir(folder.join(name)).into_iter().flatten().flatten() {
            found.push(format!("{name}/{}", entry.file_name().to_string_lossy()));
        }
    }
    assert!(folder.join("layers").is_dir(), "{} is the store", folder.display());
    found
}

/// Builds `environment`, which must fail with these words and leave nothing.
#[track_caller]
fn check_failure(home: &Home, environment: &str, words: &[&str]) {
    let path = home.write("m.yaml", &format!("environments: {{bad: {environment}}}\n"));
    let mut ran = home.output(&["environment", "build", &path]).expect(2);
    for word in words {
        ran = ran.says(word);
    }
    assert!(!ran.stderr.contains("sesame"), "{}", ran.stderr);
    let listed = home.json(&["environment", "list"]);
    assert_eq!(listed["environments"], serde_json::json!([]), "{environment}");
    assert_eq!(store(home), Vec::<String>::new(), "{environment}");
}

#[test]
fn every_bad_input_names_its_step_and_leaves_nothing() {
    let server = start();
    let home = &server.home;
    let (index, registry) = (package_index(), registry());
    let layout = image(home, "good", "good");
    push(&layout, &registry, "app:1");
    let secret = |value: &str| {
        home.output_with_input(&["secret", "set", "pull"], value.as_bytes()).expect(0);
    };
    let at = |name: &str| {
        format!("{{base: {{image: '127.0.0.1:{}/{name}', credentials: pull}}}}", registry.port)
    };
    // An unknown package.
    let unknown = format!(
        "{{python: {{packages: [spawn-unknown], index: 'http://127.0.0.1:{}/simple'}}}}",
        index.port
    );
    check_failure(home, &unknown, &["python packages", "spawn-unknown"]);
    // A truncated layer, a bad digest and a path that leads out.
    for (what, words) in
        [("truncated", "but should have"), ("digest", "has the digest"), ("escape", "escaped")]
    {
        image(home, what, what);
        let environment = format!("{{base: {{image: ./{what}}}}}");
        check_failure(home, &environment, &["step 1 of 1: image", "layer 1 ", words]);
        assert!(!Path::new("/escaped").exists());
    }
    // A registry without the image, with another digest, with wrong credentials, and none at all.
    secret("ann:wrong sesame");
    check_failure(home, &at("app:1"), &["resolving the image", "refuses the access"]);
    secret(CREDENTIALS);
    check_failure(home, &at("gone:1"), &["resolving the image", "does not have the image"]);
    let digest = format!("app@sha256:{}", "0".repeat(64));
    check_failure(home, &at(&digest), &["image", "does not have the image"]);
    let nobody = format!("{{base: {{image: '127.0.0.1:{}/app:1'}}}}", free_port());
    check_failure(home, &nobody, &["resolving the image", "cannot be reached"]);
    // And a good one is still built.
    let path = home.write("m.yaml", &format!("environments: {{good: {}}}\n", at("app:1")));
    home.output(&["environment", "build", &path]).expect(0).prints("built good");
}

/// A file system of 24 MiB in a home, for its data.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(home: &Home) -> SmallDisk {
        let (image, folder) = (home.path("disk-image"), home.data());
        fs::File::create(&image).and_then(|it| it.set_len(24 << 20)).expect("made");
        fs::create_dir(&folder).expect("made");
        let (image, place) = (image.display().to_string(), folder.display().to_string());
        run("/sbin/mkfs.ext4", &["-q", "-m", "0", &image]);
        run("mount", &["-o", "loop", &image, &place]);
        SmallDisk(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_a_reason_and_the_build_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        // Only root can mount.
        return;
    }
    let home = Home::new();
    let disk = SmallDisk::mount(&home);
    let server = Server::start_with(home, &[]);
    let home = &server.home;
    let big = "{base: {image: ./good}, build: ['cat /bin/busybox /bin/busybox > /srv/a; \
        i=0; while [ $i -lt 30 ]; do cat /bin/busybox > /srv/$i || exit 1; i=$((i+1)); done']}";
    image(home, "good", "good");
    let path = home.write("m.yaml", &format!("environments: {{bad: {big}}}\n"));
    let ran = home.output(&["environment", "build", &path]).expect(2);
    ran.says("step 2 of 2: build command 1").says("space");
    let listed = home.json(&["environment", "list"]);
    assert_eq!(listed["environments"], serde_json::json!([]));
    let left: Vec<String> =
        store(home).into_iter().filter(|it| !it.starts_with("layers/")).collect();
    assert_eq!(left, Vec::<String>::new(), "only the step before is kept, which is whole");
    // What fits still goes.
    let path = home.write("m.yaml", "environments: {good: {base: {image: ./good}}}\n");
    home.output(&["environment", "build", &path]).expect(0);
    drop(server);
    drop(disk);
}

const SLOW: &str = "\
environments:
  slow:
    build:
      - echo first > /srv/first
      - cat /proc/sys/kernel/random/uuid > /srv/half && echo begun && sleep 600
jobs:
  see: {run: [cat, /srv/first, /srv/half], environment: slow}
";

/// Builds until the second step has begun; gives the command that waits for it.
fn begin(home: &Home, path: &str) -> Background {
    let mut waiting = Background::start(
        home.command(&["environment", "build", path, "slow"]),
        home.path("b.log"),
    );
    waiting.wait_for_line("begun");
    waiting
}

/// What must hold after a build was killed: nothing half made is used, and it can be built anew.
fn check_after_the_kill(home: &Home, path: &str, agent: &Path) {
    let building = agent.join("environments/building");
    wait_for("what was half made to be removed", || {
        let left = fs::read_dir(&building).map_or(0, Iterator::count);
        (left == 0).then_some(())
    });
    let listed = home.json(&["environment", "list"]);
    assert_eq!(listed["environments"], serde_json::json!([]), "nothing half made is there");
    // The same steps, but the second one ends now.
    let mended = SLOW.replace(" && sleep 600", "");
    fs::write(path, mended).expect("written");
    let ran = home.output(&["environment", "build", path, "slow"]).expect(0);
    ran.says("step 2 of 2").prints("built slow");
    home.output(&["apply", path]).expect(0);
    home.output(&["jobs", "run", "see", "--wait"]).expect(0);
    home.output(&["logs", "see"]).expect(0).prints("first\n");
}

#[test]
fn a_build_of_a_server_that_is_killed_is_not_used_and_done_anew() {
    let mut server = Server::start();
    let path = server.home.write("m.yaml", SLOW);
    let mut waiting = begin(&server.home, &path);
    server.process.kill();
    assert_ne!(waiting.wait().code(), Some(0), "{}", waiting.printed());
    server.restart();
    check_after_the_kill(&server.home, &path, &server.home.data().join("agent"));
}

#[test]
fn a_build_whose_launcher_is_killed_with_the_server_is_not_used_and_done_anew() {
    let mut server = Server::start();
    let path = server.home.write("m.yaml", SLOW);
    let _waiting = begin(&server.home, &path);
    server.process.kill();
    end_launcher(&server.home.data().join("agent/launcher"));
    server.restart();
    check_after_the_kill(&server.home, &path, &server.home.data().join("agent"));
}

#[test]
fn a_build_of_an_agent_that_is_killed_is_not_used_and_done_anew() {
    let server = Server::start_with(Home::new(), &["--no-agent", "--link-listen", "127.0.0.1:0"]);
    let home = &server.home;
    let said = home.output(&["nodes", "invite"]).expect(0).stdout;
    let line = said.lines().find_map(|line| line.trim().strip_prefix("spawnery "));
    let words: Vec<&str> = line.expect("the command").split(' ').collect();
    let data = home.path("agent").display().to_string();
    let agent = |words: &[&str]| {
        let all = [words, &["--data", &data, "--name", "apart"]].concat();
        Background::start(home.command(&all), home.path("agent.log"))
    };
    let up = || {
        wait_for("the node", || (home.json(&["nodes"])[0]["status"] == "up").then_some(()));
    };
    let mut first = agent(&words);
    up();
    let path = home.write("m.yaml", SLOW);
    let _waiting = begin(home, &path);
    first.kill();
    let mut second = agent(&words[..3]);
    second.wait_for_line("linked");
    up();
    check_after_the_kill(home, &path, &home.path("agent/agent"));
}
