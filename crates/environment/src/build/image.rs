//! The step of an image as the base: of a registry, or from beside the manifest.

use std::collections::BTreeMap;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use spawnery_model::{ContentDigest, Local, Name};

use super::failure::Failure;
use super::files;
use super::plan::{Step, Work as StepWork};
use super::progress::Cancel;
use super::{Built, Job};
use crate::archive::UnpackLimits;
use crate::disk::{self, At};
use crate::oci::{
    ArchiveFiles, Credentials, Image, PullOptions, Reference, RegistryOptions, TreeFiles, import,
    pull,
};
use crate::store::{ImageConfig, Store};
use crate::tree::TreeKind;

/// What a step of an image has made, so that it is known without asking the registry again. The
/// layers are those of the store, shared by all images that have them.
#[derive(Encode, Decode)]
#[cbor(map)]
struct ImageRecord {
    #[n(0)]
    layers: Vec<ContentDigest>,
    #[n(1)]
    config: ImageConfig,
}

impl Job {
    /// The layers of a step of an image, if they are all there still.
    pub(super) fn found_image(&self, key: &ContentDigest) -> Result<Option<Built>, Failure> {
        let store = &self.inner.store;
        let path = record_path(store, key);
        let Some(bytes) = disk::read_metadata(&path).map_err(Failure::of)? else {
            return Ok(None);
        };
        // One that cannot be read is made again.
        let Ok(record) = minicbor::decode::<ImageRecord>(&bytes) else { return Ok(None) };
        let lease = Arc::new(store.lease(record.layers.iter().cloned()));
        let mut layers = Vec::new();
        for key in &record.layers {
            match store.layer(key).map_err(Failure::of)? {
                Some(layer) => layers.push(layer),
                None => return Ok(None),
            }
        }
        Ok(Some(Built { layers, config: record.config, leases: vec![lease] }))
    }

    /// Carries out the step of an image, or waits for whoever does it.
    pub(super) async fn ensure_image(&self, step: &Step) -> Result<Built, Failure> {
        if let Some(built) = self.found_image(&step.key)? {
            return Ok(built);
        }
        let (job, step) = (self.clone(), step.clone());
        let key = format!("step {}", step.key);
        let work = move || async move {
            let image = match &step.work {
                StepWork::Image { reference, digest, credentials } => {
                    job.pull(reference, Some(digest), credentials.as_ref()).await?
                }
                StepWork::ImageFile(local) => job.import(local).await?,
                _ => return Err(Failure::new("this step is not one of an image")),
            };
            job.keep_image(&step.key, image)
        };
        self.inner.store.once(&key, work).await
    }

    /// Fetches an image, of this digest if there is one.
    pub(super) async fn pull(
        &self,
        reference: &str,
        digest: Option<&str>,
        credentials: Option<&Name>,
    ) -> Result<Image, Failure> {
        let mut reference: Reference = reference.parse().map_err(Failure::of)?;
        if let Some(digits) = digest.and_then(|it| it.strip_prefix("sha256:")) {
            let digest = ContentDigest::try_from(digits.to_owned()).map_err(Failure::of)?;
            reference = reference.pinned(digest);
        }
        let secret = credentials.map(|name| self.secrets.text(name)).transpose();
        let secret = secret.map_err(Failure::new)?;
        let settings = &self.inner.settings;
        let registry = RegistryOptions {
            credentials: secret.as_deref().map(Credentials::from_secret),
            plain_http: settings.registries_plain_http.clone(),
            mirrors: settings.registry_mirrors.clone(),
        };
        let options = PullOptions { registry, ..PullOptions::default() };
        pull(&self.inner.store, &reference, &options).await.map_err(Failure::of)
    }

    /// Takes an image from what the client has sent.
    async fn import(&self, local: &Local) -> Result<Image, Failure> {
        let (job, local) = (self.clone(), local.clone());
        let done = tokio::task::spawn_blocking(move || {
            let output = super::progress::Output::new(job.progress.clone(), &job.secrets);
            let (cancel, below) = (Cancel::default(), Built::default());
            let tree = files::tree_of(&job.work(&output, &cancel, &below, false), &local)?;
            let (store, limits) = (&job.inner.store, UnpackLimits::default());
            let image = match tree.entries().first().map(|entry| &entry.kind) {
                Some(TreeKind::File { digest, .. }) => {
                    let file = store.content().get(digest).map_err(Failure::of)?;
                    let files = ArchiveFiles::new(store, file, &local.path).map_err(Failure::of)?;
                    import(store, &files, None, limits)
                }
                _ => import(
                    store,
                    &TreeFiles::new(&tree, store.content(), &local.path),
                    None,
                    limits,
                ),
            };
            image.map_err(Failure::of)
        });
        done.await.unwrap_or_else(|error| Err(Failure::new(format!("it crashed: {error}"))))
    }

    /// Notes what a step of an image has made.
    pub(super) fn keep_image(&self, key: &ContentDigest, image: Image) -> Result<Built, Failure> {
        for note in &image.notes {
            self.progress.output(format!("[{note}]\n").as_bytes());
        }
        let store = &self.inner.store;
        let record = ImageRecord { layers: image.layers, config: image.config };
        let bytes = minicbor::to_vec(&record).expect("writing to a Vec cannot fail");
        let path = record_path(store, key);
        let folder = path.parent().unwrap_or(store.folder());
        std::fs::create_dir_all(folder).at("make", folder).map_err(Failure::of)?;
        let scratch = store.scratch().map_err(Failure::of)?;
        let temporary = scratch.folder().join("image");
        disk::write_whole(&path, &temporary, &bytes).map_err(Failure::of)?;
        let built = self.found_image(key)?;
        drop(image.lease);
        built.ok_or_else(|| Failure::new("its layers are gone again: build it once more"))
    }
}

fn record_path(store: &Store, key: &ContentDigest) -> std::path::PathBuf {
    store.folder().join("images").join(format!("{key}.cbor"))
}

/// Hosts that are asked before a registry, by its name.
pub type RegistryMirrors = BTreeMap<String, Vec<String>>;
