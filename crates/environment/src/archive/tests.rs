use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use proptest::prelude::*;
use spawnery_model::ContentDigest;
use tar::{EntryType, Header};

use super::unpack::{UnpackError, UnpackLimits};
use super::*;
use crate::content::digest_of;
use crate::layer::Layer;
use crate::limits::ARCHIVE_NOTES_MAX;
use crate::store::{EnvironmentParts, ImageConfig, Store};
use crate::tree::Tree;
use spawnery_model::EnvironmentLock;

/// An archive made by hand, also of what no tool would write.
#[derive(Default)]
struct Hand {
    bytes: Vec<u8>,
}

impl Hand {
    fn raw(mut self, kind: EntryType, path: &str, link: &str, data: &[u8], uid: u64) -> Hand {
        let mut header = Header::new_gnu();
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(uid);
        header.set_gid(0);
        header.set_size(data.len() as u64);
        header.set_mtime(1_000_000);
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, data: &str) -> Hand {
        self.raw(EntryType::Regular, path, "", data.as_bytes(), 0)
    }

    fn folder(self, path: &str) -> Hand {
        self.raw(EntryType::Directory, path, "", b"", 0)
    }

    fn link(self, path: &str, target: &str) -> Hand {
        self.raw(EntryType::Symlink, path, target, b"", 0)
    }

    fn hard_link(self, path: &str, target: &str) -> Hand {
        self.raw(EntryType::Link, path, target, b"", 0)
    }

    fn pax(self, records: &[(&str, &str)]) -> Hand {
        let mut data = String::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest..).find(|it| it.to_string().len() + rest == *it).expect("one");
            data.push_str(&format!("{length} {key}={value}\n"));
        }
        self.raw(EntryType::XHeader, "pax", "", data.as_bytes(), 0)
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }
}

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("store"), u64::MAX).expect("opened");
    (dir, store)
}

fn key(text: &str) -> ContentDigest {
    digest_of(text.as_bytes())
}

fn take(
    store: &Store,
    name: &str,
    parents: &[&str],
    archive: &[u8],
) -> Result<(Layer, Vec<String>), UnpackError> {
    let parents: Vec<ContentDigest> = parents.iter().map(|it| key(it)).collect();
    let draft = store.begin_layer(&key(name), &parents, None, name)?;
    let limits = UnpackLimits { entries_max: 10_000, bytes_max: 10 << 20 };
    let unpacked = super::unpack(&mut &archive[..], draft.writer()?, limits)?;
    assert_eq!(digest_of(archive), ContentDigest::from_bytes(unpacked.digest));
    let hashed = draft.commit_written(unpacked.written)?;
    Ok((hashed, unpacked.notes))
}

