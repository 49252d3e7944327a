//! Builds environments: each step of a recipe makes a layer over those of the steps before.
//!
//! A [`Builder`] belongs to a node's [`Store`]. [`Builder::resolve`] finds out what a recipe leaves
//! open and gives a lock; [`Builder::build`] carries the steps out, each only if no layer of its
//! key is there. Commands run in sandboxes of the node's launcher, by an [`Executor`].

mod capture;
mod command;
mod debian;
pub mod executor;
mod failure;
mod files;
mod git;
mod image;
pub mod limits;
mod mirror;
mod plan;
pub mod progress;
mod python;
mod resolve;
mod sandboxed;
mod steps;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use spawnery_model::{ContentDigest, Environment, EnvironmentLock};
use spawnery_sandbox::spec::{EgressSpec, Network};

use self::capture::OUTPUT_FILE;
use self::failure::Failure;
use self::plan::{Plan, Step, plan};
use self::progress::CancelOnDrop;
use crate::layer::Layer;
use crate::store::{EnvironmentParts, EnvironmentRecord, ImageConfig, Lease, Store, StoreError};
use crate::{lock, recipe};

pub use self::executor::{Executor, LauncherExecutor};
pub use self::failure::BuildError;
pub use self::image::RegistryMirrors;
pub use self::progress::{Cancel, Progress, Secrets, Silent};

/// What one step may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// CPU, in thousandths of a core.
    pub cpu_millis: u32,
    /// Processes and threads.
    pub pids: u32,
    /// What it may write, in bytes.
    pub disk_bytes: u64,
    /// How long it may take.
    pub duration: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes: limits::STEP_MEMORY_BYTES_MAX,
            cpu_millis: limits::STEP_CPU_MILLIS_MAX,
            pids: limits::STEP_PIDS_MAX,
            disk_bytes: limits::STEP_DISK_BYTES_MAX,
            duration: limits::STEP_DURATION_MAX,
        }
    }
}

/// What the node's configuration says about building.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The network of tools of the node that fetch something: git, apt-get, and uv as long as it
    /// builds nothing. That of the host by default: they reach what the node itself reaches.
    pub fetch_network: Network,
    /// The network of foreign code: commands with `build_network`, source distributions, and
    /// whatever an image brings. One of their own by default, from which neither the host nor
    /// private addresses are reached.
    pub network: Network,
    /// What a network of their own can reach beside that.
    pub egress: EgressSpec,
    /// The program `uv`; without, it is looked for beside this program and on the `PATH`.
    pub uv: Option<PathBuf>,
    /// The Python index for recipes that name none; without, the public one.
    pub python_index: Option<String>,
    /// Registries of images, `HOST:PORT`, that are spoken to without encryption; those on this
    /// machine always are.
    pub registries_plain_http: Vec<String>,
    /// Hosts that are asked before a registry, in order, by its name: `docker.io`.
    pub registry_mirrors: RegistryMirrors,
    /// The mirror of Debian for bases made of its packages, such as
    /// `http://deb.debian.org/debian`, which then is all that they know; without, the one that
    /// the node itself uses, or Debian's own, with its updates.
    pub debian_mirror: Option<String>,
    /// The keys that sign the mirror; without, those of the package `debian-archive-keyring`.
    pub debian_keyring: Option<PathBuf>,
    /// Folders of the node with git repositories that recipes may name by `file://`.
    pub git_folders: Vec<PathBuf>,
    /// The host keys that `ssh` accepts, as in `known_hosts`; without, all.
    pub ssh_known_hosts: Option<PathBuf>,
    /// What one step may use.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            fetch_network: Network::Host,
            network: Network::Private,
            egress: EgressSpec::default(),
            uv: None,
            python_index: None,
            registries_plain_http: Vec::new(),
            registry_mirrors: RegistryMirrors::new(),
            debian_mirror: None,
            debian_keyring: None,
            git_folders: Vec::new(),
            ssh_known_hosts: None,
            limits: Limits::default(),
        }
    }
}

/// An environment that was built, or found built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltEnvironment {
    /// The digest of what went into it.
    pub digest: ContentDigest,
    /// The folders of its layers, the topmost first, as `RootSpec` of the sandbox takes them.
    pub layers: Vec<PathBuf>,
    /// Whether the view of the host is below them.
    pub host: bool,
    /// What processes need to know.
    pub config: ImageConfig,
    /// What the recipe was resolved to.
    pub lock: EnvironmentLock,
    /// The space of all its layers, in bytes.
    pub size_bytes: u64,
}

/// Builds environments into a store. Clones share it.
#[derive(Clone)]
pub struct Builder {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    executor: Arc<dyn Executor>,
    settings: Settings,
}

/// What is the same for all steps of one build.
#[derive(Clone)]
struct Job {
    inner: Arc<Inner>,
    recipe: Arc<Environment>,
    secrets: Secrets,
    progress: Arc<dyn Progress>,
}

/// What the steps so far have made.
#[derive(Debug, Clone, Default)]
struct Built {
    /// The lowest first.
    layers: Vec<Layer>,
    /// What the base says.
    config: ImageConfig,
    /// Keep the layers from being pruned.
    leases: Vec<Arc<Lease>>,
}

