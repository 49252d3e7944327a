//! Python environments: real uv, a package index on loopback with packages of its own.

mod node;

use std::process::Command;

use node::server::Server;
use node::{Node, contents, recipe};
use spawnery_environment::build::{Secrets, Settings};
use spawnery_model::{Environment, Python};

struct Index {
    server: Server,
    _dir: tempfile::TempDir,
}

impl Index {
    fn new(credentials: Option<&str>) -> Index {
        let dir = tempfile::tempdir().expect("a folder");
        Index { server: Server::start("index_server.py", dir.path(), credentials), _dir: dir }
    }

    fn recipe(&self, packages: &[&str]) -> Environment {
        let python = Python {
            packages: packages.iter().map(|it| (*it).to_owned()).collect(),
            index: Some(format!("http://127.0.0.1:{}/simple", self.server.port)),
            ..Python::default()
        };
        Environment { python: Some(python), ..recipe() }
    }

    fn private_recipe(&self, packages: &[&str]) -> Environment {
        let mut recipe = self.recipe(packages);
        recipe.python.as_mut().expect("there is one").credentials = "index".parse().ok();
        recipe
    }
}

fn secret(value: &str) -> Secrets {
    Secrets::new([("index".parse().expect("a name"), value.as_bytes().to_vec())])
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_are_installed_pinned_and_used() {
    let (index, node) = (Index::new(None), Node::new());
    let mut recipe = index.recipe(&["spawn-alpha>=1"]);
    recipe.build = vec!["python -c 'import spawn_alpha; print(spawn_alpha.VERSION)'".into()];
    let built = node.build(&recipe).await.expect("built");
    assert_eq!(node.heard.output(), "1.1\n");
    let see = "find /opt/venv -name '*.pyc' -o -name uv_cache.json; grep -c '^uv' \
               /opt/venv/pyvenv.cfg; command -v python; \
               python -c 'import spawn_beta as it; print(it.VERSION)'";
    assert_eq!(node.run(&built, see), "0\n/opt/venv/bin/python\n1.5\n");
    let lock = &built.lock;
    assert!(lock.python.as_deref().is_some_and(|it| it.starts_with("3.")), "{lock:?}");
    assert_eq!(lock.requirements.len(), 2);
    assert!(lock.requirements[0].starts_with("spawn-alpha==1.1 --hash=sha256:"), "{lock:?}");
    assert_eq!(
        node.heard.steps(),
        [
            "resolving the versions of the python packages",
            "step 1 of 2: python packages",
            "step 2 of 2: build command 1 of 1"
        ]
    );
    node.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_gives_the_same_on_another_machine() {
    let (index, one, two) = (Index::new(None), Node::new(), Node::new());
    let mut recipe = index.recipe(&["spawn-alpha<1.1", "spawn-gamma"]);
    let first = one.build(&recipe).await.expect("built");
    recipe.lock = Some(first.lock.clone());
    let second = two.build(&recipe).await.expect("built");
    assert_eq!(first.digest, second.digest);
    assert_eq!(contents(&one, &first), contents(&two, &second));
    let see = "python -c 'import spawn_alpha, spawn_gamma; print(spawn_alpha.VERSION)'";
    assert_eq!(two.run(&second, see), "1.0\n");
    assert!(!two.heard.steps().iter().any(|it| it.starts_with("resolving")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_requirements_is_read() {
    let (index, node) = (Index::new(None), Node::new());
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("requirements.txt");
    std::fs::write(&path, "# what we need\nspawn-beta  # for numbers\n").expect("written");
    let mut recipe = index.recipe(&[]);
    recipe.python.as_mut().expect("there is one").requirements = Some(node.send(&path));
    let built = node.build(&recipe).await.expect("built");
    assert!(built.lock.requirements[0].starts_with("spawn-beta==1.5 "), "{:?}", built.lock);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_index_works_and_its_password_is_seen_nowhere() {
    let (index, node) = (Index::new(Some("me:open-sesame")), Node::new());
    let recipe = index.private_recipe(&["spawn-alpha", "spawn-gamma"]);
    for (secrets, words) in
        [(Secrets::default(), "there is no secret `index`"), (secret("me:wrong-word"), "401")]
    {
        let error = node.build_with(&recipe, secrets).await.expect_err(words).to_string();
        assert!(error.contains(words) && error.contains("python packages"), "{error}");
        assert!(!error.contains("wrong-word"), "{error}");
    }
    assert_eq!(node.layers(), 0);
    let built = node.build_with(&recipe, secret("me:open-sesame")).await.expect("built");
    let see = "python -c 'import spawn_alpha; print(spawn_alpha.VERSION)'";
    assert_eq!(node.run(&built, see), "1.1\n");
    let grep = Command::new("grep")
        .args(["-r", "-l", "-F", "open-sesame"])
        .arg(node.dir.path())
        .output()
        .expect("grep is there");
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
    assert!(!format!("{:?}", built.lock).contains("open-sesame"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_names_the_packages_and_leaves_nothing() {
    let (index, node) = (Index::new(None), Node::new());
    let change = |change: &dyn Fn(&mut Python)| {
        let mut recipe = index.recipe(&["spawn-alpha"]);
        change(recipe.python.as_mut().expect("there is one"));
        recipe
    };
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = closed.local_addr().expect("an address").port();
    drop(closed);
    let mut wrong_hash = index.recipe(&["spawn-alpha"]);
    let mut lock = node.builder.resolve(&wrong_hash, Secrets::default(), node.heard.clone()).await;
    if let Ok(lock) = &mut lock {
        lock.requirements[0] = format!("spawn-alpha==1.1 --hash=sha256:{}", "0".repeat(64));
    }
    wrong_hash.lock = lock.ok();
    let table = [
        (change(&|it| it.packages = vec!["spawn-unknown".into()]), "spawn-unknown was not found"),
        (change(&|it| it.packages = vec!["spawn-alpha>7".into()]), "spawn-alpha>7"),
        (change(&|it| it.version = Some("3.1".into())), "has no Python 3.1"),
        (change(&|it| it.index = Some(format!("http://127.0.0.1:{port}/x"))), "connect"),
        (wrong_hash, "step 1 of 1: python packages"),
    ];
    for (recipe, words) in table {
        let error = node.build(&recipe).await.expect_err(words).to_string();
        assert!(error.contains(words), "{words}: {error}");
        assert!(error.contains("python packages"), "{error}");
        assert_eq!(node.layers(), 0, "{error}");
        node.check_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_index_is_reached_with_the_usual_settings() {
    let node = Node::with(Settings::default());
    let python = Python { packages: vec!["six==1.16.0".into()], ..Python::default() };
    let recipe = Environment {
        python: Some(python),
        build: vec!["python -c 'import six; print(six.__version__)'".into()],
        ..recipe()
    };
    node.build(&recipe).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(node.heard.output(), "1.16.0\n");
}