#[test]
fn a_layer_is_unpacked_with_all_kinds_of_entries() {
    let (_dir, store) = open();
    let long = format!("deep/{}/file", "n".repeat(200));
    let archive = Hand::default()
        .folder("./")
        .folder("etc/")
        .file("./etc/passwd", "root")
        .hard_link("etc/same", "etc/passwd")
        .link("etc/link", "../../../../outside")
        .raw(EntryType::Fifo, "pipe", "", b"", 0)
        .raw(EntryType::Char, "null", "", b"", 0)
        .file("/absolute/is/inside", "x")
        .raw(EntryType::Regular, "owned", "", b"x", 1000)
        .raw(EntryType::GNULongName, "././@LongLink", "", format!("{long}\0").as_bytes(), 0)
        .file("short", "long")
        .pax(&[
            ("path", "by/pax"),
            ("mtime", "12.5"),
            ("SCHILY.xattr.user.note", "kept"),
            ("SCHILY.xattr.user.overlay.opaque", "y"),
            ("SCHILY.xattr.security.capability", "x"),
        ])
        .file("short", "pax")
        .end();
    let (layer, notes) = take(&store, "a", &[], &archive).expect("unpacked");
    let root = layer.root();
    let read = |path: &str| fs::read_to_string(root.join(path)).expect(path);
    let stat = |path: &str| fs::symlink_metadata(root.join(path)).expect(path);
    assert_eq!(read("etc/same"), "root");
    assert_eq!(stat("etc/same").ino(), stat("etc/passwd").ino());
    assert_eq!(
        fs::read_link(root.join("etc/link")).expect("a link").to_str(),
        Some("../../../../outside")
    );
    assert!(stat("pipe").file_type().is_fifo());
    assert!(fs::symlink_metadata(root.join("null")).is_err());
    assert_eq!(read("absolute/is/inside"), "x");
    assert_eq!(read(&long), "long");
    assert_eq!((read("by/pax"), stat("by/pax").mtime_nsec()), ("pax".to_owned(), 500_000_000));
    assert_eq!((stat("etc").mtime(), stat("etc/passwd").mtime()), (1_000_000, 1_000_000));
    let ids = crate::Ids::of_this_process();
    let owner = if ids == crate::Ids::Shifted { 1000 } else { 0 };
    assert_eq!(ids.to_inside(stat("owned").uid()), owner);
    let mut value = [0; 10];
    let length = rustix::fs::getxattr(root.join("by/pax"), "user.note", &mut value[..]);
    assert_eq!(&value[..length.expect("kept")], b"kept");
    let length = rustix::fs::getxattr(root.join("by/pax"), "user.overlay.opaque", &mut value[..]);
    assert!(length.is_err(), "an archive cannot set marks of overlayfs");
    assert_eq!(notes.len(), 2, "{notes:?}");
    // What was hashed while it was written is what a second look finds.
    let draft = store.begin_layer(&key("b"), &[], None, "b").expect("begun");
    let mut packed = Vec::new();
    pack(&layer, &mut packed).expect("packed");
    drop(draft);
    let mut record = layer.record.clone();
    record.key = key("copy");
    let copy = unpack_packed(&store, &record, &mut &packed[..]).expect("unpacked");
    assert_eq!(copy.record.content, layer.record.content);
}

#[test]
fn later_entries_win_and_links_stay_inside() {
    let (dir, store) = open();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).expect("made");
    let outside_text = outside.to_str().expect("UTF-8");
    let archive = Hand::default()
        .link("out", outside_text)
        .file("out/file", "inside")
        .link("up", "../../../..")
        .file("up/top", "top")
        .folder("was")
        .file("was/in", "x")
        .file("was", "file now")
        .file("then", "x")
        .folder("then")
        .file("then/in", "y")
        .end();
    let (layer, _) = take(&store, "a", &[], &archive).expect("unpacked");
    let root = layer.root();
    assert_eq!(fs::read_dir(&outside).expect("listed").count(), 0, "nothing got out");
    let inside = root.join(outside_text.trim_start_matches('/')).join("file");
    assert_eq!(fs::read_to_string(inside).expect("it is where the link leads inside"), "inside");
    assert_eq!(fs::read_to_string(root.join("top")).expect("the root's parent is it"), "top");
    assert_eq!(fs::read_to_string(root.join("was")).expect("replaced"), "file now");
    assert_eq!(fs::read_to_string(root.join("then/in")).expect("replaced"), "y");
}

