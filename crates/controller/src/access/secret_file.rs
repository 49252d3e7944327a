//! Secrets that lie in files of the data folder, for their owner only.

use crate::secret::Secret;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file in the data folder that holds the admin token.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";

/// The file in the data folder that holds the secret by which tokens are signed, when no other is
/// configured.
pub const JWT_SECRET_FILE: &str = "jwt.secret";

/// A file with a secret could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The file could not be read or written.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What is in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner may read the file.
    #[error(
        "others may read {what} {} (mode {mode:04o}): chmod 600 it, or remove it to get a new one",
        path.display()
    )]
    Exposed {
        /// What is in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What is in the file does not fit.
    #[error("{} does not hold {what}: {reason}", path.display())]
    Malformed {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// A kind of secret: what it is called, what it begins with, and how long it is.
pub(super) struct Kind {
    pub(super) what: &'static str,
    pub(super) prefix: &'static str,
    pub(super) length_min: usize,
    pub(super) length_max: usize,
}

/// Reads a secret from `path`, or makes it there, readable by its owner only.
pub(super) fn open(path: &Path, kind: &Kind) -> Result<String, SecretFileError> {
    match read(path, kind)? {
        Some(secret) => Ok(secret),
        None => create(path, kind),
    }
}

/// The secret in `path`, if there is such a file. A line break at its end does not count.
pub(super) fn read(path: &Path, kind: &Kind) -> Result<Option<String>, SecretFileError> {
    let what = kind.what;
    let failed = |source| SecretFileError::File { what, path: path.to_owned(), source };
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Exposed { what, path: path.to_owned(), mode });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let secret = text.trim_end_matches('\n');
    let length = kind.length_min..=kind.length_max;
    let reason = match () {
        () if !secret.starts_with(kind.prefix) => "it begins otherwise; remove it to get a new one",
        () if !length.contains(&secret.len()) => "it is too short or too long",
        () if !secret.bytes().all(|byte| byte.is_ascii_graphic()) => {
            "it has other characters than visible ASCII"
        }
        () => return Ok(Some(secret.to_owned())),
    };
    Err(SecretFileError::Malformed { what, path: path.to_owned(), reason })
}

/// Makes a secret. The file is there in full or not at all, also after a power loss.
fn create(path: &Path, kind: &Kind) -> Result<String, SecretFileError> {
    let secret = format!("{}{}", kind.prefix, Secret::generate().reveal());
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let written = (|| {
        // What a start that was interrupted left behind.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
        writeln!(file, "{secret}")?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    })();
    let what = kind.what;
    written.map_err(|source| SecretFileError::File { what, path: path.to_owned(), source })?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind =
        Kind { what: "the test's secret", prefix: "test_", length_min: 37, length_max: 100 };

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let first = open(&path, &KIND).unwrap();
        assert_eq!(first.len(), KIND.prefix.len() + 64);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(open(&path, &KIND).unwrap(), first);
    }

    #[test]
    fn a_file_that_cannot_be_trusted_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let check = |content: &str, mode: u32| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = open(&path, &KIND).expect_err("it is refused");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            let shown = error.to_string();
            assert!(content.is_empty() || !shown.contains(content.trim()), "{shown}");
            error
        };
        let good = format!("test_{}\n", "a".repeat(64));
        assert!(matches!(check(&good, 0o644), SecretFileError::Exposed { mode: 0o644, .. }));
        for content in ["", "hunter2\n", "test_hunter2\n", &good.replace('a', "a b")] {
            assert!(matches!(check(content, 0o600), SecretFileError::Malformed { .. }));
        }
    }
}
