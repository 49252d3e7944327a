//! The memory of a process tree, for machines where no control group limits it.

use std::fs;

/// Bytes of memory that a tree of processes uses: the proportional set size where it may be
/// read, else resident memory without what is shared. Both are approximate, and neither sees
/// files in `/tmp` that no process maps.
pub(crate) fn tree_memory_bytes(root: u32) -> u64 {
    let mut total = 0;
    let mut waiting = vec![root];
    while let Some(pid) = waiting.pop() {
        total += memory_bytes(pid);
        waiting.extend(children(pid));
    }
    total
}

fn children(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    children
}

fn memory_bytes(pid: u32) -> u64 {
    let pss = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    if let Some(kib) = pss {
        return kib * 1024;
    }
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let mut fields = statm.split(' ').skip(1).filter_map(|field| field.parse::<u64>().ok());
    let (resident, shared) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
    resident.saturating_sub(shared) * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_memory_is_seen() {
        assert!(tree_memory_bytes(std::process::id()) > 100 * 1024);
        assert_eq!(tree_memory_bytes(0), 0);
    }
}
