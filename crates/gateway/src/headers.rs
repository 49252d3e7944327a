//! Fields that are for one hop only, those that tell an instance who asked, and those that nobody
//! but the gateway may say.

use crate::h1::head::{RequestHead, tokens};
use bytes::BytesMut;
use std::net::{IpAddr, SocketAddr};

/// Fields that a proxy does not pass on (RFC 9110, section 7.6.1), beside those that `Connection`
/// names, and those that it writes anew.
const HOP_BY_HOP: [&[u8]; 9] = [
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"te",
    b"transfer-encoding",
    b"upgrade",
    b"content-length",
];

/// How the fields begin that an instance believes because only the gateway can say them.
const RESERVED: [&[u8]; 4] = [b"x-verified-", b"x-forwarded-", b"x-spawnery-", b"x-real-ip"];

/// Fields that must not come after a body: they would change what was decided by the head
/// (RFC 9110, section 6.5.1).
const NEVER_TRAILING: [&[u8]; 12] = [
    b"host",
    b"trailer",
    b"content-encoding",
    b"content-type",
    b"content-range",
    b"authorization",
    b"cookie",
    b"set-cookie",
    b"cache-control",
    b"expect",
    b"range",
    b"forwarded",
];

/// Writes a field.
pub(crate) fn line(output: &mut BytesMut, name: &[u8], value: &[u8]) {
    output.extend_from_slice(name);
    output.extend_from_slice(b": ");
    output.extend_from_slice(value);
    output.extend_from_slice(b"\r\n");
}

/// Whether a field is for one hop only.
pub(crate) fn is_hop_by_hop(name: &[u8]) -> bool {
    // Most fields are not; their length says so at once.
    matches!(name.len(), 2 | 7 | 10 | 14 | 16..=19)
        && HOP_BY_HOP.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether only the gateway may say it. Many servers take `_` for `-` in names, so it does too.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    let same = |(a, b): (&u8, &u8)| a.to_ascii_lowercase() == *b || *a == b'_' && *b == b'-';
    let begins = |with: &[u8]| name.len() >= with.len() && name.iter().zip(with).all(same);
    match name.first() {
        Some(b'x' | b'X') => RESERVED.iter().any(|with| begins(with)),
        Some(b'f' | b'F') => name.eq_ignore_ascii_case(b"forwarded"),
        _ => false,
    }
}

