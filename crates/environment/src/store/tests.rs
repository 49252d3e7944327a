use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::*;
use crate::content::digest_of;
use crate::layer::Attributes;
use spawnery_model::EnvironmentLock;

fn key(text: &str) -> ContentDigest {
    digest_of(text.as_bytes())
}

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("store"), u64::MAX).expect("opened");
    (dir, store)
}

/// Commits a layer with one file of some size.
fn layer(store: &Store, name: &str, parents: &[&str], size_bytes: usize) -> Layer {
    let parents: Vec<ContentDigest> = parents.iter().map(|parent| key(parent)).collect();
    let draft = store.begin_layer(&key(name), &parents, None, name).expect("begun");
    let mut writer = draft.writer().expect("opened");
    write(&mut writer, name, &vec![7; size_bytes]);
    draft.commit_written(writer.finish().expect("finished")).expect("committed")
}

fn write(writer: &mut crate::layer::LayerWriter, path: &str, bytes: &[u8]) {
    let fill = |file: &mut File| {
        io::Write::write_all(file, bytes).expect("written");
        Ok::<_, LayerError>(None)
    };
    writer.file(Path::new(path), &Attributes::new(0o644), fill).expect("written");
}

fn environment(store: &Store, name: &str, layers: &[&str]) -> EnvironmentRecord {
    let parts = EnvironmentParts {
        digest: key(name),
        name: Some(name.to_owned()),
        layers: layers.iter().map(|layer| key(layer)).collect(),
        host: false,
        config: ImageConfig::default(),
        lock: EnvironmentLock::default(),
    };
    store.put_environment(parts).expect("put")
}

#[test]
fn a_layer_appears_whole_and_the_first_of_a_key_stays() {
    let (_dir, store) = open();
    let first = layer(&store, "a", &[], 10);
    assert_eq!(store.layer(&key("a")).expect("read"), Some(first.clone()));
    let second = layer(&store, "a", &[], 20);
    assert_eq!(second, first);
    let building = store.folder().join("building");
    assert_eq!(fs::read_dir(building).expect("listed").count(), 0);
}

#[test]
fn a_draft_that_is_dropped_leaves_nothing() {
    let (_dir, store) = open();
    let draft = store.begin_layer(&key("a"), &[], None, "a").expect("begun");
    fs::write(draft.root().join("file"), "x").expect("written");
    drop(draft);
    assert_eq!(fs::read_dir(store.folder().join("building")).expect("listed").count(), 0);
    assert_eq!(store.layer(&key("a")).expect("read"), None);
}

#[test]
fn a_store_has_one_owner_and_is_cleaned_when_it_is_opened() {
    let (dir, store) = open();
    let folder = dir.path().join("store");
    assert!(matches!(Store::open(&folder, 0), Err(StoreError::Busy(_))));
    layer(&store, "a", &[], 10);
    fs::create_dir_all(folder.join("building/99/root/half")).expect("made");
    drop(store);
    let store = Store::open(&folder, 0).expect("opened again");
    assert_eq!(fs::read_dir(folder.join("building")).expect("listed").count(), 0);
    assert!(store.layer(&key("a")).expect("read").is_some());
    drop(store);
    fs::write(folder.join("version"), "9 shifted\n").expect("written");
    let error = Store::open(&folder, 0).expect_err("refused").to_string();
    assert!(error.contains("version"), "{error}");
}

#[test]
fn content_digests_know_no_times_and_all_else() {
    let (_dir, store) = open();
    let mut number = 0;
    let mut content = |change: &dyn Fn(&Path)| {
        number += 1;
        let name = format!("layer {number}");
        let draft = store.begin_layer(&key(&name), &[], None, &name).expect("begun");
        fs::create_dir(draft.root().join("sub")).expect("made");
        fs::write(draft.root().join("sub/file"), "x").expect("written");
        change(&draft.root());
        draft.commit().expect("committed").record.content
    };
    let plain = content(&|_| {});
    let same = content(&|root| disk::touch(&root.join("sub/file")).expect("touched"));
    assert_eq!(plain, same);
    let mut all = vec![
        plain,
        content(&|root| fs::write(root.join("sub/file"), "y").expect("written")),
        content(&|root| fs::write(root.join("other"), "x").expect("written")),
        content(&|root| std::os::unix::fs::symlink("x", root.join("l")).expect("linked")),
        content(&|root| {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::Permissions::from_mode(0o600);
            fs::set_permissions(root.join("sub/file"), mode).expect("set");
        }),
        content(&|root| {
            let opaque = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(root.join("sub"), crate::layer::OPAQUE, b"y", opaque)
                .expect("set");
        }),
        content(&|root| {
            let none = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(root.join("sub/file"), "user.note", b"y", none).expect("set");
        }),
        content(&|root| {
            let mode = rustix::fs::Mode::empty();
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, root.join("gone"), kind, mode, 0).expect("made");
        }),
    ];
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "each change gives another digest");
}

