//! Layers and environments of a node, in one folder.
//!
//! ```text
//! lock                     held by the process that has the store open
//! version                  the form of the store, and how it writes owners
//! content/                 files by digest
//! layers/KEY/              root, perhaps usr, and layer.cbor
//! environments/DIGEST.cbor
//! building/                what is not whole yet, or not any more; emptied at the start
//! ```
//!
//! What is used least recently goes first. The time of modification of `layer.cbor` and of an
//! environment's file is the time of its last use.

mod environment;
mod lease;
mod prune;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use spawnery_model::ContentDigest;

use crate::content::{Content, ContentError};
use crate::disk::{self, At, DiskError};
use crate::flights::Flights;
use crate::ids::Ids;
use crate::layer::{Layer, LayerDraft, LayerError, LayerRecord};
use crate::limits::LAYERS_MAX;

pub use environment::{
    EnvironmentInfo, EnvironmentParts, EnvironmentRecord, ImageConfig, ImageUser,
};
pub use lease::Lease;
pub use prune::Pruned;

/// To be raised with every change that an older version could not read.
const VERSION: u32 = 1;

const RECORD_FILE: &str = "layer.cbor";

/// The store of a node. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    content: Content,
    size_bytes_max: u64,
    flights: Flights,
    next: AtomicU64,
    leases: Arc<lease::Leases>,
    /// Held while something appears in the store or goes, so that what is leased under it stays.
    changes: Mutex<()>,
    /// Unlocked when it is closed.
    _lock: File,
}

/// Why something with the store did not work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("the store {} is used by another process: end that one first", .0.display())]
    Busy(PathBuf),
    /// It was made by a later version, or by another kind of user.
    #[error("the store {} cannot be used here: {reason}; use another folder, or remove it", folder.display())]
    Unfit {
        /// The store's folder.
        folder: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The disk failed or is full.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The content failed.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A record of the store cannot be read.
    #[error("{} cannot be read: {reason}; remove it, and what it describes is made again", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer is not there.
    #[error("the layer {0} is not in the store: it was pruned; build the environment again")]
    NoLayer(ContentDigest),
    /// An environment is not there.
    #[error("the environment {0} is not in the store: build it first")]
    NoEnvironment(ContentDigest),
    /// More layers than a sandbox can stack.
    #[error("an environment of {0} layers is too high: 128 is the most; join steps")]
    TooManyLayers(usize),
}

impl StoreError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            StoreError::Disk(error) => error.is_full(),
            StoreError::Content(error) => error.is_full(),
            _ => false,
        }
    }
}

impl Store {
    /// Opens the store in a folder, which is made if it is missing, for this process alone. What
    /// a crash left unfinished is removed. `size_bytes_max` is what [`Store::prune_to_limit`]
    /// keeps to.
    ///
    /// # Errors
    ///
    /// When another process has it open, it is of another form, or the disk fails.
    pub fn open(folder: &Path, size_bytes_max: u64) -> Result<Store, StoreError> {
        disk::make_private_folder(folder)?;
        // Sandboxes get paths below it.
        let folder = &folder.canonicalize().at("find", folder)?;
        let lock = lock(folder)?;
        check_version(folder)?;
        let building = folder.join("building");
        disk::remove_all(&building)?;
        for name in ["building", "layers", "environments"] {
            disk::make_private_folder(&folder.join(name))?;
        }
        let content = Content::open(&folder.join("content"))?;
        let inner = Inner {
            folder: folder.to_owned(),
            content,
            size_bytes_max,
            flights: Flights::default(),
            next: AtomicU64::new(0),
            leases: Arc::default(),
            changes: Mutex::new(()),
            _lock: lock,
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// The store's folder, absolute.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Files by their content.
    pub fn content(&self) -> &Content {
        &self.inner.content
    }

    /// Work that is done once at a time for each key.
    pub fn flights(&self) -> &Flights {
        &self.inner.flights
    }

    /// Does the work, or waits for the one who does it already: see [`Flights::once`].
    ///
    /// # Errors
    ///
    /// That of the work.
    pub async fn once<T, E, W>(&self, key: &str, work: impl FnOnce() -> W) -> Result<T, E>
    where
        T: Clone + Send + Sync + 'static,
        E: Clone + Send + Sync + 'static,
        W: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.inner.flights.once(key, work).await
    }

    /// A folder of its own for something that takes a while, removed at the next start at the
    /// latest: on the same disk as the layers, so that what is made there can be moved.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        let folder = self.building();
        disk::make_private_folder(&folder)?;
        Ok(Scratch { folder })
    }

