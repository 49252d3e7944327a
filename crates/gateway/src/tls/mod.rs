//! TLS at the front door: which certificate for which name, and how they are renewed while
//! connections are open.

pub(crate) mod certificates;
mod files;

pub use certificates::{CertificateError, Certificates};
pub use files::CertificateFiles;

use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};
use rustls::{ConfigBuilder, ServerConfig, WantsVerifier};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// The protocol in which a certificate authority asks for a proof (RFC 8737).
pub(crate) const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// Speaks TLS with the certificates as they are at each connection's begin.
///
/// # Errors
///
/// Never with the cryptography that is built in; the library asks.
pub fn acceptor(certificates: &Arc<Certificates>) -> Result<TlsAcceptor, CertificateError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder: ConfigBuilder<ServerConfig, WantsVerifier> =
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(CertificateError::Tls)?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(certificates.clone());
    config.alpn_protocols =
        vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec(), ACME_PROTOCOL.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