#[test]
fn what_a_build_leaves_of_sockets_and_notes_of_overlayfs_is_taken_out() {
    let (_dir, store) = open();
    let draft = store.begin_layer(&key("a"), &[], None, "a").expect("begun");
    let root = draft.root();
    let _listener = std::os::unix::net::UnixListener::bind(root.join("s")).expect("bound");
    fs::create_dir(root.join("sub")).expect("made");
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("sub"), "user.overlay.origin", b"x", none).expect("set");
    let layer = draft.commit().expect("committed");
    assert!(!layer.root().join("s").exists());
    let mut names = [0_u8; 100];
    let length = rustix::fs::listxattr(layer.root().join("sub"), &mut names[..]).expect("listed");
    assert_eq!(length, 0);
}

#[test]
fn a_writer_sees_the_layers_below() {
    let (_dir, store) = open();
    let draft = store.begin_layer(&key("base"), &[], None, "base").expect("begun");
    let mut writer = draft.writer().expect("opened");
    let mut closed = Attributes::new(0o750);
    closed.uid = 33;
    writer.folder(Path::new("usr/lib"), &closed).expect("made");
    writer.link(Path::new("lib"), "usr/lib".as_ref(), &Attributes::new(0o777)).expect("linked");
    write(&mut writer, "usr/lib/kept", b"kept");
    write(&mut writer, "etc/gone", b"gone");
    draft.commit_written(writer.finish().expect("finished")).expect("committed");

    let draft = store.begin_layer(&key("top"), &[key("base")], None, "top").expect("begun");
    let mut writer = draft.writer().expect("opened");
    write(&mut writer, "/lib/new", b"new");
    writer.whiteout(Path::new("etc/gone")).expect("marked");
    writer.whiteout(Path::new("etc/never")).expect("nothing to mark");
    writer.hard_link(Path::new("also"), Path::new("usr/lib/kept")).expect("linked");
    let error = writer.hard_link(Path::new("b"), Path::new("etc/gone")).expect_err("it is gone");
    assert!(matches!(error, LayerError::NoLinkTarget { .. }), "{error}");
    writer.whiteout(Path::new("usr")).expect("what this layer has stays");
    let layer = draft.commit_written(writer.finish().expect("finished")).expect("committed");
    let root = layer.root();
    assert!(!root.join("lib").exists(), "the link below is followed, not replaced");
    assert_eq!(fs::read(root.join("usr/lib/new")).expect("there"), b"new");
    assert_eq!(fs::read(root.join("also")).expect("there"), b"kept");
    let stat = |path: &str| fs::symlink_metadata(root.join(path)).expect("there");
    assert_eq!(stat("also").ino(), stat("usr/lib/kept").ino());
    assert!(stat("etc/gone").file_type().is_char_device());
    assert!(fs::symlink_metadata(root.join("etc/never")).is_err());
    assert_eq!(stat("usr/lib").mode() & 0o777, 0o750, "as below");
    assert_eq!(
        Ids::of_this_process().to_inside(stat("usr/lib").uid()),
        match Ids::of_this_process() {
            Ids::Shifted => 33,
            Ids::Own => 0,
        }
    );
    let mut value = [0_u8; 4];
    let length = rustix::fs::getxattr(root.join("usr"), crate::layer::OPAQUE, &mut value[..]);
    assert_eq!(length.expect("opaque"), 1);
}

