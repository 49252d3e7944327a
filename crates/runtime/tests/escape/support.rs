//! What the host of the suite and its tables ask for.

use std::path::Path;
use std::time::Duration;

/// Generous: a busy machine must not fail a test.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A user of the host without rights.
pub const PLAIN_USER: u32 = 61_234;

/// Whose launcher it is; both runtimes need one with root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)]
pub enum As {
    Us,
    PlainUser,
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says why a test is not run on this machine.
pub fn skip(reason: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

pub fn open_to_others(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("set");
}
