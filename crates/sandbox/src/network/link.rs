//! What the launcher and the network process say to each other, over a socket pair that keeps
//! messages apart. Both ends are always of the same binary, so there is no version.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use minicbor::{Decode, Encode};

use super::device::Framing;
use crate::fd_passing::{recv_with_fds, send_with_fds};
use crate::limits::{EGRESS_NAMES_MAX, EGRESS_RULES_MAX, FLOWS_MAX};
use crate::spec::EgressSpec;

/// Largest message: the most rules, names and connections, with the text of each at its longest.
const MESSAGE_BYTES_MAX: usize =
    EGRESS_RULES_MAX * 64 + EGRESS_NAMES_MAX * 260 + FLOWS_MAX * 128 + 4096;

/// From the launcher to the network process.
#[derive(Debug, Encode, Decode)]
pub(crate) enum ToNetwork {
    /// Carry the packets of a sandbox, whose device is attached.
    #[n(0)]
    Add(#[n(0)] Member),
    /// The sandbox has ended.
    #[n(1)]
    Remove {
        #[n(0)]
        number: u64,
    },
}

/// A sandbox with a private network.
#[derive(Debug, Clone, Encode, Decode)]
pub(crate) struct Member {
    /// The launcher's number for it.
    #[n(0)]
    pub(crate) number: u64,
    /// Whether its packets have an Ethernet header.
    #[n(1)]
    pub(crate) ethernet: bool,
    #[n(2)]
    pub(crate) egress: EgressSpec,
    /// Addresses and ports of the resolvers to ask.
    #[n(3)]
    pub(crate) resolvers: Vec<String>,
    /// Whether those are the host's, which may have others later.
    #[n(6)]
    pub(crate) follows_host: bool,
    #[n(4)]
    pub(crate) transfer: Transfer,
    /// Its TCP connections that an earlier network process carried, and nobody can any more.
    #[n(5)]
    pub(crate) orphans: Vec<Orphan>,
}

/// A TCP connection that has lost its other end.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Orphan {
    /// Address and port of the sandbox.
    #[n(0)]
    pub(crate) guest: String,
    /// Those of the remote machine.
    #[n(1)]
    pub(crate) remote: String,
}

impl Member {
    pub(crate) fn framing(&self) -> Framing {
        if self.ethernet { Framing::Ethernet } else { Framing::Bare }
    }
}

/// Bytes of IP packets, with their headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct Transfer {
    /// To the sandbox.
    #[n(0)]
    pub(crate) in_bytes: u64,
    /// From the sandbox.
    #[n(1)]
    pub(crate) out_bytes: u64,
}

/// From the network process to the launcher.
#[derive(Debug, Encode, Decode)]
pub(crate) enum FromNetwork {
    /// What a sandbox has transferred since its start.
    #[n(0)]
    Transferred {
        #[n(0)]
        number: u64,
        #[n(1)]
        transfer: Transfer,
        /// Whether that is more than it may; nothing of it goes through any more.
        #[n(2)]
        is_over: bool,
    },
}

/// Sends one message, with a descriptor or without.
pub(crate) fn send<M: Encode<()>>(
    socket: impl AsFd,
    message: &M,
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = minicbor::to_vec(message).expect("writing to a Vec cannot fail");
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    send_with_fds(socket, &bytes, &fds)?;
    Ok(())
}

/// Receives one message; `None` when the other side is gone.
pub(crate) fn recv<M: for<'b> Decode<'b, ()>>(
    socket: impl AsFd,
) -> io::Result<Option<(M, Option<OwnedFd>)>> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    let (length, fds) = recv_with_fds(socket, &mut buffer)?;
    if length == 0 {
        return Ok(None);
    }
    let message = minicbor::decode(&buffer[..length])
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((message, fds.into_iter().next())))
}
