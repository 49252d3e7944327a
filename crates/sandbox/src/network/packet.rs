//! IP packets: what is in those from a sandbox, and making those to it.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr,
    IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber, UdpPacket, UdpRepr,
};

/// Time to live of the packets made here; they travel one step.
const HOPS: u8 = 64;

/// A whole packet from a sandbox, neither fragmented nor with extension headers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) source: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) protocol: IpProtocol,
    /// What follows the IP header.
    pub(crate) payload: &'a [u8],
    /// All of it.
    pub(crate) whole: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet; `None` if it is none that a program inside has a use for.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => {
                let packet = Ipv4Packet::new_checked(bytes).ok()?;
                if packet.more_frags() || packet.frag_offset() != 0 {
                    return None;
                }
                Some(Self {
                    source: packet.src_addr().into(),
                    to: packet.dst_addr().into(),
                    protocol: packet.next_header(),
                    payload: &bytes
                        [usize::from(packet.header_len())..usize::from(packet.total_len())],
                    whole: &bytes[..usize::from(packet.total_len())],
                })
            }
            6 => {
                let packet = Ipv6Packet::new_checked(bytes).ok()?;
                Some(Self {
                    source: packet.src_addr().into(),
                    to: packet.dst_addr().into(),
                    protocol: packet.next_header(),
                    payload: &bytes[packet.header_len()..packet.total_len()],
                    whole: &bytes[..packet.total_len()],
                })
            }
            _ => None,
        }
    }

    /// Source and destination, if it is TCP or UDP.
    pub(crate) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let port = |at: usize| {
            let bytes = self.payload.get(at..at + 2)?;
            Some(u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        Some(((self.source, port(0)?).into(), (self.to, port(2)?).into()))
    }

    /// The datagram in a UDP packet.
    pub(crate) fn datagram(&self) -> Option<&'a [u8]> {
        UdpPacket::new_checked(self.payload).ok().map(|packet| packet.payload())
    }

    /// Whether it begins a TCP connection.
    pub(crate) fn begins(&self) -> bool {
        TcpPacket::new_checked(self.payload).is_ok_and(|it| it.syn() && !it.ack() && !it.rst())
    }
}

fn ip(from: IpAddr, to: IpAddr, protocol: IpProtocol, payload_bytes: usize) -> IpRepr {
    IpRepr::new(from.into(), to.into(), protocol, payload_bytes, HOPS)
}

/// The answer to a TCP packet that ends its connection (RFC 9293, 3.10.7.1); `None` to one that
/// ends it itself.
pub(crate) fn reset(packet: &Packet<'_>) -> Option<Vec<u8>> {
    let tcp = TcpPacket::new_checked(packet.payload).ok()?;
    if tcp.rst() {
        return None;
    }
    let length = tcp.segment_len();
    let (seq_number, ack_number) = if tcp.ack() {
        (tcp.ack_number(), None)
    } else {
        (TcpSeqNumber(0), Some(tcp.seq_number() + length))
    };
    let from = SocketAddr::new(packet.to, tcp.dst_port());
    let to = SocketAddr::new(packet.source, tcp.src_port());
    Some(bare_tcp(from, to, TcpControl::Rst, seq_number, ack_number))
}

/// A packet that asks the end `to` of a connection how far it is (RFC 5961, 4): to one that begins
/// a connection which is there already, it answers with what it expects next. As nobody knows
/// that connection here, the answer is reset.
pub(crate) fn challenge(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    bare_tcp(from, to, TcpControl::Syn, TcpSeqNumber(0), None)
}

fn bare_tcp(
    from: SocketAddr,
    to: SocketAddr,
    control: TcpControl,
    seq_number: TcpSeqNumber,
    ack_number: Option<TcpSeqNumber>,
) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: from.port(),
        dst_port: to.port(),
        control,
        seq_number,
        ack_number,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ip = ip(from.ip(), to.ip(), IpProtocol::Tcp, repr.buffer_len());
    build(&ip, |bytes, checksums| {
        let (from, to) = (ip.src_addr(), ip.dst_addr());
        repr.emit(&mut TcpPacket::new_unchecked(bytes), &from, &to, checksums);
    })
}

/// A datagram.
pub(crate) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let repr = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let length = repr.header_len() + payload.len();
    let ip = ip(from.ip(), to.ip(), IpProtocol::Udp, length);
    build(&ip, |bytes, checksums| {
        let mut packet = UdpPacket::new_unchecked(bytes);
        let (from, to) = (ip.src_addr(), ip.dst_addr());
        repr.emit(
            &mut packet,
            &from,
            &to,
            payload.len(),
            |out| out.copy_from_slice(payload),
            checksums,
        );
    })
}

