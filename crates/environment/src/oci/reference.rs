//! Names of images: `debian`, `registry.example.org:5000/team/app:1.2@sha256:…`.

use std::fmt;
use std::str::FromStr;

use spawnery_model::ContentDigest;

/// The registry of names without one.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The host that serves it.
const DEFAULT_HOST: &str = "registry-1.docker.io";
/// Where names of one part are there.
const DEFAULT_NAMESPACE: &str = "library/";
/// The tag of names without tag and digest.
const DEFAULT_TAG: &str = "latest";
/// Longest name without registry, and longest tag, as registries accept them.
const REPOSITORY_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// The name of an image in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host, perhaps with a port: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// Name inside the registry: `library/debian`.
    pub repository: String,
    /// The tag, if it is given or nothing else is.
    pub tag: Option<String>,
    /// The digest of the manifest, which decides if it is given.
    pub digest: Option<ContentDigest>,
}

/// A text is not the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not the name of an image: {reason}; write REGISTRY/NAME:TAG or NAME@sha256:DIGEST"
)]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

impl Reference {
    /// Host and port that serve the registry.
    pub fn host(&self) -> &str {
        if self.registry == DEFAULT_REGISTRY { DEFAULT_HOST } else { &self.registry }
    }

    /// The same image, pinned to a manifest's digest.
    pub fn pinned(&self, digest: ContentDigest) -> Reference {
        Reference { digest: Some(digest), ..self.clone() }
    }

    /// What the registry knows its manifest by.
    pub(crate) fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("sha256:{digest}"),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@sha256:{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        let refuse = |reason| ReferenceError { text: text.chars().take(300).collect(), reason };
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let digits = digest
                    .strip_prefix("sha256:")
                    .ok_or_else(|| refuse("a digest begins with `sha256:`"))?;
                let digest = ContentDigest::try_from(digits.to_owned())
                    .map_err(|_| refuse("a digest has 64 lower-case hexadecimal digits"))?;
                (rest, Some(digest))
            }
        };
        // A colon after the last slash is that of a tag; one before is that of a port.
        let name_start = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[name_start..].split_once(':') {
            None => (rest, None),
            Some((last, tag)) => (&rest[..name_start + last.len()], Some(tag)),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refuse("a tag has up to 128 letters, digits, `_`, `.` and `-`"));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest.to_owned()),
            Some(_) => (DEFAULT_REGISTRY, name.to_owned()),
            None => (DEFAULT_REGISTRY, format!("{DEFAULT_NAMESPACE}{name}")),
        };
        let registry = match registry {
            "index.docker.io" | DEFAULT_HOST => DEFAULT_REGISTRY,
            other => other,
        };
        if !is_host(registry) {
            return Err(refuse("its registry is not a host name with an optional port"));
        }
        let repository = match repository.contains('/') || registry != DEFAULT_REGISTRY {
            true => repository,
            false => format!("{DEFAULT_NAMESPACE}{repository}"),
        };
        if repository.len() > REPOSITORY_BYTES_MAX || !repository.split('/').all(is_name) {
            return Err(refuse(
                "the parts of a name have lower-case letters and digits, with `.`, `_` or `-` between",
            ));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// Whether the first part of a name is a registry, and not a part of the name.
fn is_registry(text: &str) -> bool {
    text == "localhost"
        || text.contains(['.', ':'])
        || text.chars().any(|it| it.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            return rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|it| it.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|it| it > 0)
}

fn is_tag(text: &str) -> bool {
    let first = text.bytes().next();
    first.is_some_and(|it| it.is_ascii_alphanumeric() || it == b'_')
        && text.len() <= TAG_BYTES_MAX
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'.' | b'-'))
}

/// Whether it is one part of a name: runs of letters and digits with `.`, `_`, `__` or hyphens
/// between.
fn is_name(text: &str) -> bool {
    let is_word = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    if !ends.is_some_and(|(first, last)| is_word(*first) && is_word(*last)) {
        return false;
    }
    let separators = text.split(|it: char| it.is_ascii_lowercase() || it.is_ascii_digit());
    separators
        .filter(|it| !it.is_empty())
        .all(|it| matches!(it, "." | "_" | "__") || it.bytes().all(|byte| byte == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_they_mean_to_other_tools() {
        let hex = "a".repeat(64);
        let check = |text: &str, registry: &str, repository: &str, selector: &str| {
            let it: Reference = text.parse().expect(text);
            assert_eq!((it.registry.as_str(), it.repository.as_str()), (registry, repository));
            assert_eq!(it.selector(), selector, "{text}");
            let again: Reference = it.to_string().parse().expect("what it shows is one");
            assert_eq!(again, it);
        };
        check("debian", "docker.io", "library/debian", "latest");
        check("debian:bookworm", "docker.io", "library/debian", "bookworm");
        check("grafana/grafana", "docker.io", "grafana/grafana", "latest");
        check("docker.io/debian", "docker.io", "library/debian", "latest");
        check("index.docker.io/library/debian", "docker.io", "library/debian", "latest");
        check("localhost/app", "localhost", "app", "latest");
        check("localhost:5000/app", "localhost:5000", "app", "latest");
        check("127.0.0.1:5000/team/app:1.2", "127.0.0.1:5000", "team/app", "1.2");
        check("[::1]:5000/app:x", "[::1]:5000", "app", "x");
        check("ghcr.io/a/b/c:v1", "ghcr.io", "a/b/c", "v1");
        check(&format!("ghcr.io/a/b@sha256:{hex}"), "ghcr.io", "a/b", &format!("sha256:{hex}"));
        check(&format!("a:1@sha256:{hex}"), "docker.io", "library/a", &format!("sha256:{hex}"));
        check("a__b/c.d-e--f", "docker.io", "a__b/c.d-e--f", "latest");
        let it: Reference = "debian".parse().expect("a name");
        assert_eq!(it.host(), "registry-1.docker.io");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("ghcr.io/{}", "a".repeat(256));
        let tag = format!("a:{}", "b".repeat(129));
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "Debian",
            "a:",
            "a:-b",
            "a b",
            "a@sha256:12",
            "a@md5:12",
            "../a",
            "a/../b",
            "-.x/a",
            "h:0/a",
            "h:99999/a",
            "h:x/a",
            "a___b",
            "a._b",
            "a-",
            "http://h/a",
            "[::1/a",
            "a:b:c",
            long.as_str(),
            tag.as_str(),
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text} is refused");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back(text in "[a-z0-9A-Z./:@_-]{0,40}") {
            if let Ok(it) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(it.to_string().parse::<Reference>(), Ok(it));
            }
        }
    }
}
