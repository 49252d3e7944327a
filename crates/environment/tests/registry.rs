//! Images of a real registry, made by the tests and pushed by another tool.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

use spawnery_environment::content::digest_of;
use spawnery_environment::oci::{
    self, Credentials, ImageError, Progress, PullOptions, Reference, RegistryOptions,
};
use spawnery_environment::{Ids, Store};
use support::{
    Archive, CREDENTIALS, Packing, Registry, assert_no_trace, busybox_layers, write_layout,
};

fn options(credentials: Option<&str>) -> PullOptions {
    let credentials = credentials.map(Credentials::from_secret);
    let registry = RegistryOptions { credentials, ..RegistryOptions::default() };
    PullOptions { registry, ..PullOptions::default() }
}

fn reference(text: &str) -> Reference {
    text.parse().expect("a name")
}

fn open(dir: &Path) -> Store {
    Store::open(&dir.join("store"), u64::MAX).expect("opened")
}

/// Layers and manifests as the registry has them, by their place in the manifest.
fn digests(layout: &Path) -> (String, Vec<String>) {
    let read = |name: &str| {
        let bytes = fs::read(layout.join(name)).expect("read");
        serde_json::from_slice::<serde_json::Value>(&bytes).expect("JSON")
    };
    let digits = |it: &serde_json::Value| it["digest"].as_str().expect("one")[7..].to_owned();
    let manifest = digits(&read("index.json")["manifests"][0]);
    let layers = read(&format!("blobs/sha256/{manifest}"));
    let layers = layers["layers"].as_array().expect("layers").iter().map(digits).collect();
    (manifest, layers)
}

#[tokio::test]
async fn an_image_of_a_registry_is_unpacked_once_and_shared() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().expect("a folder");
    let layout = dir.path().join("layout");
    let mut layers = busybox_layers();
    write_layout(&layout, &layers);
    registry.push(&layout, "team/app:1");
    let store = open(dir.path());
    let name = reference(&format!("{}/team/app:1", registry.host));
    let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let mut options = options(Some(CREDENTIALS));
    let tell = seen.clone();
    options.progress = Some(Arc::new(move |it| tell.lock().expect("unlocked").push(it)));
    let image = oci::pull(&store, &name, &options).await.expect("pulled");
    assert_eq!(image.digest, format!("sha256:{}", digests(&layout).0));
    assert!(image.notes.is_empty());
    let done = |it: &Progress| it.received_bytes == it.total_bytes;
    assert_eq!(seen.lock().expect("unlocked").iter().filter(|it| done(it)).count(), 2);
    let config = &image.config;
    assert_eq!(config.env[1], ("A".to_owned(), "b=c".to_owned()));
    assert_eq!(
        (config.entrypoint.len(), config.cmd.as_slice()),
        (2, &["cat /srv/hello".into()][..])
    );
    let user = config.user.clone().expect("a user");
    assert_eq!((user.uid, user.gid, user.groups.as_slice()), (33, 44, &[5][..]));
    assert_eq!(config.exposed_ports, ["8080/tcp"]);

    let base = store.layer(&image.layers[0]).expect("read").expect("there");
    let top = store.layer(&image.layers[1]).expect("read").expect("there");
    assert_eq!(image.layers[0], digest_of(&layers[0].0), "the chain id of the lowest is its own");
    let stat = |layer: &spawnery_environment::Layer, path: &str| {
        fs::symlink_metadata(layer.root().join(path)).expect(path)
    };
    assert_eq!(stat(&base, "bin/sh").ino(), stat(&base, "bin/busybox").ino());
    assert!(stat(&top, "etc/hidden").file_type().is_char_device());
    assert_eq!(stat(&top, "bin/cat").ino(), stat(&top, "bin/busybox").ino(), "copied up");
    assert_eq!(Ids::of_this_process().to_inside(stat(&base, "bin/sh").uid()), 0);
    assert_eq!(top.record.parents, [image.layers[0].clone()]);

    // Another image over the same base fetches only what is new.
    layers[1].0 = Archive::default().file("other", b"other").end();
    let other = dir.path().join("other");
    write_layout(&other, &layers);
    registry.push(&other, "team/other:1");
    let (_, blobs) = digests(&other);
    fs::remove_file(registry.blob(&blobs[0])).expect("the base is gone from the registry");
    let name = reference(&format!("{}/team/other:1", registry.host));
    let second = oci::pull(&store, &name, &options).await.expect("pulled without the base");
    assert_eq!(second.layers[0], image.layers[0]);
    assert_eq!(store.layers().expect("listed").len(), 3);
    assert_eq!(fs::read_dir(store.folder().join("building")).expect("listed").count(), 0);
}