/// The notice to `from` that nobody takes its datagrams to `to`.
pub(crate) fn unreachable(from: SocketAddr, to: SocketAddr) -> Option<Vec<u8>> {
    // The header of the datagram is all that the kernel wants to see of it.
    let original = udp(from, to, &[]);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let repr = Icmpv4Repr::DstUnreachable {
                reason: Icmpv4DstUnreachable::PortUnreachable,
                header: Ipv4Repr::parse(
                    &Ipv4Packet::new_checked(&original[..]).ok()?,
                    &ChecksumCapabilities::default(),
                )
                .ok()?,
                data: &original[20..],
            };
            let ip = ip(target.into(), source.into(), IpProtocol::Icmp, repr.buffer_len());
            Some(build(&ip, |bytes, checksums| {
                repr.emit(&mut Icmpv4Packet::new_unchecked(bytes), checksums);
            }))
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let repr = Icmpv6Repr::DstUnreachable {
                reason: Icmpv6DstUnreachable::PortUnreachable,
                header: Ipv6Repr::parse(&Ipv6Packet::new_checked(&original[..]).ok()?).ok()?,
                data: &original[40..],
            };
            let ip = ip(target.into(), source.into(), IpProtocol::Icmpv6, repr.buffer_len());
            Some(build(&ip, |bytes, checksums| {
                repr.emit(&target, &source, &mut Icmpv6Packet::new_unchecked(bytes), checksums);
            }))
        }
        _ => None,
    }
}

/// The answer to an echo request; `None` to all else of ICMP.
pub(crate) fn echo(packet: &Packet<'_>) -> Option<Vec<u8>> {
    match (packet.source, packet.to, packet.protocol) {
        (IpAddr::V4(_), IpAddr::V4(_), IpProtocol::Icmp) => {
            let checksums = ChecksumCapabilities::default();
            let request = Icmpv4Packet::new_checked(packet.payload).ok()?;
            match Icmpv4Repr::parse(&request, &checksums).ok()? {
                Icmpv4Repr::EchoRequest { ident, seq_no, data } => {
                    let repr = Icmpv4Repr::EchoReply { ident, seq_no, data };
                    let ip = ip(packet.to, packet.source, IpProtocol::Icmp, repr.buffer_len());
                    Some(build(&ip, |bytes, checksums| {
                        repr.emit(&mut Icmpv4Packet::new_unchecked(bytes), checksums);
                    }))
                }
                _ => None,
            }
        }
        (IpAddr::V6(from), IpAddr::V6(to), IpProtocol::Icmpv6) => {
            let checksums = ChecksumCapabilities::default();
            let request = Icmpv6Packet::new_checked(packet.payload).ok()?;
            match Icmpv6Repr::parse(&from, &to, &request, &checksums).ok()? {
                Icmpv6Repr::EchoRequest { ident, seq_no, data } => {
                    let repr = Icmpv6Repr::EchoReply { ident, seq_no, data };
                    let ip = ip(packet.to, packet.source, IpProtocol::Icmpv6, repr.buffer_len());
                    Some(build(&ip, |bytes, checksums| {
                        repr.emit(&to, &from, &mut Icmpv6Packet::new_unchecked(bytes), checksums);
                    }))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// A packet with `ip` as its header and what `fill` writes after it.
fn build(ip: &IpRepr, fill: impl FnOnce(&mut [u8], &ChecksumCapabilities)) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let mut bytes = vec![0; ip.buffer_len()];
    ip.emit(&mut bytes, &checksums);
    fill(&mut bytes[ip.header_len()..], &checksums);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_datagram_comes_back_as_it_went() {
        let table = [
            ("192.0.0.2:1000", "198.51.100.1:53"),
            ("[fd73:7061:776e::2]:1000", "[2001:db8::1]:53"),
        ];
        for (from, to) in table {
            let (from, to) = (address(from), address(to));
            let bytes = udp(from, to, b"hello");
            let packet = Packet::parse(&bytes).expect("a packet");
            assert_eq!(packet.ends(), Some((from, to)));
            assert_eq!(packet.protocol, IpProtocol::Udp);
            assert_eq!(packet.datagram(), Some(&b"hello"[..]));
            let notice = unreachable(from, to).expect("a notice");
            let notice = Packet::parse(&notice).expect("a packet");
            assert_eq!((notice.source, notice.to), (to.ip(), from.ip()));
        }
    }

    #[test]
    fn a_fragment_is_no_packet_for_us() {
        let mut bytes = udp(address("192.0.0.2:1"), address("198.51.100.1:2"), b"hello");
        bytes[6] = 0x20;
        assert!(Packet::parse(&bytes).is_none());
        bytes[6..8].copy_from_slice(&[0, 1]);
        assert!(Packet::parse(&bytes).is_none());
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..120), version in 0u8..3,
        ) {
            if let (Some(first), 1..) = (bytes.first_mut(), version) {
                *first = if version == 1 { 0x45 } else { 0x60 };
            }
            if version == 1 && bytes.len() >= 20 {
                let length = bytes.len() as u16;
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                bytes[6..8].copy_from_slice(&[0, 0]);
            }
            if let Some(packet) = Packet::parse(&bytes) {
                let _ = (packet.ends(), packet.datagram(), packet.begins());
                let _ = (reset(&packet), echo(&packet));
            }
        }
    }
}
