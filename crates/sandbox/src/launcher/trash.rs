//! Folders that are to go, and the process that removes them.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::core::{Launcher, Source, epoll_add, now_ms};
use super::sandbox::{kill, reap};
use super::store;
use crate::cgroup::Group;
use crate::sys;

/// Folder of what is being deleted.
pub(super) const TRASH_DIR: &str = "trash";
/// Pause before the trash is emptied, so that one process empties it for many.
const SWEEP_AFTER: Duration = Duration::from_millis(100);

/// How often that is put off while starts are under way: removing and making files slow each
/// other down, most of all on ext4, which looks for inodes that were not in use lately.
const SWEEPS_PUT_OFF_MAX: u32 = 20;
/// Pause after the last activity before what is left of ended sandboxes is ended.
const HUSKS_AFTER: Duration = Duration::from_millis(3);
/// When activity never pauses, it is ended nevertheless after this.
const HUSKS_AFTER_MAX: Duration = Duration::from_millis(500);
/// How many are ended at once: that takes the kernel some milliseconds, in which somebody may
/// want to start.
const HUSKS_AT_ONCE: usize = 4;

impl Launcher {
    /// When sandboxes in which nothing runs any more are to be ended.
    pub(super) fn husks_due(&self) -> Option<Instant> {
        let latest = self.husks_since? + HUSKS_AFTER_MAX;
        let calm = self.starting.is_empty() && self.last_start.is_none();
        let soon = (self.last_activity + HUSKS_AFTER).min(latest);
        (!self.husks.is_empty()).then_some(if calm { soon } else { latest })
    }

    /// Ends some of them, if it is time. Their folders and groups follow when they are gone.
    pub(super) fn end_husks(&mut self) {
        let now = Instant::now();
        if self.husks_due().is_none_or(|due| due > now) {
            return;
        }
        for number in self.husks.drain(..HUSKS_AT_ONCE.min(self.husks.len())) {
            if let Some(sandbox) = self.sandboxes.get(&number) {
                let _ = kill(&sandbox.init);
            }
        }
        self.last_activity = now;
        self.husks_since = (!self.husks.is_empty()).then_some(now);
    }

    /// Moves a folder to the trash, which another process empties.
    pub(super) fn discard(&mut self, dir: &Path) {
        if let Some(projects) = &self.workshop.projects {
            projects.release(&dir.join("layer"));
        }
        let name = format!("{}-{}", now_ms(), self.token());
        if fs::rename(dir, Path::new(TRASH_DIR).join(name)).is_ok() {
            self.sweep_at.get_or_insert(Instant::now() + SWEEP_AFTER);
        }
    }

    /// Leaves the control groups of an ended sandbox to be removed.
    pub(super) fn discard_group(&mut self, group: Group) {
        self.old_groups.push(group);
        self.sweep_at.get_or_insert(Instant::now() + SWEEP_AFTER);
    }

    pub(super) fn sweep_when_calm(&mut self, now: Instant) {
        if !self.starting.is_empty() && self.sweeps_put_off < SWEEPS_PUT_OFF_MAX {
            self.sweeps_put_off += 1;
            self.sweep_at = Some(now + SWEEP_AFTER);
            return;
        }
        (self.sweep_at, self.sweeps_put_off) = (None, 0);
        self.sweep();
    }

    /// Empties the trash in a process of its own, because that can take long.
    fn sweep(&mut self) {
        let trash: Vec<PathBuf> =
            fs::read_dir(TRASH_DIR).into_iter().flatten().flatten().map(|it| it.path()).collect();
        if trash.is_empty() && self.old_groups.is_empty() {
            return;
        }
        let groups = std::mem::take(&mut self.old_groups);
        match sys::clone_process(0, None) {
            Ok(sys::Cloned::Child) => {
                sys::close_except(&[]);
                sys::reset_signals();
                // What runs comes first; without the right to this, it goes on as it is.
                let _ = rustix::process::setpriority_process(None, 19);
                groups.iter().for_each(Group::remove);
                for dir in trash {
                    let _ = store::remove(&dir);
                }
                sys::exit_now(0)
            }
            Ok(sys::Cloned::Parent { pidfd, .. }) => {
                let token = self.token();
                let _ = epoll_add(&self.epoll, pidfd.as_fd(), token);
                self.sources.insert(token, Source::Sweeper);
                self.sweeper = Some((token, pidfd));
            }
            // It is tried again with the next piece of trash, or by the next launcher.
            Err(_) => self.old_groups = groups,
        }
    }

    pub(super) fn swept(&mut self, token: u64) {
        self.sources.remove(&token);
        if let Some((_, pidfd)) = self.sweeper.take() {
            let _ = epoll::delete(&self.epoll, &pidfd);
            let _ = reap(&pidfd);
        }
    }
}
