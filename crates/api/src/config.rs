//! What the server tells the API about itself.

use spawnery_model::{DurationMs, Kind, Name, Port, RuntimeKind, Workload};
use tokio::sync::watch;

/// What the server tells the API about itself.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The version of Spawnery, for the status.
    pub version: String,
    /// Names by which clients reach this server, beside addresses and `localhost`. A request with
    /// another `Host` is refused, so that no web page can reach a server on the user's machine
    /// through a name of its own (DNS rebinding). `None` takes every name.
    pub host_names: Option<Vec<String>>,
    /// Where the gateway is reached, for the URLs of services; `None` shows none.
    pub public: Option<PublicAddress>,
    /// The fingerprint of the certificate authority that agents trust: it is part of a join token.
    /// `None` when this server takes no agents from other machines.
    pub authority_fingerprint: Option<String>,
    /// What sessions are like whose template does not say otherwise.
    pub session_defaults: SessionDefaults,
    /// Tells the streams when the server stops, so that they do not hold it up.
    pub stopping: Stopping,
}

/// What sessions are like whose template does not say otherwise. It is written into a template when
/// that is applied, so that what runs does not depend on a server's options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionDefaults {
    /// How long before the end of its longest duration a session is warned.
    pub before_duration: Option<DurationMs>,
    /// How long before it is ended for being idle a session is warned.
    pub before_idle: Option<DurationMs>,
    /// How long an ended session stays listed.
    pub stale_period: Option<DurationMs>,
    /// The runtime of a session that names none.
    pub runtime: RuntimeKind,
}

impl SessionDefaults {
    /// Fills in what a template leaves open. Others than sessions are left alone.
    pub(crate) fn fill(&self, workload: &mut Workload) {
        let Kind::Session(settings) = &mut workload.kind else {
            return;
        };
        settings.stale_period = settings.stale_period.or(self.stale_period);
        if self.before_duration.is_some() || self.before_idle.is_some() {
            let warnings = settings.warnings.get_or_insert_default();
            warnings.before_duration = warnings.before_duration.or(self.before_duration);
            warnings.before_idle = warnings.before_idle.or(self.before_idle);
        }
        if self.runtime != RuntimeKind::Process {
            let around = workload.surroundings.get_or_insert_default();
            if around.runtime == RuntimeKind::Process {
                around.runtime = self.runtime;
            }
        }
    }
}

/// Hears when the server stops. By default it never does.
#[derive(Debug, Clone, Default)]
pub struct Stopping(Option<watch::Receiver<bool>>);

impl Stopping {
    /// Hears of it when `true` is sent.
    pub fn new(stopping: watch::Receiver<bool>) -> Stopping {
        Stopping(Some(stopping))
    }

    /// Waits until the server stops.
    pub(crate) async fn stopped(self) {
        if let Some(mut stopping) = self.0
            && stopping.wait_for(|stopping| *stopping).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

/// Where the gateway is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicAddress {
    /// `http` or `https`.
    pub scheme: String,
    /// Below which domain each service has a name, such as `localhost`.
    pub domain: String,
    /// The port, where it is not the scheme's own.
    pub port: Option<u16>,
}

impl PublicAddress {
    /// The URLs of the ports of a service: its first port has the service's name, and each other
    /// one its own before that, as the gateway has it.
    pub(crate) fn urls(&self, service: &Name, ports: &[Port]) -> Vec<String> {
        let (scheme, domain) = (&self.scheme, &self.domain);
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let urls = ports.iter().enumerate().map(|(index, named)| match index {
            0 => format!("{scheme}://{service}.{domain}{port}/"),
            _ => format!("{scheme}://{}.{service}.{domain}{port}/", named.name),
        });
        urls.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_of_a_service_has_a_url() {
        let name = |text: &str| Name::new(text).unwrap();
        let check = |port, ports: &[&'static str], urls: &[&str]| {
            let address =
                PublicAddress { scheme: "http".to_owned(), domain: "localhost".to_owned(), port };
            let ports = ports.iter().zip(8000..);
            let ports = ports.map(|(text, port)| Port { name: name(text), port });
            assert_eq!(address.urls(&name("web"), &ports.collect::<Vec<_>>()), urls);
        };
        check(Some(9000), &["http"], &["http://web.localhost:9000/"]);
        check(None, &["http"], &["http://web.localhost/"]);
        check(Some(9000), &[], &[]);
        let urls = ["http://web.localhost:9000/", "http://admin.web.localhost:9000/"];
        check(Some(9000), &["http", "admin"], &urls);
    }
}