#[test]
fn over_the_view_of_the_host_what_is_for_usr_goes_there() {
    let (dir, store) = open();
    let base = dir.path().join("base");
    fs::create_dir_all(base.join("home/user")).expect("made");
    let id = Ids::of_this_process().to_host(1000).expect("in range");
    std::os::unix::fs::chown(base.join("home/user"), id, id).expect("given away");
    let draft = store.begin_layer(&key("a"), &[], Some(&base), "a").expect("begun");
    let mut writer = draft.writer().expect("opened");
    write(&mut writer, "/usr/local/bin/tool", b"x");
    write(&mut writer, "/home/user/notes", b"x");
    writer.finish().expect("finished");
    let layer = draft.commit().expect("committed");
    let usr = layer.usr().expect("over the host");
    assert!(usr.join("local/bin/tool").exists() && !layer.root().join("usr").exists());
    let home = fs::metadata(layer.root().join("home/user")).expect("there");
    if let Some(id) = id {
        assert_eq!(home.uid(), id, "as in the base");
    }
}

fn used_at(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let flags = rustix::fs::AtFlags::empty();
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).expect("set");
}

#[test]
fn the_least_recently_used_goes_and_never_what_is_in_use() {
    let (_dir, store) = open();
    for (name, parents) in
        [("a", &[][..]), ("b", &["a"]), ("c", &["a", "b"]), ("d", &[]), ("e", &[])]
    {
        layer(&store, name, parents, 100_000);
    }
    let content = store.content().put_bytes(&[1; 100_000]).expect("stored");
    environment(&store, "old", &["a", "b"]);
    environment(&store, "used", &["d"]);
    for (second, name) in (1..).zip(["c", "a", "b", "d", "e"]) {
        used_at(&store.layer_folder(&key(name)).join(RECORD_FILE), second);
    }
    used_at(&store.environment_file(&key("old")), 10);
    used_at(&store.content().path(&content), 11);
    let in_use = BTreeSet::from([key("used")]);
    let lease = store.lease([key("e")]);
    // Files have blocks besides their 100,000 bytes, so limits are between them.
    let total = store.size_bytes().expect("sized");
    let pruned = store.prune(total, &in_use).expect("nothing to do");
    assert_eq!(pruned.freed_bytes, 0);
    let pruned = store.prune(total - 1, &in_use).expect("pruned");
    assert_eq!(pruned.layers, [key("c")], "used least recently, and nothing rests on it");
    assert!(pruned.environments.is_empty());
    let pruned = store.prune(0, &in_use).expect("pruned");
    assert_eq!(pruned.environments, [key("old")]);
    assert_eq!(pruned.layers.last(), Some(&key("a")), "after what is over it");
    assert_eq!(pruned.content, [content]);
    let left: BTreeSet<_> = store.layers().expect("listed").into_iter().map(|it| it.key).collect();
    assert_eq!(left, BTreeSet::from([key("d"), key("e")]));
    drop(lease);
    store.prune(0, &in_use).expect("pruned");
    assert_eq!(store.layers().expect("listed").len(), 1);
    store.prune(0, &BTreeSet::new()).expect("pruned");
    assert_eq!(store.size_bytes().expect("sized"), 0);
    assert!(store.environments().expect("listed").is_empty());
}

#[test]
fn environments_come_back_and_give_the_sandbox_their_layers() {
    let (_dir, store) = open();
    let low = layer(&store, "low", &[], 10);
    let high = layer(&store, "high", &["low"], 10);
    let record = environment(&store, "env", &["low", "high"]);
    assert_eq!(store.environment(&key("env")).expect("read"), Some(record.clone()));
    let spec = store.root_spec(&record).expect("layers");
    let folder = |layer: &Layer| layer.folder.to_str().expect("UTF-8").to_owned();
    assert_eq!(spec.layers, [folder(&high), folder(&low)], "the topmost first");
    assert!(store.environment(&key("other")).expect("read").is_none());
    let again = environment(&store, "same", &["low", "high"]);
    assert_eq!(again.content, record.content);
    let missing = EnvironmentParts {
        digest: key("x"),
        name: None,
        layers: vec![key("absent")],
        host: false,
        config: ImageConfig::default(),
        lock: EnvironmentLock::default(),
    };
    assert!(matches!(store.put_environment(missing), Err(StoreError::NoLayer(_))));
}
