//! The certificates that are shown, by name.

use super::ACME_PROTOCOL;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, RwLock};

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It is no PEM, or has no certificate in it.
    #[error("{place} has no certificate in PEM form")]
    NoCertificate {
        /// Which file.
        place: String,
    },
    /// There is no private key.
    #[error("{place} has no private key in PEM form")]
    NoKey {
        /// Which file.
        place: String,
    },
    /// Certificate and key do not fit, or are of a kind that is not known.
    #[error("the certificate in {place} cannot be used with its key: {error}")]
    Unfit {
        /// Which file.
        place: String,
        /// What is wrong.
        error: rustls::Error,
    },
    /// A file cannot be read.
    #[error("{place} cannot be read: {error}")]
    File {
        /// Which file.
        place: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// TLS itself cannot be set up.
    #[error("TLS cannot be spoken: {0}")]
    Tls(rustls::Error),
}

/// A chain and its key, from PEM.
pub(crate) fn certified(
    certificate_pem: &[u8],
    key_pem: &[u8],
    place: &str,
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate_pem).collect();
    let no_certificate = || CertificateError::NoCertificate { place: place.to_owned() };
    let chain = chain.map_err(|_| no_certificate())?;
    if chain.is_empty() {
        return Err(no_certificate());
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|_| CertificateError::NoKey { place: place.to_owned() })?;
    let unfit = |error| CertificateError::Unfit { place: place.to_owned(), error };
    let provider = aws_lc_rs::default_provider();
    let made = CertifiedKey::from_der(chain, key, &provider).map_err(unfit)?;
    Ok(Arc::new(made))
}

/// The same for a certificate that has what only an authority that asks for a proof understands.
pub(crate) fn proof(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let place = || "the proof".to_owned();
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| CertificateError::Unfit { place: place(), error })?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate], key)))
}

/// Where certificates come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// Files of the operator, which come first.
    Files,
    /// A certificate authority.
    Acme,
}

/// The certificates that are shown. They may change at any time; open connections keep theirs.
#[derive(Default)]
pub struct Certificates {
    known: RwLock<BTreeMap<Origin, Vec<Arc<CertifiedKey>>>>,
    /// Proofs for a certificate authority, by name.
    proofs: RwLock<BTreeMap<String, Arc<CertifiedKey>>>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    /// None yet.
    pub fn new() -> Arc<Certificates> {
        Arc::default()
    }

    /// From now on these are the ones of that origin.
    pub(crate) fn set(&self, origin: Origin, certificates: Vec<Arc<CertifiedKey>>) {
        self.known.write().expect("no holder panics").insert(origin, certificates);
    }

    pub(crate) fn set_proof(&self, name: &str, proof: Option<Arc<CertifiedKey>>) {
        let mut proofs = self.proofs.write().expect("no holder panics");
        match proof {
            Some(proof) => proofs.insert(name.to_ascii_lowercase(), proof),
            None => proofs.remove(&name.to_ascii_lowercase()),
        };
    }

    /// The one for a name: the first that is made for it. Whoever names none, or one that none is
    /// made for, gets the very first.
    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let known = self.known.read().expect("no holder panics");
        let fits = |it: &&Arc<CertifiedKey>| name.is_some_and(|name| is_for(it, name));
        let all = || known.values().flatten();
        all().find(fits).or_else(|| all().next()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        let wants_proof =
            hello.alpn().is_some_and(|mut protocols| protocols.any(|it| it == ACME_PROTOCOL));
        if wants_proof {
            let proofs = self.proofs.read().expect("no holder panics");
            return proofs.get(&name?.to_ascii_lowercase()).cloned();
        }
        self.find(name)
    }
}

fn is_for(certificate: &CertifiedKey, name: &str) -> bool {
    let Ok(name) = ServerName::try_from(name) else {
        return false;
    };
    let own = certificate.cert.first().and_then(|it| ParsedCertificate::try_from(it).ok());
    own.is_some_and(|own| verify_server_name(&own, &name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str]) -> Arc<CertifiedKey> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let pair = rcgen::generate_simple_self_signed(names).unwrap();
        let (chain, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        certified(chain.as_bytes(), key.as_bytes(), "here").unwrap()
    }

    #[test]
    fn a_name_gets_the_certificate_that_is_made_for_it() {
        let (first, second, third) =
            (made(&["a.example"]), made(&["*.b.example", "b.example"]), made(&["a.example"]));
        let all = Certificates::new();
        assert!(all.find(Some("a.example")).is_none());
        all.set(Origin::Acme, vec![third]);
        all.set(Origin::Files, vec![first.clone(), second.clone()]);
        let check = |name: Option<&str>, expected: &Arc<CertifiedKey>| {
            assert!(Arc::ptr_eq(&all.find(name).unwrap(), expected), "{name:?}");
        };
        check(Some("a.example"), &first);
        check(Some("b.example"), &second);
        check(Some("x.b.example"), &second);
        check(Some("x.y.b.example"), &first);
        check(Some("other"), &first);
        check(None, &first);
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        let pair = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let (chain, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let check = |chain: &str, key: &str, word: &str| {
            let error =
                certified(chain.as_bytes(), key.as_bytes(), "here").unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        check("", &key, "no certificate");
        check(&chain, "", "no private key");
        let other = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        check(&chain, &other.signing_key.serialize_pem(), "cannot be used with its key");
    }
}
