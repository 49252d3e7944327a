//! By which names a client may call this server.

use axum::http::{Request, header};
use std::net::IpAddr;

/// Whether `host`, as a request gives it, is an address, `localhost` or one of `names`.
///
/// A web page can make its own name resolve to 127.0.0.1 and then talk to what listens there
/// (DNS rebinding); it cannot make the browser send another name than its own.
pub(crate) fn is_known(host: &str, names: &[String]) -> bool {
    let name = without_port(host);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    if address.unwrap_or(name).parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(&name))
}

/// The host of a request: of HTTP/2 the authority, else the header.
pub(crate) fn of<B>(request: &Request<B>) -> Option<&str> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str());
    }
    request.headers().get(header::HOST)?.to_str().ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_configured_names_are_known() {
        let names = vec!["spawnery.example".to_owned()];
        let check = |host: &str, known: bool| assert_eq!(is_known(host, &names), known, "{host}");
        check("127.0.0.1:9000", true);
        check("127.0.0.1", true);
        check("[::1]:9000", true);
        check("[::1]", true);
        check("localhost:9000", true);
        check("LOCALHOST", true);
        check("web.localhost:9000", true);
        check("spawnery.example", true);
        check("Spawnery.Example.:443", true);
        check("evil.example", false);
        check("localhost.evil.example:9000", false);
        check("127.0.0.1.evil.example", false);
        check("notlocalhost", false);
        check("", false);
    }
}
