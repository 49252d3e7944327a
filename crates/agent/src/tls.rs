//! Connections to a controller on another machine, over TLS.
//!
//! The controller makes its own certificate authority (CA). A join token carries the fingerprint
//! of the CA's certificate, so that the first connection is safe already; from then on the node
//! keeps the certificate itself.

use crate::connect::{Connect, Connecting, Connection};
use crate::identity::{IdentityError, SavedIdentity};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The name in the controller's certificate (as a DNS name): what vouches for a controller is its
/// CA, not its address, which may change.
pub const SERVER_NAME: &str = "spawnery";

/// A one-time token with which a machine joins a cluster: `SECRET.FINGERPRINT`, the fingerprint
/// being the SHA-256 of the CA's certificate (DER) in hexadecimal. Has no `Debug`, because it is a
/// secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// What the controller knows the token by.
    pub secret: String,
    /// Of the CA that vouches for the controller.
    pub fingerprint: [u8; 32],
}

/// A text is not a join token. It is not shown, because it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// There is no dot, or nothing before it.
    #[error("a join token has two parts with a dot between them; copy all of it")]
    Parts,
    /// What is after the dot is no fingerprint.
    #[error("the part of a join token after the dot has 64 digits 0-9 and a-f; copy all of it")]
    Fingerprint,
}

impl JoinToken {
    /// The token for this secret and the CA certificate `authority` (DER).
    pub fn new(secret: impl Into<String>, authority: &[u8]) -> JoinToken {
        JoinToken { secret: secret.into(), fingerprint: fingerprint(authority) }
    }

    /// The token as text.
    pub fn text(&self) -> String {
        format!("{}.{}", self.secret, to_hex(&self.fingerprint))
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;
    fn from_str(text: &str) -> Result<JoinToken, JoinTokenError> {
        let (secret, fingerprint) = text.trim().rsplit_once('.').ok_or(JoinTokenError::Parts)?;
        if secret.is_empty() {
            return Err(JoinTokenError::Parts);
        }
        let bytes = from_hex(fingerprint).and_then(|bytes| bytes.try_into().ok());
        let fingerprint = bytes.ok_or(JoinTokenError::Fingerprint)?;
        Ok(JoinToken { secret: secret.to_owned(), fingerprint })
    }
}

/// Connects to a controller on another machine.
pub struct Tls {
    address: String,
    connector: TlsConnector,
    verifier: Arc<Verifier>,
}

/// TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The address has no host, or no port.
    #[error("{address:?} is not the address of a server; write https://HOST:PORT")]
    Address {
        /// What was given.
        address: String,
    },
    /// The node has no identity, and no token was given.
    #[error("this machine has not joined a cluster yet; give it a join token with --token")]
    NotJoined,
    /// The identity was saved by a node of a controller in the same process.
    #[error(
        "this machine has joined a cluster that runs in one process; give its agent another data \
         folder to join a cluster elsewhere"
    )]
    JoinedLocally,
    /// The identity cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The kept certificate cannot be used.
    #[error("the certificate in node.json cannot be used: {reason}; join again with a new token")]
    Authority {
        /// Why.
        reason: String,
    },
    /// The cryptography cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] Error),
}

impl Tls {
    /// Connections to `address` (`https://HOST:PORT`, or `HOST:PORT`) for the node whose data is
    /// in `data`. One that has joined already trusts the CA that it knows; another one the CA
    /// that `token` names.
    pub fn new(address: &str, data: &Path, token: Option<&JoinToken>) -> Result<Tls, TlsError> {
        let trust = match (SavedIdentity::load(data)?, token) {
            (Some(SavedIdentity { authority: Some(authority), .. }), _) => {
                let authority = from_hex(&authority);
                let reason = || "it is not in hexadecimal".to_owned();
                Trust::Certificate(
                    authority.ok_or_else(|| TlsError::Authority { reason: reason() })?,
                )
            }
            (Some(_), _) => return Err(TlsError::JoinedLocally),
            (None, Some(token)) => Trust::Fingerprint(token.fingerprint),
            (None, None) => return Err(TlsError::NotJoined),
        };
        Tls::with_trust(address, trust)
    }

