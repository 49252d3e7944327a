//! The server's own certificate authority, and links over TLS.
//!
//! At the first start the server makes a CA for itself. A join token carries the CA's fingerprint,
//! so that an agent trusts this server and no other from its first connection on.

use crate::handle::Controller;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use spawnery_agent::tls::SERVER_NAME;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The CA could not be loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in the files is no CA.
    #[error(
        "the certificate authority in {} cannot be used ({reason}): restore the folder, or remove \
         it and let every agent join again",
        folder.display()
    )]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The server's certificate authority.
pub struct Authority {
    certificate: CertificateDer<'static>,
    config: Arc<ServerConfig>,
}

impl Authority {
    /// Loads the CA from `folder`, or makes it there.
    pub fn open(folder: &Path) -> Result<Authority, AuthorityError> {
        let (certificate, key_pem) = match load(folder)? {
            Some(found) => found,
            None => create(folder)?,
        };
        let unusable =
            |reason: String| AuthorityError::Unusable { folder: folder.to_owned(), reason };
        let key = KeyPair::from_pem(&key_pem).map_err(|error| unusable(error.to_string()))?;
        let config = server_config(&certificate, key).map_err(unusable)?;
        Ok(Authority { certificate, config })
    }

    /// The hash by which an agent recognises this CA: SHA-256 of its certificate, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(&self.certificate).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Serves agents that connect to `listener`, until the task is dropped.
    pub async fn serve(&self, listener: TcpListener, controller: Controller) {
        let acceptor = TlsAcceptor::from(self.config.clone());
        loop {
            let (socket, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: give others time to close some.
                    tracing::warn!("a link could not be accepted: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (acceptor, controller) = (acceptor.clone(), controller.clone());
            tokio::spawn(async move {
                // Reports and orders are small and should not wait for each other.
                let _ = socket.set_nodelay(true);
                match acceptor.accept(socket).await {
                    Ok(stream) => controller.serve_link(stream).await,
                    Err(error) => tracing::debug!("{peer} does not speak TLS as expected: {error}"),
                }
            });
        }
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Spawnery server CA");
    params
}

fn server_config(
    authority: &CertificateDer<'static>,
    authority_key: KeyPair,
) -> Result<Arc<ServerConfig>, String> {
    let text = |error: rcgen::Error| error.to_string();
    let key = KeyPair::generate().map_err(text)?;
    let params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).map_err(text)?;
    let issuer = Issuer::new(authority_params(), authority_key);
    let leaf = params.signed_by(&key, &issuer).map_err(text)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain = vec![leaf.der().clone(), authority.clone()];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(config))
}

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key";

type CertificateAndKey = (CertificateDer<'static>, String);

fn load(folder: &Path) -> Result<Option<CertificateAndKey>, AuthorityError> {
    let path = folder.join(CERTIFICATE_FILE);
    let certificate = match fs::read(&path) {
        Ok(pem) => CertificateDer::from_pem_slice(&pem).map_err(|error| {
            AuthorityError::Unusable { folder: folder.to_owned(), reason: format!("{error:?}") }
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(AuthorityError::File { path, source }),
    };
    let path = folder.join(KEY_FILE);
    let key = fs::read_to_string(&path).map_err(|source| AuthorityError::File { path, source })?;
    Ok(Some((certificate, key)))
}

fn create(folder: &Path) -> Result<CertificateAndKey, AuthorityError> {
    let unusable = |error: rcgen::Error| AuthorityError::Unusable {
        folder: folder.to_owned(),
        reason: error.to_string(),
    };
    let key = KeyPair::generate().map_err(unusable)?;
    let certificate = authority_params().self_signed(&key).map_err(unusable)?;
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| AuthorityError::File { path: folder.to_owned(), source })?;
    // The certificate comes last: with it, the CA is complete.
    write_private(&folder.join(KEY_FILE), key.serialize_pem().as_bytes())?;
    write_private(&folder.join(CERTIFICATE_FILE), certificate.pem().as_bytes())?;
    Ok((certificate.der().clone(), key.serialize_pem()))
}

/// Writes a file that only its owner may read; it is there in full or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), AuthorityError> {
    let temporary = path.with_extension("new");
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(|source| AuthorityError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(&folder.path().join("tls")).unwrap();
        let second = Authority::open(&folder.path().join("tls")).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        let other = Authority::open(&folder.path().join("other")).unwrap();
        assert_ne!(first.fingerprint(), other.fingerprint());
    }

    #[test]
    fn a_damaged_authority_is_not_replaced_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        Authority::open(folder.path()).unwrap();
        fs::write(folder.path().join(CERTIFICATE_FILE), "rubbish").unwrap();
        assert!(matches!(Authority::open(folder.path()), Err(AuthorityError::Unusable { .. })));
    }
}
