//! Images that are files, processes that are killed, users that are not root, and full disks.

mod support;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use spawnery_environment::archive::{ExportFormat, UnpackLimits, export};
use spawnery_environment::content::digest_of;
use spawnery_environment::oci::{
    self, ArchiveFiles, Files, FolderFiles, Image, ImageError, TreeFiles,
};
use spawnery_environment::{EnvironmentParts, Store, Tree};
use spawnery_model::{ContentDigest, EnvironmentLock};
use support::{Archive, DEADLINE, Packing, assert_no_trace, busybox_layers, skopeo, write_layout};
use tar::EntryType;

/// The user that tests run a program as, when they themselves run as root.
const PLAIN_USER: u32 = 61_235;

fn open(dir: &Path) -> Store {
    Store::open(&dir.join("store"), u64::MAX).expect("opened")
}

fn import(store: &Store, files: &dyn Files, name: Option<&str>) -> Result<Image, ImageError> {
    oci::import(store, files, name, UnpackLimits::default())
}

fn contents(store: &Store, image: &Image) -> Vec<ContentDigest> {
    let content = |key| store.layer(key).expect("read").expect("there").record.content;
    image.layers.iter().map(content).collect()
}

#[test]
fn an_image_of_files_is_the_same_in_all_its_forms() {
    let dir = tempfile::tempdir().expect("a folder");
    let layout = dir.path().join("layout");
    write_layout(&layout, &busybox_layers());
    let store = open(dir.path());
    let folder = FolderFiles::new(&layout).expect("opened");
    let image = import(&store, &folder, None).expect("imported");
    let expected = contents(&store, &image);
    let from = format!("oci:{}:latest", layout.display());
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let archive = dir.path().join("layout.tar");
    skopeo(&[&from, &format!("oci-archive:{}:v1", text(&archive))]);
    let packed = dir.path().join("layout.tar.gz");
    let bytes = Packing::Gzip.pack(&fs::read(&archive).expect("read"));
    fs::write(&packed, bytes).expect("written");
    // `docker save` has no zstd; its archives hold layers that are not packed.
    let saved = dir.path().join("saved.tar");
    let with_gzip = dir.path().join("gzip");
    let layers = busybox_layers().into_iter().map(|(archive, _)| (archive, Packing::Gzip));
    write_layout(&with_gzip, &layers.collect::<Vec<_>>());
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci:{}:latest", with_gzip.display()))
        .arg(format!("docker-archive:{}:app:v1", text(&saved)))
        .output()
        .expect("skopeo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (number, path) in [&archive, &packed, &saved].into_iter().enumerate() {
        let store = open(&dir.path().join(number.to_string()));
        let file = File::open(path).expect("opened");
        let files = ArchiveFiles::new(&store, file, &text(path)).expect("an archive");
        let image = import(&store, &files, None).expect("imported");
        assert_eq!(contents(&store, &image), expected, "{}", path.display());
        assert_eq!(image.config.user.expect("a user").uid, 33);
    }
    // As a client sends it: by content.
    let store = open(&dir.path().join("tree"));
    let (tree, files) = Tree::read(&layout).expect("read");
    for (digest, path) in &files {
        let mut file = File::open(path).expect("opened");
        store.content().put(Some(digest), &mut file).expect("stored");
    }
    let files = TreeFiles::new(&tree, store.content(), "layout");
    let image = import(&store, &files, Some("app:latest")).expect("imported");
    assert_eq!(contents(&store, &image), expected);
}

