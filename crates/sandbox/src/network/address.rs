//! Blocks of addresses, and which addresses are not the internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses in CIDR notation (RFC 4632, RFC 4291).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    first: IpAddr,
    prefix_bits: u8,
}

impl Block {
    /// Reads `10.0.0.0/8` or `2001:db8::/32`; an address alone is a block of one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let wrong = || format!("`{text}` is no block of addresses such as 192.0.2.0/24");
        let first: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits_max = if first.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            Some(bits) => bits.parse().ok().filter(|it| *it <= bits_max).ok_or_else(wrong)?,
            None => bits_max,
        };
        let block = Self { first: masked(first, prefix_bits), prefix_bits };
        if block.first != first {
            let meant = block.first;
            return Err(format!(
                "`{text}` is not the start of its block; write {meant}/{prefix_bits}"
            ));
        }
        Ok(block)
    }

    /// Whether it is wider than any special range of one network, such as `0.0.0.0/0`: whoever
    /// writes it means the internet.
    pub(crate) fn is_internet(&self) -> bool {
        self.prefix_bits < if self.first.is_ipv4() { 8 } else { 7 }
    }

    /// Whether the address is in the block.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && masked(address, self.prefix_bits) == self.first
    }
}

fn masked(address: IpAddr, prefix_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(it) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0);
            Ipv4Addr::from_bits(it.to_bits() & mask).into()
        }
        IpAddr::V6(it) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0);
            Ipv6Addr::from_bits(it.to_bits() & mask).into()
        }
    }
}

/// The address that is meant: an IPv4 address in the clothes of an IPv6 one (`::ffff:0:0/96`,
/// RFC 4291) is that IPv4 address, as it is for the kernel.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(it) => it.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// The IPv4 address to which a translator or a tunnel on the way would bring the packets of an
/// IPv6 address: NAT64 (RFC 6052), 6to4 (RFC 3056) and ISATAP (RFC 5214).
pub(crate) fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bytes = address.octets();
    let at = |start: usize| {
        Ipv4Addr::new(bytes[start], bytes[start + 1], bytes[start + 2], bytes[start + 3])
    };
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(at(12)),
        [0x2002, ..] => Some(at(2)),
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => Some(at(12)),
        _ => None,
    }
}

/// What is no public IPv4 address: the registry of special-purpose addresses (RFC 6890) and
/// multicast. The blocks for documentation are left out: nothing answers there.
const SPECIAL_IPV4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Whether an address is not to be reached without a rule that says so: it is private,
/// link-local, loopback, multicast or reserved, or leads to such an IPv4 address.
pub(crate) fn is_special(address: IpAddr) -> bool {
    match canonical(address) {
        IpAddr::V4(it) => SPECIAL_IPV4.iter().any(|(first, prefix_bits)| {
            Block { first: (*first).into(), prefix_bits: *prefix_bits }.contains(it.into())
        }),
        IpAddr::V6(it) => is_special_ipv6(it),
    }
}

/// Global unicast addresses are those of `2000::/3` (RFC 4291); all else is local or reserved,
/// but for the prefix of NAT64, and so is what IETF protocols use there (`2001::/23`, with Teredo).
fn is_special_ipv6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    if let Some(inner) = embedded(address) {
        let translated = first == 0x64 || first & 0xe000 == 0x2000;
        return !translated || is_special(inner.into());
    }
    first & 0xe000 != 0x2000 || (first == 0x2001 && second < 0x200)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_block_holds_its_own() {
        let table = [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:ffff::", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("198.51.100.7", "198.51.100.7", true),
            ("198.51.100.7", "198.51.100.8", false),
            ("198.51.100.7/32", "198.51.100.7", true),
        ];
        for (block, address, expected) in table {
            let block = Block::parse(block).expect("a block");
            assert_eq!(block.contains(ip(address)), expected, "{block:?} {address}");
        }
    }

    #[test]
    fn what_is_no_block_is_refused_with_a_mend() {
        let table = [
            ("", "such as"),
            ("10.0.0.0/33", "such as"),
            ("10.0.0.0/", "such as"),
            ("10.0.0/8", "such as"),
            ("::/129", "such as"),
            ("example.org", "such as"),
            ("10.0.0.5/8", "write 10.0.0.0/8"),
            ("2001:db8::1/64", "write 2001:db8::/64"),
        ];
        for (text, expected) in table {
            let error = Block::parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_not_the_internet_is_special() {
        let special = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.0.1",
            "192.0.0.1",
            "198.19.0.1",
            "224.0.0.251",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::10.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:a00:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::5efe:10.0.0.1",
            "fe80::5efe:198.51.100.1",
            "100::1",
            "5f00::1",
        ];
        for text in special {
            assert!(is_special(ip(text)), "{text}");
        }
        let public = [
            "1.1.1.1",
            "172.32.0.1",
            "172.15.0.1",
            "100.128.0.1",
            "198.51.100.1",
            "203.0.113.9",
            "2001:db8::1",
            "2606:4700::1111",
            "64:ff9b::c633:6401",
            "2002:c633:6401::1",
            "::ffff:198.51.100.1",
        ];
        for text in public {
            assert!(!is_special(ip(text)), "{text}");
        }
    }
}
