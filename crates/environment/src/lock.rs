//! Whether a lock can be used for a recipe.

use spawnery_model::{Base, ContentDigest, Environment, EnvironmentLock, LockedPackage};

use crate::recipe;

/// A lock cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// The recipe was changed since.
    #[error("lock is of another recipe: run `spawnery environment lock`")]
    OtherRecipe,
    /// It does not pin everything.
    #[error("the lock has no {what}, which the recipe asks for: run `spawnery environment lock`")]
    Incomplete {
        /// What is missing.
        what: &'static str,
    },
    /// A value cannot be used.
    #[error("the lock's {field} `{value}` {reason}: run `spawnery environment lock`")]
    Malformed {
        /// The field.
        field: &'static str,
        /// What stands there.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Checks that a lock is of this recipe, pins all that the recipe leaves open, and holds nothing
/// that a tool could take for an option.
///
/// # Errors
///
/// When it cannot be used; it is never used in part.
pub fn check(recipe: &Environment, lock: &EnvironmentLock) -> Result<(), LockError> {
    if lock.recipe != recipe::resolved_digest(recipe).as_str() {
        return Err(LockError::OtherRecipe);
    }
    let missing = |what| Err(LockError::Incomplete { what });
    match &recipe.base {
        Base::Image { .. } if lock.image.is_none() => return missing("digest of the image"),
        Base::Debian { .. } if lock.base.is_empty() => return missing("packages of the base"),
        _ => {}
    }
    if !recipe.apt.is_empty() && lock.apt.is_empty() {
        return missing("Debian packages");
    }
    if recipe.python.is_some() && lock.python.is_none() {
        return missing("version of Python");
    }
    if recipe.source.is_some() && lock.commit.is_none() {
        return missing("commit of the source");
    }
    check_values(lock)
}

fn check_values(lock: &EnvironmentLock) -> Result<(), LockError> {
    let malformed = |field, value: &str, reason| {
        Err(LockError::Malformed { field, value: value.into(), reason })
    };
    let is_sha256 = |text: &str| ContentDigest::try_from(text.to_owned()).is_ok();
    if let Some(image) = &lock.image
        && !image.strip_prefix("sha256:").is_some_and(is_sha256)
    {
        return malformed("image", image, "is not `sha256:` and 64 hexadecimal digits");
    }
    for package in lock.base.iter().chain(&lock.apt) {
        if !is_usable(package) {
            return malformed("package", &package.name, "is not pinned by version and SHA-256");
        }
    }
    if let Some(commit) = lock.commit.as_ref().filter(|commit| !recipe::is_commit(commit)) {
        return malformed("commit", commit, "is not the full id of a commit");
    }
    if let Some(version) = lock.python.as_ref()
        && !version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'+')
    {
        return malformed("python", version, "is not a version");
    }
    for line in &lock.requirements {
        if !is_pinned(line) {
            return malformed("requirement", line, "is not `NAME==VERSION --hash=sha256:…`");
        }
    }
    Ok(())
}

fn is_usable(package: &LockedPackage) -> bool {
    recipe::is_package_name(&package.name)
        && recipe::is_package_version(&package.version)
        && recipe::is_package_name(&package.architecture)
        && ContentDigest::try_from(package.sha256.clone()).is_ok()
}

/// Whether a line names one version of one package with at least one hash, and nothing else but
/// perhaps a condition.
fn is_pinned(line: &str) -> bool {
    let mut words = line.split(" --");
    let requirement = words.next().unwrap_or_default();
    let (pin, _condition) = requirement.split_once(';').unwrap_or((requirement, ""));
    let Some((name, version)) = pin.trim().split_once("==") else { return false };
    let plain = |text: &str, also: &[u8]| {
        text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
    };
    let hashes: Vec<&str> = words.map(str::trim).collect();
    recipe::check_requirement(line).is_ok()
        && plain(name.trim(), b"._-[],")
        && plain(version.trim(), b"._-+!")
        && !hashes.is_empty()
        && hashes.iter().all(|word| {
            word.strip_prefix("hash=sha256:")
                .is_some_and(|hash| ContentDigest::try_from(hash.to_owned()).is_ok())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::{GitReference, Python, Source};

    const HASH: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn recipe() -> Environment {
        Environment {
            name: None,
            base: Base::Image { reference: "debian:bookworm".into(), credentials: None },
            apt: vec!["jq".into()],
            python: Some(Python::default()),
            source: Some(Source {
                git: "https://git.example.org/x".into(),
                reference: GitReference::Default,
                credentials: None,
                to: "/srv/source".into(),
            }),
            files: Vec::new(),
            build: Vec::new(),
            build_network: false,
            lock: None,
        }
    }

    fn lock() -> EnvironmentLock {
        EnvironmentLock {
            recipe: recipe::resolved_digest(&recipe()).to_string(),
            image: Some(format!("sha256:{HASH}")),
            apt: vec![LockedPackage {
                name: "jq".into(),
                version: "1.6-2.1".into(),
                architecture: "amd64".into(),
                sha256: HASH.into(),
            }],
            python: Some("3.11.2".into()),
            requirements: vec![
                format!("six==1.16.0 --hash=sha256:{HASH}"),
                format!("a[b]==1+local ; python_version < '4' --hash=sha256:{HASH}"),
            ],
            commit: Some("a".repeat(40)),
            base: Vec::new(),
        }
    }

    #[test]
    fn a_lock_that_does_not_fit_is_not_used() {
        fn check_wrong(change: impl Fn(&mut EnvironmentLock), words: &str) {
            let mut lock = lock();
            change(&mut lock);
            let error = check(&recipe(), &lock).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
            assert!(error.contains("spawnery environment lock"), "{error}");
        }
        check(&recipe(), &lock()).expect("it fits");
        check_wrong(|it| it.recipe = HASH.into(), "lock is of another recipe");
        check_wrong(|it| it.image = None, "digest of the image");
        check_wrong(|it| it.image = Some("latest".into()), "image `latest`");
        check_wrong(|it| it.apt.clear(), "Debian packages");
        check_wrong(|it| it.apt[0].sha256.clear(), "not pinned");
        check_wrong(|it| it.apt[0].name = "-o".into(), "not pinned");
        check_wrong(|it| it.python = None, "version of Python");
        check_wrong(|it| it.python = Some("/bin/sh".into()), "not a version");
        check_wrong(|it| it.commit = None, "commit");
        check_wrong(|it| it.commit = Some("main".into()), "full id");
        for line in [
            "six==1.16.0".to_owned(),
            format!("six>=1 --hash=sha256:{HASH}"),
            format!("--index-url=http://x --hash=sha256:{HASH}"),
            format!("six==1 --hash=sha256:{HASH} --index-url=x"),
            format!("six @ https://example.org/x --hash=sha256:{HASH}"),
            format!("six==1 --hash=md5:{HASH}"),
        ] {
            check_wrong(|it| it.requirements = vec![line.clone()], "requirement");
        }
    }
}