/// Whether a field may follow a body.
pub(crate) fn may_trail(name: &[u8]) -> bool {
    !is_hop_by_hop(name)
        && !is_reserved(name)
        && !NEVER_TRAILING.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The names that the `Connection` fields of a message make fields of one hop.
pub(crate) fn named<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> impl Iterator<Item = &'a [u8]> {
    let connections = fields.filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"));
    connections.flat_map(|(_, value)| tokens(value)).filter(|name| {
        // What the message means must not depend on what one hop says of it, and the common
        // words are no names of fields.
        ![&b"close"[..], b"keep-alive", b"upgrade", b"host", b"trailer"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    })
}

/// Who asks, in the words that instances are told.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Whether it came over TLS.
    pub(crate) secure: bool,
    /// Whether it is a proxy of ours, whose word on its own client is believed.
    pub(crate) trusted: bool,
    /// The port for TLS to which everybody is sent that comes through this door.
    pub(crate) redirect: Option<u16>,
    ip: String,
    /// As RFC 7239 writes it.
    node: String,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, secure: bool, trusted: bool) -> Peer {
        let ip = address.ip().to_canonical();
        let node = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("\"[{ip}]\""),
        };
        Peer { address, secure, trusted, redirect: None, ip: ip.to_string(), node }
    }

    /// `http` or `https`, as the client sees it.
    pub(crate) fn scheme<'a>(&self, head: &'a RequestHead) -> &'a str {
        let told = head.field("x-forwarded-proto").filter(|_| self.trusted);
        match told.map(str::trim) {
            Some(told @ ("http" | "https")) => told,
            _ if self.secure => "https",
            _ => "http",
        }
    }

    /// Tells the instance who asked and how. What the client wrote there itself is replaced,
    /// because anybody can write it, unless it is a proxy that is trusted.
    pub(crate) fn write(&self, head: &RequestHead, output: &mut BytesMut) {
        let host = head.host();
        let scheme = self.scheme(head);
        let told = |name| head.field(name).filter(|_| self.trusted);
        let list = |output: &mut BytesMut, name: &str| {
            output.extend_from_slice(name.as_bytes());
            output.extend_from_slice(b": ");
            if self.trusted {
                let earlier = head.fields().filter(|it| it.0.eq_ignore_ascii_case(name.as_bytes()));
                for (_, value) in earlier {
                    output.extend_from_slice(value);
                    output.extend_from_slice(b", ");
                }
            }
        };
        list(output, "x-forwarded-for");
        output.extend_from_slice(self.ip.as_bytes());
        output.extend_from_slice(b"\r\n");
        line(output, b"x-forwarded-proto", scheme.as_bytes());
        if !host.is_empty() {
            let host = told("x-forwarded-host").unwrap_or(host);
            line(output, b"x-forwarded-host", host.as_bytes());
        }
        list(output, "forwarded");
        output.extend_from_slice(b"for=");
        output.extend_from_slice(self.node.as_bytes());
        if !host.is_empty() {
            // It was checked to hold no quotes.
            output.extend_from_slice(b";host=\"");
            output.extend_from_slice(host.as_bytes());
            output.extend_from_slice(b"\"");
        }
        output.extend_from_slice(b";proto=");
        output.extend_from_slice(scheme.as_bytes());
        output.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(peer: &Peer, fields: &str) -> String {
        let text = format!("GET / HTTP/1.1\r\nHost: web.localhost:9000\r\n{fields}\r\n");
        let head = RequestHead::take(&mut BytesMut::from(text.as_bytes())).unwrap().unwrap();
        let mut output = BytesMut::new();
        peer.write(&head, &mut output);
        String::from_utf8(output.to_vec()).unwrap()
    }

    #[test]
    fn a_client_cannot_say_who_it_is() {
        let peer = Peer::new("127.0.0.1:5000".parse().unwrap(), false, false);
        let fields =
            "X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nX-Forwarded-Proto: https\r\n";
        let expected = "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\n\
            x-forwarded-host: web.localhost:9000\r\n\
            forwarded: for=127.0.0.1;host=\"web.localhost:9000\";proto=http\r\n";
        assert_eq!(told(&peer, fields), expected);
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_named() {
        let peer = Peer::new("[2001:db8::1]:5000".parse().unwrap(), false, true);
        let fields =
            "X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nX-Forwarded-Proto: https\r\n";
        let expected = "x-forwarded-for: 10.0.0.1, 2001:db8::1\r\nx-forwarded-proto: https\r\n\
            x-forwarded-host: web.localhost:9000\r\n\
            forwarded: for=10.0.0.1, for=\"[2001:db8::1]\";host=\"web.localhost:9000\";proto=https\r\n";
        assert_eq!(told(&peer, fields), expected);
    }

    #[test]
    fn reserved_names_are_known_in_every_spelling() {
        let check =
            |name: &str, expected| assert_eq!(is_reserved(name.as_bytes()), expected, "{name}");
        check("X-Verified-User", true);
        check("x_verified_user", true);
        check("X_Forwarded-For", true);
        check("Forwarded", true);
        check("X-Verify", false);
        check("X-Requested-With", false);
        check("From", false);
        check("", false);
    }

    #[test]
    fn hop_by_hop_fields_are_known_by_their_names() {
        for name in HOP_BY_HOP {
            assert!(is_hop_by_hop(name), "{}", String::from_utf8_lossy(name));
        }
        assert!(is_hop_by_hop(b"Transfer-Encoding") && !is_hop_by_hop(b"accept"));
    }
}
