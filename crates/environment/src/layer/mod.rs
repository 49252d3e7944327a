//! Layers: folders that overlayfs stacks to a root filesystem.
//!
//! A layer has the form that `RootSpec` of the crate `sandbox` asks for: a folder `root`, perhaps
//! a folder `usr`, whiteouts as character devices 0/0, opaque folders by `user.overlay.opaque`.

mod digest;
mod lower;
mod view;
mod writer;

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use spawnery_model::ContentDigest;

use crate::disk::{self, At, DiskError};
use crate::ids::{IdError, Ids};
use crate::store::{Lease, Store};

pub use digest::Summary;
pub(crate) use digest::{AREAS, Kind, Walk};
pub(crate) use lower::is_opaque;
pub(crate) use view::{SeenKind, View};
pub(crate) use writer::user_xattrs;
pub use writer::{Attributes, LayerWriter, Written};

/// Extended attribute of a folder that hides what lower layers have below it.
pub(crate) const OPAQUE: &str = "user.overlay.opaque";

/// Extended attributes that belong to overlayfs itself.
pub(crate) const OVERLAY_PREFIX: &str = "user.overlay.";

/// A layer of the store. It is read-only by agreement: many sandboxes see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What the store knows of it.
    pub record: LayerRecord,
    /// Its folder, as `RootSpec` of the sandbox takes it.
    pub folder: PathBuf,
}

/// What the store knows of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LayerRecord {
    /// By what it was made: a chain id of an image, or the digest of a step and all before it.
    #[n(0)]
    pub key: ContentDigest,
    /// What is in it, whatever the times of its files: see [`Summary`].
    #[n(1)]
    pub content: ContentDigest,
    /// The space on the disk, in bytes.
    #[n(2)]
    pub size_bytes: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    #[n(3)]
    pub made_ms: u64,
    /// The step that made it, for people.
    #[n(4)]
    pub step: String,
    /// Keys of the layers below it, the lowest first.
    #[n(5)]
    pub parents: Vec<ContentDigest>,
    /// Whether it was made over the view of the host.
    #[n(6)]
    pub host: bool,
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A path leaves the root.
    #[error(
        "`{0}` leads out of the root: `..` is not allowed in it; the source is not to be trusted"
    )]
    Escape(String),
    /// A path or name is longer than a program could use.
    #[error("`{0}…` is too long: paths may have 4096 bytes and names 255")]
    TooLong(String),
    /// A path has symbolic links that lead in a circle.
    #[error("`{0}` has too many symbolic links on its way")]
    TooManyLinks(String),
    /// Something has to be in a folder, but that is a file.
    #[error("`{0}` is not a folder, but something is to be written in it")]
    NotAFolder(String),
    /// A hard link to nothing.
    #[error("`{path}` is a hard link to `{target}`, which is not there: the layer is not whole")]
    NoLinkTarget {
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
    /// An owner that no sandbox has.
    #[error("`{path}`: {error}")]
    Owner {
        /// Whose owner.
        path: String,
        /// What is wrong.
        #[source]
        error: IdError,
    },
    /// More folders than a layer may have.
    #[error("there are more than {0} folders in the layer")]
    TooManyFolders(usize),
    /// Something inside the layer could not be read or written.
    #[error("cannot {step} `{path}` in the layer: {}", disk::explained(error))]
    Entry {
        /// What was done, as a verb.
        step: &'static str,
        /// The path inside.
        path: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The store's disk failed or is full.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What was written is not what was announced.
    #[error(
        "the layer has the content {found}, but {expected} was announced: \
         it was changed on its way; fetch it again"
    )]
    WrongContent {
        /// What was announced.
        expected: ContentDigest,
        /// What came.
        found: ContentDigest,
    },
    /// A parent is not in the store.
    #[error("the layer {0} is not in the store: it was pruned; begin again")]
    NoParent(ContentDigest),
}

impl LayerError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            LayerError::Entry { error, .. } => disk::is_full(error),
            LayerError::Disk(error) => error.is_full(),
            _ => false,
        }
    }
}

impl Layer {
    /// What is seen as `/`.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// What is seen as `/usr`, if the layer was made over the view of the host.
    pub fn usr(&self) -> Option<PathBuf> {
        Some(self.folder.join("usr")).filter(|path| path.is_dir())
    }
}

/// A layer that is being made. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct LayerDraft {
    store: Store,
    folder: PathBuf,
    key: ContentDigest,
    parents: Vec<Layer>,
    host: Option<PathBuf>,
    step: String,
    committed: bool,
    _lease: Lease,
}

