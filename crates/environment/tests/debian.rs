//! Bases of Debian's packages and packages on them, from the real mirror: its packages are signed,
//! which nothing else could stand in for.

mod node;

use node::{Node, recipe};
use spawnery_environment::build::{Secrets, Settings};
use spawnery_model::{Base, Environment};

fn bookworm(packages: &[&str]) -> Environment {
    Environment {
        base: Base::Debian { suite: "bookworm".into() },
        apt: packages.iter().map(|it| (*it).to_owned()).collect(),
        ..recipe()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_of_packages_is_built_and_packages_are_put_onto_it() {
    let node = Node::new();
    let mut recipe = bookworm(&["jq"]);
    recipe.build = vec!["echo '{\"a\": 7}' | jq .a".into()];
    let built = node.build(&recipe).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(node.heard.output().ends_with("7\n"), "{}", node.heard.output());
    let see = ". /etc/os-release; echo $VERSION_CODENAME; jq -n 1; id -un; \
               dpkg-query -W -f '${Status}\\n' jq; dpkg --audit; find /var/lib/apt/lists -type f; \
               stat -c '%U %a' /usr/bin/passwd; grep -c '^_apt:' /etc/passwd";
    let expected = "bookworm\n1\nroot\ninstall ok installed\nroot 4755\n1\n";
    assert_eq!(node.run(&built, see), expected);
    assert!(built.lock.apt.iter().any(|it| it.name == "jq"), "{:?}", built.lock.apt);
    assert!(built.lock.base.iter().any(|it| it.name == "libc6"));
    let layers = node.layers();
    check_later(&node, &built.lock.recipe, layers).await;
    check_failures(&node, recipe, built.lock).await;
}

/// Other packages keep the base, and a base that is kept needs no mirror.
async fn check_later(node: &Node, first: &str, layers: usize) {
    let recipe = bookworm(&["less"]);
    let built = node.build(&recipe).await.unwrap_or_else(|error| panic!("{error}"));
    assert_ne!(built.lock.recipe, first);
    assert_eq!(node.layers(), layers + 1, "only the packages are new");
    assert!(node.run(&built, "less --version").starts_with("less "));
}

async fn check_failures(
    node: &Node,
    mut recipe: Environment,
    lock: spawnery_model::EnvironmentLock,
) {
    let layers = node.layers();
    let unknown = bookworm(&["no-such-package"]);
    let error = node.build(&unknown).await.expect_err("refused").to_string();
    assert!(error.contains("resolving the Debian packages"), "{error}");
    assert!(error.contains("Unable to locate package no-such-package"), "{error}");

    let mut gone = lock.clone();
    gone.apt[0].version = "0.0.1".into();
    gone.apt[0].sha256 = "0".repeat(64);
    let name = format!("{}:{}=0.0.1", gone.apt[0].name, gone.apt[0].architecture);
    recipe.lock = Some(gone);
    let error = node.build(&recipe).await.expect_err("refused").to_string();
    assert!(error.contains("step 3 of 4: Debian packages: not on the mirror"), "{error}");
    assert!(error.contains(&name) && error.contains("lock again"), "{error}");

    let mut changed = lock;
    changed.apt[0].sha256 = "0".repeat(64);
    recipe.lock = Some(changed);
    let error = node.build(&recipe).await.expect_err("refused").to_string();
    assert!(error.contains("but the lock says 0000"), "{error}");
    assert_eq!(node.layers(), layers);
    node.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_of_an_unknown_signer_an_unknown_suite_or_mirror_are_refused() {
    let other = "/usr/share/keyrings/debian-archive-removed-keys.gpg";
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let mirror = format!("http://{}/debian", closed.local_addr().expect("an address"));
    drop(closed);
    let table = [
        (Settings { debian_keyring: Some(other.into()), ..node::settings() }, "bookworm", "signed"),
        (node::settings(), "nosuchsuite", "nosuchsuite"),
        (Settings { debian_mirror: Some(mirror.clone()), ..node::settings() }, "bookworm", &mirror),
        (
            Settings { debian_keyring: Some("/nonexistent".into()), ..node::settings() },
            "bookworm",
            "install the package `debian-archive-keyring`",
        ),
    ];
    for (settings, suite, words) in table {
        let node = Node::with(settings);
        let recipe = Environment { base: Base::Debian { suite: suite.into() }, ..recipe() };
        let error = node.build(&recipe).await.expect_err(words).to_string();
        assert!(error.contains("resolving the packages of Debian"), "{error}");
        assert!(error.contains(words), "{words}: {error}");
        assert_eq!(node.layers(), 0);
        node.check_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_on_the_view_of_the_host_are_refused_with_the_mend() {
    let node = Node::new();
    let recipe = Environment { apt: vec!["jq".into()], ..recipe() };
    let error = node.builder.build(&recipe, Secrets::default(), node.heard.clone()).await;
    let error = error.expect_err("refused").to_string();
    assert!(error.contains("base: {debian: bookworm}"), "{error}");
}
