//! Recipes by content, and what of them can be checked without doing anything.

use minicbor::Encode;
use sha2::{Digest, Sha256};
use spawnery_model::{Base, ContentDigest, Environment, EnvironmentFile, GitReference, Local};

/// Longest text of a recipe that is given to a tool as one word, in bytes: longer ones are no
/// package, URL or branch, and would not fit into messages.
pub const WORD_BYTES_MAX: usize = 1024;

/// Largest file of Python requirements, in bytes: tens of thousands of lines with hashes.
pub const REQUIREMENTS_BYTES_MAX: u64 = 4 << 20;

/// A recipe says something that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct RecipeError {
    /// The field, such as `packages.apt`.
    pub place: &'static str,
    /// What is wrong with it and what to do.
    pub reason: String,
}

/// The SHA-256 of the canonical encoding of a recipe, without its name and its lock: two recipes
/// with the same digest ask for the same.
pub fn digest(recipe: &Environment) -> ContentDigest {
    hash(&Environment { name: None, lock: None, ..recipe.clone() })
}

/// The digest of what a lock depends on: the recipe without the content of those local files that
/// no version is resolved from, so that an edited source file does not ask for a new lock.
pub fn resolved_digest(recipe: &Environment) -> ContentDigest {
    let unread = |local: &Local| Local { tree: None, ..local.clone() };
    let mut recipe = recipe.clone();
    recipe.base = match recipe.base {
        Base::ImageFile(local) => Base::ImageFile(unread(&local)),
        Base::Directory(local) => Base::Directory(unread(&local)),
        other => other,
    };
    recipe.files = recipe
        .files
        .into_iter()
        .map(|file| EnvironmentFile { from: unread(&file.from), ..file })
        .collect();
    digest(&recipe)
}

/// The SHA-256 of a value's canonical encoding, which is the CBOR that its type derives.
pub(crate) fn hash<T: Encode<()>>(value: &T) -> ContentDigest {
    let bytes = minicbor::to_vec(value).expect("writing to a Vec cannot fail");
    ContentDigest::from_bytes(Sha256::digest(bytes).into())
}