    /// The layer of a key, if it is there. Take a [`Lease`] of the key before, if it has to stay.
    ///
    /// # Errors
    ///
    /// When its record cannot be read.
    pub fn layer(&self, key: &ContentDigest) -> Result<Option<Layer>, StoreError> {
        let folder = self.layer_folder(key);
        let path = folder.join(RECORD_FILE);
        let Some(bytes) = disk::read_metadata(&path)? else { return Ok(None) };
        let record: LayerRecord = minicbor::decode(&bytes).map_err(|error| StoreError::Record {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        disk::touch(&path)?;
        Ok(Some(Layer { record, folder }))
    }

    /// All layers, in the order of their keys.
    ///
    /// # Errors
    ///
    /// When a folder or record cannot be read.
    pub fn layers(&self) -> Result<Vec<LayerRecord>, StoreError> {
        Ok(self.layers_by_use()?.into_iter().map(|(record, _)| record).collect())
    }

    /// Begins a layer over others, the lowest first. `host` is the folder of the launcher's base
    /// (`base` in its data folder) if the layer is made over the view of the host.
    ///
    /// # Errors
    ///
    /// When a parent is not there, or the disk fails or is full.
    pub fn begin_layer(
        &self,
        key: &ContentDigest,
        parents: &[ContentDigest],
        host: Option<&Path>,
        step: &str,
    ) -> Result<LayerDraft, LayerError> {
        let lease = self.lease(parents.iter().cloned());
        let mut layers = Vec::new();
        for parent in parents {
            match self.layer(parent) {
                Ok(Some(layer)) => layers.push(layer),
                Ok(None) | Err(StoreError::Record { .. }) => {
                    return Err(LayerError::NoParent(parent.clone()));
                }
                Err(StoreError::Disk(error)) => return Err(error.into()),
                Err(_) => return Err(LayerError::NoParent(parent.clone())),
            }
        }
        let (store, folder) = (self.clone(), self.building());
        let host = host.map(Path::to_owned);
        LayerDraft::new(store, folder, key.clone(), layers, host, step.to_owned(), lease)
    }

    /// Keeps what is named, environments with their layers or single layers, from being pruned
    /// as long as the lease lives. It may name what is not there yet.
    pub fn lease(&self, digests: impl IntoIterator<Item = ContentDigest>) -> Lease {
        let _changes = self.inner.changes.lock().unwrap_or_else(PoisonError::into_inner);
        Lease::new(&self.inner.leases, digests.into_iter().collect::<BTreeSet<_>>())
    }

    /// Lets a layer that is whole appear under its key.
    pub(crate) fn install_layer(
        &self,
        folder: &Path,
        record: LayerRecord,
    ) -> Result<Layer, LayerError> {
        let bytes = minicbor::to_vec(&record).expect("writing to memory cannot fail");
        let path = folder.join(RECORD_FILE);
        fs::write(&path, bytes).at("write", &path)?;
        let opened = File::open(folder).at("open", folder)?;
        rustix::fs::syncfs(&opened).at("sync the disk of", folder)?;
        let _changes = self.inner.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let target = self.layer_folder(&record.key);
        match fs::rename(folder, &target) {
            Ok(()) => {}
            // The same key is the same layer: the first one stays.
            Err(error) if is_there(&error) => {
                if let Ok(Some(layer)) = self.layer(&record.key) {
                    return Ok(layer);
                }
                // Its record is damaged.
                self.discard(&target)?;
                fs::rename(folder, &target).at("put in place", &target)?;
            }
            Err(error) => return Err(error).at("put in place", &target)?,
        }
        disk::sync_folder(&self.inner.folder.join("layers"))?;
        Ok(Layer { record, folder: target })
    }

    fn layer_folder(&self, key: &ContentDigest) -> PathBuf {
        self.inner.folder.join("layers").join(key.as_str())
    }

    fn building(&self) -> PathBuf {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.inner.folder.join("building").join(number.to_string())
    }

    /// Takes a folder out of the store at once, whole, and then removes it.
    fn discard(&self, folder: &Path) -> Result<(), DiskError> {
        let gone = self.building();
        fs::rename(folder, &gone).at("take out", folder)?;
        disk::remove_all(&gone)
    }
}

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = disk::remove_all(&self.folder) {
            tracing::warn!(%error, "a folder of the store is left until the next start");
        }
    }
}

fn is_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.at("open", &path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(StoreError::Busy(folder.to_owned())),
        other => {
            other.at("lock", &path)?;
            Ok(file)
        }
    }
}

/// Notes the form of a new store, or checks that of an old one.
fn check_version(folder: &Path) -> Result<(), StoreError> {
    let owners = match Ids::of_this_process() {
        Ids::Shifted => "shifted",
        Ids::Own => "own",
    };
    let wanted = format!("{VERSION} {owners}\n");
    let path = folder.join("version");
    let Some(found) = disk::read_metadata(&path)? else {
        return Ok(disk::write_whole(&path, &folder.join("version.new"), wanted.as_bytes())?);
    };
    if found == wanted.as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(&found).trim().to_owned();
    let reason = if found.starts_with(&format!("{VERSION} ")) {
        "it was made by root and this is another user, or the other way round".to_owned()
    } else {
        format!("its version is `{found}`, and this program knows version {VERSION}")
    };
    Err(StoreError::Unfit { folder: folder.to_owned(), reason })
}

const _: () = assert!(LAYERS_MAX == 128, "the message of TooManyLayers says the number");

#[cfg(test)]
mod tests;