impl LayerDraft {
    pub(crate) fn new(
        store: Store,
        folder: PathBuf,
        key: ContentDigest,
        parents: Vec<Layer>,
        host: Option<PathBuf>,
        step: String,
        lease: Lease,
    ) -> Result<LayerDraft, LayerError> {
        disk::make_private_folder(&folder)?;
        let committed = false;
        let draft =
            LayerDraft { store, folder, key, parents, host, step, committed, _lease: lease };
        draft.make_area("root")?;
        if draft.host.is_some() {
            draft.make_area("usr")?;
        }
        Ok(draft)
    }

    fn make_area(&self, name: &str) -> Result<(), DiskError> {
        let path = self.folder.join(name);
        fs::create_dir(&path).at("make the folder", &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).at("open", &path)?;
        if let Ok(Some(id)) = Ids::of_this_process().to_host(0) {
            chown(&path, Some(id), Some(id)).at("give away", &path)?;
        }
        Ok(())
    }

    /// The folder to fill: `root` and, over the view of the host, `usr` are there already.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What will be seen as `/`.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// What will be seen as `/usr`, over the view of the host.
    pub fn usr(&self) -> Option<PathBuf> {
        self.host.is_some().then(|| self.folder.join("usr"))
    }

    /// The layers below, the lowest first.
    pub fn parents(&self) -> &[Layer] {
        &self.parents
    }

    /// Writes into the layer by paths inside; it knows what the layers below have.
    ///
    /// # Errors
    ///
    /// When a folder cannot be opened.
    pub fn writer(&self) -> Result<LayerWriter, LayerError> {
        LayerWriter::new(&self.folder, &self.parents, self.host.as_deref())
    }

    /// Writes the copy of a layer.
    pub(crate) fn bare_writer(&self) -> Result<LayerWriter, LayerError> {
        LayerWriter::bare(&self.folder, self.host.is_some())
    }

    /// Takes folders that were the private writable layer of a sandbox in the place of `root` and
    /// `usr`. They must be on the store's file system, and nothing may use them any more.
    ///
    /// # Errors
    ///
    /// When they cannot be moved. They are left where they are then.
    pub fn adopt(&mut self, root: &Path, usr: Option<&Path>) -> Result<(), LayerError> {
        for (from, name) in [(Some(root), "root"), (usr, "usr")] {
            let Some(from) = from else { continue };
            let to = self.folder.join(name);
            disk::remove_all(&to)?;
            fs::rename(from, &to).at("move into the store (both must be on one disk)", from)?;
        }
        Ok(())
    }

    /// Puts the layer into the store: hashes it, syncs it, and lets it appear under its key. If
    /// there is one already, that one is kept, and returned.
    ///
    /// Takes as long as reading all files does: call it where blocking is allowed.
    ///
    /// # Errors
    ///
    /// When something in it cannot be read, or the disk fails or is full. Nothing is left then.
    pub fn commit(self) -> Result<Layer, LayerError> {
        self.commit_written(Written::default())
    }

    /// As [`LayerDraft::commit`], without reading again what the writer has hashed.
    ///
    /// # Errors
    ///
    /// As [`LayerDraft::commit`].
    pub fn commit_written(self, written: Written) -> Result<Layer, LayerError> {
        self.commit_expecting(written, None)
    }

    /// As [`LayerDraft::commit_written`], if the content is the one that is expected.
    pub(crate) fn commit_expecting(
        mut self,
        written: Written,
        expected: Option<&ContentDigest>,
    ) -> Result<Layer, LayerError> {
        disk::remove_all(&self.folder.join("trash"))?;
        let summary = digest::summarize(&self.folder, &written.hashes)?;
        if let Some(expected) = expected.filter(|expected| **expected != summary.content) {
            let (expected, found) = (expected.clone(), summary.content);
            return Err(LayerError::WrongContent { expected, found });
        }
        let record = LayerRecord {
            key: self.key.clone(),
            content: summary.content,
            size_bytes: summary.size_bytes,
            made_ms: disk::now_ms(),
            step: self.step.clone(),
            parents: self.parents.iter().map(|parent| parent.record.key.clone()).collect(),
            host: self.host.is_some(),
        };
        let layer = self.store.install_layer(&self.folder, record)?;
        self.committed = true;
        Ok(layer)
    }
}

impl Drop for LayerDraft {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next open.
        if (!self.committed || self.folder.exists())
            && let Err(error) = disk::remove_all(&self.folder)
        {
            tracing::warn!(%error, "a half-built layer is left until the next start");
        }
    }
}
