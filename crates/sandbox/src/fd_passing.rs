//! Bytes with file descriptors over Unix sockets (`unix(7)`, `SCM_RIGHTS`).
//!
//! Both functions do one system call and honour the socket's blocking mode, so that an
//! asynchronous caller uses them inside its readiness loop.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Result;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::limits::MOUNTS_MAX;

/// Descriptors taken from one message: the start of a main process brings the most, its three
/// streams, its mounts, and a memory file if the message is large.
const FDS_MAX: usize = 4 + MOUNTS_MAX;

/// Sends `bytes`, with `fd` attached to the first of them, and returns how many were sent.
/// If that is fewer than all, the rest must follow without the descriptor.
pub fn send_with_fd(socket: impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<usize> {
    match fd {
        Some(fd) => send_with_fds(socket, bytes, &[fd]),
        None => send_with_fds(socket, bytes, &[]),
    }
}

/// Receives into `bytes`; 0 means that the peer has closed. A descriptor belongs to the
/// message whose first byte is in this piece. Further descriptors are closed.
pub fn recv_with_fd(socket: impl AsFd, bytes: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let (len, fds) = recv_with_fds(socket, bytes)?;
    Ok((len, fds.into_iter().next()))
}

pub(crate) fn send_with_fds(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(rustix::io::Errno::INVAL);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
}

pub(crate) fn recv_with_fds(socket: impl AsFd, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((received.bytes, fds))
}
