//! Environments: an order of layers with what a process needs to know of them.

use std::fs;
use std::path::PathBuf;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spawnery_model::{ContentDigest, EnvironmentLock};
use spawnery_sandbox::spec::RootSpec;

use super::{Store, StoreError};
use crate::disk::{self, At};
use crate::layer::{Layer, LayerRecord};
use crate::limits::LAYERS_MAX;

/// What an image says about the processes to be run in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct ImageConfig {
    /// Environment variables, in order.
    #[n(0)]
    pub env: Vec<(String, String)>,
    /// What is always run.
    #[n(1)]
    pub entrypoint: Vec<String>,
    /// Arguments of it, or the command itself, unless others are given.
    #[n(2)]
    pub cmd: Vec<String>,
    /// Absolute path inside.
    #[n(3)]
    pub working_directory: Option<String>,
    /// As whom processes run; without, as root inside.
    #[n(4)]
    pub user: Option<ImageUser>,
    /// Ports that it listens on: `8080/tcp`.
    #[n(5)]
    pub exposed_ports: Vec<String>,
    /// The signal that asks it to end: `SIGTERM`, or a number.
    #[n(6)]
    pub stop_signal: Option<String>,
}

/// The user of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct ImageUser {
    /// As the image writes it: `www-data`, `1000:1000`.
    #[n(0)]
    pub written: String,
    /// Its id inside, looked up in the image's `/etc/passwd`.
    #[n(1)]
    pub uid: u32,
    /// Its group's id inside.
    #[n(2)]
    pub gid: u32,
    /// Further groups, of the image's `/etc/group`.
    #[n(3)]
    pub groups: Vec<u32>,
}

/// What an environment is put together from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentParts {
    /// The digest of what goes into it: recipe and lock.
    pub digest: ContentDigest,
    /// What people call it.
    pub name: Option<String>,
    /// Keys of its layers, the lowest first.
    pub layers: Vec<ContentDigest>,
    /// Whether the view of the host is below them.
    pub host: bool,
    /// What processes need to know.
    pub config: ImageConfig,
    /// What the recipe was resolved to.
    pub lock: EnvironmentLock,
}

/// An environment of the store.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EnvironmentRecord {
    /// The digest of what goes into it: recipe and lock.
    #[n(0)]
    pub digest: ContentDigest,
    /// What people call it.
    #[n(1)]
    pub name: Option<String>,
    /// Keys of its layers, the lowest first.
    #[n(2)]
    pub layers: Vec<ContentDigest>,
    /// Whether the view of the host is below them.
    #[n(3)]
    pub host: bool,
    /// What processes need to know.
    #[n(4)]
    pub config: ImageConfig,
    /// What the recipe was resolved to.
    #[n(5)]
    pub lock: EnvironmentLock,
    /// The digest of what came out: the contents of all layers, in order, and `config`.
    #[n(6)]
    pub content: ContentDigest,
    /// The space of all its layers on the disk, in bytes; others may share them.
    #[n(7)]
    pub size_bytes: u64,
    /// When it was put together, in milliseconds since the Unix epoch.
    #[n(8)]
    pub made_ms: u64,
}

/// An environment, and when it was last used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentInfo {
    /// The environment.
    pub record: EnvironmentRecord,
    /// In milliseconds since the Unix epoch.
    pub used_ms: u64,
}

impl Store {
    /// Puts an environment into the store. One of the same digest is replaced.
    ///
    /// # Errors
    ///
    /// When a layer is not there, there are too many, or the disk fails or is full.
    pub fn put_environment(
        &self,
        parts: EnvironmentParts,
    ) -> Result<EnvironmentRecord, StoreError> {
        if parts.layers.len() > LAYERS_MAX {
            return Err(StoreError::TooManyLayers(parts.layers.len()));
        }
        let _lease = self.lease(parts.layers.iter().cloned());
        let mut hash = Sha256::new();
        let mut size_bytes = 0;
        for key in &parts.layers {
            let layer = self.layer(key)?.ok_or_else(|| StoreError::NoLayer(key.clone()))?;
            hash.update(layer.record.content.as_str());
            size_bytes += layer.record.size_bytes;
        }
        hash.update([u8::from(parts.host)]);
        hash.update(minicbor::to_vec(&parts.config).expect("writing to memory cannot fail"));
        let record = EnvironmentRecord {
            digest: parts.digest,
            name: parts.name,
            layers: parts.layers,
            host: parts.host,
            config: parts.config,
            lock: parts.lock,
            content: ContentDigest::from_bytes(hash.finalize().into()),
            size_bytes,
            made_ms: disk::now_ms(),
        };
        let bytes = minicbor::to_vec(&record).expect("writing to memory cannot fail");
        disk::write_whole(&self.environment_file(&record.digest), &self.building(), &bytes)?;
        Ok(record)
    }