    fn with_trust(address: &str, trust: Trust) -> Result<Tls, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(Verifier::new(trust, provider.clone())?);
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Tls { address: host_and_port(address)?, connector, verifier })
    }

    async fn open(&self) -> io::Result<Box<dyn Connection>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).expect("a constant DNS name");
        Ok(Box::new(self.connector.connect(name, stream).await?))
    }
}

impl Connect for Tls {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(self.open())
    }

    fn authority(&self) -> Option<Vec<u8>> {
        self.verifier.authority.get().map(|authority| authority.to_vec())
    }
}

fn host_and_port(address: &str) -> Result<String, TlsError> {
    let rest = address.strip_prefix("https://").unwrap_or(address);
    let rest = rest.trim_end_matches('/');
    let port = rest.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(port)) if port > 0 => Ok(rest.to_owned()),
        _ => Err(TlsError::Address { address: address.to_owned() }),
    }
}

/// Which CA may vouch for the controller.
enum Trust {
    Fingerprint([u8; 32]),
    Certificate(Vec<u8>),
}

/// Accepts a controller whose certificate is signed by the one trusted CA.
struct Verifier {
    provider: Arc<CryptoProvider>,
    fingerprint: [u8; 32],
    /// The trusted CA, once it is known.
    authority: OnceLock<CertificateDer<'static>>,
}

impl Verifier {
    fn new(trust: Trust, provider: Arc<CryptoProvider>) -> Result<Verifier, TlsError> {
        let authority = OnceLock::new();
        let fingerprint = match trust {
            Trust::Fingerprint(fingerprint) => fingerprint,
            Trust::Certificate(der) => {
                let der = CertificateDer::from(der);
                roots(&der).map_err(|error| TlsError::Authority { reason: error.to_string() })?;
                let fingerprint = fingerprint(&der);
                authority.get_or_init(|| der);
                fingerprint
            }
        };
        Ok(Verifier { provider, fingerprint, authority })
    }

    /// The trusted CA: the one that is known, or else the one of the presented certificates that
    /// has the right fingerprint.
    fn find_authority(&self, presented: &[CertificateDer<'_>]) -> Option<CertificateDer<'static>> {
        let known = self.authority.get().cloned();
        known.or_else(|| {
            let fits = |der: &&CertificateDer<'_>| fingerprint(der) == self.fingerprint;
            presented.iter().find(fits).map(|der| der.clone().into_owned())
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = self.find_authority(intermediates);
        let authority = authority.ok_or(CertificateError::UnknownIssuer)?;
        let roots = Arc::new(roots(&authority)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone());
        let verifier = verifier.build().map_err(|error| Error::General(error.to_string()))?;
        // The CA vouches for the controller itself, with nobody between them.
        let verified =
            verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)?;
        self.authority.get_or_init(|| authority);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

fn roots(authority: &CertificateDer<'static>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(roots)
}

/// The SHA-256 of a certificate (DER).
fn fingerprint(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to memory does not fail");
    }
    text
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_survives_being_written_and_says_what_is_wrong() {
        let token = JoinToken::new("a.b", b"certificate");
        assert!(token.text().parse() == Ok(token.clone()));
        assert!(format!(" {}\n", token.text()).parse() == Ok(token));
        let check = |text: &str, error: JoinTokenError| {
            assert_eq!(text.parse::<JoinToken>().err(), Some(error), "{text}");
        };
        check("", JoinTokenError::Parts);
        check("secret", JoinTokenError::Parts);
        check(&format!(".{}", "0".repeat(64)), JoinTokenError::Parts);
        check("secret.", JoinTokenError::Fingerprint);
        check("secret.00ff", JoinTokenError::Fingerprint);
        check(&format!("secret.{}", "x".repeat(64)), JoinTokenError::Fingerprint);
        check(&format!("secret.{}", "é".repeat(32)), JoinTokenError::Fingerprint);
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        let check = |address: &str, expected: Option<&str>| {
            assert_eq!(host_and_port(address).ok().as_deref(), expected, "{address}");
        };
        check("https://host:9001", Some("host:9001"));
        check("https://host:9001/", Some("host:9001"));
        check("10.0.0.1:9001", Some("10.0.0.1:9001"));
        check("[::1]:9001", Some("[::1]:9001"));
        check("https://host", None);
        check("host:0", None);
        check(":9001", None);
        check("http://host:9001", None);
        check("", None);
    }
}
