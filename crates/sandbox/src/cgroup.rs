//! Control groups: version 2, version 1 one hierarchy a controller, or both mixed.
//!
//! Groups are made below the launcher's own group, in a folder that is named after the data
//! folder, so that a later launcher finds and removes what an earlier one left.
//! See `cgroups(7)` and the kernel's `cgroup-v1` and `cgroup-v2` documents.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::protections::{Protection, Protections};
use crate::protocol::Usage;

/// What a hierarchy can do for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    Memory,
    Pids,
    Cpu,
    CpuAccounting,
}

const CONTROLLERS: [(Controller, &str); 4] = [
    (Controller::Memory, "memory"),
    (Controller::Pids, "pids"),
    (Controller::Cpu, "cpu"),
    (Controller::CpuAccounting, "cpuacct"),
];

/// One mounted hierarchy in which groups can be made.
#[derive(Debug, Clone)]
struct Hierarchy {
    /// The folder in which groups are made.
    dir: PathBuf,
    version: u8,
    controllers: BTreeSet<Controller>,
}

/// All hierarchies in which this launcher can make groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
}

/// The groups of one sandbox: a folder in each hierarchy.
#[derive(Debug)]
pub(crate) struct Group {
    name: String,
    hierarchies: Vec<Hierarchy>,
}

/// Limits to set; `None` is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpu_millis_max: Option<u32>,
    pub(crate) pids_max: Option<u32>,
}

impl Limits {
    /// Without those that a test has switched off.
    pub(crate) fn weakened(mut self, protections: Protections) -> Self {
        self.memory_bytes = self.memory_bytes.filter(|_| protections.has(Protection::MemoryLimit));
        self.cpu_millis_max = self.cpu_millis_max.filter(|_| protections.has(Protection::CpuLimit));
        self.pids_max = self.pids_max.filter(|_| protections.has(Protection::PidsLimit));
        self
    }
}

impl Cgroups {
    /// Finds the hierarchies and makes a folder `name` in each that can be written.
    pub(crate) fn detect(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let hierarchies = own_groups(&mounts, &own)
            .into_iter()
            .filter_map(|own| open_hierarchy(&own, name))
            .filter(|hierarchy| !hierarchy.controllers.is_empty())
            .collect();
        Self { hierarchies }
    }

    /// Whether `controller` limits or accounts for groups.
    pub(crate) fn has(&self, controller: Controller) -> bool {
        self.hierarchies.iter().any(|hierarchy| hierarchy.controllers.contains(&controller))
    }

    /// The folders in which groups are made, for a later launcher to clean up.
    pub(crate) fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.hierarchies.iter().map(|hierarchy| hierarchy.dir.as_path())
    }

    /// The controllers with their versions, such as `memory (v2)`.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (controller, name) in CONTROLLERS {
            let found = self.hierarchies.iter().find(|it| it.controllers.contains(&controller));
            words.extend(found.map(|hierarchy| format!("{name} (v{})", hierarchy.version)));
        }
        words
    }

    /// Makes the groups `name`.
    pub(crate) fn create(&self, name: &str) -> io::Result<Group> {
        let group = Group { name: name.to_owned(), hierarchies: self.hierarchies.clone() };
        for dir in group.dirs() {
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    group.remove();
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(group)
    }
}

impl Group {
    fn dirs(&self) -> impl Iterator<Item = PathBuf> {
        self.hierarchies.iter().map(|hierarchy| hierarchy.dir.join(&self.name))
    }

    fn dir(&self, controller: Controller) -> Option<(PathBuf, u8)> {
        let hierarchy = self.hierarchies.iter().find(|h| h.controllers.contains(&controller))?;
        Some((hierarchy.dir.join(&self.name), hierarchy.version))
    }

    /// The version 2 group, for `CLONE_INTO_CGROUP`.
    pub(crate) fn unified(&self) -> Option<io::Result<OwnedFd>> {
        let hierarchy = self.hierarchies.iter().find(|hierarchy| hierarchy.version == 2)?;
        Some(File::open(hierarchy.dir.join(&self.name)).map(OwnedFd::from))
    }

    /// Files to which a process writes "0" to join: all hierarchies of version 1, and of
    /// version 2 if `with_unified`. Opened by the launcher, because it is the opener whose
    /// rights count.
    pub(crate) fn join_files(&self, with_unified: bool) -> io::Result<Vec<OwnedFd>> {
        self.hierarchies
            .iter()
            .filter(|hierarchy| hierarchy.version == 1 || with_unified)
            .map(|hierarchy| {
                let path = hierarchy.dir.join(&self.name).join("cgroup.procs");
                File::options().write(true).open(path).map(OwnedFd::from)
            })
            .collect()
    }

