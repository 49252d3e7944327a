//! Account and certificate on disk, readable by their owner only.

use super::AcmeError;
use crate::tls::Certificates;
use crate::tls::certificates::{Origin, certified};
use instant_acme::AccountCredentials;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Which part of a certificate's life is left when it is renewed: one in three, as the large
/// authorities advise.
const RENEW_AT_PART: u32 = 3;

pub(crate) struct Store {
    folder: PathBuf,
    certificate: PathBuf,
}

impl Store {
    /// The store of the certificate for `names`: another list of names is another certificate.
    pub(crate) fn new(folder: &Path, names: &[String]) -> Store {
        let first = names.first().map_or("none", String::as_str).replace('*', "_");
        // A file's name must not grow with the names.
        let sum = names
            .join(",")
            .bytes()
            .fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let certificate = folder.join(format!("{first}-{sum:08x}.pem"));
        Store { folder: folder.to_owned(), certificate }
    }

    fn error(path: &Path, reason: impl ToString) -> AcmeError {
        AcmeError::Store { path: path.display().to_string(), reason: reason.to_string() }
    }

    fn account(&self) -> PathBuf {
        self.folder.join("account.json")
    }

    /// The account that was made earlier with this authority.
    pub(crate) fn load_account(&self) -> Result<Option<AccountCredentials>, AcmeError> {
        let path = self.account();
        match fs::read(&path) {
            Ok(bytes) => {
                let account = serde_json::from_slice(&bytes);
                account.map(Some).map_err(|error| Store::error(&path, error))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Store::error(&path, error)),
        }
    }

    pub(crate) fn save_account(&self, account: &AccountCredentials) -> Result<(), AcmeError> {
        let path = self.account();
        let bytes = serde_json::to_vec(account).map_err(|error| Store::error(&path, error))?;
        self.write(&path, &bytes)
    }

    /// Keeps a chain and its key.
    pub(crate) fn save(&self, chain_pem: &str, key_pem: &str) -> Result<(), AcmeError> {
        self.write(&self.certificate, format!("{key_pem}\n{chain_pem}").as_bytes())
    }

    /// Shows the kept certificate from now on, and says in how long it is due to be renewed.
    pub(crate) fn take(&self, into: &Certificates) -> Result<Duration, AcmeError> {
        let path = &self.certificate;
        let pem = fs::read(path).map_err(|error| Store::error(path, error))?;
        let made = certified(&pem, &pem, &path.display().to_string())?;
        let due_in = self.due_in()?;
        into.set(Origin::Acme, vec![made]);
        Ok(due_in)
    }

    /// In how long the kept certificate is due to be renewed; zero if it is.
    pub(crate) fn due_in(&self) -> Result<Duration, AcmeError> {
        let path = &self.certificate;
        let pem = fs::read(path).map_err(|error| Store::error(path, error))?;
        let own = CertificateDer::from_pem_slice(&pem);
        let own = own.map_err(|_| Store::error(path, "it has no certificate"))?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&own).map_err(|error| Store::error(path, error))?;
        let instant = |time: x509_parser::time::ASN1Time| {
            let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        };
        let validity = parsed.validity();
        let (from, until) = (instant(validity.not_before), instant(validity.not_after));
        let life = until.duration_since(from).unwrap_or_default();
        let due = until - life / RENEW_AT_PART;
        Ok(due.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// Writes a file that is there as a whole or not at all, for its owner only.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), AcmeError> {
        let new = path.with_extension("new");
        let written = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            // What a crash left behind.
            let _ = fs::remove_file(&new);
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            File::open(&self.folder)?.sync_all()
        };
        written().map_err(|error| Store::error(path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn store(folder: &Path) -> Store {
        Store::new(folder, &["*.a.example".to_owned()])
    }

    #[test]
    fn a_certificate_is_kept_for_its_owner_and_is_due_before_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder.path().join("acme"));
        assert!(store.take(&Certificates::new()).is_err());
        let check = |days_before: i64, days_left: i64, expected_days: u64| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut parameters = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
            let now = time::OffsetDateTime::now_utc();
            parameters.not_before = now - time::Duration::days(days_before);
            parameters.not_after = now + time::Duration::days(days_left);
            let made = parameters.self_signed(&key).unwrap();
            store.save(&made.pem(), &key.serialize_pem()).unwrap();
            let due = store.take(&Certificates::new()).unwrap();
            // Rounded, since some milliseconds have passed.
            assert_eq!((due.as_secs() + 3600) / 86400, expected_days);
        };
        check(0, 90, 60);
        check(30, 60, 30);
        check(60, 30, 0);
        check(91, -1, 0);
        assert_eq!(fs::metadata(&store.certificate).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&store.folder).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn other_names_are_another_certificate() {
        let folder = Path::new("/nowhere");
        let other = Store::new(folder, &["*.a.example".to_owned(), "b.example".to_owned()]);
        assert_ne!(store(folder).certificate, other.certificate);
    }
}
