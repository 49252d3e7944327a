//! The way of datagrams between a port of a sandbox and one of a remote machine.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use super::packet;
use super::port::Port;
use crate::limits::UDP_IDLE_SECONDS_MAX;

/// Datagrams taken from one socket before others get their turn.
const DATAGRAMS_PER_TURN: usize = 64;

/// A socket of the host for one pair of ends.
#[derive(Debug)]
pub(crate) struct UdpFlow {
    guest: SocketAddr,
    remote: SocketAddr,
    host: OwnedFd,
    last_packet: Instant,
}

impl UdpFlow {
    /// Opens the way from `guest` to `remote`.
    pub(crate) fn begin(guest: SocketAddr, remote: SocketAddr, now: Instant) -> io::Result<Self> {
        Ok(Self { guest, remote, host: socket_to(remote)?, last_packet: now })
    }

    /// Sends a datagram on. As on any network, it may be lost.
    pub(crate) fn handle_datagram(&mut self, datagram: &[u8], now: Instant) {
        self.last_packet = now;
        // The first attempt may report what became of an earlier datagram.
        let _ = send(&self.host, datagram, SendFlags::NOSIGNAL)
            .or_else(|_| send(&self.host, datagram, SendFlags::NOSIGNAL));
    }

    /// Takes what has come.
    pub(crate) fn handle_ready(&mut self, buffer: &mut [u8], now: Instant, port: &mut Port) {
        for _ in 0..DATAGRAMS_PER_TURN {
            match recv(&self.host, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => {
                    self.last_packet = now;
                    port.send(&packet::udp(self.remote, self.guest, &buffer[..length]));
                }
                Err(Errno::CONNREFUSED) => {
                    if let Some(notice) = packet::unreachable(self.guest, self.remote) {
                        port.send(&notice);
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// When it is to be forgotten.
    pub(crate) fn idle_end(&self) -> Instant {
        self.last_packet + Duration::from_secs(UDP_IDLE_SECONDS_MAX)
    }
}

impl AsFd for UdpFlow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.host.as_fd()
    }
}

/// A socket of the host that exchanges datagrams with `remote` only, and never blocks.
pub(crate) fn socket_to(remote: SocketAddr) -> io::Result<OwnedFd> {
    let family = if remote.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    connect(&socket, &remote)?;
    Ok(socket)
}
