//! Certificates in files of the operator, which are read again when they change.

use super::certificates::{CertificateError, Certificates, Origin, certified};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often it is looked whether the files have changed. Whoever renews certificates replaces
/// them days before they end.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A certificate chain and its key, each in a file in PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What tells that a file is another one.
type Marks = Vec<Option<(SystemTime, u64)>>;

impl CertificateFiles {
    /// Reads all of them.
    ///
    /// # Errors
    ///
    /// When one cannot be read or used; then nothing changes.
    pub fn load(files: &[CertificateFiles], into: &Certificates) -> Result<(), CertificateError> {
        let mut all = Vec::new();
        for CertificateFiles { certificate, key } in files {
            let read = |path: &PathBuf| {
                std::fs::read(path).map_err(|error| CertificateError::File {
                    place: path.display().to_string(),
                    error,
                })
            };
            let place = certificate.display().to_string();
            all.push(certified(&read(certificate)?, &read(key)?, &place)?);
        }
        into.set(Origin::Files, all);
        Ok(())
    }

    /// Reads them again whenever they change. What cannot be used is told, and the former ones
    /// stay.
    pub async fn follow(files: Vec<CertificateFiles>, into: Arc<Certificates>) {
        let mut marks = marks_of(&files);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = marks_of(&files);
            if now == marks {
                continue;
            }
            match CertificateFiles::load(&files, &into) {
                Ok(()) => tracing::info!("the certificates were read again, because they changed"),
                // Half of a pair may be written yet: the other half is a change of its own.
                Err(error) => tracing::warn!("the former certificates stay: {error}"),
            }
            marks = now;
        }
    }
}

fn marks_of(files: &[CertificateFiles]) -> Marks {
    let paths = files.iter().flat_map(|it| [&it.certificate, &it.key]);
    let mark = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    paths.map(mark).collect()
}
