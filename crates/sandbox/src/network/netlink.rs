//! As much of rtnetlink (`rtnetlink(7)`) as interfaces of a sandbox and a question about a route
//! need.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// Flags of requests, `netlink(7)`.
const REQUEST: u16 = 0x01;
const ACKNOWLEDGE: u16 = 0x04;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
/// The kernel's answer to a request without another one.
const ERROR: u16 = 2;
/// `struct nlmsghdr`
const HEADER_BYTES: usize = 16;
/// Flag of an attribute's type: it holds attributes.
const NESTED: u16 = 0x8000;
/// Most bytes of an answer to any of the requests here.
const ANSWER_BYTES_MAX: usize = 8192;

/// A request under construction.
#[derive(Debug)]
struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(fixed);
        Self { bytes }
    }

    /// Adds an attribute, whose length is padded to four bytes.
    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.begin(kind);
        let start = self.bytes.len() - 4;
        self.bytes.extend_from_slice(value);
        self.end(start)
    }

    /// Adds an attribute with `fixed` and then other attributes in it.
    fn nested(mut self, kind: u16, fixed: &[u8], inner: impl FnOnce(Self) -> Self) -> Self {
        self.begin(kind | NESTED);
        let start = self.bytes.len() - 4;
        self.bytes.extend_from_slice(fixed);
        inner(self).end(start)
    }

    fn begin(&mut self, kind: u16) {
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn end(mut self, start: usize) -> Self {
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }
}

