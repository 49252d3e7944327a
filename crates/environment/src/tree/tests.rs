use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;
use crate::content::Content;
use crate::store::Store;

fn folder(path: &str) -> TreeEntry {
    TreeEntry { path: path.to_owned(), mode: 0o755, kind: TreeKind::Folder }
}

fn file(path: &str, bytes: &[u8]) -> TreeEntry {
    let (digest, size_bytes) = (digest_of(bytes), bytes.len() as u64);
    TreeEntry { path: path.to_owned(), mode: 0o644, kind: TreeKind::File { digest, size_bytes } }
}

fn link(path: &str, target: &str) -> TreeEntry {
    let kind = TreeKind::Link { target: target.to_owned() };
    TreeEntry { path: path.to_owned(), mode: 0o777, kind }
}

#[test]
fn what_leads_out_or_is_not_in_order_is_no_tree() {
    let check = |entries: Vec<TreeEntry>, expected: &str| {
        let error = Tree::from_entries(entries).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(vec![], "no entry");
    check(vec![file("a", b"")], "begins with");
    check(vec![folder(""), file("../a", b"")], "no path inside");
    check(vec![folder(""), file("/a", b"")], "no path inside");
    check(vec![folder(""), file("a//b", b"")], "no path inside");
    check(vec![folder(""), file(&"a".repeat(256), b"")], "no path inside");
    check(vec![folder(""), file("b", b""), file("a", b"")], "order");
    check(vec![folder(""), file("a", b""), file("a", b"")], "order");
    check(vec![folder(""), file("a/b", b"")], "in no folder");
    check(vec![folder(""), link("a", "/etc"), file("a/b", b"")], "in no folder");
    check(vec![folder(""), link("a", "")], "not a link");
    check(vec![file("", b""), file("a", b"")], "in no folder");
    check(vec![link("", "/etc")], "neither a folder nor a single file");
    let mut set_user_id = file("a", b"");
    set_user_id.mode = 0o4755;
    check(vec![folder(""), set_user_id], "mode");
}

#[test]
fn an_encoding_is_read_back_and_nothing_else_is() {
    let tree = Tree::from_entries(vec![folder(""), file("a", b"x"), link("b", "a")]).expect("one");
    let bytes = tree.encode();
    assert_eq!(Tree::decode(&bytes).expect("read"), tree);
    assert_eq!(tree.digest(), digest_of(&bytes));
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(Tree::decode(&longer).is_err());
    assert!(Tree::decode(&bytes[..bytes.len() - 1]).is_err());
    // The version as two bytes.
    let mut other = bytes.clone();
    other.splice(1..2, [0x18, 1]);
    assert!(Tree::decode(&other).expect_err("refused").to_string().contains("canonical"));
}

#[test]
fn a_tree_of_a_disk_is_written_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("sub/deep")).expect("made");
    fs::write(from.join("sub/run.sh"), "#!/bin/sh\n").expect("written");
    fs::write(from.join("sub.txt"), "sorted between").expect("written");
    fs::set_permissions(from.join("sub/run.sh"), fs::Permissions::from_mode(0o4750)).expect("set");
    fs::set_permissions(from.join("sub/deep"), fs::Permissions::from_mode(0o500)).expect("set");
    symlink("run.sh", from.join("sub/link")).expect("linked");
    let (tree, files) = Tree::read(&from).expect("read");
    let paths: Vec<&str> = tree.entries().iter().map(|it| it.path.as_str()).collect();
    assert_eq!(paths, ["", "sub", "sub.txt", "sub/deep", "sub/link", "sub/run.sh"]);
    assert_eq!(Tree::decode(&tree.encode()).expect("decoded"), tree);
    assert_eq!(tree.size_bytes(), 24);

    let store = Store::open(&dir.path().join("store"), u64::MAX).expect("opened");
    send(&files, store.content());
    let draft = store.begin_layer(&tree.digest(), &[], None, "files").expect("begun");
    let mut writer = draft.writer().expect("opened");
    tree.write(store.content(), &mut writer, Path::new("/srv/app")).expect("written");
    writer.finish().expect("finished");
    let layer = draft.commit().expect("committed");
    let at = layer.root().join("srv/app");
    let (again, _) = Tree::read(&at).expect("read again");
    assert_eq!(again, tree);
    let metadata = fs::metadata(at.join("sub/run.sh")).expect("there");
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o750, 0));
}

fn send(files: &BTreeMap<ContentDigest, PathBuf>, content: &Content) {
    for (digest, path) in files {
        let mut file = fs::File::open(path).expect("opened");
        content.put(Some(digest), &mut file).expect("stored");
    }
}

#[test]
fn what_cannot_be_sent_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = |path: &str, expected: &str| {
        let error = Tree::read(&dir.path().join(path)).expect_err(path).to_string();
        assert!(error.contains(path) && error.contains(expected), "{error}");
    };
    check("absent", "does not exist");
    fs::create_dir(dir.path().join("sockets")).expect("made");
    let socket = dir.path().join("sockets/s");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    check("sockets", "sockets/s` is a socket");
    check("sockets/s", "is a socket");
    let error = Tree::read(Path::new("/dev/null")).expect_err("a device").to_string();
    assert!(error.contains("/dev/null` is a device"), "{error}");
    fs::write(dir.path().join("file"), "").expect("written");
    check("file/below", "does not exist");
    use std::os::unix::ffi::OsStrExt;
    let odd = dir.path().join("odd");
    fs::create_dir(&odd).expect("made");
    fs::write(odd.join(std::ffi::OsStr::from_bytes(b"\xff")), "").expect("written");
    check("odd", "not UTF-8");
}

#[test]
fn a_path_that_is_a_link_means_what_it_leads_to() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("file"), "x").expect("written");
    symlink("file", dir.path().join("link")).expect("linked");
    let (tree, _) = Tree::read(&dir.path().join("link")).expect("read");
    assert!(!tree.is_folder());
    assert!(tree.expect_folder(true, "/app").is_err());
    tree.expect_folder(false, "/app").expect("a file");
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(tree) = Tree::decode(&bytes) {
            prop_assert_eq!(tree.encode(), bytes);
        }
    }
}
