//! The private network of sandboxes (`Network::Private`).
//!
//! A sandbox has an interface of its own, made by its init in its own network namespace. The
//! other end belongs to the *network process*: one for each launcher, its child, started at the
//! first use and again if it dies. It ends every connection of a sandbox in user space, asks the
//! policy, and goes on with an ordinary socket of the host. So nothing of the host's network is
//! changed, and it works without root.
//!
//! What does not belong to a connection goes nowhere: other protocols, fragments, packets with
//! another source, ARP. A refused TCP connection is reset and a refused datagram answered, so that
//! programs fail at once. The resolver at the gateway's address answers names that may be
//! resolved.
//!
//! The process has no privileges: with a launcher with root it has a user id of its own and no
//! capabilities, and in any case the system call filter of the workloads.

pub(crate) mod address;
pub(crate) mod device;
mod dns;
mod engine;
mod instance;
pub(crate) mod link;
mod names;
mod netlink;
mod packet;
pub(crate) mod policy;
mod port;
pub(crate) mod resolver;
mod tcp;
mod udp;

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::{FLOWS_OF_NODE_MAX, NETWORK_ID};
use crate::protections::Protections;
use crate::{seccomp, sys};

/// The first argument of the program when the launcher runs it as its network process.
pub const COMMAND: &str = "network";

/// Why the network process cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeNetworkError {
    /// Standard input is no socket of a launcher.
    #[error("the network process is run by a launcher, with a socket as standard input: {0}")]
    Socket(io::Error),
    /// A step of giving up privileges failed.
    #[error("the network process cannot {step}: {error}")]
    Restrict {
        /// What was being done.
        step: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The system call filter could not be built.
    #[error("{0}")]
    Filter(String),
    /// Waiting for packets failed.
    #[error("the network process cannot wait for packets: {0}")]
    Wait(io::Error),
}

/// Serves as the network process of the launcher at the other end of standard input, until that
/// ends. Gives up all privileges first.
pub fn serve() -> Result<(), ServeNetworkError> {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .map_err(|error| ServeNetworkError::Socket(error.into()))?;
    rustix::net::sockopt::socket_type(&control)
        .map_err(|error| ServeNetworkError::Socket(error.into()))?;
    restrict()?;
    engine::Engine::new(control)
        .and_then(|mut engine| engine.serve())
        .map_err(ServeNetworkError::Wait)
}

/// Becomes nobody, with room for all connections.
fn restrict() -> Result<(), ServeNetworkError> {
    let at = |step| move |error| ServeNetworkError::Restrict { step, error };
    sys::set_name(c"network");
    let files = getrlimit(Resource::Nofile);
    let wanted = FLOWS_OF_NODE_MAX as u64 * 2;
    let current = files.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let limit = Rlimit { current: Some(current), maximum: files.maximum };
    setrlimit(Resource::Nofile, limit)
        .map_err(|error| at("raise its limit of files")(error.into()))?;
    if rustix::process::geteuid().is_root() && crate::launcher::is_rootful() {
        for capability in 0..64 {
            if sys::prctl(libc::PR_CAPBSET_DROP, capability).is_err() {
                break;
            }
        }
        sys::set_ids(NETWORK_ID, NETWORK_ID, &[]).map_err(at("become another user"))?;
    }
    sys::set_capabilities(0).map_err(at("drop its capabilities"))?;
    // After the change of ids, which clears it.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| at("end with the launcher")(error.into()))?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0).map_err(at("forbid core dumps"))?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(at("forbid new privileges"))?;
    let filter = seccomp::compile(Protections::all())
        .map_err(|error| ServeNetworkError::Filter(error.to_string()))?;
    sys::set_seccomp(&filter).map_err(at("install the seccomp filter"))
}
