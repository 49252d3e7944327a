//! Terminals (`pty(7)`) of a sandbox's own `/dev/pts`.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::identity::Identity;
use crate::spec::WindowSize;
use crate::sys;

/// Makes a terminal that belongs to the user, so that programs can open it by its name too. Gives
/// the side of whoever watches it, and that of the process.
pub(super) fn make(size: WindowSize, identity: &Identity) -> io::Result<(OwnedFd, OwnedFd)> {
    // devpts(5) gives a new terminal to the user of the file system of whoever opens it.
    let own = identity.rootful.then(|| sys::set_fs_user(identity.user.uid));
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty());
    if let Some(before) = own {
        sys::set_fs_user(before);
    }
    let controller = opened?;
    unlockpt(&controller)?;
    // Not by its name, which is the sandbox's.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = ioctl_tiocgptpeer(&controller, flags)?;
    tcsetwinsize(&terminal, of_kernel(size))?;
    Ok((controller, terminal))
}

/// The size as the kernel has it.
pub(crate) fn of_kernel(size: WindowSize) -> Winsize {
    let WindowSize { columns, rows } = size;
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
