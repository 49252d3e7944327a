//! Commands, files and folders: real sandboxes, a real store.

mod node;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use node::{DEADLINE, Node, commands, contents, file, recipe};
use spawnery_environment::build::{BuildError, Limits, Secrets, Settings, Silent};
use spawnery_model::{Base, Environment, EnvironmentFile, Local};

#[tokio::test(flavor = "multi_thread")]
async fn commands_see_what_those_before_them_made_and_instances_see_all() {
    let node = Node::new();
    let recipe = commands(&[
        "mkdir /opt/app && echo one > /opt/app/first && echo said",
        "cat /opt/app/first && echo two > /opt/app/second && rm /opt/app/first",
    ]);
    let built = node.build(&recipe).await.expect("built");
    assert_eq!(built.layers.len(), 2);
    let seen = node.run(&built, "cat /opt/app/second; ls /opt/app; cat /etc/hostname");
    assert_eq!(seen, "two\nsecond\nsandbox\n");
    assert_eq!(
        node.heard.steps(),
        ["step 1 of 2: build command 1 of 2", "step 2 of 2: build command 2 of 2"]
    );
    assert_eq!(node.heard.output(), "said\none\n");
    let record = node.store().environment(&built.digest).expect("read").expect("there");
    let outputs = node.builder.outputs(&record).expect("read");
    assert_eq!(outputs[1], ("build command 2 of 2".to_owned(), b"one\n".to_vec()));
    node.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_one_step_keeps_those_before_it() {
    let node = Node::new();
    let random = "cat /proc/sys/kernel/random/uuid > /opt/";
    let make = |last: &str| commands(&[&format!("{random}one"), &format!("{random}two"), last]);
    let see = "cat /opt/one /opt/two /opt/three";
    let first = node.build(&make("echo 3 > /opt/three")).await.expect("built");
    let seen = node.run(&first, see);
    let other = node.build(&make("echo 4 > /opt/three")).await.expect("built");
    assert_ne!(first.digest, other.digest);
    assert_eq!(
        node.run(&other, see),
        format!("{}4\n", seen.strip_suffix("3\n").expect("its last line"))
    );
    assert_eq!(node.layers(), 4);
    node.heard.steps();
    let again = node.build(&make("echo 3 > /opt/three")).await.expect("found");
    assert_eq!(again, first);
    assert!(node.heard.steps().is_empty(), "nothing is done again");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_keep_their_modes_and_their_places() {
    let node = Node::new();
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("tool"), "#!/bin/sh\necho works\n").expect("written");
    std::fs::set_permissions(path("tool"), PermissionsExt::from_mode(0o755)).expect("set");
    std::fs::create_dir_all(path("data/deep")).expect("made");
    std::fs::write(path("data/deep/secretive"), "private").expect("written");
    std::fs::set_permissions(path("data/deep/secretive"), PermissionsExt::from_mode(0o600))
        .expect("set");
    std::os::unix::fs::symlink("deep/secretive", path("data/link")).expect("linked");
    let directory =
        EnvironmentFile { from: node.send(&path("data")), to: "/srv/data".into(), directory: true };
    let recipe = Environment {
        files: vec![file(node.send(&path("tool")), "/bin/spawnery-tool"), directory],
        build: vec!["spawnery-tool > /opt/said".into()],
        ..recipe()
    };
    let built = node.build(&recipe).await.expect("built");
    let see = "cat /opt/said /srv/data/link; stat -c ' %a' /srv/data/deep/secretive; id -u; \
               test -L /bin && echo linked";
    assert_eq!(node.run(&built, see), "works\nprivate 600\n1000\nlinked\n");
    assert_eq!(node.heard.steps()[0], "step 1 of 2: files");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_a_whole_root() {
    let node = Node::new();
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["bin", "lib"] {
        std::fs::create_dir(dir.path().join(name)).expect("made");
    }
    std::fs::copy("/bin/busybox", dir.path().join("bin/busybox")).expect("busybox-static is there");
    for name in ["sh", "cat", "ls"] {
        std::os::unix::fs::symlink("busybox", dir.path().join("bin").join(name)).expect("linked");
    }
    let recipe = Environment {
        base: Base::Directory(node.send(dir.path())),
        build: vec!["echo made > /made; id -u 2>/dev/null || busybox id -u".into()],
        ..recipe()
    };
    let built = node.build(&recipe).await.expect("built");
    assert!(!built.host);
    assert_eq!(
        node.run(&built, "cat /made; ls /usr 2>&1"),
        "made\nls: /usr: No such file or directory\n"
    );
    assert_eq!(node.heard.output(), "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_recipe_gives_the_same_on_another_machine() {
    let command = "mkdir /opt/a && echo x > /opt/a/b && ln -s b /opt/a/c && touch /usr/local/d";
    let one = Node::new();
    let two = Node::new();
    let first = one.build(&commands(&[command])).await.expect("built");
    let second = two.build(&commands(&[command])).await.expect("built");
    assert_eq!(first.digest, second.digest);
    assert_eq!(contents(&one, &first), contents(&two, &second));
    let times = "stat -c %Y /opt/a /opt/a/b /opt/a/c /usr/local/d";
    assert_eq!(one.run(&first, times), "315619200\n".repeat(4));
}

async fn check_failure(node: &Node, recipe: &Environment, words: &[&str]) {
    let before = node.layers();
    let error = node.build(recipe).await.expect_err(words[0]).to_string();
    for word in words {
        assert!(error.contains(word), "{word}: {error}");
    }
    assert_eq!(node.layers(), before, "{error}");
    assert!(node.store().environments().expect("listed").is_empty());
    node.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_names_its_step_and_leaves_nothing() {
    let limits = Limits {
        memory_bytes: 256 << 20,
        disk_bytes: 64 << 20,
        pids: 32,
        duration: Duration::from_secs(20),
        ..Limits::default()
    };
    let node = Node::with(Settings { limits, ..node::settings() });
    node.build(&commands(&["true"])).await.expect("built");
    let first = node.store().environments().expect("listed");
    node.store().remove_environment(&first[0].record.digest).expect("removed");
    let second = |command: &str| commands(&["true", command]);
    let check = |command: &'static str, words: &'static [&'static str]| {
        let recipe = second(command);
        let node = &node;
        async move { check_failure(node, &recipe, words).await }
    };
    check("echo why; exit 3", &["step 2 of 2", "command 2, `echo why; exit 3`", "code 3", "why"])
        .await;
    check("no-such-program", &["step 2 of 2", "exit code 127", "not found"]).await;
    check("kill -9 $$", &["step 2 of 2", "signal 9"]).await;
    check("head -c 200M /dev/zero > /opt/big; sleep 100", &["step 2 of 2", "disk limit"]).await;
    check("head -c 400M /dev/zero | tail > /dev/null", &["step 2 of 2"]).await;
    let missing = Local { path: "gone.txt".into(), tree: None };
    let recipe = Environment { files: vec![file(missing, "/srv/x")], ..recipe() };
    check_failure(&node, &recipe, &["step 1 of 1: files", "gone.txt", "was not sent"]).await;
    let unknown = Local {
        path: "gone.txt".into(),
        tree: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".parse().ok(),
    };
    let recipe = Environment { files: vec![file(unknown, "/srv/x")], ..recipe };
    check_failure(&node, &recipe, &["step 1 of 1: files", "gone.txt", "not in the store"]).await;
    let lock = Some(spawnery_model::EnvironmentLock::default());
    let recipe = Environment { lock, ..commands(&["true"]) };
    check_failure(&node, &recipe, &["lock is of another recipe", "spawnery environment lock"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_takes_too_long_is_ended() {
    let limits = Limits { duration: Duration::from_millis(300), ..Limits::default() };
    let node = Node::with(Settings { limits, ..node::settings() });
    check_failure(&node, &commands(&["sleep 1000"]), &["step 1 of 1", "longer than"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_want_the_same_build_it_once() {
    let node = Node::new();
    let recipe = commands(&["cat /proc/sys/kernel/random/uuid > /opt/id; sleep 0.3"]);
    let (one, two) = tokio::join!(node.build(&recipe), node.build(&recipe));
    let (one, two) = (one.expect("built"), two.expect("built"));
    assert_eq!(one, two);
    assert_eq!(node.layers(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_nobody_waits_for_is_ended() {
    let node = Node::new();
    let recipe = commands(&["echo begun; sleep 1000"]);
    let build = node.builder.build(&recipe, Secrets::default(), node.heard.clone());
    let until = Instant::now() + DEADLINE;
    let begun = async {
        while !node.heard.output().contains("begun") {
            assert!(Instant::now() < until, "it never begins");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        result = build => panic!("it ended: {result:?}"),
        () = begun => {}
    }
    node.check_nothing_left();
    assert_eq!(node.layers(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_that_is_no_recipe_is_refused_at_once() {
    let node = Node::new();
    let recipe = Environment { apt: vec!["-o=x".into()], ..recipe() };
    let result = node.builder.build(&recipe, Secrets::default(), Arc::new(Silent)).await;
    assert!(matches!(result, Err(BuildError::Recipe(_))), "{result:?}");
}
