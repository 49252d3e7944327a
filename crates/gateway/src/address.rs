//! What a host name means.

use spawnery_model::Name;

/// The part of host names under which services are found: it means this machine everywhere
/// (RFC 6761, section 6.3), so no name server has to be set up.
const DOMAIN: &str = "localhost";

/// A service, and which of its ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The service.
    pub service: Name,
    /// The name of the port; without, its first one.
    pub port: Option<Name>,
}

impl Address {
    /// What `host`, the value of a `Host` header, means: `None` if it is no name of a service.
    pub fn of_host(host: &str) -> Option<Address> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let labels = name.strip_suffix(DOMAIN)?.strip_suffix('.')?;
        let (port, service) = match labels.rsplit_once('.') {
            Some((port, service)) => (Some(Name::new(port).ok()?), service),
            None => (None, labels),
        };
        Some(Address { service: Name::new(service).ok()?, port })
    }

    /// The URL of a service's first port on a gateway that listens on `port`.
    pub fn url(service: &Name, port: u16) -> String {
        match port {
            80 => format!("http://{service}.{DOMAIN}/"),
            port => format!("http://{service}.{DOMAIN}:{port}/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_names_a_service_and_maybe_a_port() {
        let check = |host: &str, expected: Option<(&str, Option<&str>)>| {
            let found = Address::of_host(host);
            let expected = expected.map(|(service, port)| Address {
                service: Name::new(service).unwrap(),
                port: port.map(|port| Name::new(port).unwrap()),
            });
            assert_eq!(found, expected, "{host}");
        };
        check("web.localhost", Some(("web", None)));
        check("web.localhost:9000", Some(("web", None)));
        check("WEB.LocalHost.:9000", Some(("web", None)));
        check("admin.web.localhost:9000", Some(("web", Some("admin"))));
        check("a.b.c.localhost", None);
        check("localhost", None);
        check("localhost:9000", None);
        check(".localhost", None);
        check("weblocalhost", None);
        check("127.0.0.1:9000", None);
        check("[::1]:9000", None);
        check("web.example.com", None);
        check("", None);
    }

    #[test]
    fn a_url_leads_back_to_its_service() {
        let web = Name::new("web").unwrap();
        assert_eq!(Address::url(&web, 9000), "http://web.localhost:9000/");
        assert_eq!(Address::url(&web, 80), "http://web.localhost/");
    }
}
