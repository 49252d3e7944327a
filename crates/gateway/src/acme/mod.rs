//! Certificates by ACME (RFC 8555): ordered, proved, kept and renewed.

mod order;
mod proofs;
mod store;

pub use proofs::Proofs;

use crate::tls::Certificates;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::Store;

/// How often it is looked whether a certificate is due.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// After the first failure; doubled with each further one. Certificate authorities count failures
/// and refuse whoever has too many.
const RETRY_DELAY: Duration = Duration::from_secs(60);

/// The longest that it grows to: a certificate is due weeks before it ends.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(12 * 3600);

/// How to prove that a name is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// An answer over plain HTTP on port 80 (RFC 8555, section 8.3).
    Http,
    /// A certificate over TLS on port 443 (RFC 8737).
    Tls,
    /// A DNS record that this program sets: `PROGRAM set|remove NAME VALUE` (RFC 8555, section
    /// 8.4). Only so are certificates for all names below a domain to be had.
    Dns {
        /// The program.
        hook: PathBuf,
    },
}

/// How certificates are had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The URL of the authority's directory.
    pub directory: String,
    /// The names, all in one certificate.
    pub names: Vec<String>,
    /// Whom the authority may write to, as `mailto:` URLs.
    pub contacts: Vec<String>,
    /// How the names are proved.
    pub proof: Proof,
    /// A further root that is trusted for the authority's own server, in PEM form.
    pub root: Option<PathBuf>,
    /// The folder where account and certificates are kept.
    pub folder: PathBuf,
}

/// No certificate was had.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The authority refused or could not be reached.
    #[error("the certificate authority: {0}")]
    Authority(#[from] instant_acme::Error),
    /// It does not offer the proof that was chosen.
    #[error("the certificate authority takes no such proof for {name}")]
    NoSuchProof {
        /// The name to be proved.
        name: String,
    },
    /// It did not accept the proof.
    #[error("the certificate authority did not accept the proof: {reason}")]
    NotProved {
        /// What it said.
        reason: String,
    },
    /// The hook failed.
    #[error("the hook {hook} failed: {reason}")]
    Hook {
        /// The program.
        hook: String,
        /// How.
        reason: String,
    },
    /// Something cannot be kept.
    #[error("{path} cannot be used: {reason}")]
    Store {
        /// The file or folder.
        path: String,
        /// Why.
        reason: String,
    },
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] crate::tls::CertificateError),
    /// The proof's certificate cannot be made.
    #[error("a certificate for the proof cannot be made: {0}")]
    ProofCertificate(#[from] rcgen::Error),
}

/// Keeps a certificate for the names: takes the one that is kept, and orders one whenever it is
/// due. Never ends by itself.
pub async fn follow(settings: Settings, certificates: Arc<Certificates>, proofs: Arc<Proofs>) {
    let store = Store::new(&settings.folder, &settings.names);
    let mut delay = RETRY_DELAY;
    let mut due_in = match store.take(&certificates) {
        Ok(due_in) => due_in,
        Err(error) => {
            tracing::debug!("no certificate is kept yet: {error}");
            Duration::ZERO
        }
    };
    loop {
        if due_in > Duration::ZERO {
            tokio::time::sleep(due_in.min(LOOK_EVERY)).await;
            due_in = store.due_in().unwrap_or(Duration::ZERO);
            continue;
        }
        let ordered = order::order(&settings, &store, &certificates, &proofs).await;
        match ordered.and_then(|()| store.take(&certificates)) {
            Ok(left) => {
                let names = settings.names.join(", ");
                tracing::info!("there is a new certificate for {names}");
                // A clock that is far off must not make it order again and again.
                (due_in, delay) = (left.max(RETRY_DELAY), RETRY_DELAY);
            }
            Err(error) => {
                let seconds = delay.as_secs();
                tracing::warn!("no certificate was had, the next try is in {seconds} s: {error}");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(RETRY_DELAY_MAX);
            }
        }
    }
}
