//! Images as the base: an image of a registry and one from beside the manifest, made by the test.

mod node;
mod support;

use std::path::{Path, PathBuf};

use node::{Node, contents, recipe};
use spawnery_environment::build::Secrets;
use spawnery_model::{Base, Environment, Name};
use support::{CREDENTIALS, Registry, skopeo};

/// An image with busybox, as an archive of the OCI layout, made by our own export of a folder.
async fn image(folder: &Path) -> PathBuf {
    let node = Node::new();
    let root = folder.join("root");
    for name in ["bin", "etc", "tmp"] {
        std::fs::create_dir_all(root.join(name)).expect("made");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is there");
    for name in ["sh", "cat", "id", "echo"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("linked");
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("written");
    let base = Environment { base: Base::Directory(node.send(&root)), ..recipe() };
    let built = node.build(&base).await.expect("built");
    let path = folder.join("image.tar");
    let mut file = std::fs::File::create(&path).expect("made");
    let format = spawnery_environment::archive::ExportFormat::OciArchive;
    spawnery_environment::archive::export(node.store(), &built.digest, format, &mut file)
        .expect("exported");
    path
}

/// Pushes the image to a registry, and gives its name there.
fn push(registry: &Registry, image: &Path) -> String {
    let name = format!("{}/team/app:1", registry.host);
    let (from, to) = (format!("oci-archive:{}", image.display()), format!("docker://{name}"));
    skopeo(&["--dest-tls-verify=false", "--dest-creds", CREDENTIALS, &from, &to]);
    name
}

fn recipe_of(reference: &str) -> Environment {
    let credentials: Option<Name> = "registry".parse().ok();
    Environment {
        base: Base::Image { reference: reference.to_owned(), credentials },
        build: vec!["id -u > /made".into()],
        ..recipe()
    }
}

fn secret(value: &str) -> Secrets {
    Secrets::new([("registry".parse().expect("a name"), value.as_bytes().to_vec())])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_registry_is_pinned_and_needs_no_registry_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = image(dir.path()).await;
    let registry = Registry::start();
    let mut recipe = recipe_of(&push(&registry, &file));
    let (one, two) = (Node::new(), Node::new());
    let first = one.build_with(&recipe, secret(CREDENTIALS)).await.expect("built");
    assert_eq!(one.run(&first, "cat /made"), "0\n");
    assert!(!first.host);
    let lock = first.lock.clone();
    assert!(lock.image.as_deref().is_some_and(|it| it.starts_with("sha256:")), "{lock:?}");
    recipe.lock = Some(lock);
    let second = two.build_with(&recipe, secret(CREDENTIALS)).await.expect("built");
    assert_eq!(first.digest, second.digest);
    assert_eq!(contents(&one, &first), contents(&two, &second));
    check_failures(&registry, &recipe).await;
    drop(registry);
    recipe.build = vec!["echo other > /made".into()];
    recipe.lock.as_mut().expect("there is one").recipe =
        spawnery_environment::recipe::resolved_digest(&recipe).to_string();
    let third = two.build(&recipe).await.expect("built without the registry");
    assert_eq!(two.run(&third, "cat /made"), "other\n");
}

async fn check_failures(registry: &Registry, recipe: &Environment) {
    let node = Node::new();
    let unknown = recipe_of(&format!("{}/team/gone:1", registry.host));
    let mut gone = recipe.clone();
    gone.lock.as_mut().expect("there is one").image = Some(format!("sha256:{}", "0".repeat(64)));
    let good = || secret(CREDENTIALS);
    let table = [
        (recipe.clone(), Secrets::default(), "there is no secret `registry`"),
        (recipe.clone(), secret("ann:wrong-word"), "step 1 of 2: image 127.0.0.1"),
        (unknown, good(), "resolving the image 127.0.0.1"),
        (gone, good(), "step 1 of 2: image 127.0.0.1"),
        (recipe_of("127.0.0.1:1/x"), good(), "cannot be reached"),
    ];
    for (recipe, secrets, words) in table {
        let error = node.build_with(&recipe, secrets).await.expect_err(words).to_string();
        assert!(error.contains(words), "{words}: {error}");
        assert!(!error.contains("wrong-word"), "{error}");
        assert_eq!(node.layers(), 0, "{error}");
        node.check_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_beside_the_manifest_is_a_base() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = image(dir.path()).await;
    let node = Node::new();
    let mut recipe = Environment {
        base: Base::ImageFile(node.send(&file)),
        build: vec!["id -u > /made".into()],
        ..recipe()
    };
    let built = node.build(&recipe).await.expect("built");
    assert_eq!(node.run(&built, "cat /made"), "0\n");
    let cut = dir.path().join("cut.tar");
    let bytes = std::fs::read(&file).expect("read");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).expect("written");
    recipe.base = Base::ImageFile(node.send(&cut));
    let layers = node.layers();
    let error = node.build(&recipe).await.expect_err("refused").to_string();
    assert!(error.contains("step 1 of 2: image") && error.contains("cut.tar"), "{error}");
    assert_eq!(node.layers(), layers);
    node.check_nothing_left();
}
