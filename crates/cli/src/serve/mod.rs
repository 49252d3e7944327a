//! A server in this process: controller, API, gateway and, if wanted, the agent of this machine.

mod doors;
pub(crate) mod end;
mod local;
mod private;
mod signals;
mod stale;

pub(crate) use local::{agent_config, local_agent};
pub(crate) use private::Private;
pub(crate) use signals::StopSignals;

use crate::config::{Config, Front};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::place::{Place, ServerFile};
use doors::Doors;
use spawnery_agent::{Agent, AgentError, BuildSettings, CapacityGiven, Runtimes};
use spawnery_api::{PublicAddress, SessionDefaults, Stopping};
use spawnery_client::Client;
use spawnery_controller::access::{self, Verifier};
use spawnery_controller::tls::Authority;
use spawnery_controller::{Controller, EngineFailure};
use spawnery_gateway::{Domains, Gateway};
use spawnery_model::{Allowances, Name};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The version of this binary.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How a server is started.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Its data folder, which exists.
    pub(crate) place: Place,
    /// Where the API and the gateway listen.
    pub(crate) listen: SocketAddr,
    /// How the front door is.
    pub(crate) front: Front,
    /// Where agents of other machines are taken in, if they are.
    pub(crate) link_listen: Option<SocketAddr>,
    /// The agent of this machine, if there is one.
    pub(crate) node: Option<NodeOptions>,
    /// Whose tokens are taken.
    pub(crate) access: access::Config,
    /// What sessions are like whose template does not say otherwise.
    pub(crate) session_defaults: SessionDefaults,
    /// Go on although the journal lost something that it acknowledged.
    pub(crate) accept_loss: bool,
}

/// How the agent of this machine is started.
#[derive(Debug, Clone)]
pub(crate) struct NodeOptions {
    /// What the node is called.
    pub(crate) name: Name,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// What it lets instances use of this machine.
    pub(crate) allowances: Allowances,
    /// Where the runtimes beside the process runtime are.
    pub(crate) runtimes: Runtimes,
    /// How it builds environments.
    pub(crate) build: BuildSettings,
    /// What environments may take on disk.
    pub(crate) environments_bytes_max: u64,
    /// What instances may reserve together, where that is not what the machine has.
    pub(crate) capacity: CapacityGiven,
}

impl NodeOptions {
    /// What the configuration says.
    pub(crate) fn of(config: &Config) -> Result<NodeOptions, CliError> {
        let (name, labels) = (config.name()?, config.labels());
        let (allowances, runtimes) = (config.allowances(), config.runtimes());
        let build = config.build();
        let environments_bytes_max = config.environments_bytes_max();
        let capacity = config.capacity();
        Ok(NodeOptions {
            name,
            labels,
            allowances,
            runtimes,
            build,
            environments_bytes_max,
            capacity,
        })
    }
}

impl Options {
    /// What the configuration says.
    pub(crate) fn of(config: &Config) -> Result<Options, CliError> {
        let node = NodeOptions::of(config)?;
        let front = config.front(&config.data()?)?;
        let place = Place::new(config.data()?).create()?;
        Ok(Options {
            access: config.access(place.data())?,
            place,
            listen: config.listen()?,
            front,
            link_listen: config.link_listen()?,
            session_defaults: config.session_defaults(),
            node: config.is_on("agent").then_some(node),
            accept_loss: false,
        })
    }
}

/// A server that runs in this process.
pub(crate) struct Server {
    pub(crate) controller: Controller,
    pub(crate) agent: Option<Agent>,
    /// What it says about itself.
    pub(crate) file: ServerFile,
    place: Place,
    stop_api: watch::Sender<bool>,
    gateway: Gateway,
    api: JoinHandle<io::Result<()>>,
    links: Option<JoinHandle<()>>,
}

/// Why a server has to end by itself.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The journal failed.
    Engine(EngineFailure),
    /// The agent of this machine ended.
    Agent(AgentError),
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> CliError {
        let hint = "what runs goes on; see what is wrong, then start the server again";
        let error = match failure {
            Failure::Engine(error) => CliError::failed(format!("the journal failed: {error}")),
            Failure::Agent(error) => CliError::failed(error),
        };
        error.hint(hint)
    }
}

