//! An agent from its start to its end.

use crate::clock::Clock;
use crate::connect::Connect;
use crate::driver::{Driver, INPUTS_WAITING_MAX, Input};
use crate::environments::Environments;
use crate::identity::{self, IdentityError, SavedIdentity};
use crate::machine::{self, CapacityGiven, MachineError};
use crate::prepare::{InUse, Preparer};
use crate::streams::Streams;
use crate::uplink::{self, GreetError, Uplink};
use crate::upstream::Upstream;
use crate::volumes::Volumes;
use spawnery_environment::build::{Builder, LauncherExecutor, Settings};
use spawnery_environment::{Store, StoreError};
use spawnery_model::{Allowances, Introduction, Name, NodeId, limits};
use spawnery_node::{Found, Node};
use spawnery_runtime::{ConnectError, Launcher, OperationError, ProcessRuntime, Runtime, Runtimes};
use spawnery_wire::link::Identity;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The launcher's folder in the agent's.
const LAUNCHER_FOLDER: &str = "launcher";

/// The folder of the environments in the agent's.
const ENVIRONMENTS_FOLDER: &str = "environments";

/// The folder in that one that tells which environment was made of which recipe.
const WANTED_FOLDER: &str = "wanted";

/// The folder of the volumes in the agent's.
const VOLUMES_FOLDER: &str = "volumes";

/// What an agent needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The folder with all that the node keeps. It is made if it is not there.
    pub data_dir: PathBuf,
    /// What the node wants to be called.
    pub name: Name,
    /// Labels of the node, beside or instead of `arch`, `os`, `hostname` and `kernel`.
    pub labels: BTreeMap<String, String>,
    /// What the node has for instances; without, what the machine has, less a reserve.
    pub capacity: CapacityGiven,
    /// The program that is run as `PROGRAM launcher --data ...` when no launcher is there.
    pub launcher_exe: PathBuf,
    /// The version of Spawnery.
    pub version: String,
    /// What instances may use of the node.
    pub allowances: Allowances,
    /// What the node's environments may take on disk; beyond it, those that are not in use go.
    pub environments_bytes_max: u64,
    /// How environments are built.
    pub build: Settings,
    /// Where the runtimes beside the process runtime are.
    pub runtimes: Runtimes,
}

/// A running agent. Dropping it ends its tasks, as [`Agent::stop`] does.
pub struct Agent {
    node: NodeId,
    runtime: Arc<ProcessRuntime>,
    driver: JoinHandle<()>,
    uplink: JoinHandle<AgentError>,
    /// Held for as long as the agent runs.
    _lock: File,
}

