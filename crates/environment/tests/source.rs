//! Sources: a real git server on loopback, the node's own git.

mod node;

use std::path::{Path, PathBuf};
use std::process::Command;

use node::server::Server;
use node::{Node, contents, recipe};
use spawnery_environment::build::{Secrets, Settings};
use spawnery_model::{Environment, GitReference, Name, Source};

/// A repository `app.git` in a folder, with two commits, a branch and an annotated tag.
struct Repository {
    dir: tempfile::TempDir,
    work: PathBuf,
}

impl Repository {
    fn new() -> Repository {
        let dir = tempfile::tempdir().expect("a folder");
        let work = dir.path().join("work");
        std::fs::create_dir(&work).expect("made");
        let repository = Repository { dir, work };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.write("run.sh", "#!/bin/sh\necho one\n");
        repository.git(&["update-index", "--chmod=+x", "run.sh"]);
        std::os::unix::fs::symlink("run.sh", repository.work.join("link")).expect("linked");
        repository.commit("one");
        repository.git(&["tag", "-a", "v1", "-m", "first"]);
        repository.git(&["branch", "old"]);
        repository.write("run.sh", "#!/bin/sh\necho two\n");
        repository.commit("two");
        repository
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(&self.work)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(["-c", "user.name=Test", "-c", "user.email=test@example.org"])
            .args(arguments)
            .output()
            .expect("git is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.work.join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("set");
        self.git(&["add", name]);
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "-m", message]);
        let bare = self.dir.path().join("app.git");
        self.git(&["push", "--quiet", "--all", &self.push_to(&bare)]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn push_to(&self, bare: &Path) -> String {
        let path = bare.to_string_lossy().into_owned();
        if !bare.exists() {
            self.git(&["init", "--quiet", "--bare", "--initial-branch=main", &path]);
        }
        path
    }

    fn publish(&self) {
        let bare = self.dir.path().join("app.git").to_string_lossy().into_owned();
        self.git(&["push", "--quiet", "--all", &bare]);
        self.git(&["push", "--quiet", "--tags", &bare]);
    }
}

fn source(git: String, reference: GitReference, credentials: Option<&str>) -> Environment {
    let credentials = credentials.map(|name| name.parse().expect("a name"));
    let to = "/srv/source".to_owned();
    Environment { source: Some(Source { git, reference, credentials, to }), ..recipe() }
}

fn url(server: &Server) -> String {
    format!("http://127.0.0.1:{}/app.git", server.port)
}

fn secret(value: &str) -> Secrets {
    let name: Name = "git-login".parse().expect("a name");
    Secrets::new([(name, value.as_bytes().to_vec())])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_a_tag_and_a_commit_are_checked_out() {
    let repository = Repository::new();
    repository.publish();
    let server = Server::start("git_server.py", repository.dir.path(), None);
    let node = Node::new();
    let old = repository.git(&["rev-parse", "old"]);
    for (reference, said) in [
        (GitReference::Default, "two"),
        (GitReference::Branch("old".into()), "one"),
        (GitReference::Tag("v1".into()), "one"),
        (GitReference::Commit(old.clone()), "one"),
    ] {
        let built = node.build(&source(url(&server), reference.clone(), None)).await;
        let built = built.unwrap_or_else(|error| panic!("{reference:?}: {error}"));
        let see = "pwd; ./run.sh; ./link; ls -A";
        let expected = format!("/srv/source\n{said}\n{said}\nlink\nrun.sh\n");
        assert_eq!(node.run(&built, see), expected);
        assert_eq!(built.lock.commit.as_deref() == Some(old.as_str()), said == "one");
    }
    assert_eq!(node.layers(), 2, "one for each commit");
    assert_eq!(
        node.heard.steps()[..2],
        ["resolving the commit of the source", "step 1 of 1: source"]
    );
    node.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_gives_the_same_on_another_machine_though_the_branch_went_on() {
    let repository = Repository::new();
    repository.publish();
    let server = Server::start("git_server.py", repository.dir.path(), None);
    let (one, two) = (Node::new(), Node::new());
    let mut recipe = source(url(&server), GitReference::Branch("main".into()), None);
    recipe.build = vec!["./run.sh > /opt/said".into()];
    let first = one.build(&recipe).await.expect("built");
    repository.write("run.sh", "#!/bin/sh\necho three\n");
    repository.commit("three");
    recipe.lock = Some(first.lock.clone());
    let second = two.build(&recipe).await.expect("built");
    assert_eq!(first.digest, second.digest);
    assert_eq!(contents(&one, &first), contents(&two, &second));
    assert_eq!(two.run(&second, "cat /opt/said"), "two\n");
    recipe.lock = None;
    let third = two.build(&recipe).await.expect("built");
    assert_eq!(two.run(&third, "cat /opt/said"), "three\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_open_a_private_repository_and_are_seen_nowhere() {
    let repository = Repository::new();
    repository.publish();
    let server = Server::start("git_server.py", repository.dir.path(), Some("me:open-sesame"));
    let node = Node::new();
    let recipe = source(url(&server), GitReference::Default, Some("git-login"));
    for (secrets, words) in [
        (Secrets::default(), "there is no secret `git-login`"),
        (secret("me:wrong-word"), "Authentication failed"),
    ] {
        let error = node.build_with(&recipe, secrets).await.expect_err(words).to_string();
        assert!(error.contains(words) && error.contains("commit of the source"), "{error}");
        assert!(!error.contains("wrong-word"), "{error}");
    }
    assert_eq!(node.layers(), 0);
    let built = node.build_with(&recipe, secret("me:open-sesame\n")).await.expect("built");
    assert_eq!(node.run(&built, "./run.sh"), "two\n");
    let grep = Command::new("grep")
        .args(["-r", "-l", "-F", "open-sesame"])
        .arg(node.dir.path())
        .output()
        .expect("grep is there");
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
    assert!(!node.heard.output().contains("open-sesame"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_names_what_was_looked_for_and_leaves_nothing() {
    let repository = Repository::new();
    repository.publish();
    let server = Server::start("git_server.py", repository.dir.path(), None);
    let node = Node::new();
    let gone = format!("http://127.0.0.1:{}/gone.git", server.port);
    // A port that was free a moment ago, and is closed.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = closed.local_addr().expect("an address").port();
    drop(closed);
    let commit = || GitReference::Commit("a".repeat(40));
    let folder = format!("file://{}", repository.dir.path().join("app.git").display());
    let table = [
        (url(&server), GitReference::Branch("gone".into()), "has no branch `gone`"),
        (url(&server), GitReference::Tag("v9".into()), "has no tag `v9`"),
        (url(&server), commit(), "step 1 of 1: source: git ended with exit code"),
        (gone, GitReference::Default, "not found"),
        (format!("http://127.0.0.1:{port}/x"), GitReference::Default, "connect"),
        (folder, GitReference::Default, "configuration does not allow"),
    ];
    for (url, reference, words) in table {
        let error = node.build(&source(url, reference, None)).await.expect_err(words).to_string();
        assert!(error.contains(words), "{words}: {error}");
        assert!(error.contains("source"), "{error}");
        assert_eq!(node.layers(), 0, "{error}");
        node.check_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_the_node_is_a_source_where_that_is_allowed() {
    let repository = Repository::new();
    repository.publish();
    let git_folders = vec![repository.dir.path().to_owned()];
    let node = Node::with(Settings { git_folders, ..node::settings() });
    let folder = format!("file://{}", repository.dir.path().join("app.git").display());
    let built = node.build(&source(folder, GitReference::Tag("v1".into()), None)).await;
    assert_eq!(node.run(&built.expect("built"), "./run.sh"), "one\n");
}
