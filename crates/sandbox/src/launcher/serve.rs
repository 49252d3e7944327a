//! From a configuration to a launcher that serves.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use rustix::fs::Mode;

use super::core::{Launcher, now_ms};
use super::disk;
use super::quota::Projects;
use super::sandbox::Workshop;
use super::store::{INSTANCES_DIR, SPARES_DIR};
use super::trash::TRASH_DIR;
use super::{Config, SOCKET_NAME, ServeError, lock, make_data_dir};
use crate::cgroup::{self, Cgroups};
use crate::protections::{Protection, Protections};
use crate::{rootfs, seccomp, sys};

/// File that names the control groups of the launcher, for its successor to clean up.
const CGROUPS_FILE: &str = "cgroups";

/// Serves until a `Shutdown` or SIGTERM. The process must have one thread, because it forks
/// without running another program; it changes its working directory, umask, mount namespace
/// and signal mask, so nothing else should happen in it.
pub fn serve(config: Config) -> Result<(), ServeError> {
    serve_weakened(config, Protections::all())
}

/// The same with protections switched off: only for tests that want to see that somebody notices.
#[doc(hidden)]
pub fn serve_weakened(config: Config, protections: Protections) -> Result<(), ServeError> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(ServeError::Threads(threads));
    }
    let at = |step: &'static str| {
        let place = config.data.clone();
        move |error: io::Error| ServeError::Io { step, place, error }
    };
    rustix::process::umask(Mode::from_raw_mode(0o077));
    make_data_dir(&config.data).map_err(at("make the data folder"))?;
    let place = fs::canonicalize(&config.data).map_err(at("find the data folder"))?;
    let owner = fs::metadata(&place).map_err(at("look at the data folder"))?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return Err(ServeError::Owner(place));
    }
    std::env::set_current_dir(&place).map_err(at("enter the data folder"))?;
    let Some(lock) = lock().map_err(at("lock the data folder"))? else {
        return Err(ServeError::Busy(place));
    };
    if protections.has(Protection::SessionKeyring) {
        leave_session_keyring().map_err(at("leave the session keyring"))?;
    }
    let signals = sys::signal_fd(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
        .map_err(at("watch for signals"))?;
    sys::set_name(c"launcher");
    // Once for all the inits to come.
    sys::find_command_line();
    let name = format!("spawnery-{:08x}", crc32c::crc32c(place.as_os_str().as_encoded_bytes()));
    remove_old_groups();
    make_folders().map_err(at("make the folders of the instances"))?;
    let cgroups = Cgroups::detect(&name);
    save_groups(&cgroups).map_err(at("write down the control groups"))?;
    let workshop = Workshop {
        rootfs: rootfs::prepare(is_rootful(), protections)?,
        filter: seccomp::compile(protections)
            .map_err(|error| ServeError::Filter(error.to_string()))?,
        cgroups,
        images: disk::can_mount_images(is_rootful()),
        projects: Projects::probe(
            is_rootful(),
            crc32c::crc32c(place.as_os_str().as_encoded_bytes()),
        ),
        run_name: format!("{}-{}", now_ms(), std::process::id()),
    };
    let listener = listen().map_err(at("listen on the socket"))?;
    let mut launcher = Launcher::new(config.spares, config.resolvers, workshop, listener, signals)
        .map_err(at("watch the socket"))?;
    let result = launcher.serve();
    let _ = fs::remove_file(SOCKET_NAME);
    for dir in launcher.workshop.cgroups.dirs() {
        cgroup::remove_leftovers(dir);
    }
    drop(lock);
    result.map_err(at("wait for events"))
}

/// Takes an empty session keyring in the place of that of whoever started this, so that no sandbox
/// has the caller's keys even if it gets no keyring of its own.
fn leave_session_keyring() -> io::Result<()> {
    match sys::new_session_keyring() {
        // A kernel without keys.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        result => result,
    }
}

/// Whether the ids of sandboxes can be mapped to a range of their own.
pub(crate) fn is_rootful() -> bool {
    use rustix::thread::CapabilitySet;
    let needed = CapabilitySet::SYS_ADMIN
        | CapabilitySet::SETUID
        | CapabilitySet::SETGID
        | CapabilitySet::CHOWN;
    rustix::process::geteuid().is_root()
        && rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Removes the groups of an earlier launcher. Its sandboxes end when it ends, which may take
/// a moment; what is still busy after that is left to the next launcher.
fn remove_old_groups() {
    let dirs = fs::read_to_string(CGROUPS_FILE).unwrap_or_default();
    for _ in 0..50 {
        dirs.lines().for_each(|dir| cgroup::remove_leftovers(Path::new(dir)));
        if !dirs.lines().any(|dir| Path::new(dir).exists()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn save_groups(cgroups: &Cgroups) -> io::Result<()> {
    let mut text = String::new();
    for dir in cgroups.dirs() {
        text.push_str(&dir.to_string_lossy());
        text.push('\n');
    }
    fs::write(CGROUPS_FILE, text)
}

fn make_folders() -> io::Result<()> {
    fs::create_dir_all(TRASH_DIR)?;
    if Path::new(SPARES_DIR).exists() {
        fs::rename(SPARES_DIR, Path::new(TRASH_DIR).join(format!("spares-{}", now_ms())))?;
    }
    fs::create_dir_all(SPARES_DIR)?;
    fs::create_dir_all(INSTANCES_DIR)
}

fn listen() -> io::Result<UnixListener> {
    match fs::remove_file(SOCKET_NAME) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(SOCKET_NAME)?;
    fs::set_permissions(SOCKET_NAME, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