/// Checks what a recipe gives to tools, so that none of it is taken for an option, a path or a
/// scheme that was not meant. The manifest checks more; a recipe may come from elsewhere.
///
/// # Errors
///
/// When a value cannot be used; the error names the field.
pub fn check(recipe: &Environment) -> Result<(), RecipeError> {
    let wrong = |place, reason: String| Err(RecipeError { place, reason });
    if let Base::Debian { suite } = &recipe.base
        && !(is_word(suite) && suite.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    {
        return wrong("base.debian", format!("`{suite}` is not a suite such as `bookworm`"));
    }
    if let Some(package) = recipe.apt.iter().find(|package| !is_package(package)) {
        let reason = format!("`{package}` is not a package: write NAME or NAME=VERSION");
        return wrong("packages.apt", reason);
    }
    if let Some(python) = &recipe.python {
        if let Some(version) = python.version.as_deref().filter(|it| !is_python_version(it)) {
            return wrong("python.version", format!("`{version}` is not a version such as `3.11`"));
        }
        for package in &python.packages {
            check_requirement(package)
                .map_err(|reason| RecipeError { place: "python.packages", reason })?;
        }
        if let Some(index) = &python.index {
            check_url(index, &["https", "http"])
                .map_err(|reason| RecipeError { place: "python.index", reason })?;
        }
    }
    if let Some(source) = &recipe.source {
        check_url(&source.git, &["https", "http", "ssh", "file"])
            .map_err(|reason| RecipeError { place: "source.git", reason })?;
        check_reference(&source.reference)
            .map_err(|reason| RecipeError { place: "source", reason })?;
        check_target(&source.to).map_err(|reason| RecipeError { place: "source.to", reason })?;
    }
    for file in &recipe.files {
        let place = if file.directory { "directories" } else { "files" };
        check_target(&file.to).map_err(|reason| RecipeError { place, reason })?;
    }
    if recipe.build.iter().any(|command| command.contains('\0')) {
        return wrong("build", "a command contains a NUL byte".to_owned());
    }
    Ok(())
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= WORD_BYTES_MAX
        && !text.starts_with('-')
        && !text.contains(|c: char| c.is_control() || c.is_whitespace())
}

/// Debian Policy 5.6.1 and 5.6.12: what names, architectures and versions consist of.
fn is_package(text: &str) -> bool {
    let (name, version) = match text.split_once('=') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    is_word(text) && is_package_name(name) && version.is_none_or(is_package_version)
}

/// Whether it may name a package, perhaps with `:ARCHITECTURE`.
pub(crate) fn is_package_name(name: &str) -> bool {
    let (name, architecture) = name.split_once(':').unwrap_or((name, "all"));
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.bytes().next().is_some_and(plain)
        && name.bytes().all(|b| plain(b) || b"+-.".contains(&b))
        && !architecture.is_empty()
        && architecture.bytes().all(|b| plain(b) || b == b'-')
}

/// Whether it may be the version of a package.
pub(crate) fn is_package_version(version: &str) -> bool {
    version.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-~:".contains(&b))
}

fn is_python_version(version: &str) -> bool {
    let parts: Vec<&str> = version.split('.').collect();
    (1..=3).contains(&parts.len())
        && parts
            .iter()
            .all(|it| (1..=3).contains(&it.len()) && it.bytes().all(|b| b.is_ascii_digit()))
}

/// Checks one line of Python requirements, which must not be an option.
pub(crate) fn check_requirement(line: &str) -> Result<(), String> {
    if line.is_empty() || line.contains(['\n', '\r', '\0']) || line.len() > 64 * WORD_BYTES_MAX {
        return Err(format!("`{}` is not one requirement", line.escape_debug()));
    }
    if line.trim_start().starts_with('-') {
        return Err(format!(
            "`{line}` is an option; only requirements such as `requests>=2.31` can be given \
             (the index is set by `python.index`)"
        ));
    }
    Ok(())
}

fn check_url(url: &str, schemes: &[&str]) -> Result<(), String> {
    let list = schemes.join(", ");
    let Some((scheme, rest)) = url.split_once("://").filter(|_| is_word(url)) else {
        return Err(format!("`{url}` is not a URL: it must begin with one of {list} and `://`"));
    };
    if !schemes.contains(&scheme) {
        return Err(format!("`{scheme}` is not supported: use one of {list}"));
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    if user.is_some_and(|user| user.contains(':') || scheme != "ssh") {
        return Err("the URL holds credentials: keep them in a secret and name it in \
                    `credentials`"
            .to_owned());
    }
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if scheme != "file" && (host.is_empty() || host.starts_with('-')) {
        return Err(format!("`{url}` names no host"));
    }
    if scheme == "http" && !is_loopback(host) {
        return Err(format!("`{url}` is not protected on its way: use https"));
    }
    Ok(())
}

/// Whether a `HOST:PORT` is this machine, so that plain HTTP is as safe as anything.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn check_reference(reference: &GitReference) -> Result<(), String> {
    let (GitReference::Branch(name) | GitReference::Tag(name)) = reference else {
        let GitReference::Commit(commit) = reference else { return Ok(()) };
        return if is_commit(commit) {
            Ok(())
        } else {
            Err(format!("`{commit}` is not a commit: give all of its 40 hexadecimal digits"))
        };
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    if !is_word(name) || name.contains(odd) || name.contains("..") {
        return Err(format!("`{name}` cannot be the name of a branch or a tag"));
    }
    Ok(())
}

/// Whether it is the full id of a commit, with SHA-1 or SHA-256.
pub(crate) fn is_commit(text: &str) -> bool {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    matches!(text.len(), 40 | 64) && text.bytes().all(is_digit)
}

fn check_target(path: &str) -> Result<(), String> {
    let normal = path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
    });
    if !normal || path.contains('\0') || path.len() > crate::limits::PATH_BYTES_MAX {
        return Err(format!("`{path}` must be an absolute path without `.` and `..`"));
    }
    let top = path.split('/').nth(1).unwrap_or_default();
    if matches!(top, "proc" | "sys" | "dev" | "tmp" | "run") {
        return Err(format!("`{path}` is not kept in an environment: put it elsewhere"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::{EnvironmentLock, Python, Source};

    fn recipe() -> Environment {
        let local = |path: &str| Local { path: path.into(), tree: Some(hash(&path)) };
        Environment {
            name: "tour".parse().ok(),
            base: Base::Host,
            apt: vec!["curl".into(), "jq=1.6-2.1".into()],
            python: Some(Python {
                version: Some("3.11".into()),
                packages: vec!["requests>=2.31".into()],
                requirements: Some(local("requirements.txt")),
                index: Some("https://pypi.example.org/simple".into()),
                credentials: None,
            }),
            source: Some(Source {
                git: "https://git.example.org/team/app.git".into(),
                reference: GitReference::Branch("main".into()),
                credentials: None,
                to: "/srv/source".into(),
            }),
            files: vec![EnvironmentFile {
                from: local("app.py"),
                to: "/srv/app.py".into(),
                directory: false,
            }],
            build: vec!["make".into()],
            build_network: false,
            lock: None,
        }
    }

    #[test]
    fn the_digest_is_pinned_and_ignores_name_and_lock() {
        let first = recipe();
        assert_eq!(
            digest(&first).as_str(),
            "782c7bb84789d444e1a2359a51625e0a4e5def843749b38a34070e2f37b88c1e"
        );
        let lock = Some(EnvironmentLock::default());
        assert_eq!(digest(&Environment { name: None, lock, ..first.clone() }), digest(&first));
        let other = Environment { build: vec!["make all".into()], ..first.clone() };
        assert_ne!(digest(&other), digest(&first));
    }

    #[test]
    fn an_edited_file_asks_for_a_new_build_but_not_for_a_new_lock() {
        let (first, mut edited) = (recipe(), recipe());
        edited.files[0].from.tree = Some(hash(&"edited"));
        assert_ne!(digest(&first), digest(&edited));
        assert_eq!(resolved_digest(&first), resolved_digest(&edited));
        let python = edited.python.as_mut().and_then(|it| it.requirements.as_mut());
        python.expect("there is one").tree = Some(hash(&"edited"));
        assert_ne!(resolved_digest(&first), resolved_digest(&edited));
    }

    #[test]
    fn what_could_be_taken_for_something_else_is_refused() {
        fn check_wrong(change: impl Fn(&mut Environment), place: &str, words: &str) {
            let mut recipe = recipe();
            change(&mut recipe);
            let error = check(&recipe).expect_err(words);
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.place, place);
        }
        check(&recipe()).expect("a usual recipe is accepted");
        for package in ["-o=x", "Curl", "curl;id", "a b", "curl=", "curl=$(id)", "../x", ""] {
            check_wrong(|it| it.apt.push(package.into()), "packages.apt", "is not a package");
        }
        for (url, words) in [
            ("ext::sh -c id", "is not a URL"),
            ("ext://sh", "not supported"),
            ("--upload-pack=id", "is not a URL"),
            ("ssh://-oProxyCommand=id/x", "names no host"),
            ("https://user:word@example.org/x", "holds credentials"),
            ("https://token@example.org/x", "holds credentials"),
            ("http://example.org/x", "use https"),
        ] {
            let change = |it: &mut Environment| {
                it.source.as_mut().expect("there is one").git = url.into();
            };
            check_wrong(change, "source.git", words);
        }
        for reference in ["-x", "a..b", "a b", "a^b"] {
            let change = |it: &mut Environment| {
                let reference = GitReference::Branch(reference.into());
                it.source.as_mut().expect("there is one").reference = reference;
            };
            check_wrong(change, "source", "branch or a tag");
        }
        for path in ["srv", "/srv/../etc", "/proc/x", "/tmp/x", "/", "/srv/"] {
            check_wrong(|it| it.files[0].to = path.into(), "files", path);
        }
        let option = |it: &mut Environment| {
            it.python.as_mut().expect("there is one").packages.push("--index-url=x".into());
        };
        check_wrong(option, "python.packages", "is an option");
        let version = |it: &mut Environment| {
            it.python.as_mut().expect("there is one").version = Some("/bin/sh".into());
        };
        check_wrong(version, "python.version", "not a version");
        check_wrong(
            |it| it.base = Base::Debian { suite: "../x".into() },
            "base.debian",
            "not a suite",
        );
    }

    #[test]
    fn this_machine_may_be_asked_without_protection() {
        for url in ["http://127.0.0.1:80/x", "http://localhost/x", "http://[::1]:9/x"] {
            assert_eq!(check_url(url, &["http"]), Ok(()), "{url}");
        }
        assert!(check_url("http://localhost.example.org/x", &["http"]).is_err());
    }
}
