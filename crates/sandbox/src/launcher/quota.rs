//! The limit of what a private layer may hold, by project quota: where the file system of the data
//! folder has that, each layer is a project of its own, and the kernel holds its limits.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use crate::limits::{
    DISK_BYTES_PER_INODE, DISK_FULL_BYTES, DISK_INODES_MIN, PROJECT_IDS_COUNT, PROJECT_IDS_FIRST,
    PROJECT_TRIES_MAX,
};
use crate::sys;

/// Folder on which it is tried out.
const PROBE_DIR: &str = "quota-probe";

/// Bytes of a block of a quota (`quotactl(2)`).
const BLOCK_BYTES: u64 = 1024;

/// Where projects are, which nobody else's quota is for.
#[derive(Debug)]
pub(crate) struct Projects {
    /// The data folder, by which the kernel finds the file system.
    data: File,
    /// The project to try next, counted from the first of the range.
    next: u32,
}

impl Projects {
    /// Tries, in the current folder, whether layers can have quotas that are held. `seed` makes
    /// launchers begin at different projects.
    pub(crate) fn probe(rootful: bool, seed: u32) -> Option<Self> {
        if !rootful {
            return None;
        }
        let mut projects = Self { data: File::open(".").ok()?, next: seed % PROJECT_IDS_COUNT };
        let dir = Path::new(PROBE_DIR);
        let _ = fs::remove_dir(dir);
        fs::create_dir(dir).ok()?;
        let held = projects.try_out(dir);
        projects.release(dir);
        let _ = fs::remove_dir(dir);
        held.ok()?.then_some(projects)
    }

    /// Whether a limit is held. A file system may count without holding limits; where it holds
    /// them, a folder appears to be as large as its limit (`statfs(2)`).
    fn try_out(&mut self, dir: &Path) -> io::Result<bool> {
        const BYTES: u64 = 3 << 20;
        let project = self.assign(dir)?;
        self.limit(project, BYTES)?;
        let seen = rustix::fs::statfs(dir)?;
        let bytes = seen.f_blocks.saturating_mul(seen.f_bsize as u64);
        Ok(bytes == BYTES && seen.f_files == inodes_max(BYTES))
    }

    /// Makes an empty folder a project that nothing else belongs to.
    pub(crate) fn assign(&mut self, dir: &Path) -> io::Result<u32> {
        let folder = File::open(dir)?;
        for _ in 0..PROJECT_TRIES_MAX {
            let project = PROJECT_IDS_FIRST + self.next;
            self.next = (self.next + 1) % PROJECT_IDS_COUNT;
            if self.holds(project)? != Holds::default() {
                continue;
            }
            sys::set_inherited_project(folder.as_fd(), project)?;
            // Another launcher may have had the same idea; then both look for another.
            if self.holds(project)?.inodes == 1 {
                return Ok(project);
            }
        }
        Err(io::Error::other("no project id of the range is free"))
    }

    /// Sets what the layer may hold.
    pub(crate) fn limit(&self, project: u32, bytes_max: u64) -> io::Result<()> {
        let blocks_max = bytes_max / BLOCK_BYTES;
        sys::set_project_quota(self.data.as_fd(), project, blocks_max, inodes_max(bytes_max))
    }

    /// Whether the layer has no space left, for data or for files.
    pub(crate) fn is_full(&self, project: u32) -> bool {
        self.holds(project).is_ok_and(|it| {
            let bytes_max = it.blocks_max.saturating_mul(BLOCK_BYTES);
            let full = it.bytes.saturating_add(DISK_FULL_BYTES) > bytes_max;
            (bytes_max > 0 && full) || (it.inodes_max > 0 && it.inodes >= it.inodes_max)
        })
    }

    /// Takes the limits from a folder that is to go. Its project is free when nothing belongs to
    /// it any more. What a folder is, the file system knows, so nothing is forgotten by a crash.
    pub(crate) fn release(&self, dir: &Path) {
        let range = PROJECT_IDS_FIRST..PROJECT_IDS_FIRST + PROJECT_IDS_COUNT;
        let project = File::open(dir).and_then(|dir| sys::inherited_project(dir.as_fd()));
        if let Some(project) = project.ok().flatten().filter(|it| range.contains(it)) {
            // What stays is a limit for a project that nobody uses.
            let _ = sys::set_project_quota(self.data.as_fd(), project, 0, 0);
        }
    }

    fn holds(&self, project: u32) -> io::Result<Holds> {
        match sys::project_quota(self.data.as_fd(), project) {
            Ok(quota) => Ok(Holds {
                blocks_max: quota.dqb_bhardlimit,
                bytes: quota.dqb_curspace,
                inodes_max: quota.dqb_ihardlimit,
                inodes: quota.dqb_curinodes,
            }),
            // XFS says so of projects that it has never seen.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Holds::default()),
            Err(error) => Err(error),
        }
    }
}

/// Limits and usage of a project; without limits they are 0.
#[derive(Debug, Default, PartialEq, Eq)]
struct Holds {
    blocks_max: u64,
    bytes: u64,
    inodes_max: u64,
    inodes: u64,
}

/// Files and folders that a layer of this size may hold.
fn inodes_max(bytes_max: u64) -> u64 {
    (bytes_max / DISK_BYTES_PER_INODE).max(DISK_INODES_MIN)
}
