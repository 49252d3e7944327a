//! Images of registries.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use futures::StreamExt;
use sha2::{Digest, Sha256};
use spawnery_model::ContentDigest;
use tokio::sync::mpsc;

use super::image::{
    Descriptor, Document, Layers, Plan, check, document, for_this_machine, install,
};
use super::registry::{Registry, RegistryOptions, blob_error};
use super::spool::{Spool, SpoolWriter};
use super::{Image, ImageError, Reference};
use crate::archive::UnpackLimits;
use crate::content::digest_of;
use crate::disk::At;
use crate::limits::IMAGE_DOWNLOADS_MAX;
use crate::store::Store;

/// Parts of a download that wait for the disk, at most; each has up to some hundred KiB.
const PARTS_WAITING_MAX: usize = 8;

/// How an image is fetched.
#[derive(Clone, Default)]
pub struct PullOptions {
    /// How the registry is reached.
    pub registry: RegistryOptions,
    /// What a layer may hold.
    pub limits: UnpackLimits,
    /// Is told what has come.
    pub progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl fmt::Debug for PullOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullOptions").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// What of one layer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Which one, from 1.
    pub layer: usize,
    /// Of how many.
    pub layers: usize,
    /// Bytes that have come.
    pub received_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Fetches an image and puts it into the store. Layers that are there already are not fetched;
/// others are unpacked while they come.
///
/// # Errors
///
/// When the registry cannot be reached, does not let us in or does not have the image, when
/// something is not what its digest says, or the disk fails or is full.
pub async fn pull(
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
) -> Result<Image, ImageError> {
    let mut last = None;
    for registry in Registry::all(reference, &options.registry)? {
        match pull_from(store, reference, options, &registry).await {
            Err(
                error @ (ImageError::Unreachable { .. }
                | ImageError::Credentials { .. }
                | ImageError::Unknown { .. }
                | ImageError::Refused { .. }),
            ) => {
                tracing::debug!(host = registry.host(), %error, "this host does not help");
                last = Some(error);
            }
            other => return other,
        }
    }
    Err(last.expect("there is always the registry itself"))
}

async fn pull_from(
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    registry: &Registry,
) -> Result<Image, ImageError> {
    let (digest, config, layers) = manifest(reference, registry).await?;
    let what = format!("the configuration of {reference}");
    let bytes = registry.small_blob(reference, &config.digest, &what).await?;
    check(&bytes, &config, &what)?;
    let names = layers.iter().map(|it| it.digest.clone()).collect();
    let plan = Plan::new(digest, &bytes, names)?;
    let lease = store.lease(plan.chain.iter().cloned());
    let scratch = store.scratch()?;
    let mut spools = BTreeMap::new();
    for (index, key) in plan.chain.iter().enumerate() {
        if !matches!(store.layer(key), Ok(Some(_))) {
            spools.insert(index, Spool::new(&scratch.folder().join(index.to_string()))?);
        }
    }
    let count = layers.len();
    let jobs: Vec<_> = spools
        .iter()
        .map(|(index, spool)| {
            let (index, layer, writer) = (*index, &layers[*index], spool.writer());
            download(registry, reference, layer, (index + 1, count), writer, options)
        })
        .collect();
    let downloads = futures::stream::iter(jobs).buffered(IMAGE_DOWNLOADS_MAX).collect::<()>();
    let (store, limits) = (store.clone(), options.limits);
    let mut unpacking = tokio::task::spawn_blocking(move || {
        let mut layers = SpooledLayers { spools };
        let image = install(&store, &plan, limits, &mut layers);
        drop((layers, scratch, lease));
        image
    });
    tokio::pin!(downloads);
    let mut coming = true;
    loop {
        tokio::select! {
            // What still comes is given up when this is over.
            image = &mut unpacking => {
                return image.unwrap_or_else(|error| Err(ImageError::Read {
                    what: "a layer".to_owned(),
                    error: std::io::Error::other(error),
                }));
            }
            () = &mut downloads, if coming => coming = false,
        }
    }
}

/// The manifest for this machine: its digest, and what it names.
async fn manifest(
    reference: &Reference,
    registry: &Registry,
) -> Result<(String, Descriptor, Vec<Descriptor>), ImageError> {
    let what = format!("the manifest of {reference}");
    let bytes = registry.manifest(reference, &reference.selector()).await?;
    let index = match document(&bytes, &what)? {
        Document::Manifest { config, layers } => {
            return Ok((format!("sha256:{}", digest_of(&bytes)), config, layers));
        }
        Document::Index(index) => index,
    };
    let chosen = for_this_machine(&index)?;
    let bytes = registry.manifest(reference, &chosen.digest).await?;
    match document(&bytes, &what)? {
        Document::Manifest { config, layers } => Ok((chosen.digest.clone(), config, layers)),
        Document::Index(_) => {
            let reason = "an index names another index".to_owned();
            Err(ImageError::Malformed { what, reason })
        }
    }
}

/// Fetches one layer into its file. How it went is told to the one who reads.
async fn download(
    registry: &Registry,
    reference: &Reference,
    layer: &Descriptor,
    (number, count): (usize, usize),
    writer: SpoolWriter,
    options: &PullOptions,
) {
    let what = format!("layer {number} of {count} ({}) of {reference}", layer.digest);
    let expected = match layer.content(&what) {
        Ok(expected) => expected,
        Err(error) => return writer.end(Err(error)),
    };
    let mut response = match registry.blob(reference, &layer.digest, &what).await {
        Ok(response) => response,
        Err(error) => return writer.end(Err(error)),
    };
    let (to, parts) = mpsc::channel(PARTS_WAITING_MAX);
    let part_of = Part { what: what.clone(), expected, size_bytes: layer.size };
    let writing = tokio::task::spawn_blocking(move || write(parts, writer, &part_of));
    let mut received_bytes = 0;
    loop {
        let part = match response.chunk().await {
            Ok(Some(part)) => part,
            Ok(None) => break,
            Err(error) => {
                let _ = to.send(Err(registry.unreachable(&what, error))).await;
                break;
            }
        };
        received_bytes += part.len() as u64;
        if let Some(progress) = &options.progress {
            let total_bytes = layer.size;
            progress(Progress { layer: number, layers: count, received_bytes, total_bytes });
        }
        if to.send(Ok(part)).await.is_err() {
            break;
        }
    }
    drop(to);
    // Its result is in the spool.
    let _ = writing.await;
}

/// What is expected of a download.
struct Part {
    what: String,
    expected: ContentDigest,
    size_bytes: u64,
}

fn write<B: AsRef<[u8]>>(
    mut parts: mpsc::Receiver<Result<B, ImageError>>,
    mut to: SpoolWriter,
    it: &Part,
) {
    let mut hash = Sha256::new();
    let mut found = 0;
    let size = |found| ImageError::Size { what: it.what.clone(), expected: it.size_bytes, found };
    while let Some(part) = parts.blocking_recv() {
        let part = match part {
            Ok(part) => part,
            Err(error) => return to.end(Err(error)),
        };
        found += part.as_ref().len() as u64;
        if found > it.size_bytes {
            return to.end(Err(size(found)));
        }
        hash.update(part.as_ref());
        if let Err(error) = to.write(part.as_ref()) {
            let error = Err(error).at("write a download in", "building".as_ref());
            return to.end(error.map_err(ImageError::Disk));
        }
    }
    if found < it.size_bytes {
        return to.end(Err(size(found)));
    }
    let found: [u8; 32] = hash.finalize().into();
    match ContentDigest::from_bytes(found) == it.expected {
        true => to.end(Ok(())),
        false => to.end(Err(blob_error(&it.what, &it.expected, found))),
    }
}

struct SpooledLayers {
    spools: BTreeMap<usize, Arc<Spool>>,
}

impl SpooledLayers {
    fn spool(&self, index: usize) -> Result<&Arc<Spool>, ImageError> {
        // It was in the store a moment ago, and has a lease.
        self.spools.get(&index).ok_or_else(|| ImageError::Read {
            what: format!("layer {}", index + 1),
            error: std::io::Error::other("it is not in the store any more; try again"),
        })
    }
}

impl Layers for SpooledLayers {
    fn open(&mut self, index: usize) -> Result<Box<dyn Read + Send>, ImageError> {
        Ok(Box::new(self.spool(index)?.reader()))
    }

    fn close(&mut self, index: usize) -> Result<(), ImageError> {
        self.spool(index)?.wait()
    }
}
