//! The environments of the node: found in its store, fetched from another node, or built.
//!
//! Whoever wants an environment asks [`Environments::ready`]. Those who want the same one at the
//! same time share the work, here and, through the controller, with other nodes; when nobody waits
//! for it any more, it is given up.

mod fetch;
mod obtain;

pub(crate) use obtain::made;

use crate::upstream::Upstream;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use sha2::{Digest, Sha256};
use spawnery_environment::build::{Builder, Progress};
use spawnery_environment::{EnvironmentRecord, Lease, Store, StoreError};
use spawnery_model::{ContentDigest, Environment, InstanceId, Name};
use spawnery_sandbox::spec::RootSpec;
use spawnery_wire::link::{EnvironmentInfo, Pruned, SecretValue};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{broadcast, watch};

/// Environments that are remembered: each is a few hundred bytes. When there are more, all are
/// looked up again.
const KNOWN_MAX: usize = 1024;

/// Pieces of output that a slow listener of a build may be behind before it misses some.
const OUTPUT_BEHIND_MAX: usize = 256;

/// The environments of the node. Clones share them.
#[derive(Clone)]
pub(crate) struct Environments {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    builder: Builder,
    upstream: Upstream,
    /// Which environment was made of which recipe and lock: a file for each.
    wanted: PathBuf,
    flights: Mutex<BTreeMap<ContentDigest, Flight>>,
    /// What was looked up before, so that a start reads nothing of it again.
    known: Mutex<BTreeMap<ContentDigest, Known>>,
}

/// An environment that was looked up before; it may be gone.
#[derive(Clone)]
struct Known {
    record: Arc<EnvironmentRecord>,
    root: RootSpec,
}

/// The work of making an environment.
type Work = BoxFuture<'static, Result<EnvironmentRecord, String>>;

/// Work on an environment that others may join.
#[derive(Clone)]
struct Flight {
    result: WeakShared<Work>,
    progress: watch::Receiver<String>,
    output: broadcast::Sender<Vec<u8>>,
}

/// Somebody's part in the work on an environment.
struct Joined {
    result: Shared<Work>,
    progress: watch::Receiver<String>,
    output: broadcast::Receiver<Vec<u8>>,
}

/// What is told while an environment is made.
#[derive(Clone)]
pub(crate) struct Teller {
    progress: Arc<watch::Sender<String>>,
    output: broadcast::Sender<Vec<u8>>,
}

/// Where the secrets that a recipe names come from.
#[derive(Clone)]
pub(crate) enum SecretsFrom {
    /// The controller gives them for an instance that is placed here.
    Instance(InstanceId),
    /// The controller gives them for a workload that sandboxes are kept ready for.
    Workload(Name),
    /// They came with the request.
    Given(Vec<SecretValue>),
}

/// An environment that stays for as long as this value lives.
pub(crate) struct Ready {
    pub(crate) record: Arc<EnvironmentRecord>,
    /// Its layers, as a sandbox takes them.
    pub(crate) root: RootSpec,
    pub(crate) lease: Lease,
}

/// News of an environment that is being made.
pub(crate) enum News {
    Progress(String),
    Output(Vec<u8>),
}

impl Environments {
    /// The environments in the builder's store. `wanted` is a folder for notes.
    pub(crate) fn new(
        builder: Builder,
        upstream: Upstream,
        wanted: PathBuf,
    ) -> io::Result<Environments> {
        fs::create_dir_all(&wanted)?;
        let flights = Mutex::default();
        let store = builder.store().clone();
        let known = Mutex::default();
        let inner = Inner { store, builder, upstream, wanted, flights, known };
        Ok(Environments { inner: Arc::new(inner) })
    }

    /// The store.
    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Waits until the environment is there. `news` is told what is done meanwhile; with
    /// `resolve`, what the lock leaves open is looked up again.
    pub(crate) async fn ready(
        &self,
        environment: &Environment,
        secrets: SecretsFrom,
        resolve: bool,
        mut news: impl FnMut(News),
    ) -> Result<Ready, String> {
        let wanted = wanted_digest(environment);
        if !resolve && let Some(ready) = self.known(&wanted)? {
            return Ok(ready);
        }
        let joined = self.join(&wanted, environment, secrets, resolve);
        let Joined { result, mut progress, mut output } = joined;
        tokio::pin!(result);
        loop {
            tokio::select! {
                biased;
                Ok(bytes) = output.recv() => news(News::Output(bytes)),
                Ok(()) = progress.changed() => {
                    news(News::Progress(progress.borrow_and_update().clone()));
                }
                record = &mut result => {
                    return self.ready_now(&wanted, record?);
                }
            }
        }
    }

