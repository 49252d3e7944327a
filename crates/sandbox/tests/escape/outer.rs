//! The outer limits of all attempts: what they can take of this machine at most, whatever a
//! sandbox fails to hold back. So a hole costs a failed test and nothing else.
//!
//! | of what | outer limit | by |
//! |---|---|---|
//! | time | [`TIME_MAX`] | an alarm of the world's first process, with which all others end |
//! | memory | [`MEMORY_BYTES_MAX`] for all, [`ADDRESSES_BYTES_MAX`] for each process | a control group; `RLIMIT_AS` |
//! | processes | [`PROCESSES_MAX`] for all | a control group; `RLIMIT_NPROC` |
//! | disk, inodes, logs | [`DISK_BYTES_MAX`] for all, [`FILE_BYTES_MAX`] for each file | a file system in an image, on which everything of the suite is; `RLIMIT_FSIZE` |
//! | open files | [`OPEN_FILES_MAX`] for each process | `RLIMIT_NOFILE` |
//!
//! Each is a multiple of what bombs take that get through, so that these are noticed by the suite
//! and not by the outer limit. Control groups are of either version. Where none can be made, as in
//! many containers, the limits of each process are what is left.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Far longer than a suite takes on a busy machine.
pub const TIME_MAX: Duration = Duration::from_secs(1200);
/// Bombs take up to 200 MB.
pub const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Of one process: programs reserve more than they use.
pub const ADDRESSES_BYTES_MAX: u64 = 4 << 30;
/// Bombs make up to 100, and one sandbox with all around it needs about 20.
pub const PROCESSES_MAX: u64 = 512;
/// A launcher's base takes 20 MB, a bomb 32 MB.
pub const DISK_BYTES_MAX: u64 = 256 << 20;
/// Of one file.
pub const FILE_BYTES_MAX: u64 = 128 << 20;
/// Bombs open up to 3,000.
pub const OPEN_FILES_MAX: u64 = 4096;

/// Time that the kernel gets to let go of groups.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// The outer limits that all processes and files of one world share. They go with it.
pub struct Outer {
    dir: tempfile::TempDir,
    name: String,
    /// A group in each hierarchy that limits memory or processes.
    groups: Vec<PathBuf>,
    /// The same for an engine, once one was asked for.
    of_engine: OnceCell<Vec<PathBuf>>,
}

impl Outer {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        open_to_all(dir.path());
        mount_small_disk(dir.path());
        open_to_all(&dir.path().join("disk"));
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("spawnery-escape-{}-{count}", std::process::id());
        let groups = make_groups(&name, false);
        Self { dir, name, groups, of_engine: OnceCell::new() }
    }

    /// A folder on the small file system, where everything of the suite belongs.
    pub fn disk(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Whether memory and processes are limited for all together.
    pub fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Files to which a process writes "0" to come under the limits, in a group of its own: a
    /// launcher makes further ones below. Joined by `:`.
    pub fn group(&self, name: &str) -> String {
        let files = self.groups.iter().map(|group| {
            let dir = group.join(name);
            make_dir(&dir);
            dir.join("cgroup.procs").to_string_lossy().into_owned()
        });
        files.collect::<Vec<_>>().join(":")
    }

    /// A group for the containers of an engine, which makes them anywhere but below its own: a
    /// path from the top of every hierarchy. `None` if none can be made.
    pub fn group_of_engine(&self) -> Option<String> {
        let name = format!("{}-engine", self.name);
        let groups = self.of_engine.get_or_init(|| make_groups(&name, true));
        (!groups.is_empty()).then(|| format!("/{name}"))
    }

    /// Words before a command that limit each of its processes.
    pub fn limits_of_each() -> Vec<String> {
        let limit = |name: &str, value: u64| format!("--{name}={value}:{value}");
        vec![
            "prlimit".to_owned(),
            limit("nofile", OPEN_FILES_MAX),
            limit("fsize", FILE_BYTES_MAX),
            limit("as", ADDRESSES_BYTES_MAX),
            limit("nproc", PROCESSES_MAX),
            "--core=unlimited:unlimited".to_owned(),
            "--".to_owned(),
        ]
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        let until = Instant::now() + GONE_WITHIN;
        let mut groups = self.groups.clone();
        if self.of_engine.get().is_some() {
            // An engine makes its group in all other hierarchies too.
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let points = mounts.lines().filter(|line| line.contains(" - cgroup"));
            let points = points.filter_map(|line| line.split(' ').nth(4));
            let name = format!("{}-engine", self.name);
            groups.extend(points.map(|point| Path::new(point).join(&name)));
        }
        for group in &groups {
            while !remove(group) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = Command::new("umount").arg("--lazy").arg(self.disk()).status();
    }
}

fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("set");
}

