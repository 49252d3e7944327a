//! What the configuration says about the front door.

use super::settings::parse_address;
use super::{Config, wrong};
use crate::error::CliError;
use spawnery_gateway::acme::{self, Proof};
use spawnery_gateway::tls::CertificateFiles;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The certificate authority that people use.
const DIRECTORY_DEFAULT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// How the front door is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Front {
    /// What it is in any case.
    pub(crate) settings: spawnery_gateway::Settings,
    /// Where TLS is spoken, if it is.
    pub(crate) tls_listen: Option<SocketAddr>,
    /// Where others are sent to TLS.
    pub(crate) redirect_listen: Option<SocketAddr>,
    /// Certificates of the operator.
    pub(crate) certificates: Vec<CertificateFiles>,
    /// How further certificates are had.
    pub(crate) acme: Option<acme::Settings>,
    /// Domains beside `localhost`.
    pub(crate) domains: Vec<String>,
}

impl Config {
    /// How the front door is of a server with this data folder.
    pub(crate) fn front(&self, data: &Path) -> Result<Front, CliError> {
        let items = |name| self.value(name).map(|value| value.items.clone()).unwrap_or_default();
        let networks = items("trusted_proxies").into_iter();
        // They were checked when they were read.
        let trusted = networks.filter_map(|text| text.parse().ok()).collect();
        let front = Front {
            settings: spawnery_gateway::Settings { trusted, ..Default::default() },
            tls_listen: self.address("tls_listen")?,
            redirect_listen: self.address("redirect_listen")?,
            certificates: self.certificates()?,
            acme: self.acme(data)?,
            domains: items("domains"),
        };
        let has_certificate = !front.certificates.is_empty() || front.acme.is_some();
        if front.tls_listen.is_some() != has_certificate {
            let error = CliError::usage("TLS needs both a place to listen and a certificate");
            return Err(error.hint("give --tls-listen, and --tls-cert with --tls-key, or --acme"));
        }
        if front.redirect_listen.is_some() && front.tls_listen.is_none() {
            let error = CliError::usage("there is nothing to redirect to");
            return Err(error.hint("give --tls-listen too"));
        }
        Ok(front)
    }

    fn address(&self, name: &'static str) -> Result<Option<SocketAddr>, CliError> {
        let text = self.text(name);
        let parsed =
            text.map(|text| parse_address(text).map_err(|expected| wrong(name, text, &expected)));
        parsed.transpose()
    }

    fn certificates(&self) -> Result<Vec<CertificateFiles>, CliError> {
        let items = |name| self.value(name).map(|value| value.items.clone()).unwrap_or_default();
        let (certificates, keys) = (items("tls_cert"), items("tls_key"));
        if certificates.len() != keys.len() {
            let error = CliError::usage("each certificate has a key: the lists differ in length");
            return Err(error.hint("give --tls-cert and --tls-key in pairs"));
        }
        let pairs = certificates.into_iter().zip(keys);
        let pair = |(certificate, key)| CertificateFiles {
            certificate: PathBuf::from(certificate),
            key: PathBuf::from(key),
        };
        Ok(pairs.map(pair).collect())
    }

    fn acme(&self, data: &Path) -> Result<Option<acme::Settings>, CliError> {
        let items = |name| self.value(name).map(|value| value.items.clone()).unwrap_or_default();
        let names = items("acme");
        if names.is_empty() {
            return Ok(None);
        }
        let hook = self.text("acme_hook").map(PathBuf::from);
        let proof = match (self.text("acme_proof"), hook) {
            (Some("http"), _) => Proof::Http,
            (Some("dns"), Some(hook)) => Proof::Dns { hook },
            (Some("dns"), None) => {
                let error = CliError::usage("a proof by DNS needs a program that sets records");
                return Err(error.hint("name it with --acme-hook"));
            }
            _ => Proof::Tls,
        };
        if names.iter().any(|name| name.starts_with('*')) && !matches!(proof, Proof::Dns { .. }) {
            let error = CliError::usage("a name with * can only be proved by DNS");
            return Err(error.hint("give --acme-proof dns and --acme-hook"));
        }
        let directory = self.text("acme_directory").unwrap_or(DIRECTORY_DEFAULT);
        Ok(Some(acme::Settings {
            directory: directory.to_owned(),
            names,
            contacts: items("acme_contacts"),
            proof,
            root: self.text("acme_root").map(PathBuf::from),
            folder: data.join("acme"),
        }))
    }
}