/// An agent could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made or used.
    #[error("cannot use {path} as the data folder of the node: {error}")]
    Data {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another agent runs with this folder.
    #[error("another agent uses {path}; end it first, or give this one another data folder")]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The machine does not tell what it has.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The labels break a limit.
    #[error("{reason}")]
    Labels {
        /// Which one.
        reason: String,
    },
    /// The identity cannot be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node has no identity, and no token was given.
    #[error("this machine has not joined a cluster yet; give it a join token")]
    NotJoined,
    /// The controller cannot be reached.
    #[error("cannot join the cluster: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// The controller does not let the machine join.
    #[error("the controller does not let this machine join: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// There is no launcher.
    #[error(transparent)]
    Launcher(#[from] ConnectError),
    /// The environments of the node cannot be used.
    #[error(transparent)]
    Environments(#[from] StoreError),
    /// The launcher does not say what it has.
    #[error("the launcher does not list its instances: {0}")]
    Found(#[from] OperationError),
}

/// A running agent has ended by itself. Its instances live on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// The controller does not want this node any more.
    #[error("the controller refuses this node: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// A task of the agent ended; this is a defect.
    #[error("the agent failed: {reason}")]
    Failed {
        /// What is known of it.
        reason: String,
    },
}

impl Agent {
    /// Joins the cluster if the machine has not yet, for which the secret of a join token is
    /// needed, starts the launcher if none runs, and begins to do what the controller says.
    ///
    /// A controller that cannot be reached is an error only for a machine that has to join.
    pub async fn start(
        config: Config,
        connector: Arc<dyn Connect>,
        join_secret: Option<String>,
    ) -> Result<Agent, StartError> {
        let lock = lock_data(&config.data_dir)?;
        let capacity = config.capacity.complete()?;
        let labels = machine::labels(&config.labels);
        check_labels(&labels)?;
        let launcher = Launcher {
            data: config.data_dir.join(LAUNCHER_FOLDER),
            program: config.launcher_exe.clone(),
            runtimes: config.runtimes.clone(),
        };
        let allowances = with_runtimes(config.allowances.clone(), &config.runtimes).await;
        let identity = match SavedIdentity::load(&config.data_dir)? {
            Some(identity) => identity,
            None => join(&config, &*connector, join_secret).await?,
        };
        let (runtime, events) = ProcessRuntime::connect(launcher).await?;

        let clock = Clock::new();
        let places = Places {
            launcher: config.data_dir.join(LAUNCHER_FOLDER),
            build: config.build.clone(),
            environments: config.data_dir.join(ENVIRONMENTS_FOLDER),
            volumes: config.data_dir.join(VOLUMES_FOLDER),
            environments_bytes_max: config.environments_bytes_max,
        };
        let introduction = Introduction {
            name: config.name,
            labels,
            capacity,
            version: config.version,
            incarnation: identity::next_incarnation(&config.data_dir, clock.now().0)?,
            allowances: Some(Box::new(allowances.clone())),
        };
        let mut node = Node::new(identity.node, introduction);
        let (session, session_out) = watch::channel(None);
        let preparer = preparer(&places, Upstream::new(session_out), allowances)?;
        let found = runtime.found().await?;
        found.iter().for_each(|found| take_up(&preparer, found));
        let is_starting = |found: &&Found| found.pid.is_none() && found.exit.is_none();
        let starting: Vec<_> = found.iter().filter(is_starting).map(|it| it.instance).collect();
        node.handle(spawnery_node::Input::Found(found), clock.now());

        let id = identity.node;
        let runtime = Arc::new(runtime);
        let (inputs, inputs_out) = mpsc::channel::<Input>(INPUTS_WAITING_MAX);
        let (begun, begun_out) = watch::channel(());
        let mut driver =
            Driver::new(node, clock, runtime.clone(), inputs.clone(), begun, preparer.clone());
        starting.into_iter().for_each(|instance| driver.resume(instance));
        let streams = Streams::new(runtime.clone(), begun_out, preparer);
        let uplink = Uplink::new(connector, identity, inputs, streams, session);
        Ok(Agent {
            node: id,
            runtime,
            driver: tokio::spawn(driver.run(inputs_out, events)),
            uplink: tokio::spawn(uplink.run()),
            _lock: lock,
        })
    }

    /// The id of the node.
    pub fn node_id(&self) -> NodeId {
        self.node
    }

    /// The instances of this node, for whoever is in the same process.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        self.runtime.clone()
    }

    /// Waits until the agent ends by itself, which it does only when something is wrong.
    pub async fn ended(&mut self) -> AgentError {
        let failed = |reason: String| AgentError::Failed { reason };
        tokio::select! {
            result = &mut self.uplink => result.unwrap_or_else(|error| failed(error.to_string())),
            result = &mut self.driver => failed(match result {
                Ok(()) => "its main task has ended".to_owned(),
                Err(error) => error.to_string(),
            }),
        }
    }

    /// Ends the agent, and nothing else: instances and launcher live on.
    pub async fn stop(mut self) {
        self.uplink.abort();
        self.driver.abort();
        for task in [abandoned(&mut self.uplink).await, abandoned(&mut self.driver).await] {
            if let Err(reason) = task {
                tracing::warn!(reason, "a task of the agent had failed");
            }
        }
    }

    /// Ends the launcher, which refuses while instances run. To be called before
    /// [`Agent::stop`], when all instances of the node have ended.
    pub async fn stop_launcher(&self) -> Result<(), OperationError> {
        self.runtime.shut_down().await
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.uplink.abort();
        self.driver.abort();
    }
}

/// Waits for a task that was aborted. An error, if it had panicked before.
async fn abandoned<T>(task: &mut JoinHandle<T>) -> Result<(), String> {
    if task.is_finished() {
        // It may have been waited for already.
        return Ok(());
    }
    match task.await {
        Err(error) if error.is_panic() => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// Makes the data folder, and makes sure that no other agent uses it.
fn lock_data(path: &Path) -> Result<File, StartError> {
    let data = |error| StartError::Data { path: path.to_owned(), error };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(data)?;
    let mut options = File::options();
    let lock = options.create(true).append(true).open(path.join("agent.lock")).map_err(data)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StartError::Busy { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(data(error)),
    }
}

/// The same limits that the controller holds the labels to.
fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), StartError> {
    if labels.len() > limits::LABELS_MAX {
        let reason = format!(
            "a node has at most {} labels, with those that it gives itself; this one has {}",
            limits::LABELS_MAX,
            labels.len()
        );
        return Err(StartError::Labels { reason });
    }
    let long = |text: &String| text.chars().count() > limits::LABEL_LENGTH_MAX;
    match labels.iter().find(|(key, value)| long(key) || long(value)) {
        Some((key, _)) => {
            let shown: String = key.chars().take(40).collect();
            let max = limits::LABEL_LENGTH_MAX;
            let reason = format!("label {shown:?}: key and value have at most {max} characters");
            Err(StartError::Labels { reason })
        }
        None => Ok(()),
    }
}

async fn join(
    config: &Config,
    connector: &dyn Connect,
    secret: Option<String>,
) -> Result<SavedIdentity, StartError> {
    let token = secret.ok_or(StartError::NotJoined)?;
    let joining = Identity::Joining { token, name: config.name.clone() };
    let greeted = uplink::greet(connector, joining).await.map_err(|error| match error {
        GreetError::Refused { reason, .. } => StartError::Refused { reason },
        GreetError::Link { reason } => StartError::Unreachable { reason },
    })?;
    let missing = || "it gave no credential".to_owned();
    let identity = SavedIdentity {
        node: greeted.node,
        credential: greeted
            .credential
            .clone()
            .ok_or_else(|| StartError::Refused { reason: missing() })?,
        authority: connector.authority().map(|authority| crate::tls::to_hex(&authority)),
    };
    identity.save(&config.data_dir)?;
    Ok(identity)
}

/// Where the node keeps what is shared between instances.
struct Places {
    launcher: PathBuf,
    build: Settings,
    environments: PathBuf,
    volumes: PathBuf,
    environments_bytes_max: u64,
}

fn preparer(
    places: &Places,
    upstream: Upstream,
    allowances: Allowances,
) -> Result<Preparer, StartError> {
    let folder = &places.environments;
    let store = Store::open(folder, places.environments_bytes_max)?;
    let wanted = folder.join(WANTED_FOLDER);
    let executor = LauncherExecutor::new(&places.launcher);
    if let Err(error) = executor.clean() {
        tracing::warn!(%error, "what earlier builds left is still there");
    }
    let builder = Builder::new(store, Arc::new(executor), places.build.clone());
    let environments = Environments::new(builder, upstream.clone(), wanted.clone());
    let environments = environments.map_err(|error| StartError::Data { path: wanted, error })?;
    Ok(Preparer {
        environments,
        volumes: Volumes::new(places.volumes.clone()),
        upstream,
        allowances: Arc::new(allowances),
        in_use: InUse::default(),
    })
}

/// What the configuration allows, and which runtimes work on this machine now.
async fn with_runtimes(allowances: Allowances, runtimes: &Runtimes) -> Allowances {
    let runtimes = runtimes.clone();
    let available = tokio::task::spawn_blocking(move || runtimes.available()).await;
    // A look that fails finds none.
    Allowances { runtimes: available.unwrap_or_default(), ..allowances }
}

/// Notes what an instance uses that was started before this agent.
fn take_up(preparer: &Preparer, found: &Found) {
    if found.exit.is_some() {
        return;
    }
    let surroundings = found.order.surroundings.as_deref();
    let environment = surroundings.and_then(|it| it.environment.as_deref());
    let ready = environment.and_then(|it| preparer.environments.used(it));
    preparer.in_use.found(found.instance, &found.order, ready);
}