#[test]
fn files_that_are_no_image_end_in_a_reason_and_leave_no_trace() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let layout = dir.path().join("layout");
    let check = |change: &dyn Fn(&Path), name: Option<&str>, expected: &str| {
        let _ = fs::remove_dir_all(&layout);
        write_layout(&layout, &[(Archive::default().file("f", b"x").end(), Packing::Gzip)]);
        change(&layout);
        let files = FolderFiles::new(&layout).expect("opened");
        let error = import(&store, &files, name).expect_err(expected).to_string();
        assert!(error.contains(expected), "`{expected}` is not in: {error}");
        assert_no_trace(&store);
    };
    // The largest blob is none of the documents only by chance: they are told by their start.
    let layer = |layout: &Path| {
        let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("listed");
        let mut paths = blobs.map(|it| it.expect("one").path());
        paths.find(|path| fs::read(path).expect("read").starts_with(&[0x1f, 0x8b])).expect("one")
    };
    let remove = |path: PathBuf| fs::remove_file(path).expect("removed");
    check(&|it| remove(it.join("index.json")), None, "neither an index.json");
    check(&|it| fs::write(it.join("index.json"), "{").expect("written"), None, "understood");
    check(&|_| {}, Some("app:2"), "it has no `app:2`, only: latest");
    check(&|it| remove(layer(it)), None, "is missing in it");
    check(
        &|it| {
            let path = layer(it);
            let bytes = fs::read(&path).expect("read");
            fs::write(&path, &bytes[..bytes.len() - 3]).expect("cut");
        },
        None,
        "but should have",
    );
    check(
        &|it| {
            let path = layer(it);
            let mut bytes = fs::read(&path).expect("read");
            bytes[12] ^= 1;
            fs::write(&path, bytes).expect("changed");
        },
        None,
        "has the digest",
    );
    check(
        &|it| {
            let path = layer(it);
            remove(path.clone());
            std::os::unix::fs::symlink("/etc/passwd", path).expect("linked");
        },
        None,
        "cannot read",
    );
    let text = dir.path().join("text");
    fs::write(&text, "not an archive, but a text of some length\n".repeat(30)).expect("written");
    let file = File::open(&text).expect("opened");
    let error = ArchiveFiles::new(&store, file, "text").expect_err("no archive").to_string();
    assert!(error.contains("text is not an image"), "{error}");
    assert!(FolderFiles::new(&dir.path().join("absent")).is_err());
    assert_no_trace(&store);
}

#[test]
fn an_exported_environment_is_an_image_for_other_tools() {
    let dir = tempfile::tempdir().expect("a folder");
    let layout = dir.path().join("layout");
    write_layout(&layout, &busybox_layers());
    let store = open(dir.path());
    let image = import(&store, &FolderFiles::new(&layout).expect("opened"), None).expect("one");
    let digest = digest_of(b"environment");
    let parts = EnvironmentParts {
        digest: digest.clone(),
        name: Some("app".to_owned()),
        layers: image.layers.clone(),
        host: false,
        config: image.config.clone(),
        lock: EnvironmentLock::default(),
    };
    store.put_environment(parts).expect("put");
    let archive = dir.path().join("exported.tar");
    let mut file = File::create(&archive).expect("made");
    export(&store, &digest, ExportFormat::OciArchive, &mut file).expect("exported");
    let again = dir.path().join("again");
    skopeo(&[
        &format!("oci-archive:{}:app", archive.display()),
        &format!("oci:{}:latest", again.display()),
    ]);
    let other = open(&dir.path().join("other"));
    let back = import(&other, &FolderFiles::new(&again).expect("opened"), None).expect("one");
    assert_eq!(back.layers.len(), 1);
    assert_eq!(back.config, image.config);
    let root = other.layer(&back.layers[0]).expect("read").expect("there").root();
    assert_eq!(fs::read_to_string(root.join("srv/hello")).expect("read"), "hello from the image\n");
    assert!(fs::symlink_metadata(root.join("etc/hidden")).is_err(), "hidden stays hidden");
    let ino = |path: &str| fs::metadata(root.join(path)).expect(path).ino();
    assert_eq!(ino("bin/cat"), ino("bin/busybox"));
    let mut packed = Vec::new();
    export(&store, &digest, ExportFormat::TarZstd, &mut packed).expect("exported");
    let plain = zstd::decode_all(&packed[..]).expect("zstd");
    let mut names = tar::Archive::new(&plain[..]);
    let names = names
        .entries()
        .expect("an archive")
        .map(|it| it.expect("an entry").path().expect("a path").to_string_lossy().into_owned());
    assert!(names.into_iter().any(|it| it == "srv/hello"));
    let absent = export(&store, &digest_of(b"no"), ExportFormat::Tar, &mut io::sink());
    assert!(absent.expect_err("not there").to_string().contains("is not in the store"));
}