impl Server {
    /// Starts a server. When it fails, what was started is stopped again.
    pub(crate) async fn start(options: Options) -> Result<Server, CliError> {
        let place = options.place.clone();
        let listener = listen(options.listen, "--listen")?;
        let address = listener.local_addr().map_err(CliError::failed)?;
        let doors = Doors::open(listener, &options.front)?;
        let link = match options.link_listen {
            Some(address) => Some(LinkListener::open(&place, address).await?),
            None => None,
        };
        let controller = Controller::start(spawnery_controller::Config {
            journal_dir: place.journal(),
            accept_loss: options.accept_loss,
            ..spawnery_controller::Config::in_folder(place.data())
        });
        let controller = controller.await.map_err(|error| {
            CliError::failed(error).hint("`spawnery journal verify` says more about its journal")
        })?;
        let verifier = Verifier::start(&controller, options.access).await;
        let verifier = verifier.map_err(CliError::failed)?;
        let file = ServerFile {
            url: format!("http://{}", reachable(address)),
            pid: std::process::id(),
            link: link.as_ref().map(|link| reachable_from_outside(link.address).to_string()),
        };
        let (stop_api, mut stopping) = watch::channel(false);
        let domains = Domains::new(options.front.domains.clone());
        let gateway = Gateway::new(controller.clone(), Some(verifier.clone()), domains);
        let (names, defaults) = (options.front.domains, options.session_defaults);
        let at = (address, names);
        let router = router(&controller, verifier, at, link.as_ref(), &stopping, defaults);
        let Doors { doors, settings, tasks } = doors;
        let front = gateway.clone().serve(doors, router, settings, async move {
            // An error means that the server is gone, which comes to the same.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        });
        let api = tokio::spawn(async move {
            let ended = front.await;
            // Nobody needs certificates any more.
            drop(tasks);
            ended
        });
        let mut server = Server {
            links: link.map(|link| tokio::spawn(link.serve(controller.clone()))),
            controller,
            gateway,
            agent: None,
            file,
            place,
            stop_api,
            api,
        };
        match server.start_rest(options.node).await {
            Ok(()) => Ok(server),
            Err(error) => {
                server.stop().await;
                Err(error)
            }
        }
    }

    async fn start_rest(&mut self, node: Option<NodeOptions>) -> Result<(), CliError> {
        if let Some(node) = node {
            let agent = local_agent(&self.controller, &self.place, node).await?;
            self.gateway.set_local(agent.runtime());
            self.agent = Some(agent);
        }
        self.place.write_server(&self.file)
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        Ok(Client::new(&self.file.url, self.place.token()?)?)
    }

    /// Waits until something fails that the server cannot go on without.
    pub(crate) async fn failed(&mut self) -> Failure {
        let agent = self.agent.as_mut();
        let agent = async {
            match agent {
                Some(agent) => agent.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            failure = self.controller.failed() => Failure::Engine(failure),
            failure = agent => Failure::Agent(failure),
        }
    }

    /// Stops the server and nothing else: instances live on.
    pub(crate) async fn stop(self) {
        self.place.remove_server();
        if let Some(links) = self.links {
            links.abort();
        }
        // It may have ended already.
        let _ = self.stop_api.send(true);
        if let Some(agent) = self.agent {
            agent.stop().await;
        }
        self.controller.stop().await;
        match self.api.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("the front door failed: {error}"),
            Err(error) => tracing::error!("the front door failed: {error}"),
        }
    }
}

fn router(
    controller: &Controller,
    verifier: Verifier,
    (address, names): (SocketAddr, Vec<String>),
    link: Option<&LinkListener>,
    stopping: &watch::Receiver<bool>,
    session_defaults: SessionDefaults,
) -> axum::Router {
    let is_local = address.ip().is_loopback();
    let config = spawnery_api::Config {
        version: VERSION.to_owned(),
        // Beyond this machine it is known by names that we do not know.
        host_names: is_local.then_some(names),
        public: Some(PublicAddress {
            scheme: "http".to_owned(),
            domain: "localhost".to_owned(),
            port: (address.port() != 80).then_some(address.port()),
        }),
        authority_fingerprint: link.map(|link| link.authority.fingerprint()),
        stopping: Stopping::new(stopping.clone()),
        session_defaults,
    };
    spawnery_api::router(controller.clone(), verifier, config)
}

/// Where agents of other machines come in.
struct LinkListener {
    authority: Authority,
    listener: tokio::net::TcpListener,
    address: SocketAddr,
}

impl LinkListener {
    async fn open(place: &Place, address: SocketAddr) -> Result<LinkListener, CliError> {
        let authority = Authority::open(&place.tls()).map_err(CliError::failed)?;
        let listener = listen(address, "--link-listen")?;
        listener.set_nonblocking(true).map_err(CliError::failed)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(CliError::failed)?;
        let address = listener.local_addr().map_err(CliError::failed)?;
        Ok(LinkListener { authority, listener, address })
    }

    async fn serve(self, controller: Controller) {
        self.authority.serve(self.listener, controller).await;
    }
}

fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener, CliError> {
    TcpListener::bind(address).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("another program listens there; end it, or choose another with {flag}")
            }
            _ => format!("choose another with {flag}"),
        };
        CliError::failed(format!("cannot listen on {address}: {error}"))
            .with_code(ExitCode::FAILED)
            .hint(hint)
    })
}

/// An address by which this machine reaches what listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(loopback, address.port())
}

/// An address by which other machines may well reach what listens on `address`: that of the
/// interface to the default route.
fn reachable_from_outside(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    // Connecting a datagram socket sends nothing; it only chooses an interface. The address is one
    // of documentation (RFC 5737).
    let chosen = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    match chosen {
        Ok(found) if !found.ip().is_unspecified() => SocketAddr::new(found.ip(), address.port()),
        _ => reachable(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_addresses_is_reached_on_this_machine() {
        let check = |address: &str, expected: &str| {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(reachable(address).to_string(), expected);
        };
        check("0.0.0.0:9000", "127.0.0.1:9000");
        check("[::]:9000", "[::1]:9000");
        check("127.0.0.1:1", "127.0.0.1:1");
    }
}
