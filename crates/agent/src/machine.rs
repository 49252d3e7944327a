//! What the machine has and is: the capacity and the labels of the node.

use spawnery_model::{Bytes, Capacity, CpuMillis};
use std::collections::BTreeMap;
use std::path::Path;

/// The share of the machine's memory that is not for instances but for the kernel, the agent and
/// whatever else runs: one sixteenth.
const RESERVE_SHARE: u64 = 16;

/// The least of that reserve: a kernel with a few services.
const RESERVE_MIN: Bytes = Bytes::mib(128);

/// The most of it: on large machines the rest of the system does not grow with the memory.
const RESERVE_MAX: Bytes = Bytes::mib(2048);

/// The machine does not say what it has.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// `/proc/meminfo` (`proc(5)`) has no total.
    #[error(
        "cannot find out how much memory this machine has: /proc/meminfo {reason}; give the \
         node's capacity by hand"
    )]
    Memory {
        /// What is wrong with it.
        reason: String,
    },
}

/// What a node's configuration says about its capacity; the machine says the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapacityGiven {
    /// Memory that instances may reserve together.
    pub memory: Option<Bytes>,
    /// Processor share that instances may reserve together.
    pub cpu: Option<CpuMillis>,
}

impl CapacityGiven {
    /// The capacity of this node.
    pub(crate) fn complete(self) -> Result<Capacity, MachineError> {
        if let (Some(memory), Some(cpu)) = (self.memory, self.cpu) {
            return Ok(Capacity { memory, cpu });
        }
        let own = capacity()?;
        Ok(Capacity { memory: self.memory.unwrap_or(own.memory), cpu: self.cpu.unwrap_or(own.cpu) })
    }
}

/// What this machine has for instances: all processors, and its memory but for a reserve. Where
/// this process may itself use only a part, of that part.
pub(crate) fn capacity() -> Result<Capacity, MachineError> {
    let wrong = |reason: String| MachineError::Memory { reason };
    let meminfo = std::fs::read_to_string("/proc/meminfo");
    let meminfo = meminfo.map_err(|error| wrong(format!("cannot be read ({error})")))?;
    let total = memory_total(&meminfo).ok_or_else(|| wrong("has no MemTotal".to_owned()))?;
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = memory_limit(Path::new("/sys/fs/cgroup"), &cgroups);
    let memory = limit.map_or(total, |limit| limit.min(total));
    // Knows of the affinity mask and of the quota of control groups, too.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = u32::try_from(cores).unwrap_or(u32::MAX);
    Ok(Capacity { memory: without_reserve(memory), cpu: CpuMillis(cores.saturating_mul(1000)) })
}

/// `given`, and what the machine says of itself where they leave it open.
pub(crate) fn labels(given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let mut labels = BTreeMap::from([
        ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
        ("os".to_owned(), std::env::consts::OS.to_owned()),
        ("hostname".to_owned(), text(uname.nodename())),
        ("kernel".to_owned(), text(uname.release())),
    ]);
    labels.extend(given.iter().map(|(key, value)| (key.clone(), value.clone())));
    labels
}

fn without_reserve(memory: Bytes) -> Bytes {
    let share = Bytes(memory.0 / RESERVE_SHARE).clamp(RESERVE_MIN, RESERVE_MAX);
    // On a tiny machine something must be left, too.
    Bytes(memory.0 - share.0.min(memory.0 / 2))
}

/// The line `MemTotal: N kB` of `/proc/meminfo`.
fn memory_total(meminfo: &str) -> Option<Bytes> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(kib.checked_mul(1024)?))
}

/// The least memory limit of the control groups that a process with these lines in
/// `/proc/PID/cgroup` (`cgroups(7)`) is in.
fn memory_limit(root: &Path, cgroups: &str) -> Option<Bytes> {
    let limits = cgroups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        let unified = controllers.is_empty();
        if unified {
            let unified_only = limit_above(root, group, "memory.max");
            return unified_only
                .or_else(|| limit_above(&root.join("unified"), group, "memory.max"));
        }
        let memory = controllers.split(',').any(|controller| controller == "memory");
        memory.then(|| limit_above(&root.join("memory"), group, "memory.limit_in_bytes"))?
    });
    limits.min()
}

/// The least limit in the files `name` of `group` and of all groups above it.
fn limit_above(root: &Path, group: &str, name: &str) -> Option<Bytes> {
    let group = root.join(group.trim_start_matches('/'));
    let groups = group.ancestors().take_while(|folder| folder.starts_with(root));
    let limits = groups.filter_map(|folder| {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse().ok().map(Bytes)
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something_for_instances() {
        let capacity = capacity().expect("it is Linux");
        assert!(capacity.memory.0 > 0 && capacity.cpu.0 >= 1000);
    }

    #[test]
    fn memory_total_is_read_or_missed() {
        let check = |text: &str, expected| assert_eq!(memory_total(text), expected, "{text}");
        check("MemTotal:       2048 kB\nMemFree: 1 kB\n", Some(Bytes::mib(2)));
        check("MemFree: 1 kB\n", None);
        check("MemTotal: many kB\n", None);
        check("MemTotal: 99999999999999999999 kB\n", None);
        check("", None);
    }

    #[test]
    fn a_part_of_the_memory_is_kept_back() {
        let check =
            |memory, left| assert_eq!(without_reserve(Bytes::mib(memory)), Bytes::mib(left));
        check(100, 50);
        check(512, 384);
        check(16 * 1024, 15 * 1024);
        check(1024 * 1024, 1022 * 1024);
    }

    #[test]
    fn the_least_limit_of_all_control_groups_counts() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write("memory/a/memory.limit_in_bytes", "2000\n");
        write("memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
        write("x/memory.max", "1000\n");
        write("x/y/memory.max", "max\n");
        let check = |cgroups: &str, expected: Option<u64>| {
            assert_eq!(memory_limit(root.path(), cgroups), expected.map(Bytes), "{cgroups}");
        };
        check("4:memory:/a/b\n3:cpu:/\n", Some(2000));
        check("4:cpu,memory:/a\n", Some(2000));
        check("0::/x/y\n", Some(1000));
        check("0::/x/y\n4:memory:/a\n", Some(1000));
        check("0::/\n", None);
        check("nonsense\n", None);
    }

    #[test]
    fn given_labels_win() {
        let given = BTreeMap::from([("os".to_owned(), "mine".to_owned())]);
        let labels = labels(&given);
        assert_eq!(labels["os"], "mine");
        assert_eq!(labels["arch"], std::env::consts::ARCH);
        assert!(labels.contains_key("hostname") && labels.contains_key("kernel"));
    }
}
