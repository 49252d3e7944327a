//! URLs, as far as a manifest must know them. An error repeats none that holds a password.

use crate::error::{Problem, quoted};
use crate::reader::Reader;
use crate::tree::Node;

/// What a URL is for, and which schemes it may have.
#[derive(Clone, Copy)]
pub(crate) struct Use {
    expected: &'static str,
    schemes: &'static [&'static str],
    /// Whether paths as git takes them are mended.
    is_git: bool,
}

/// The URL of a package index.
pub(crate) const INDEX: Use = Use {
    expected: "a URL such as https://pypi.example.org/simple",
    schemes: &["https", "http"],
    is_git: false,
};

/// The URL of a git repository. Others, such as `ext`, run programs of the URL's choice.
pub(crate) const GIT: Use = Use {
    expected: "a URL that starts with https://, ssh:// or file://",
    schemes: &["https", "ssh", "file"],
    is_git: true,
};

/// The URL of a server that decides who may come in.
pub(crate) const FORWARD: Use = Use {
    expected: "a URL such as https://auth.example.org/check",
    schemes: &["https", "http"],
    is_git: false,
};

/// Bytes of a URL: what servers take.
const URL_BYTES_MAX: usize = 2048;

/// Reads a URL.
pub(crate) fn read(reader: &mut Reader, node: &Node, purpose: Use) -> Option<String> {
    let text = match &node.value {
        crate::tree::Value::Text(text) => text,
        _ => return reader.wrong(node, purpose.expected),
    };
    match problem(text, purpose) {
        None => Some(text.clone()),
        Some((found, hint)) => {
            reader.report(Problem::new(node.span, found, purpose.expected).hint_maybe(hint));
            None
        }
    }
}

/// Whether the first URL in `text` has a user with a password or, except for ssh, a user at all.
pub(crate) fn has_credentials(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match host.rsplit_once('@') {
        Some((user, _)) => user.contains(':') || !scheme.ends_with("ssh"),
        None => false,
    }
}

fn problem(text: &str, purpose: Use) -> Option<(String, Option<String>)> {
    let secret = "put them into a secret, and name it as `credentials`";
    if has_credentials(text) {
        return Some(("a URL with credentials in it".to_owned(), Some(secret.to_owned())));
    }
    if text.len() > URL_BYTES_MAX || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let found = format!("a URL with a space or more than {URL_BYTES_MAX} bytes");
        return Some((found, None));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Some((format!("{} is no URL", quoted(text)), mend_path(text, purpose)));
    };
    if let Some(inner) = scheme.strip_prefix("git+") {
        return Some((
            format!("the scheme {}", quoted(scheme)),
            Some(format!("write {inner}://{rest}")),
        ));
    }
    let host = rest.split('/').next().unwrap_or_default();
    let is_here = matches!(
        host.rsplit_once(':').map_or(host, |(name, port)| {
            if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }
        }),
        "localhost" | "127.0.0.1" | "[::1]"
    );
    let is_known = purpose.schemes.contains(&scheme) || (scheme == "http" && is_here);
    if !is_known {
        let hint = (scheme == "http").then(|| {
            "over http anybody on the way can change what is \
             fetched; write https://"
                .to_owned()
        });
        return Some((format!("the scheme {}", quoted(scheme)), hint));
    }
    let is_missing = match scheme {
        "file" => !rest.starts_with('/') || rest.len() < 2,
        _ => host.is_empty() || host.starts_with('-') || host.contains("@-"),
    };
    is_missing.then(|| (format!("{} names no place", quoted(text)), None))
}

/// What to write instead of what is no URL.
fn mend_path(text: &str, purpose: Use) -> Option<String> {
    if !purpose.is_git || text.contains("::") {
        return None;
    }
    match text.split_once(':') {
        // As ssh and scp write it: USER@HOST:PATH.
        Some((host, path)) if host.contains('@') && !host.contains('/') => {
            Some(format!("write ssh://{host}/{}", path.trim_start_matches('/')))
        }
        None if text.starts_with('/') => Some(format!("write file://{text}")),
        None if text.contains('.') && text.contains('/') && !text.starts_with('.') => {
            Some(format!("write https://{text}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_repositories_are_checked() {
        let check = |text: &str, hint: Option<&str>| {
            let (found, mend) = problem(text, GIT).expect(text);
            assert_eq!(mend.as_deref(), hint, "{text}: {found}");
            assert!(!found.contains("s3cret"), "{found}");
        };
        let secret = Some("put them into a secret, and name it as `credentials`");
        check("https://user:s3cret@example.org/app", secret);
        check("https://s3cret@example.org/app", secret);
        check("ssh://git:s3cret@example.org/app", secret);
        check("ext::sh -c s3cret", None);
        check("ext::sh", None);
        check("ext://sh", None);
        check("git@example.org:team/app", Some("write ssh://git@example.org/team/app"));
        check("git+https://example.org/app", Some("write https://example.org/app"));
        check("example.org/team/app", Some("write https://example.org/team/app"));
        check("/srv/app.git", Some("write file:///srv/app.git"));
        let http = "over http anybody on the way can change what is fetched; write https://";
        check("http://example.org/app", Some(http));
        check("http://127.0.0.1.example.org/app", Some(http));
        check("git://example.org/app", None);
        check("https://", None);
        check("ssh://-oProxyCommand=x/app", None);
        check("ssh://git@-oProxyCommand=x/app", None);
        check("file://srv", None);
        check("https://example.org/a b", None);
        check("", None);
        for right in [
            "https://example.org/team/app.git",
            "ssh://git@example.org:2222/app",
            "file:///srv/app.git",
            "http://127.0.0.1:8080/app.git",
            "http://localhost/app.git",
            "http://[::1]:80/app.git",
        ] {
            assert_eq!(problem(right, GIT), None, "{right}");
        }
    }
}
