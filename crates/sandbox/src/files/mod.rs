//! Files of a sandbox, read and written from outside.
//!
//! For each request a small process is made inside: in the sandbox's mount namespace, with its root,
//! as its user and under its system call filter. So it is the kernel that resolves each path, with
//! what the sandbox's user may do, and nothing of the host can be named. It holds a copy of the
//! launcher's memory, hence the one rule of its own: nothing of `/proc` is read.

mod archive;
mod place;
pub mod protocol;
mod serve;
mod watch;
mod write;

pub(crate) use serve::serve;
