//! Layers that tests make.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use spawnery_sandbox::limits::HOST_ID_BASE;
use spawnery_sandbox::spec::RootSpec;

use super::{As, PLAIN_USER, is_root};

/// Programs of the smallest layer, all of them busybox.
const PROGRAMS: &[&str] = &[
    "cat", "chmod", "chown", "cp", "dd", "df", "du", "echo", "env", "grep", "head", "hostname",
    "id", "ls", "mkdir", "mkfifo", "mknod", "mount", "mv", "readlink", "rm", "rmdir", "seq", "sh",
    "sleep", "sort", "stat", "su", "sync", "touch", "tr", "true", "umount", "wc",
];

/// A folder of layers for one launcher.
pub struct Layers {
    dir: tempfile::TempDir,
    whose: As,
}

impl Layers {
    pub fn new(whose: As) -> Self {
        Self::in_folder(tempfile::tempdir().expect("a temporary folder"), whose)
    }

    pub fn in_folder(dir: tempfile::TempDir, whose: As) -> Self {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("set");
        Self { dir, whose }
    }

    /// Where the layers are.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a layer: `fill` gets its folder, with a folder `root`.
    pub fn add(&self, name: &str, fill: impl FnOnce(&Path)) -> String {
        let layer = self.dir.path().join(name);
        fs::create_dir_all(layer.join("root")).expect("made");
        fill(&layer);
        own(&layer, self.owner());
        layer.to_string_lossy().into_owned()
    }

    /// The smallest root in which a shell runs.
    pub fn minimal(&self, fill: impl FnOnce(&Path)) -> String {
        self.add("minimal", |layer| {
            let bin = layer.join("root/bin");
            fs::create_dir(&bin).expect("made");
            fs::copy("/usr/bin/busybox", bin.join("busybox"))
                .expect("copied; busybox-static is among the packages of the tests");
            for program in PROGRAMS {
                symlink("busybox", bin.join(program)).expect("linked");
            }
            fill(layer);
        })
    }

    /// The id on the host of user 0 inside.
    pub fn owner(&self) -> u32 {
        match self.whose {
            As::PlainUser => PLAIN_USER,
            As::Us if is_root() => HOST_ID_BASE,
            As::Us => rustix::process::geteuid().as_raw(),
        }
    }
}

/// Writes a file, and the folders above it.
pub fn put(layer: &Path, path: &str, text: &str) -> PathBuf {
    let file = layer.join(path);
    fs::create_dir_all(file.parent().expect("not the root")).expect("made");
    fs::write(&file, text).expect("written");
    file
}

/// A root of its own of these layers, the topmost first.
pub fn of(layers: &[&String]) -> Option<RootSpec> {
    let layers = layers.iter().map(|layer| (*layer).clone()).collect();
    Some(RootSpec { layers, host: false })
}

/// The same over the view of the host.
pub fn over_host(layers: &[&String]) -> Option<RootSpec> {
    of(layers).map(|root| RootSpec { host: true, ..root })
}

/// Gives everything to one owner.
pub fn own(path: &Path, owner: u32) {
    lchown(path, Some(owner), Some(owner)).expect("given");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("listed") {
            own(&entry.expect("an entry").path(), owner);
        }
    }
}
