//! The interface of a sandbox: made by its init inside, with a descriptor for the other end,
//! which the launcher hands on to the network process.
//!
//! Usually it is a TUN device (`/dev/net/tun`). Where that file is missing or closed to us, it is
//! a pair of virtual Ethernet interfaces, whose other end is alone in a namespace that lives as
//! long as a packet socket in it (`packet(7)`).

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::netlink::Netlink;
use crate::sys;

/// The sandbox's address. Each sandbox has the same, for nobody else sees it: the block is for
/// hosts behind a translator on the same machine (RFC 7335), so it hides no network that a rule
/// may open.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
/// The other end: gateway and resolver.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
const ADDRESS_BITS: u8 = 29;
/// The same for IPv6, in a unique local block (RFC 4193) of our own.
pub(crate) const ADDRESS_6: Ipv6Addr = Ipv6Addr::new(0xfd73, 0x7061, 0x776e, 0, 0, 0, 0, 2);
pub(crate) const GATEWAY_6: Ipv6Addr = Ipv6Addr::new(0xfd73, 0x7061, 0x776e, 0, 0, 0, 0, 1);
const ADDRESS_6_BITS: u8 = 64;

/// The interface's name inside.
const NAME: &str = "eth0";
/// Size of packets between sandbox and network process. They never leave the machine so, and a
/// large one costs as much work as a small one.
pub(crate) const MTU_BYTES: usize = 65_520;
/// Hardware address of the sandbox's end of a pair: local, of no vendor.
const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Index of the other end, alone in its namespace but for the loopback interface, which is 1.
const PEER_INDEX: i32 = 2;

/// What comes before each packet of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Nothing.
    Bare,
    /// An Ethernet header.
    Ethernet,
}

impl Framing {
    /// Room to leave before a packet.
    pub(crate) const BYTES_MAX: usize = 14;

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Bare => 0,
            Self::Ethernet => 14,
        }
    }

    /// Writes the header before a packet to the sandbox, which is IPv6 or else IPv4.
    pub(crate) fn write(self, header: &mut [u8], is_ipv6: bool) {
        if self == Self::Ethernet {
            header[..6].copy_from_slice(&HARDWARE);
            header[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
            header[12..14].copy_from_slice(if is_ipv6 { &[0x86, 0xdd] } else { &[8, 0] });
        }
    }
}

/// Opens the file of the TUN devices, which counts for the network namespace in which it is
/// opened. `None` if there is none for us.
pub(crate) fn open_tun() -> Option<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open("/dev/net/tun", flags, Mode::empty()).ok()
}

/// Makes the interface in the namespace of this process, with its addresses and routes.
pub(crate) fn make(tun: Option<OwnedFd>) -> io::Result<(OwnedFd, Framing)> {
    let netlink = Netlink::open()?;
    let tun = tun.and_then(|tun| sys::make_tun(&tun, NAME).is_ok().then_some(tun));
    let (device, framing) = match tun {
        Some(tun) => (tun, Framing::Bare),
        None => (make_pair(&netlink)?, Framing::Ethernet),
    };
    let index = rustix::net::netdevice::name_to_index(&netlink, NAME)? as i32;
    netlink.bring_up(index, MTU_BYTES as u32)?;
    let address = IpAddr::from(ADDRESS);
    netlink.add_address(index, address, ADDRESS_BITS)?;
    netlink.add_default_route(index, address)?;
    // A kernel may have no IPv6.
    let address = IpAddr::from(ADDRESS_6);
    if netlink.add_address(index, address, ADDRESS_6_BITS).is_ok() {
        netlink.add_default_route(index, address)?;
    }
    Ok((device, framing))
}

/// The other way: a pair of interfaces, whose far end is read by a packet socket.
fn make_pair(netlink: &Netlink) -> io::Result<OwnedFd> {
    let inside = File::open("/proc/self/ns/net")?;
    sys::unshare(libc::CLONE_NEWNET)?;
    let outside = File::open("/proc/self/ns/net").and_then(|namespace| {
        let parts = (namespace, Netlink::open()?, sys::packet_socket()?);
        Ok(parts)
    });
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(inside.as_fd(), kind)?;
    let (namespace, far, socket) = outside?;
    netlink.make_pair(NAME, HARDWARE, PEER_INDEX, &namespace)?;
    far.bring_up(PEER_INDEX, MTU_BYTES as u32)?;
    sys::bind_packet_socket(&socket, PEER_INDEX)?;
    // A few of the largest packets; the kernel may give less.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BYTES)
        .or_else(|_| rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BYTES));
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// What a packet socket may hold before packets are lost, which then are sent again.
const RECEIVE_BYTES: usize = 4 * 1024 * 1024;