impl Builder {
    /// Builds into this store, with commands run by this executor.
    pub fn new(store: Store, executor: Arc<dyn Executor>, settings: Settings) -> Builder {
        Builder { inner: Arc::new(Inner { store, executor, settings }) }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Builds what a recipe describes, or finds it built. Without a lock in the recipe, all that
    /// is open is resolved first; the lock is in the result.
    ///
    /// Dropped, it ends what is under way, unless somebody else waits for the same step.
    ///
    /// # Errors
    ///
    /// When the recipe or its lock cannot be used, or a step fails. The steps before stay in the
    /// store for the next try; of the one that failed nothing is left.
    pub async fn build(
        &self,
        recipe: &Environment,
        secrets: Secrets,
        progress: Arc<dyn Progress>,
    ) -> Result<BuiltEnvironment, BuildError> {
        recipe::check(recipe)?;
        let lock = match &recipe.lock {
            Some(lock) => lock.clone(),
            None => self.resolve(recipe, secrets.clone(), progress.clone()).await?,
        };
        lock::check(recipe, &lock)?;
        let plan = plan(recipe, &lock);
        let wrong = |error: StoreError| BuildError::Store(error.to_string());
        let _lease = self.inner.store.lease([plan.digest.clone()]);
        if let Some(record) = self.inner.store.environment(&plan.digest).map_err(wrong)? {
            return self.built(&record);
        }
        let job = self.job(recipe, secrets, progress);
        let built = job.carry_out(&plan).await?;
        let record = self.inner.store.put_environment(EnvironmentParts {
            digest: plan.digest,
            name: recipe.name.as_ref().map(ToString::to_string),
            layers: built.layers.iter().map(|layer| layer.record.key.clone()).collect(),
            host: plan.host,
            config: config_of(recipe, built.config),
            lock,
        });
        self.built(&record.map_err(wrong)?)
    }

    /// The digest that a recipe with its lock has, and the titles of its steps.
    ///
    /// # Errors
    ///
    /// When the recipe or its lock cannot be used, or there is no lock.
    pub fn outline(recipe: &Environment) -> Result<(ContentDigest, Vec<String>), BuildError> {
        recipe::check(recipe)?;
        let lock = recipe.lock.as_ref().ok_or(lock::LockError::OtherRecipe)?;
        lock::check(recipe, lock)?;
        let plan = plan(recipe, lock);
        Ok((plan.digest, plan.steps.into_iter().map(|step| step.title).collect()))
    }

    /// What the commands of each step have written, the lowest step first: its title and the end
    /// of its output. Steps without commands have none.
    ///
    /// # Errors
    ///
    /// When a layer is not there any more, or cannot be read.
    pub fn outputs(
        &self,
        record: &EnvironmentRecord,
    ) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
        let layers = self.inner.store.layers_of(record);
        let mut outputs = Vec::new();
        for layer in layers.map_err(|error| BuildError::Store(error.to_string()))? {
            match std::fs::read(layer.folder.join(OUTPUT_FILE)) {
                Ok(output) => outputs.push((layer.record.step, output)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(BuildError::Store(error.to_string())),
            }
        }
        Ok(outputs)
    }

    fn job(&self, recipe: &Environment, secrets: Secrets, progress: Arc<dyn Progress>) -> Job {
        Job { inner: self.inner.clone(), recipe: Arc::new(recipe.clone()), secrets, progress }
    }

    fn built(&self, record: &EnvironmentRecord) -> Result<BuiltEnvironment, BuildError> {
        let layers = self.inner.store.layers_of(record);
        let layers = layers.map_err(|error| BuildError::Store(error.to_string()))?;
        Ok(BuiltEnvironment {
            digest: record.digest.clone(),
            layers: layers.into_iter().rev().map(|layer| layer.folder).collect(),
            host: record.host,
            config: record.config.clone(),
            lock: record.lock.clone(),
            size_bytes: record.size_bytes,
        })
    }
}

impl Job {
    /// Carries out all steps in order.
    async fn carry_out(&self, plan: &Plan) -> Result<Built, BuildError> {
        let lease = self.inner.store.lease(plan.steps.iter().map(|step| step.key.clone()));
        let mut built = Built { leases: vec![Arc::new(lease)], ..Built::default() };
        let of = plan.steps.len();
        for (index, step) in plan.steps.iter().enumerate() {
            self.progress.step(index + 1, of, &step.title);
            let failed = |failure: Failure| failure.at_step(index + 1, of, &step.title);
            built = self.ensure(step, plan.host, built).await.map_err(failed)?;
        }
        Ok(built)
    }

    /// Carries out one step, unless its layer is there, or waits for whoever does it.
    async fn ensure(&self, step: &Step, host: bool, below: Built) -> Result<Built, Failure> {
        if matches!(step.work, plan::Work::Image { .. } | plan::Work::ImageFile(_)) {
            let mut built = self.ensure_image(step).await?;
            built.leases.extend(below.leases);
            return Ok(built);
        }
        if let Some(layer) = self.inner.store.layer(&step.key).map_err(Failure::of)? {
            let mut built = below;
            built.layers.push(layer);
            return Ok(built);
        }
        let (job, step) = (self.clone(), step.clone());
        let key = format!("step {}", step.key);
        let work = move || async move {
            let cancel = Cancel::default();
            let _guard = CancelOnDrop(cancel.clone());
            let done =
                tokio::task::spawn_blocking(move || steps::run(&job, &step, host, below, &cancel));
            done.await.unwrap_or_else(|error| Err(Failure::new(format!("it crashed: {error}"))))
        };
        self.inner.store.once(&key, work).await
    }
}

/// What processes of the environment need to know.
fn config_of(recipe: &Environment, base: ImageConfig) -> ImageConfig {
    let mut config = base;
    if recipe.python.is_some() {
        config.env = steps::with_python(&config.env);
    }
    if let Some(source) = &recipe.source {
        config.working_directory = Some(source.to.clone());
    }
    config
}