/// An image that takes a while: many files.
fn large_layout(folder: &Path) {
    let files = |prefix: &str| {
        (0..3000)
            .fold(Archive::default(), |it, at| {
                let data = format!("{prefix} {at} ").repeat(100);
                it.file(&format!("{prefix}/{}/{at}", at % 37), data.as_bytes())
            })
            .end()
    };
    let layers = ["one", "two", "three"].map(|prefix| (files(prefix), Packing::Gzip));
    write_layout(folder, &layers);
}

#[test]
fn a_process_that_is_killed_leaves_nothing_in_use() {
    let dir = tempfile::tempdir().expect("a folder");
    let layout = dir.path().join("layout");
    large_layout(&layout);
    let folder = dir.path().join("store");
    let building = folder.join("building");
    // Killed at different moments: when so many layers are whole and the next has files.
    for whole in 0..3 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_environment-test-import"))
            .args([&folder, &layout])
            .stdout(Stdio::null())
            .spawn()
            .expect("the program runs");
        let until = Instant::now() + DEADLINE;
        let layers = || fs::read_dir(folder.join("layers")).map_or(0, Iterator::count);
        let has_files = || {
            let drafts = fs::read_dir(&building).into_iter().flatten().flatten();
            drafts
                .flat_map(|it| fs::read_dir(it.path().join("root")))
                .any(|mut it| it.next().is_some())
        };
        while layers() < whole || !has_files() {
            assert!(Instant::now() < until, "it never gets there");
            assert!(child.try_wait().expect("its state").is_none(), "it was too fast to be killed");
            std::thread::yield_now();
        }
        child.kill().expect("killed");
        child.wait().expect("reaped");
        assert!(fs::read_dir(&building).expect("listed").count() > 0, "something is half made");
        let store = Store::open(&folder, u64::MAX).expect("opened");
        assert_eq!(fs::read_dir(&building).expect("listed").count(), 0, "cleaned");
        for record in store.layers().expect("listed") {
            let layer = store.layer(&record.key).expect("read").expect("there");
            let (tree, _) = Tree::read(&layer.root()).expect("read");
            assert_eq!(tree.files().len(), 3000, "what is there is whole");
        }
    }
    let store = Store::open(&folder, u64::MAX).expect("opened");
    let image = import(&store, &FolderFiles::new(&layout).expect("opened"), None).expect("one");
    assert_eq!((image.layers.len(), store.layers().expect("listed").len()), (3, 3));
}