#[test]
fn whiteouts_hide_what_is_below() {
    let (_dir, store) = open();
    let base = Hand::default()
        .file("a/gone", "x")
        .file("a/kept", "x")
        .file("b/old", "x")
        .file("c/old", "x")
        .file("d", "x")
        .end();
    take(&store, "base", &[], &base).expect("unpacked");
    let top = Hand::default()
        .file("a/.wh.gone", "")
        .file("b/new", "x")
        .file("b/.wh..wh..opq", "")
        .file(".wh.c", "")
        .file("c/new", "x")
        .file(".wh.d", "")
        .file(".wh..wh.plnk", "")
        .file(".wh.never", "")
        .hard_link("copied", "a/kept")
        .end();
    let (layer, _) = take(&store, "top", &["base"], &top).expect("unpacked");
    let stat = |path: &str| fs::symlink_metadata(layer.root().join(path));
    let is_whiteout = |path| stat(path).is_ok_and(|it| it.file_type().is_char_device());
    assert!(is_whiteout("a/gone") && is_whiteout("d") && !is_whiteout("never"));
    assert_eq!(stat("copied").expect("there").nlink(), 2, "with the copy at its old name");
    let parts = EnvironmentParts {
        digest: key("env"),
        name: None,
        layers: vec![key("base"), key("top")],
        host: false,
        config: ImageConfig::default(),
        lock: EnvironmentLock::default(),
    };
    store.put_environment(parts).expect("put");
    let mut flat = Vec::new();
    export(&store, &key("env"), ExportFormat::Tar, &mut flat).expect("exported");
    let (flat, _) = take(&store, "flat", &[], &flat).expect("unpacked again");
    let (tree, _) = Tree::read(&flat.root()).expect("read");
    let paths: Vec<&str> = tree.entries().iter().map(|it| it.path.as_str()).collect();
    assert_eq!(paths, ["", "a", "a/kept", "b", "b/new", "c", "c/new", "copied"]);

    let mut packed = Vec::new();
    pack(&layer, &mut packed).expect("packed");
    let mut record = layer.record.clone();
    record.key = key("copy");
    let copy = unpack_packed(&store, &record, &mut &packed[..]).expect("taken");
    assert_eq!(copy.record.content, layer.record.content, "marks are part of it");
    record.key = key("other");
    record.content = key("something else");
    let error = unpack_packed(&store, &record, &mut &packed[..]).expect_err("refused");
    assert!(error.to_string().contains("announced"), "{error}");
    assert!(store.layer(&key("other")).expect("read").is_none());
    let cut = &packed[..packed.len() / 2];
    assert!(unpack_packed(&store, &record, &mut &*cut).is_err());
}

