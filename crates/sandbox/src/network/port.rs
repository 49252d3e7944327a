//! The network process's end of a sandbox's device: packets in and out, counted.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use super::device::{Framing, MTU_BYTES};
use super::link::Transfer;

/// A device with its count.
#[derive(Debug)]
pub(crate) struct Port {
    device: OwnedFd,
    framing: Framing,
    pub(crate) transfer: Transfer,
    /// The most bytes of both directions together.
    transfer_bytes_max: u64,
    /// The packet to the sandbox that is being made, after room for its header.
    frame: Vec<u8>,
}

impl Port {
    pub(crate) fn new(
        device: OwnedFd,
        framing: Framing,
        transfer: Transfer,
        transfer_bytes_max: Option<u64>,
    ) -> Self {
        let transfer_bytes_max = transfer_bytes_max.unwrap_or(u64::MAX);
        Self { device, framing, transfer, transfer_bytes_max, frame: Vec::new() }
    }

    /// Whether more has been transferred than may be.
    pub(crate) fn is_over(&self) -> bool {
        let Transfer { in_bytes, out_bytes } = self.transfer;
        in_bytes.saturating_add(out_bytes) > self.transfer_bytes_max
    }

    /// Reads one packet from the sandbox; `None` if there is none for now.
    pub(crate) fn read<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        loop {
            match rustix::io::read(&self.device, &mut *buffer) {
                Ok(length) => {
                    return Ok(Some(buffer.get(self.framing.bytes()..length).unwrap_or(&[])));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Counts a packet from the sandbox; false if that was one too many.
    pub(crate) fn count_out(&mut self, bytes: usize) -> bool {
        self.transfer.out_bytes += bytes as u64;
        !self.is_over()
    }

    /// Sends a packet to the sandbox.
    pub(crate) fn send(&mut self, packet: &[u8]) {
        self.send_with(packet.len(), |out| out.copy_from_slice(packet));
    }

    /// Sends a packet of `length` bytes, which `fill` writes. As on any network, what cannot be
    /// sent is lost.
    fn send_with<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let (start, header) = (Framing::BYTES_MAX, self.framing.bytes());
        let end = start + length;
        if self.frame.len() < end {
            self.frame.resize(end, 0);
        }
        let result = fill(&mut self.frame[start..end]);
        if !self.is_over() {
            self.transfer.in_bytes += length as u64;
            let is_ipv6 = self.frame[start] >> 4 == 6;
            self.framing.write(&mut self.frame[start - header..start], is_ipv6);
            let _ = rustix::io::write(&self.device, &self.frame[start - header..end]);
        }
        result
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// A port as smoltcp sees it, with at most one packet to receive.
#[derive(Debug)]
pub(crate) struct Wire<'a> {
    pub(crate) incoming: Option<&'a [u8]>,
    pub(crate) port: &'a mut Port,
}

/// A packet from the sandbox.
#[derive(Debug)]
pub(crate) struct Incoming<'a>(&'a [u8]);

/// A chance to send one to it.
#[derive(Debug)]
pub(crate) struct Outgoing<'a>(&'a mut Port);

impl Device for Wire<'_> {
    type RxToken<'b>
        = Incoming<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outgoing<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Outgoing(self.port)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(self.port))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU_BYTES;
        // Packets come from the kernel of this machine, which leaves out what no wire needs.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        self.0.send_with(length, f)
    }
}