#[test]
fn another_user_than_root_owns_all_and_removes_all() {
    if !rustix::process::geteuid().is_root() {
        // Then all other tests are about this.
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("opened");
    let layout = dir.path().join("layout");
    let base = Archive::default()
        .entry(EntryType::Directory, "closed/", "", 0o000, b"")
        .entry(EntryType::Regular, "closed/secret", "", 0o000, b"x")
        .entry(EntryType::Regular, "set", "", 0o4755, b"x")
        .file("gone", b"x")
        .end();
    let top = Archive::default().file(".wh.gone", b"").file("new", b"x").end();
    write_layout(&layout, &[(base, Packing::Gzip), (top, Packing::Gzip)]);
    // Where that user may run it.
    let program = dir.path().join("import");
    fs::copy(env!("CARGO_BIN_EXE_environment-test-import"), &program).expect("copied");
    let own = dir.path().join("own");
    fs::create_dir(&own).expect("made");
    chown(&own, Some(PLAIN_USER), Some(PLAIN_USER)).expect("given away");
    let folder = own.join("store");
    let run = |layout: &Path| {
        Command::new("setpriv")
            .args([&format!("--reuid={PLAIN_USER}"), &format!("--regid={PLAIN_USER}")])
            .args([Path::new("--clear-groups"), &program, &folder, layout])
            .output()
            .expect("setpriv runs")
    };
    let output = run(&layout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let keys = String::from_utf8(output.stdout).expect("UTF-8");
    let keys: Vec<&str> = keys.lines().collect();
    let stat = |layer: usize, path: &str| {
        let path = folder.join("layers").join(keys[layer]).join("root").join(path);
        fs::symlink_metadata(path).expect("there")
    };
    for (layer, path, mode) in
        [(0, "closed", 0o700), (0, "closed/secret", 0o400), (0, "set", 0o4755), (1, "new", 0o644)]
    {
        let stat = stat(layer, path);
        assert_eq!((stat.uid(), stat.mode() & 0o7777), (PLAIN_USER, mode), "{path}");
    }
    assert!(stat(1, "gone").file_type().is_char_device());
    let beyond = dir.path().join("beyond");
    let mut owned = Archive::default().file("f", b"x");
    owned = owned.file("last", b"x");
    let mut bytes = owned.end();
    // The owner of the first file as a binary number: 2 to the power of 24.
    bytes[108..116].copy_from_slice(&[0x80, 0, 0, 0, 1, 0, 0, 0]);
    let sum: u32 = bytes[..148].iter().chain(&bytes[156..512]).map(|it| u32::from(*it)).sum();
    bytes[148..156].copy_from_slice(format!("{:06o}\0 ", sum + 256).as_bytes());
    write_layout(&beyond, &[(bytes, Packing::None)]);
    let output = run(&beyond);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("16777216 is beyond"), "{error}");
    assert!(matches!(Store::open(&folder, 0), Err(error) if error.to_string().contains("root")));
}

/// A file system of 8 MiB, for one test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: &Path) -> SmallDisk {
        let (image, folder) = (dir.join("image"), dir.join("disk"));
        File::create(&image).and_then(|it| it.set_len(8 << 20)).expect("made");
        fs::create_dir(&folder).expect("made");
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let output = command.args(arguments).output().expect(program);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        run("mkfs.ext4", &["-q", "-m", "0", &text(&image)]);
        run("mount", &["-o", "loop", &text(&image), &text(&folder)]);
        SmallDisk(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_a_reason_and_leaves_no_trace() {
    if !rustix::process::geteuid().is_root() {
        // Only root can mount.
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let disk = SmallDisk::mount(dir.path());
    let store = open(&disk.0);
    let layout = dir.path().join("layout");
    let noise: Vec<u8> =
        (0_u32..12 << 20).map(|it| (it.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    write_layout(&layout, &[(Archive::default().file("big", &noise).end(), Packing::Gzip)]);
    let files = FolderFiles::new(&layout).expect("opened");
    let error = import(&store, &files, None).expect_err("it is full");
    assert!(error.is_full(), "{error}");
    let text = error.to_string();
    assert!(text.contains("unpack layer 1 of 1") && text.contains("free space"), "{text}");
    assert_no_trace(&store);
    let error = store.content().put(None, &mut &noise[..]).expect_err("it is full");
    assert!(error.is_full() && error.to_string().contains("free space"), "{error}");
    assert_no_trace(&store);
    // What fits still goes.
    let _ = fs::remove_dir_all(&layout);
    write_layout(&layout, &[(Archive::default().file("small", b"x").end(), Packing::Gzip)]);
    import(&store, &FolderFiles::new(&layout).expect("opened"), None).expect("there is space");
}
