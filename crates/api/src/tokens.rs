//! Who may call: the admin token.

use sha2::{Digest, Sha256};
use spawnery_controller::Secret;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file in the data folder that holds the admin token.
pub const TOKEN_FILE: &str = "admin.token";

/// What a token begins with, so that people and secret scanners recognise it.
const TOKEN_PREFIX: &str = "spawnery_";

/// The longest token that is looked at: a few times the length of ours.
const TOKEN_LENGTH_MAX: usize = 256;

/// Who a token speaks for.
const ADMIN: &str = "admin";

/// The admin token could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file could not be read or written.
    #[error("the admin token {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner may read the file.
    #[error(
        "others may read the admin token {} (mode {mode:04o}): chmod 600 it, or remove it to get a \
         new one",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What is in the file is no token.
    #[error("{} holds no token: remove it to get a new one", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// The tokens that are taken. Only their hashes are kept; has no `Debug`.
#[derive(Clone)]
pub struct Tokens {
    admin: [u8; 32],
    admin_subject: Arc<str>,
}

impl Tokens {
    /// Reads the admin token from `data_dir`, or makes it there, readable by its owner only.
    pub fn open(data_dir: &Path) -> Result<Tokens, TokenError> {
        let path = data_dir.join(TOKEN_FILE);
        let token = match read(&path)? {
            Some(token) => token,
            None => create(&path)?,
        };
        Ok(Tokens::of_admin(&token))
    }

    /// Takes `token` as the admin token.
    pub fn of_admin(token: &str) -> Tokens {
        Tokens { admin: hash(token), admin_subject: Arc::from(ADMIN) }
    }

    /// Who `token` speaks for, if anybody. Takes the same time whatever the token is.
    pub(crate) fn subject(&self, token: &str) -> Option<Subject> {
        if token.len() > TOKEN_LENGTH_MAX {
            return None;
        }
        // Hashes of what an attacker sends are random to the attacker, so not even a comparison
        // that stopped early would tell anything about the token.
        let shown = hash(token);
        let pairs = shown.iter().zip(&self.admin);
        let difference = pairs.fold(0, |difference, (a, b)| difference | (a ^ b));
        (difference == 0).then(|| Subject(self.admin_subject.clone()))
    }

    /// A secret of 256 bits that only this server can make of `purpose`, the same each time.
    pub(crate) fn derive(&self, purpose: &str) -> String {
        let mut hasher = Sha256::new();
        hasher.update(b"spawnery derived secret 1\0");
        hasher.update(self.admin);
        hasher.update(purpose.as_bytes());
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject(Arc<str>);

impl Subject {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn read(path: &Path) -> Result<Option<String>, TokenError> {
    let failed = |source| TokenError::File { path: path.to_owned(), source };
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(TokenError::Exposed { path, mode });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let token = text.trim_end_matches('\n');
    let is_token = token.starts_with(TOKEN_PREFIX)
        && token.len() >= TOKEN_PREFIX.len() + 32
        && token.len() <= TOKEN_LENGTH_MAX
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token {
        let path = path.to_owned();
        return Err(TokenError::Malformed { path });
    }
    Ok(Some(token.to_owned()))
}

/// Makes a token. The file is there in full or not at all, also after a power loss.
fn create(path: &Path) -> Result<String, TokenError> {
    let token = format!("{TOKEN_PREFIX}{}", Secret::generate().reveal());
    let temporary = path.with_extension("token.new");
    let written = (|| {
        // What a start that was interrupted left behind.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
        writeln!(file, "{token}")?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    })();
    written.map_err(|source| TokenError::File { path: path.to_owned(), source })?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_token_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = Tokens::open(folder.path()).unwrap();
        let path = folder.path().join(TOKEN_FILE);
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        let token = text.trim();
        assert_eq!(token.len(), TOKEN_PREFIX.len() + 64);
        let second = Tokens::open(folder.path()).unwrap();
        for tokens in [first, second] {
            assert_eq!(tokens.subject(token).unwrap().as_str(), ADMIN);
            assert_eq!(tokens.subject(&token[1..]), None);
            assert_eq!(tokens.subject(""), None);
            assert_eq!(tokens.subject(&token.repeat(5)), None);
        }
    }

    #[test]
    fn a_token_file_that_cannot_be_trusted_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(TOKEN_FILE);
        let check = |content: &str, mode: u32| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Tokens::open(folder.path()).err().expect("it is refused");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            error
        };
        let good = format!("{TOKEN_PREFIX}{}\n", "a".repeat(64));
        assert!(matches!(check(&good, 0o644), TokenError::Exposed { mode: 0o644, .. }));
        assert!(matches!(check("", 0o600), TokenError::Malformed { .. }));
        assert!(matches!(check("secret\n", 0o600), TokenError::Malformed { .. }));
        let shown = check("secret\n", 0o600).to_string();
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_derived_secret_depends_on_token_and_purpose() {
        let tokens = Tokens::of_admin("one");
        assert_eq!(tokens.derive("a"), Tokens::of_admin("one").derive("a"));
        assert_ne!(tokens.derive("a"), tokens.derive("b"));
        assert_ne!(tokens.derive("a"), Tokens::of_admin("two").derive("a"));
    }
}
