//! The sockets of a server's front door, and the certificates that are shown there.

use super::listen;
use crate::config::Front;
use crate::error::CliError;
use spawnery_gateway::acme::{self, Proofs};
use spawnery_gateway::tls::{self, CertificateFiles, Certificates};
use spawnery_gateway::{Door, Settings};
use std::net::TcpListener;
use tokio::task::JoinSet;

/// The doors, and what keeps their certificates fresh.
pub(super) struct Doors {
    pub(super) doors: Vec<Door>,
    pub(super) settings: Settings,
    /// They end when this is dropped.
    pub(super) tasks: JoinSet<()>,
}

impl Doors {
    /// Opens them all. `plain` is open already.
    pub(super) fn open(plain: TcpListener, front: &Front) -> Result<Doors, CliError> {
        let (mut doors, mut tasks) = (vec![Door::plain(plain)], JoinSet::new());
        let mut settings = front.settings.clone();
        let Some(address) = front.tls_listen else {
            return Ok(Doors { doors, settings, tasks });
        };
        let certificates = Certificates::new();
        if !front.certificates.is_empty() {
            let files = front.certificates.clone();
            CertificateFiles::load(&files, &certificates)
                .map_err(|error| CliError::failed(error).hint("see --tls-cert and --tls-key"))?;
            tasks.spawn(CertificateFiles::follow(files, certificates.clone()));
        }
        let listener = listen(address, "--tls-listen")?;
        let port = listener.local_addr().map_err(CliError::failed)?.port();
        let acceptor = tls::acceptor(&certificates).map_err(CliError::failed)?;
        tracing::info!("speaking TLS on port {port}");
        doors.push(Door::tls(listener, acceptor));
        if let Some(address) = front.redirect_listen {
            let listener = listen(address, "--redirect-listen")?;
            let from = listener.local_addr().map_err(CliError::failed)?.port();
            tracing::info!("sending others there from port {from}");
            doors.push(Door::redirect(listener, port));
        }
        if let Some(wanted) = front.acme.clone() {
            let proofs = Proofs::new();
            settings.proofs = Some(proofs.clone());
            tasks.spawn(acme::follow(wanted, certificates, proofs));
        }
        Ok(Doors { doors, settings, tasks })
    }
}