    /// The environment of an instance that was started before this agent.
    pub(crate) fn used(&self, environment: &Environment) -> Option<Ready> {
        self.known(&wanted_digest(environment)).ok().flatten()
    }

    /// The environment that was just made, or found in the store.
    fn ready_now(
        &self,
        wanted: &ContentDigest,
        record: EnvironmentRecord,
    ) -> Result<Ready, String> {
        let lease = self.lease(&record);
        let root = self.inner.store.root_spec(&record).map_err(|error| error.to_string())?;
        let known = Known { record: Arc::new(record), root };
        let mut all = self.inner.known.lock().expect("no holder panics");
        if all.len() >= KNOWN_MAX {
            all.clear();
        }
        all.insert(wanted.clone(), known.clone());
        Ok(Ready { record: known.record, root: known.root, lease })
    }

    /// The same, if it was looked up before and is still there.
    fn remembered(&self, wanted: &ContentDigest) -> Option<Ready> {
        let known = self.inner.known.lock().expect("no holder panics").get(wanted)?.clone();
        // The lease comes first, so that nothing is pruned between looking and using.
        let lease = self.lease(&known.record);
        let there = self.inner.store.use_environment(&known.record.digest);
        let there = there.is_ok_and(|there| there);
        there.then_some(Ready { record: known.record, root: known.root, lease })
    }

    /// The environment made of a recipe and lock, if it is in the store.
    pub(crate) fn known(&self, wanted: &ContentDigest) -> Result<Option<Ready>, String> {
        if let Some(ready) = self.remembered(wanted) {
            return Ok(Some(ready));
        }
        let path = self.inner.wanted.join(wanted.as_str());
        let Ok(text) = fs::read_to_string(path) else {
            return Ok(None);
        };
        let Ok(digest) = text.trim().parse::<ContentDigest>() else {
            return Ok(None);
        };
        // The lease comes first, so that nothing is pruned between looking and using.
        let first = self.inner.store.lease([digest.clone()]);
        match self.inner.store.environment(&digest) {
            Ok(Some(record)) => {
                let ready = self.ready_now(wanted, record)?;
                drop(first);
                Ok(Some(ready))
            }
            Ok(_) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn lease(&self, record: &EnvironmentRecord) -> Lease {
        let digests = record.layers.iter().cloned().chain([record.digest.clone()]);
        self.inner.store.lease(digests)
    }

    /// Notes that an environment was made of a recipe and lock. Lost in a crash, it is found out
    /// again.
    fn note(&self, wanted: &ContentDigest, digest: &ContentDigest) {
        let path = self.inner.wanted.join(wanted.as_str());
        let new = path.with_extension("new");
        let written = fs::write(&new, digest.as_str()).and_then(|()| fs::rename(&new, &path));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot note which environment was made");
        }
    }

    /// Makes room for what has just come. What is in use has a lease, and so has the new one.
    async fn keep_to_limit(&self, record: &EnvironmentRecord) {
        let _lease = self.lease(record);
        let store = self.inner.store.clone();
        let pruned = tokio::task::spawn_blocking(move || store.prune_to_limit(&BTreeSet::new()));
        match pruned.await {
            Ok(Ok(pruned)) if pruned.freed_bytes > 0 => {
                let (freed_bytes, left_bytes) = (pruned.freed_bytes, pruned.left_bytes);
                tracing::info!(freed_bytes, left_bytes, "environments were pruned");
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "environments cannot be pruned"),
            Err(error) => tracing::error!(%error, "pruning environments failed"),
        }
    }

    fn join(
        &self,
        wanted: &ContentDigest,
        environment: &Environment,
        secrets: SecretsFrom,
        resolve: bool,
    ) -> Joined {
        let mut flights = self.flights();
        flights.retain(|_, flight| flight.result.upgrade().is_some());
        if let Some(flight) = flights.get(wanted)
            && let Some(result) = flight.result.upgrade()
        {
            let mut progress = flight.progress.clone();
            progress.mark_changed();
            return Joined { result, progress, output: flight.output.subscribe() };
        }
        let (progress, progress_out) = watch::channel("building environment".to_owned());
        let (output, output_out) = broadcast::channel(OUTPUT_BEHIND_MAX);
        let teller = Teller { progress: Arc::new(progress), output: output.clone() };
        let (this, environment, key) = (self.clone(), environment.clone(), wanted.clone());
        let work = async move {
            let record = this.obtain(&key, environment, secrets, resolve, teller).await?;
            this.note(&key, &record.digest);
            this.keep_to_limit(&record).await;
            Ok(record)
        };
        let result = work.boxed().shared();
        let weak = result.downgrade().expect("it was not polled yet");
        let flight = Flight { result: weak, progress: progress_out.clone(), output };
        flights.insert(wanted.clone(), flight);
        let mut progress = progress_out;
        progress.mark_changed();
        Joined { result, progress, output: output_out }
    }

    fn flights(&self) -> MutexGuard<'_, BTreeMap<ContentDigest, Flight>> {
        self.inner.flights.lock().expect("no holder panics")
    }