#[tokio::test]
async fn a_pinned_digest_decides_and_gives_the_same_content_elsewhere() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().expect("a folder");
    let layout = dir.path().join("layout");
    write_layout(&layout, &busybox_layers());
    registry.push(&layout, "app:1");
    let (manifest, _) = digests(&layout);
    let name = reference(&format!("{}/app@sha256:{manifest}", registry.host));
    let mut contents = Vec::new();
    for place in ["one", "two"] {
        let store = open(&dir.path().join(place));
        let image = oci::pull(&store, &name, &options(Some(CREDENTIALS))).await.expect("pulled");
        let content = |key| store.layer(key).expect("read").expect("there").record.content;
        contents.push(image.layers.iter().map(content).collect::<Vec<_>>());
    }
    assert_eq!(contents[0], contents[1]);
    // An image that was moved to the tag does not change what is pinned.
    let absent = "0".repeat(64);
    let name = reference(&format!("{}/app:1@sha256:{absent}", registry.host));
    let store = open(dir.path());
    let error = oci::pull(&store, &name, &options(Some(CREDENTIALS))).await.expect_err("refused");
    assert!(matches!(error, ImageError::Unknown { .. }), "{error}");
    assert_no_trace(&store);
}

#[tokio::test]
async fn bad_registries_and_images_end_in_a_reason_and_leave_no_trace() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let push = |name: &str, layers: &[(Vec<u8>, Packing)]| {
        let layout = dir.path().join(name);
        write_layout(&layout, layers);
        registry.push(&layout, &format!("{name}:1"));
        digests(&layout).1
    };
    let check = async |name: &str, credentials: Option<&str>, expected: &[&str]| {
        let error = oci::pull(&store, &reference(name), &options(credentials)).await;
        let error = error.expect_err(name).to_string();
        for part in expected {
            assert!(error.contains(part), "{name}: `{part}` is not in: {error}");
        }
        assert!(!error.contains("sesame"), "{error}");
        assert_no_trace(&store);
    };
    let good = Some(CREDENTIALS);
    let at = |name: &str| format!("{}/{name}", registry.host);
    push("good", &busybox_layers());
    check(&at("good:1"), None, &["fetch the manifest", "refuses the access", "set a secret"]).await;
    let wrong = Some("ann:open barley sesame");
    check(&at("good:1"), wrong, &["refuses the access", "are wrong", "correct the secret"]).await;
    check(&at("good:2"), good, &["does not have the image", "good:2"]).await;
    check(&at("absent:1"), good, &["does not have the image"]).await;
    let nobody = format!("127.0.0.1:{}", support::free_port());
    check(&format!("{nobody}/a:1"), None, &["cannot be reached", "Connection refused"]).await;

    // Not much longer than it is, or the same size with another content.
    let packed = |text: &[u8]| vec![(Archive::default().file("f", text).end(), Packing::Gzip)];
    let blobs = push("cut", &packed(b"to be cut off"));
    let path = registry.blob(&blobs[0]);
    let bytes = fs::read(&path).expect("read");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("cut");
    check(&at("cut:1"), good, &["layer 1 of 1", "but should have"]).await;
    let blobs = push("changed", &packed(b"to be changed"));
    let path = registry.blob(&blobs[0]);
    let mut bytes = fs::read(&path).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).expect("changed");
    check(&at("changed:1"), good, &["layer 1 of 1", "should have sha256:"]).await;
    let escape = Archive::default().file("../../evil", b"x").end();
    push("escape", &[(escape, Packing::Gzip)]);
    check(&at("escape:1"), good, &["unpack layer 1 of 1", "`..` is not allowed"]).await;
    let cut = Archive::default().file("f", &[b'x'; 5000]).end();
    push("short", &[(cut[..2000].to_vec(), Packing::Zstd)]);
    check(&at("short:1"), good, &["unpack layer 1 of 1", "ends in the middle"]).await;
    push("garbage", &[(b"no archive at all, but long enough".repeat(40), Packing::None)]);
    check(&at("garbage:1"), good, &["unpack layer 1 of 1", "checksum"]).await;
}