#[test]
fn sparse_files_of_all_forms_are_understood() {
    let (_dir, store) = open();
    let mut map = b"2\n0\n2\n1048576\n3\n".to_vec();
    map.resize(512, 0);
    map.extend(b"abxyz");
    let one = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "v1"),
        ("GNU.sparse.realsize", "2000000"),
    ];
    let zero_one = [
        ("GNU.sparse.size", "2000000"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.name", "v01"),
        ("GNU.sparse.map", "0,2,1048576,3"),
    ];
    let zero = [
        ("GNU.sparse.size", "2000000"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.offset", "0"),
        ("GNU.sparse.numbytes", "2"),
        ("GNU.sparse.offset", "1048576"),
        ("GNU.sparse.numbytes", "3"),
    ];
    let archive = Hand::default()
        .pax(&one)
        .raw(EntryType::Regular, "x", "", &map, 0)
        .pax(&zero_one)
        .raw(EntryType::Regular, "x", "", b"abxyz", 0)
        .pax(&zero)
        .raw(EntryType::Regular, "v0", "", b"abxyz", 0)
        .end();
    let (layer, _) = take(&store, "a", &[], &archive).expect("unpacked");
    let check = |root: &Path, name: &str| {
        let file = fs::File::open(root.join(name)).expect(name);
        assert_eq!(file.metadata().expect("known").len(), 2_000_000, "{name}");
        let mut part = [0; 5];
        file.read_exact_at(&mut part[..2], 0).expect("read");
        file.read_exact_at(&mut part[2..], 1_048_576).expect("read");
        assert_eq!(&part, b"abxyz", "{name}");
        assert!(file.metadata().expect("known").blocks() < 100, "{name} has holes");
    };
    for name in ["v1", "v01", "v0"] {
        check(&layer.root(), name);
    }
    // GNU's own form, by GNU's own tool.
    let dir = tempfile::tempdir().expect("a folder");
    let file = fs::File::create(dir.path().join("old")).expect("made");
    file.set_len(2_000_000).expect("sized");
    file.write_all_at(b"ab", 0).expect("written");
    file.write_all_at(b"xyz", 1_048_576).expect("written");
    for form in ["gnu", "posix"] {
        let output = std::process::Command::new("tar")
            .args(["--sparse", "--format", form, "-C"])
            .arg(dir.path())
            .args(["-c", "old"])
            .output()
            .expect("tar runs");
        let (layer, _) = take(&store, form, &[], &output.stdout).expect("unpacked");
        check(&layer.root(), "old");
    }
}

#[test]
fn bad_archives_end_in_a_reason_and_leave_no_trace() {
    let (dir, store) = open();
    let building = dir.path().join("store/building");
    let check = |archive: &[u8], expected: &str| {
        let error = take(&store, "bad", &[], archive).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(store.layer(&key("bad")).expect("read").is_none());
        assert_eq!(fs::read_dir(&building).expect("listed").count(), 0, "no trace");
    };
    let start = || Hand::default().file("first", "x");
    check(&start().file("../evil", "x").end(), "`..` is not allowed");
    check(&start().file("a/../../evil", "x").end(), "`..` is not allowed");
    check(&start().hard_link("a", "../../etc/passwd").end(), "`..` is not allowed");
    check(&start().hard_link("a", "/etc/passwd").end(), "is not there");
    check(&start().folder("d").hard_link("a", "d").end(), "is not there");
    check(&start().link("a", "b").link("b", "a").file("a/x", "").end(), "symbolic links");
    check(&start().file("a", "x").file("a/x", "").end(), "not a folder");
    check(&start().file("a/.wh...", "").end(), "`..` is not allowed");
    check(&start().raw(EntryType::Regular, "x", "", b"", 65_536).end(), "65536 is beyond");
    check(&start().pax(&[("path", &"n".repeat(300))]).file("x", "").end(), "too long");
    check(&start().pax(&[("path", &"n/".repeat(3000))]).file("x", "").end(), "too long");
    check(&start().pax(&[("size", "99999999999")]).file("x", "").end(), "limit of a layer");
    check(&start().pax(&[("size", "100000")]).file("x", "").end(), "cut off");
    check(
        &start().raw(EntryType::XHeader, "x", "", b"9999 nonsense", 0).file("x", "").end(),
        "pax",
    );
    check(&start().raw(EntryType::XHeader, "x", "", &[b'a'; 2 << 20], 0).end(), "1 MiB");
    check(&start().end()[..300], "ends in the middle");
    check(&start().file("cut", "twelve bytes").end()[..1540], "ends in the middle");
    let mut broken = start().end();
    broken[0] = b'g';
    check(&broken, "checksum");
    let folders = (0..10_001).fold(Hand::default(), |it, at| it.folder(&format!("d{at}")));
    check(&folders.end(), "more than 10000 entries");
    let sparse = [("GNU.sparse.size", "10"), ("GNU.sparse.map", "5,20")];
    check(&start().pax(&sparse).file("x", "12345678901234567890").end(), "sparse");
    let bomb = [("GNU.sparse.size", "1000000000000"), ("GNU.sparse.map", "0,0")];
    check(&start().pax(&bomb).file("x", "").end(), "sparse");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let noise: String =
        (0..20_000).map(|it: u32| char::from(b'a' + (it * it % 23) as u8)).collect();
    packed.write_all(&start().file("noise", &noise).end()).expect("packed");
    let packed = packed.finish().expect("packed");
    check(&packed[..packed.len() / 2], "cannot read the archive");
    let zeros = vec![0; 11 << 20];
    let zeros = Hand::default().raw(EntryType::Regular, "z", "", &zeros, 0).end();
    check(&zstd::encode_all(&zeros[..], 1).expect("packed"), "limit of a layer");
}

#[test]
fn an_archive_may_end_with_its_last_file() {
    let (_dir, store) = open();
    let archive = Hand::default().file("file", "whole").bytes;
    let (layer, _) = take(&store, "a", &[], &archive[..512 + 5]).expect("unpacked");
    assert_eq!(fs::read_to_string(layer.root().join("file")).expect("read"), "whole");
}

#[test]
fn many_devices_give_a_few_notes() {
    let (_dir, store) = open();
    let devices = (0..40)
        .fold(Hand::default(), |it, at| it.raw(EntryType::Block, &format!("b{at}"), "", b"", 0));
    let (_, notes) = take(&store, "a", &[], &devices.end()).expect("unpacked");
    assert_eq!(notes.len(), ARCHIVE_NOTES_MAX + 1);
    assert_eq!(notes.last().map(String::as_str), Some("and 24 more"));
}

/// A random tree: names and what they are.
fn trees() -> impl Strategy<Value = Vec<(Vec<u8>, u8, Vec<u8>)>> {
    let name = proptest::collection::vec(0_u8..4, 1..4);
    let data = proptest::collection::vec(any::<u8>(), 0..2000);
    proptest::collection::vec((name, 0_u8..4, data), 0..20)
}

fn grow(root: &Path, tree: &[(Vec<u8>, u8, Vec<u8>)]) {
    for (names, kind, data) in tree {
        let mut path = root.to_owned();
        for (at, name) in names.iter().enumerate() {
            // Of different lengths, so that all forms of headers occur.
            path.push(format!("{name}{}", "x".repeat(usize::from(*name) * 40 * at)));
        }
        let _ = fs::create_dir_all(path.parent().expect("below the root"));
        let _ = match kind {
            0 => fs::create_dir_all(&path),
            1 => std::os::unix::fs::symlink("0/1", &path),
            2 => fs::hard_link(root.join("0"), &path),
            _ => fs::write(&path, data),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_tree_comes_back_from_an_archive_of_any_tool(tree in trees(), form in 0_usize..2) {
        let (dir, store) = open();
        let from = dir.path().join("from");
        fs::create_dir(&from).expect("made");
        grow(&from, &tree);
        let form = ["gnu", "posix"][form];
        let output = std::process::Command::new("tar")
            .args(["--format", form, "--owner=0", "--group=0", "-C"])
            .arg(&from)
            .args(["-c", "."])
            .output()
            .expect("tar runs");
        prop_assert!(output.status.success());
        let (layer, _) = take(&store, "tree", &[], &output.stdout).expect("unpacked");
        let (expected, _) = Tree::read(&from).expect("read");
        let (found, _) = Tree::read(&layer.root()).expect("read");
        prop_assert_eq!(&found, &expected);
        let mut packed = Vec::new();
        pack(&layer, &mut packed).expect("packed");
        let mut record = layer.record.clone();
        record.key = key("copy");
        let copy = unpack_packed(&store, &record, &mut &packed[..]).expect("taken");
        let (found, _) = Tree::read(&copy.root()).expect("read");
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_damaged_archive_never_gets_out(
        tree in trees(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let (dir, store) = open();
        let mut archive = tree.iter().fold(Hand::default(), |it, (names, kind, data)| {
            let path: String = names.iter().map(|name| ["a/", "../", "b/", "./"][usize::from(*name)]).collect();
            match kind {
                0 => it.folder(&path),
                1 => it.link(&format!("{path}l"), "../../.."),
                2 => it.hard_link(&format!("{path}h"), "a/f"),
                _ => it.raw(EntryType::Regular, &format!("{path}f"), "", data, 0),
            }
        }).end();
        let at = at.index(archive.len());
        archive[at] = byte;
        let _ = take(&store, "tree", &[], &archive);
        let names: Vec<_> = fs::read_dir(dir.path()).expect("listed")
            .map(|it| it.expect("listed").file_name()).collect();
        prop_assert_eq!(names, ["store"]);
        let building = dir.path().join("store/building");
        prop_assert_eq!(fs::read_dir(building).expect("listed").count(), 0);
    }
}