/// A socket for requests about one network namespace: that in which it was opened.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// Opens a socket in the namespace of this process.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is protocol 0.
            None,
        )?;
        Ok(Self { socket })
    }

    /// Sends a request and returns type and body of the answer, which the kernel has made when
    /// the sending returns.
    fn exchange(&self, request: Request) -> io::Result<(u16, Vec<u8>)> {
        send(&self.socket, &request.finish(), SendFlags::empty())?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        let (length, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
        let answer = &answer[..length];
        let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let kind = answer.get(4..6).and_then(|it| it.try_into().ok()).ok_or_else(short)?;
        let body = answer.get(HEADER_BYTES..).ok_or_else(short)?;
        let kind = u16::from_ne_bytes(kind);
        if kind == ERROR {
            let code = body.get(..4).and_then(|it| it.try_into().ok()).ok_or_else(short)?;
            let code = i32::from_ne_bytes(code);
            if code != 0 {
                return Err(io::Error::from_raw_os_error(-code));
            }
        }
        Ok((kind, body.to_vec()))
    }

    /// Makes a pair of interfaces: `name` here, with a fixed hardware address and index 2 or
    /// above, and its peer with index `peer` in another namespace.
    pub(crate) fn make_pair(
        &self,
        name: &str,
        hardware: [u8; 6],
        peer: i32,
        namespace: impl AsFd,
    ) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let namespace = namespace.as_fd().as_raw_fd();
        let request =
            Request::new(libc::RTM_NEWLINK, ACKNOWLEDGE | CREATE | EXCLUSIVE, &link(0, 0))
                .attribute(libc::IFLA_IFNAME, &c_string(name))
                .attribute(libc::IFLA_ADDRESS, &hardware)
                .nested(libc::IFLA_LINKINFO, &[], |it| {
                    it.attribute(libc::IFLA_INFO_KIND, b"veth").nested(
                        libc::IFLA_INFO_DATA,
                        &[],
                        |it| {
                            /// `linux/veth.h`
                            const VETH_INFO_PEER: u16 = 1;
                            it.nested(VETH_INFO_PEER, &link(peer, 0), |it| {
                                it.attribute(libc::IFLA_NET_NS_FD, &namespace.to_ne_bytes())
                            })
                        },
                    )
                });
        self.exchange(request).map(drop)
    }

    /// Brings an interface up, with a size of its packets, and without any resolution of
    /// addresses of the hardware.
    pub(crate) fn bring_up(&self, index: i32, mtu_bytes: u32) -> io::Result<()> {
        let flags = libc::IFF_UP | libc::IFF_NOARP;
        let request = Request::new(libc::RTM_NEWLINK, ACKNOWLEDGE, &link(index, flags))
            .attribute(libc::IFLA_MTU, &mtu_bytes.to_ne_bytes());
        self.exchange(request).map(drop)
    }

    /// Gives an interface an address at once, without asking others for it.
    pub(crate) fn add_address(&self, index: i32, address: IpAddr, bits: u8) -> io::Result<()> {
        /// `IFA_F_NODAD`, `linux/if_addr.h`
        const WITHOUT_DETECTION: u8 = 0x02;
        let mut fixed = vec![family(address), bits, WITHOUT_DETECTION, 0];
        fixed.extend_from_slice(&index.to_ne_bytes());
        let value = octets(address);
        let request = Request::new(libc::RTM_NEWADDR, ACKNOWLEDGE | CREATE | EXCLUSIVE, &fixed)
            .attribute(libc::IFA_LOCAL, &value)
            .attribute(libc::IFA_ADDRESS, &value);
        self.exchange(request).map(drop)
    }

    /// Sends everything of the family of `source` without another way through an interface.
    pub(crate) fn add_default_route(&self, index: i32, source: IpAddr) -> io::Result<()> {
        /// `RTPROT_STATIC`, `rtnetlink(7)`
        const STATIC: u8 = 4;
        let table = libc::RT_TABLE_MAIN;
        let scope = libc::RT_SCOPE_UNIVERSE;
        let fixed = route(source, 0, [table, STATIC, scope, libc::RTN_UNICAST]);
        let request = Request::new(libc::RTM_NEWROUTE, ACKNOWLEDGE | CREATE | EXCLUSIVE, &fixed)
            .attribute(libc::RTA_OIF, &index.to_ne_bytes());
        self.exchange(request).map(drop)
    }

    /// Whether packets to `address` would leave this machine towards one other. False for every
    /// address of its interfaces, broadcast and multicast, and what it has no way to.
    pub(crate) fn leads_elsewhere(&self, address: IpAddr) -> io::Result<bool> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let request = Request::new(libc::RTM_GETROUTE, 0, &route(address, bits, [0; 4]))
            .attribute(libc::RTA_DST, &octets(address));
        let (kind, body) = self.exchange(request)?;
        // struct rtmsg: the type of the route is its eighth byte.
        Ok(kind == libc::RTM_NEWROUTE && body.get(7) == Some(&libc::RTN_UNICAST))
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// `struct ifinfomsg`: flags are also those to change.
fn link(index: i32, flags: i32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for number in [index, flags, flags] {
        bytes.extend_from_slice(&number.to_ne_bytes());
    }
    bytes
}

/// `struct rtmsg`, with table, protocol, scope and type.
fn route(address: IpAddr, bits: u8, rest: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![family(address), bits, 0, 0];
    bytes.extend_from_slice(&rest);
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(it) => it.octets().to_vec(),
        IpAddr::V6(it) => it.octets().to_vec(),
    }
}

fn c_string(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_this_machine_do_not_lead_elsewhere() {
        let netlink = Netlink::open().expect("a socket");
        for address in ["127.0.0.1", "127.8.8.8"] {
            let address = address.parse().expect("an address");
            assert!(!netlink.leads_elsewhere(address).unwrap_or(false), "{address}");
        }
    }

    #[test]
    fn attributes_are_padded_and_nested() {
        let bytes = Request::new(1, 0, &[]).attribute(3, b"abc").nested(4, &[9], |it| it).finish();
        assert_eq!(bytes[..4], 32u32.to_ne_bytes());
        assert_eq!(
            bytes[16..24],
            [7u16.to_ne_bytes(), 3u16.to_ne_bytes()]
                .concat()
                .into_iter()
                .chain(*b"abc\0")
                .collect::<Vec<_>>()[..]
        );
        assert_eq!(bytes[24..26], 5u16.to_ne_bytes());
        assert_eq!(bytes[28..], [9, 0, 0, 0]);
    }
}
