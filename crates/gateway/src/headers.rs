//! Headers that are for one hop only, and those that tell the service who asked.

use axum::http::header::{
    CONNECTION, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use std::net::SocketAddr;

/// Headers that a proxy must not pass on (RFC 9110, section 7.6.1), beside those that
/// `Connection` names.
const HOP_BY_HOP: [HeaderName; 4] = [TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
const HOP_BY_HOP_OLD: [&str; 3] = ["keep-alive", "proxy-connection", "proxy-authenticate"];

/// The protocol that a request or an answer wants to change to, if so.
pub(crate) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let names = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let wanted = names
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    if wanted { headers.get(UPGRADE).cloned() } else { None }
}

/// Removes what is for one hop only. An upgrade stays, because the gateway takes part in it.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let upgrade = upgrade_of(headers);
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP_OLD {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Tells the service who asked and how. What the client wrote there itself is replaced, because
/// anybody can write it.
pub(crate) fn add_forwarded(headers: &mut HeaderMap, peer: SocketAddr) {
    let ip = peer.ip().to_canonical();
    let host = headers.get(HOST).cloned();
    let node = if ip.is_ipv6() { format!("\"[{ip}]\"") } else { ip.to_string() };
    let host_quoted = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
    set(headers, FORWARDED, &format!("for={node};host=\"{host_quoted}\";proto=http"));
    set(headers, HeaderName::from_static("x-forwarded-for"), &ip.to_string());
    set(headers, HeaderName::from_static("x-forwarded-proto"), "http");
    if let Some(host) = host {
        headers.insert("x-forwarded-host", host);
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => headers.insert(name, value),
        Err(_) => headers.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_is_for_one_hop_stays_there() {
        let mut headers = map(&[
            ("connection", "keep-alive, x-private"),
            ("keep-alive", "timeout=5"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("accept", "*/*")]));
    }

    #[test]
    fn an_upgrade_is_passed_on() {
        let mut headers = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }

    #[test]
    fn a_client_cannot_say_who_it_is() {
        let mut headers = map(&[
            ("host", "web.localhost:9000"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
        ]);
        add_forwarded(&mut headers, "127.0.0.1:5000".parse().unwrap());
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
        assert_eq!(headers["forwarded"], "for=127.0.0.1;host=\"web.localhost:9000\";proto=http");
        assert_eq!(headers["x-forwarded-host"], "web.localhost:9000");
    }
}