    /// What the store has, with how many of `in_use` are of each environment.
    pub(crate) fn list(
        &self,
        in_use: &BTreeMap<ContentDigest, u32>,
    ) -> Result<Vec<EnvironmentInfo>, StoreError> {
        let info = |found: spawnery_environment::EnvironmentInfo| {
            let record = found.record;
            let layers = self.inner.store.layers_of(&record).unwrap_or_default();
            EnvironmentInfo {
                steps: layers.iter().map(|layer| layer.record.step.clone()).collect(),
                layers: layers.iter().map(|layer| layer.record.content.clone()).collect(),
                size_bytes: record.size_bytes,
                used_at_ms: found.used_ms,
                users: in_use.get(&record.digest).copied().unwrap_or_default(),
                output: self.output_of(&record),
                name: record.name.and_then(|name| Name::new(name).ok()),
                lock: Some(record.lock),
                digest: record.digest,
            }
        };
        Ok(self.inner.store.environments()?.into_iter().map(info).collect())
    }

    fn output_of(&self, record: &EnvironmentRecord) -> Option<String> {
        let outputs = self.inner.builder.outputs(record).ok()?;
        let text = |(step, output): (String, Vec<u8>)| {
            format!("{step}:\n{}", String::from_utf8_lossy(&output))
        };
        let texts: Vec<String> = outputs.into_iter().map(text).collect();
        (!texts.is_empty()).then(|| texts.join("\n"))
    }

    /// Removes what is not in use, the least recently used first.
    pub(crate) fn prune(
        &self,
        bytes_max: Option<u64>,
        in_use: &BTreeSet<ContentDigest>,
    ) -> Result<Pruned, StoreError> {
        let store = &self.inner.store;
        let pruned = match bytes_max {
            Some(bytes_max) => store.prune(bytes_max, in_use)?,
            None => store.prune_to_limit(in_use)?,
        };
        Ok(Pruned {
            environments: pruned.environments.len() as u32,
            freed_bytes: pruned.freed_bytes,
            left_bytes: store.size_bytes()?,
        })
    }
}

impl Teller {
    fn tell(&self, text: String) {
        self.progress.send_replace(text);
    }
}

impl Progress for Teller {
    fn step(&self, number: usize, of: usize, title: &str) {
        self.tell(format!("building environment, step {number} of {of}: {title}"));
    }

    fn resolving(&self, what: &str) {
        self.tell(format!("building environment, resolving {what}"));
    }

    fn output(&self, bytes: &[u8]) {
        // Without a listener it goes nowhere; the builder keeps it.
        let _ = self.output.send(bytes.to_vec());
    }
}

/// The digest of a recipe with its lock, whatever it is called: who wants the same gets the same.
fn wanted_digest(environment: &Environment) -> ContentDigest {
    let unnamed = Environment { name: None, ..environment.clone() };
    let bytes = minicbor::to_vec(&unnamed).expect("writing to memory does not fail");
    ContentDigest::from_bytes(Sha256::digest(bytes).into())
}