    /// Sets the limits. A limit without a controller is not an error: the caller asks
    /// [`Cgroups::has`] and limits in another way.
    pub(crate) fn set_limits(&self, limits: Limits) -> io::Result<()> {
        if let (Some(bytes), Some((dir, version))) =
            (limits.memory_bytes, self.dir(Controller::Memory))
        {
            set_memory(&dir, version, bytes)?;
        }
        if let (Some(pids), Some((dir, _))) = (limits.pids_max, self.dir(Controller::Pids)) {
            // One more for the init of the sandbox.
            write(&dir, "pids.max", &(u64::from(pids) + 1).to_string())?;
        }
        if let (Some(millis), Some((dir, version))) =
            (limits.cpu_millis_max, self.dir(Controller::Cpu))
        {
            set_cpu(&dir, version, millis)?;
        }
        Ok(())
    }

    /// How many processes were killed because the memory was used up.
    pub(crate) fn oom_kills(&self) -> u64 {
        let Some((dir, version)) = self.dir(Controller::Memory) else {
            return 0;
        };
        let file = if version == 1 { "memory.oom_control" } else { "memory.events" };
        field(&dir.join(file), "oom_kill").unwrap_or(0)
    }

    /// What the group uses now, without the init of the sandbox where that can be told apart.
    pub(crate) fn usage(&self) -> Usage {
        let memory_bytes = self.dir(Controller::Memory).and_then(|(dir, version)| {
            let name = if version == 1 { "memory.usage_in_bytes" } else { "memory.current" };
            number(&dir.join(name))
        });
        let pids = self
            .dir(Controller::Pids)
            .and_then(|(dir, _)| number(&dir.join("pids.current")))
            .map(|pids| pids.saturating_sub(1));
        let cpu_usec = self.dir(Controller::CpuAccounting).and_then(|(dir, version)| {
            if version == 1 {
                number(&dir.join("cpuacct.usage")).map(|nanoseconds| nanoseconds / 1000)
            } else {
                field(&dir.join("cpu.stat"), "usage_usec")
            }
        });
        Usage { memory_bytes, cpu_usec, pids, ..Usage::default() }
    }

    /// Removes the groups. One in which something still runs stays, for the next launcher.
    pub(crate) fn remove(&self) {
        self.dirs().for_each(|dir| remove_group(&dir));
    }
}

/// The groups that a process is in, whoever made them.
pub(crate) fn groups_of(pid: u32) -> Group {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let hierarchy = |own: OwnGroup| {
        let there = |file: &str| own.dir.join(file).exists();
        let controllers = match own.version {
            1 => own.controllers,
            _ => [
                (Controller::Memory, "memory.current"),
                (Controller::Pids, "pids.current"),
                (Controller::CpuAccounting, "cpu.stat"),
            ]
            .into_iter()
            .filter(|(_, file)| there(file))
            .map(|(controller, _)| controller)
            .collect(),
        };
        Hierarchy { dir: own.dir, version: own.version, controllers }
    };
    let mut hierarchies: Vec<_> = own_groups(&mounts, &own).into_iter().map(hierarchy).collect();
    // The unified hierarchy has figures of its own only where nothing is left to version 1.
    hierarchies.sort_by_key(|hierarchy| hierarchy.version);
    Group { name: String::new(), hierarchies }
}

/// What the groups use that a process is in.
pub(crate) fn usage_of(pid: u32) -> Usage {
    let usage = groups_of(pid).usage();
    // There is no init of ours among them.
    Usage { pids: usage.pids.map(|pids| pids + 1), ..usage }
}

/// Removes all groups in `dir`, which an earlier launcher made, and `dir` itself.
pub(crate) fn remove_leftovers(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    remove_group(dir);
}

fn remove_group(dir: &Path) {
    // A tool makes groups in its own.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

fn set_memory(dir: &Path, version: u8, bytes: u64) -> io::Result<()> {
    let bytes = bytes.to_string();
    if version == 1 {
        write(dir, "memory.limit_in_bytes", &bytes)?;
        // Memory and swap together: no more than memory alone. Missing without swap accounting.
        write_if_there(dir, "memory.memsw.limit_in_bytes", &bytes)
    } else {
        write(dir, "memory.max", &bytes)?;
        write_if_there(dir, "memory.swap.max", "0")
    }
}

fn set_cpu(dir: &Path, version: u8, millis: u32) -> io::Result<()> {
    const PERIOD_USEC: u64 = 100_000;
    /// The kernel accepts no less (`min_cfs_quota_period`).
    const QUOTA_USEC_MIN: u64 = 1_000;
    let quota = (u64::from(millis) * PERIOD_USEC / 1000).max(QUOTA_USEC_MIN);
    if version == 1 {
        write(dir, "cpu.cfs_period_us", &PERIOD_USEC.to_string())?;
        write(dir, "cpu.cfs_quota_us", &quota.to_string())
    } else {
        write(dir, "cpu.max", &format!("{quota} {PERIOD_USEC}"))
    }
}

/// Where this process is in one hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct OwnGroup {
    dir: PathBuf,
    version: u8,
    controllers: BTreeSet<Controller>,
}

/// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn own_groups(mounts: &str, own: &str) -> Vec<OwnGroup> {
    let mut groups = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (Some(root), Some(mount_point)) = (left.get(3), left.get(4)) else {
            continue;
        };
        let (version, names) = match (right.first(), right.get(2)) {
            (Some(&"cgroup"), Some(options)) => (1, options.split(',').collect::<Vec<_>>()),
            (Some(&"cgroup2"), _) => (2, Vec::new()),
            _ => continue,
        };
        let Some(path) = own_path(own, version, &names) else {
            continue;
        };
        let Ok(below) = Path::new(path).strip_prefix(root) else {
            continue;
        };
        let dir = Path::new(mount_point).join(below);
        let controllers = CONTROLLERS
            .into_iter()
            .filter(|(_, name)| names.contains(name))
            .map(|(controller, _)| controller)
            .collect();
        groups.push(OwnGroup { dir, version, controllers });
    }
    groups
}

/// The path of this process in the hierarchy with the given controllers.
fn own_path<'a>(own: &'a str, version: u8, names: &[&str]) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, list, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = if version == 2 {
            number == "0"
        } else {
            !list.is_empty() && list.split(',').all(|name| names.contains(&name))
        };
        ours.then_some(path)
    })
}

fn open_hierarchy(own: &OwnGroup, name: &str) -> Option<Hierarchy> {
    let controllers = if own.version == 2 {
        delegate(&own.dir, name)?
    } else if own.controllers.is_empty() {
        return None;
    } else {
        own.controllers.clone()
    };
    let dir = own.dir.join(name);
    make_dir(&dir).ok()?;
    if own.version == 2 && !controllers.is_empty() {
        enable(&dir, &controllers).ok()?;
    }
    // A folder that we may make but not use, as when the group belongs to another user.
    File::options().write(true).open(dir.join("cgroup.procs")).ok()?;
    Some(Hierarchy { dir, version: own.version, controllers })
}

/// Turns on, for the children of our version 2 group, those controllers that it has. A group
/// with processes may not do so (unless it is the root), hence we move out of the way first.
fn delegate(own: &Path, name: &str) -> Option<BTreeSet<Controller>> {
    let offered = fs::read_to_string(own.join("cgroup.controllers")).ok()?;
    let mut wanted: BTreeSet<Controller> = CONTROLLERS
        .into_iter()
        .filter(|(_, name)| offered.split_ascii_whitespace().any(|offered| offered == *name))
        .map(|(controller, _)| controller)
        .collect();
    if wanted.is_empty() {
        return Some(wanted);
    }
    if enable(own, &wanted).is_err() {
        let leaf = own.join(format!("{name}-launcher"));
        make_dir(&leaf).ok()?;
        write(&leaf, "cgroup.procs", "0").ok()?;
        enable(own, &wanted).ok()?;
    }
    // cpu.stat accounts in every group of version 2.
    wanted.insert(Controller::CpuAccounting);
    Some(wanted)
}

fn enable(dir: &Path, controllers: &BTreeSet<Controller>) -> io::Result<()> {
    let words: Vec<String> = CONTROLLERS
        .into_iter()
        .filter(|(it, _)| controllers.contains(it) && *it != Controller::CpuAccounting)
        .map(|(_, name)| format!("+{name}"))
        .collect();
    write(dir, "cgroup.subtree_control", &words.join(" "))
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn write(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    fs::write(dir.join(file), value)
        .map_err(|error| io::Error::new(error.kind(), format!("{file} = {value}: {error}")))
}

fn write_if_there(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    if dir.join(file).exists() { write(dir, file, value) } else { Ok(()) }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mounts: &str, own: &str, expected: &[(&str, u8, &[Controller])]) {
        let expected: Vec<OwnGroup> = expected
            .iter()
            .map(|(dir, version, controllers)| OwnGroup {
                dir: dir.into(),
                version: *version,
                controllers: controllers.iter().copied().collect(),
            })
            .collect();
        assert_eq!(own_groups(mounts, own), expected);
    }

    #[test]
    fn version_two_alone() {
        check(
            "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate",
            "0::/user.slice/user-1000.slice",
            &[("/sys/fs/cgroup/user.slice/user-1000.slice", 2, &[])],
        );
    }

    #[test]
    fn version_one_with_controllers_mounted_together() {
        check(
            "31 20 0:27 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             32 20 0:28 / /cg/memory rw - cgroup cgroup rw,memory\n\
             33 20 0:29 / /cg/systemd rw - cgroup cgroup rw,xattr,name=systemd",
            "4:memory:/a\n3:cpu,cpuacct:/b\n1:name=systemd:/c\n",
            &[
                ("/cg/cpu,cpuacct/b", 1, &[Controller::Cpu, Controller::CpuAccounting]),
                ("/cg/memory/a", 1, &[Controller::Memory]),
                ("/cg/systemd/c", 1, &[]),
            ],
        );
    }

    #[test]
    fn a_mount_of_a_part_is_followed_only_if_we_are_in_it() {
        let mounts = "31 20 0:27 /docker/x /cg/memory rw - cgroup cgroup rw,memory";
        check(mounts, "4:memory:/docker/x/y", &[("/cg/memory/y", 1, &[Controller::Memory])]);
        check(mounts, "4:memory:/elsewhere", &[]);
    }

    #[test]
    fn rubbish_gives_no_groups() {
        check("x\n - \n1 2 - cgroup\n", "::\n\n4:", &[]);
    }
}