/// A server that answers every request with the next of these answers, then with the last.
fn answering(answers: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let host = listener.local_addr().expect("an address").to_string();
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = requests.clone();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { break };
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                request.push(byte[0]);
            }
            seen.lock().expect("unlocked").push(String::from_utf8_lossy(&request).into_owned());
            let answer = &answers[number.min(answers.len() - 1)];
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (host, requests)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
}

#[tokio::test]
async fn tokens_are_fetched_and_answers_that_make_no_sense_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let (tokens, token_requests) = answering(vec![answer("200 OK", "", r#"{"token":"t0k"}"#)]);
    let wants =
        format!("WWW-Authenticate: Bearer realm=\"http://{tokens}/token\",service=\"s x\"\r\n");
    let (host, requests) = answering(vec![
        answer("401 Unauthorized", &wants, ""),
        answer("200 OK", "", r#"{"schemaVersion":1}"#),
    ]);
    let name = reference(&format!("{host}/team/app:1"));
    let error = oci::pull(&store, &name, &options(Some(CREDENTIALS))).await.expect_err("no image");
    assert!(error.to_string().contains("obsolete"), "{error}");
    let requests = requests.lock().expect("unlocked").join("\n").to_lowercase();
    assert!(requests.contains("authorization: bearer t0k"), "{requests}");
    assert!(requests.contains("get /v2/team/app/manifests/1 "), "{requests}");
    let asked = token_requests.lock().expect("unlocked").join("\n");
    assert!(asked.contains("service=s+x&scope=repository%3Ateam%2Fapp%3Apull"), "{asked}");
    assert!(asked.to_lowercase().contains("authorization: basic "), "{asked}");

    let (host, _) = answering(vec![answer("503 Service Unavailable", "", "")]);
    let name = reference(&format!("{host}/app:1"));
    let error = oci::pull(&store, &name, &options(None)).await.expect_err("refused");
    assert!(error.to_string().contains("answers 503"), "{error}");
    let platform = r#"{"architecture":"vax","os":"linux"}"#;
    let digest = "0".repeat(64);
    let index = format!(
        r#"{{"manifests":[{{"digest":"sha256:{digest}","size":1,"platform":{platform}}}]}}"#
    );
    let (host, _) = answering(vec![answer("200 OK", "", &index)]);
    let name = reference(&format!("{host}/app:1"));
    let error = oci::pull(&store, &name, &options(None)).await.expect_err("refused");
    assert!(error.to_string().contains("only for linux/vax"), "{error}");
    assert_no_trace(&store);
}

#[tokio::test]
async fn a_mirror_is_asked_first_without_credentials() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().expect("a folder");
    let layout = dir.path().join("layout");
    write_layout(&layout, &busybox_layers());
    registry.push(&layout, "app:1");
    let (mirror, requests) = answering(vec![answer("404 Not Found", "", "")]);
    let mut options = options(Some(CREDENTIALS));
    options.registry.mirrors.insert(registry.host.clone(), vec![mirror]);
    let store = open(dir.path());
    let name = reference(&format!("{}/app:1", registry.host));
    oci::pull(&store, &name, &options).await.expect("pulled");
    let requests = requests.lock().expect("unlocked").join("\n").to_lowercase();
    assert!(requests.contains("/v2/app/manifests/1"), "{requests}");
    assert!(!requests.contains("authorization"), "{requests}");
}
