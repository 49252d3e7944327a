//! What a host name or a path means.

use spawnery_model::Name;

/// The domain below which services and sessions are found without any settings: it means this
/// machine everywhere (RFC 6761, section 6.3), so no name server has to be set up.
const LOCAL_DOMAIN: &str = "localhost";

/// How the paths of sessions begin, for those who have no names of their own to give.
pub(crate) const SESSION_PATH: &str = "/s/";

/// A service, and which of its ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The service.
    pub service: Name,
    /// The name of the port; without, its first one.
    pub port: Option<Name>,
}

impl Address {
    /// The URL of a service's first port on a gateway that listens on `port`.
    pub fn url(service: &Name, port: u16) -> String {
        match port {
            80 => format!("http://{service}.{LOCAL_DOMAIN}/"),
            port => format!("http://{service}.{LOCAL_DOMAIN}:{port}/"),
        }
    }
}

/// The domains below which services and sessions have their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domains(Vec<String>);

impl Default for Domains {
    fn default() -> Domains {
        Domains::new([])
    }
}

impl Domains {
    /// These, and `localhost`.
    pub fn new(domains: impl IntoIterator<Item = String>) -> Domains {
        let local = [LOCAL_DOMAIN.to_owned()];
        Domains(domains.into_iter().chain(local).map(|it| it.to_ascii_lowercase()).collect())
    }

    /// The names before the domain in `host`, the value of a `Host` field, the last one first.
    /// `None` if it is no such name, and so for the API.
    pub(crate) fn names(&self, host: &str) -> Option<Vec<Name>> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let below = |domain: &String| {
            let start = name.len().checked_sub(domain.len())?;
            let (labels, end) = (name.get(..start)?, name.get(start..)?);
            end.eq_ignore_ascii_case(domain).then(|| labels.strip_suffix('.')).flatten()
        };
        let labels = self.0.iter().find_map(below)?;
        let names = labels.rsplit('.').map(|label| Name::new(label.to_ascii_lowercase()));
        names.collect::<Result<Vec<Name>, _>>().ok().filter(|names| names.len() <= 3)
    }
}

/// A session by its path: template, key, and how long the part before the rest is.
pub(crate) fn session_of_path(target: &str) -> Option<(Name, Name, usize)> {
    let rest = target.strip_prefix(SESSION_PATH)?;
    let (template, rest) = rest.split_once('/')?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let length = SESSION_PATH.len() + template.len() + 1 + end;
    Some((Name::new(template).ok()?, Name::new(&rest[..end]).ok()?, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_has_names_before_a_domain() {
        let domains = Domains::new(["Apps.Example.org".to_owned()]);
        let check = |host: &str, expected: Option<&[&str]>| {
            let found = domains.names(host);
            let found: Option<Vec<String>> =
                found.map(|names| names.iter().map(ToString::to_string).collect());
            let expected: Option<Vec<String>> =
                expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(found, expected, "{host}");
        };
        check("web.localhost", Some(&["web"]));
        check("web.localhost:9000", Some(&["web"]));
        check("WEB.LocalHost.:9000", Some(&["web"]));
        check("admin.web.localhost:9000", Some(&["web", "admin"]));
        check("a.b.c.localhost", Some(&["c", "b", "a"]));
        check("a.b.c.d.localhost", None);
        check("key.tool.apps.example.org", Some(&["tool", "key"]));
        check("apps.example.org", None);
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
    fn a_path_names_a_session_and_what_is_asked_of_it() {
        let check = |target: &str, expected: Option<(&str, &str, &str)>| {
            let found = session_of_path(target);
            let found = found.map(|(template, key, length)| {
                (template.to_string(), key.to_string(), target[length..].to_owned())
            });
            let expected = expected.map(|(template, key, rest)| {
                (template.to_owned(), key.to_owned(), rest.to_owned())
            });
            assert_eq!(found, expected, "{target}");
        };
        check("/s/tool/alice/a/b?c=d", Some(("tool", "alice", "/a/b?c=d")));
        check("/s/tool/alice/", Some(("tool", "alice", "/")));
        check("/s/tool/alice", Some(("tool", "alice", "")));
        check("/s/tool/alice?x=/y", Some(("tool", "alice", "?x=/y")));
        check("/s/tool", None);
        check("/s/tool/", None);
        check("/s/../alice/", None);
        check("/s/tool/%61/", None);
        check("/x/tool/alice/", None);
    }

    #[test]
    fn a_url_leads_back_to_its_service() {
        let web = Name::new("web").unwrap();
        assert_eq!(Address::url(&web, 9000), "http://web.localhost:9000/");
        assert_eq!(Address::url(&web, 80), "http://web.localhost/");
    }
}