/// Only root can; so it is with the whole suite.
fn mount_small_disk(dir: &Path) {
    let (image, disk) = (dir.join("image"), dir.join("disk"));
    File::create(&image).and_then(|it| it.set_len(DISK_BYTES_MAX)).expect("made");
    fs::create_dir(&disk).expect("made");
    let run = |program: &str, arguments: &[&str], paths: &[&Path]| {
        let output = Command::new(program).args(arguments).args(paths).output().expect(program);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {error}");
    };
    // Enough inodes for a base, and for all the files that a bomb makes.
    run("/sbin/mkfs.ext4", &["-q", "-m", "0", "-i", "4096"], &[&image]);
    run("mount", &["-o", "loop"], &[&image, &disk]);
}

/// Makes a group in each hierarchy of control groups, and sets its limits.
fn make_groups(name: &str, at_top: bool) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read");
    let own = fs::read_to_string("/proc/self/cgroup").expect("read");
    let parents = mounts.lines().filter_map(|line| parent(line, &own, at_top));
    let groups = parents.map(|parent| parent.join(name));
    groups.filter(|group| fs::create_dir(group).is_ok() && limit(group)).collect()
}

/// Where a group can be made in the hierarchy that a line of mounts is about, if it limits memory
/// or processes: below our own group, or, in version 2, below the next one that passes these
/// controllers on, because a group with processes in it cannot (`cgroups(7)`).
fn parent(line: &str, own: &str, at_top: bool) -> Option<PathBuf> {
    let (left, right) = line.split_once(" - ")?;
    let (left, right): (Vec<_>, Vec<_>) = (left.split(' ').collect(), right.split(' ').collect());
    let is_second = right.first() == Some(&"cgroup2");
    let controller = ["memory", "pids"].into_iter().find(|name| {
        right.first() == Some(&"cgroup")
            && right.get(2).is_some_and(|it| it.split(',').any(|it| it == *name))
    });
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        let is_it = match controller {
            Some(controller) => names.split(',').any(|name| name == controller),
            None => is_second && names.is_empty(),
        };
        is_it.then_some(path)
    })?;
    let mount_point = Path::new(left.get(4)?);
    let below = Path::new(path).strip_prefix(left.get(3)?).ok()?;
    let dir = if at_top { mount_point.to_owned() } else { mount_point.join(below) };
    if !is_second {
        return Some(dir);
    }
    let passes_on = |dir: &&Path| {
        let passed = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
        ["memory", "pids"].iter().all(|name| passed.split_whitespace().any(|it| it == *name))
    };
    let up = dir.ancestors().take_while(|dir| dir.starts_with(mount_point));
    up.into_iter().find(passes_on).map(Path::to_owned)
}

/// Sets what this hierarchy can limit.
fn limit(group: &Path) -> bool {
    let set = |file: &str, value: &str| {
        let path = group.join(file);
        path.exists() && fs::write(path, value).is_ok()
    };
    let memory = MEMORY_BYTES_MAX.to_string();
    // Version 1: what is below counts too, which newer kernels always do; with swap together.
    set("memory.use_hierarchy", "1");
    let mut is_limited = set("memory.limit_in_bytes", &memory);
    set("memory.memsw.limit_in_bytes", &memory);
    is_limited |= set("memory.max", &memory);
    set("memory.swap.max", "0");
    is_limited |= set("pids.max", &PROCESSES_MAX.to_string());
    // Version 2: passed on to the groups of the launchers.
    for controller in ["+memory", "+pids", "+cpu"] {
        set("cgroup.subtree_control", controller);
    }
    is_limited
}

fn make_dir(dir: &Path) {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            panic!("{}: {error}", dir.display())
        }
        _ => {}
    }
}

/// Removes a group and those below, once nothing is in them.
fn remove(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}
