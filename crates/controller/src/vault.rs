//! Encrypts secrets before they enter the journal, with a key that lies in a file of its own.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use spawnery_model::Name;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Bytes of the key: AES-256 (FIPS 197).
const KEY_BYTES: usize = 32;

/// Permission bits that a key file must not have: those of the group and of others.
const OPEN_TO_OTHERS: u32 = 0o077;

/// Encrypts and decrypts the values of secrets. The key is read when it is first needed, so that
/// a cluster without secrets needs no key.
#[derive(Debug)]
pub(crate) struct Vault {
    key_file: PathBuf,
    /// Held while the key is made, so that two first secrets get the same key.
    making: Mutex<()>,
}

/// The key or a value cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file cannot be read or made.
    #[error("cannot use the key of the secrets in {path}: {error}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The key file does not hold a key.
    #[error(
        "the key of the secrets in {path} has {found_bytes} bytes, not {KEY_BYTES}: put the right \
         file back"
    )]
    KeySize {
        /// The file.
        path: PathBuf,
        /// What is in it.
        found_bytes: usize,
    },
    /// Others can read the key file.
    #[error(
        "others may read the key of the secrets in {path} (mode {mode:04o}): run `chmod 600 \
         {path}`, and consider the secrets known"
    )]
    KeyOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There are secrets, and their key is gone.
    #[error("the key of the secrets is not in {path}: put the file back, or set each secret again")]
    KeyGone {
        /// Where it should be.
        path: PathBuf,
    },
    /// The value was encrypted with another key, or changed.
    #[error(
        "secret {name} cannot be decrypted with the key in {path}: put the right key back, or set \
         the secret again"
    )]
    Sealed {
        /// The secret.
        name: Name,
        /// The key file.
        path: PathBuf,
    },
    /// There is no randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

impl Vault {
    /// A vault with its key in `key_file`.
    pub(crate) fn new(key_file: PathBuf) -> Vault {
        Vault { key_file, making: Mutex::new(()) }
    }

    /// Encrypts the value of a secret: a nonce, then the cipher text, bound to the name. Makes the
    /// key if there is none; `first` says that no secret was encrypted before.
    pub(crate) fn seal(
        &self,
        name: &Name,
        value: &[u8],
        first: bool,
    ) -> Result<Vec<u8>, VaultError> {
        let making = self.making.lock().expect("no holder panics");
        let key = match self.read_key()? {
            Some(key) => key,
            None if first => self.make_key()?,
            None => return Err(VaultError::KeyGone { path: self.key_file.clone() }),
        };
        drop(making);
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(VaultError::Random)?;
        let mut sealed = nonce.to_vec();
        let mut text = value.to_vec();
        cipher(&key)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(name.as_str()),
                &mut text,
            )
            .expect("a secret is far below the cipher's limit");
        sealed.append(&mut text);
        Ok(sealed)
    }

    /// Decrypts the value of a secret.
    pub(crate) fn open(&self, name: &Name, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let key = self.read_key()?;
        let key = key.ok_or_else(|| VaultError::KeyGone { path: self.key_file.clone() })?;
        let wrong = || VaultError::Sealed { name: name.clone(), path: self.key_file.clone() };
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let value = cipher(&key)
            .open_in_place(nonce, Aad::from(name.as_str()), &mut text)
            .map_err(|_| wrong())?;
        Ok(value.to_vec())
    }

    fn read_key(&self) -> Result<Option<[u8; KEY_BYTES]>, VaultError> {
        let path = &self.key_file;
        let failed = |error| VaultError::Key { path: path.clone(), error };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & OPEN_TO_OTHERS != 0 {
            return Err(VaultError::KeyOpen { path: path.clone(), mode });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let found_bytes = bytes.len();
        let key = bytes.try_into();
        key.map(Some).map_err(|_| VaultError::KeySize { path: path.clone(), found_bytes })
    }

    /// Makes a new key, which is on the disk before anything is encrypted with it.
    fn make_key(&self) -> Result<[u8; KEY_BYTES], VaultError> {
        let failed = |error| VaultError::Key { path: self.key_file.clone(), error };
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(VaultError::Random)?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&self.key_file);
        let mut file = file.map_err(failed)?;
        file.write_all(&key).and_then(|()| file.sync_all()).map_err(failed)?;
        let folder = self.key_file.parent().unwrap_or(Path::new("/"));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(key)
    }
}

fn cipher(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, key);
    LessSafeKey::new(key.expect("the key has the cipher's length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn vault() -> (tempfile::TempDir, Vault) {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::new(folder.path().join("secrets.key"));
        (folder, vault)
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_secret_reads_back_and_only_under_its_own_name() {
        let (_folder, vault) = vault();
        let sealed = vault.seal(&name("db"), b"hunter2", true).unwrap();
        assert_eq!(vault.open(&name("db"), &sealed).unwrap(), b"hunter2");
        assert!(!sealed.windows(7).any(|bytes| bytes == b"hunter2"));
        assert!(matches!(vault.open(&name("other"), &sealed), Err(VaultError::Sealed { .. })));
        let again = vault.seal(&name("db"), b"hunter2", false).unwrap();
        assert_ne!(again, sealed, "the same value does not look the same twice");
    }

    #[test]
    fn a_changed_value_is_refused() {
        let (_folder, vault) = vault();
        let sealed = vault.seal(&name("db"), b"hunter2", true).unwrap();
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(vault.open(&name("db"), &changed).is_err(), "byte {position}");
        }
        assert!(vault.open(&name("db"), &[]).is_err());
    }

    #[test]
    fn a_key_that_is_gone_is_not_made_anew() {
        let (_folder, vault) = vault();
        let sealed = vault.seal(&name("db"), b"hunter2", true).unwrap();
        fs::remove_file(&vault.key_file).unwrap();
        let gone = |error: VaultError| matches!(error, VaultError::KeyGone { .. });
        assert!(gone(vault.open(&name("db"), &sealed).unwrap_err()));
        assert!(gone(vault.seal(&name("db"), b"x", false).unwrap_err()));
        assert!(!vault.key_file.exists());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let (_folder, vault) = vault();
        let sealed = vault.seal(&name("db"), b"hunter2", true).unwrap();
        fs::set_permissions(&vault.key_file, fs::Permissions::from_mode(0o640)).unwrap();
        let error = vault.open(&name("db"), &sealed).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