    /// The environment of a digest, if it is there with all its layers. Notes its use. Take a
    /// [`Lease`](super::Lease) of the digest before, if it has to stay.
    ///
    /// # Errors
    ///
    /// When its record cannot be read.
    pub fn environment(
        &self,
        digest: &ContentDigest,
    ) -> Result<Option<EnvironmentRecord>, StoreError> {
        let path = self.environment_file(digest);
        let Some(record) = read(&path)? else { return Ok(None) };
        disk::touch(&path)?;
        for key in &record.layers {
            if self.layer(key)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(record))
    }

    /// Whether an environment that was looked up before is still there. Notes its use. As long as
    /// it is there, so are its layers. Take a [`Lease`](super::Lease) of it before.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub fn use_environment(&self, digest: &ContentDigest) -> Result<bool, StoreError> {
        let path = self.environment_file(digest);
        match fs::exists(&path) {
            Ok(true) => disk::touch(&path).map(|()| true).map_err(StoreError::from),
            Ok(false) => Ok(false),
            Err(error) => Err(error).at("look at", &path)?,
        }
    }

    /// All environments, the most recently used first.
    ///
    /// # Errors
    ///
    /// When the folder or a record cannot be read.
    pub fn environments(&self) -> Result<Vec<EnvironmentInfo>, StoreError> {
        let folder = self.inner.folder.join("environments");
        let mut all = Vec::new();
        for file in fs::read_dir(&folder).at("list", &folder)? {
            let path = file.at("list", &folder)?.path();
            if path.extension().is_none_or(|it| it != "cbor") {
                continue;
            }
            let Some(record) = read(&path)? else { continue };
            let used_ms = disk::used_ms(&fs::metadata(&path).at("look at", &path)?);
            all.push(EnvironmentInfo { record, used_ms });
        }
        all.sort_by(|a, b| {
            b.used_ms.cmp(&a.used_ms).then_with(|| a.record.digest.cmp(&b.record.digest))
        });
        Ok(all)
    }

    /// Removes an environment, but not its layers, which are pruned when nothing uses them.
    /// `false` if it was not there.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub fn remove_environment(&self, digest: &ContentDigest) -> Result<bool, StoreError> {
        let path = self.environment_file(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).at("remove", &path)?,
        }
    }

    /// The layers of an environment, the lowest first.
    ///
    /// # Errors
    ///
    /// When one is not there.
    pub fn layers_of(&self, record: &EnvironmentRecord) -> Result<Vec<Layer>, StoreError> {
        let layer =
            |key: &ContentDigest| self.layer(key)?.ok_or_else(|| StoreError::NoLayer(key.clone()));
        record.layers.iter().map(layer).collect()
    }

    /// The environment as the sandbox takes it.
    ///
    /// # Errors
    ///
    /// When a layer is not there.
    pub fn root_spec(&self, record: &EnvironmentRecord) -> Result<RootSpec, StoreError> {
        let layers = self.layers_of(record)?;
        let folder = |layer: &Layer| layer.folder.to_string_lossy().into_owned();
        Ok(RootSpec { layers: layers.iter().rev().map(folder).collect(), host: record.host })
    }

    pub(super) fn environment_file(&self, digest: &ContentDigest) -> PathBuf {
        self.inner.folder.join("environments").join(format!("{digest}.cbor"))
    }

    pub(super) fn layers_by_use(&self) -> Result<Vec<(LayerRecord, u64)>, StoreError> {
        let folder = self.inner.folder.join("layers");
        let mut all = Vec::new();
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let path = entry.at("list", &folder)?.path().join(super::RECORD_FILE);
            let Some(bytes) = disk::read_metadata(&path)? else { continue };
            let record: LayerRecord = minicbor::decode(&bytes).map_err(|error| {
                StoreError::Record { path: path.clone(), reason: error.to_string() }
            })?;
            let used_ms = disk::used_ms(&fs::metadata(&path).at("look at", &path)?);
            all.push((record, used_ms));
        }
        all.sort_by(|a, b| a.0.key.cmp(&b.0.key));
        Ok(all)
    }
}

fn read(path: &std::path::Path) -> Result<Option<EnvironmentRecord>, StoreError> {
    let Some(bytes) = disk::read_metadata(path)? else { return Ok(None) };
    let record = minicbor::decode(&bytes)
        .map_err(|error| StoreError::Record { path: path.to_owned(), reason: error.to_string() })?;
    Ok(Some(record))
}
