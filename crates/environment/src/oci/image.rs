//! Manifests, configurations, and layers on their way into the store.

use std::io::Read;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use spawnery_model::ContentDigest;

use super::platform::{ARCHITECTURE, VARIANT};
use super::{Image, ImageError, users};
use crate::archive::{UnpackError, UnpackLimits, unpack};
use crate::content::digest_of;
use crate::layer::{Layer, View};
use crate::limits::{IMAGE_USERS_BYTES_MAX, LAYERS_MAX};
use crate::store::{ImageConfig, Store, StoreError};

/// What names a part of an image.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Descriptor {
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) platform: Option<Platform>,
    #[serde(default)]
    pub(super) annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
    pub(super) variant: Option<String>,
}

/// A manifest, or a list of them for several platforms.
#[derive(Debug)]
pub(super) enum Document {
    Index(Vec<Descriptor>),
    Manifest { config: Descriptor, layers: Vec<Descriptor> },
}

#[derive(Deserialize)]
struct RawDocument {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    #[serde(rename = "schemaVersion")]
    version: Option<u32>,
}

/// The configuration of an image.
#[derive(Debug, Deserialize)]
pub(super) struct RawConfig {
    os: Option<String>,
    architecture: Option<String>,
    config: Option<RawSettings>,
    rootfs: RawRoot,
}

#[derive(Debug, Deserialize)]
struct RawRoot {
    diff_ids: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawSettings {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    exposed_ports: Option<std::collections::BTreeMap<String, serde_json::Value>>,
    stop_signal: Option<String>,
}

impl Descriptor {
    /// The digits of its digest, if it is one that is supported.
    pub(super) fn content(&self, what: &str) -> Result<ContentDigest, ImageError> {
        sha256(&self.digest, what)
    }
}

/// What is to be put into the store.
#[derive(Debug)]
pub(super) struct Plan {
    /// The digest of the manifest.
    pub(super) digest: String,
    /// Digests of the layers' archives, not packed.
    pub(super) diff_ids: Vec<ContentDigest>,
    /// Keys of the layers in the store.
    pub(super) chain: Vec<ContentDigest>,
    /// Names of the layers, for people.
    pub(super) names: Vec<String>,
    config: RawSettings,
}

/// Where the layers come from.
pub(super) trait Layers {
    /// Opens the archive of a layer.
    fn open(&mut self, index: usize) -> Result<Box<dyn Read + Send>, ImageError>;

    /// Called after a layer was read: whether it was the right one. After a failure to read it,
    /// why, if that is known better here.
    fn close(&mut self, index: usize) -> Result<(), ImageError>;
}

impl Plan {
    pub(super) fn new(
        digest: String,
        config: &[u8],
        names: Vec<String>,
    ) -> Result<Plan, ImageError> {
        let what = "the image's configuration";
        let config: RawConfig = parse(config, what)?;
        let wanted = format!("linux/{ARCHITECTURE}");
        let (os, architecture) = (config.os.as_deref(), config.architecture.as_deref());
        if os.is_some_and(|os| os != "linux")
            || architecture.is_some_and(|it| !it.is_empty() && it != ARCHITECTURE)
        {
            let offered = format!("{}/{}", os.unwrap_or("?"), architecture.unwrap_or("?"));
            return Err(ImageError::Platform { wanted, offered });
        }
        let diff_ids = config.rootfs.diff_ids.iter().map(|digest| sha256(digest, what));
        let diff_ids: Vec<ContentDigest> = diff_ids.collect::<Result<_, _>>()?;
        if diff_ids.len() != names.len() {
            let reason =
                format!("it lists {} layers, but there are {}", diff_ids.len(), names.len());
            return Err(ImageError::Malformed { what: what.to_owned(), reason });
        }
        if diff_ids.len() > LAYERS_MAX {
            return Err(StoreError::TooManyLayers(diff_ids.len()).into());
        }
        let chain = chain_ids(&diff_ids);
        Ok(Plan { digest, diff_ids, chain, names, config: config.config.unwrap_or_default() })
    }
}

/// Puts the layers that are missing into the store, from the lowest up.
pub(super) fn install(
    store: &Store,
    plan: &Plan,
    limits: UnpackLimits,
    from: &mut dyn Layers,
) -> Result<Image, ImageError> {
    let lease = store.lease(plan.chain.iter().cloned());
    let mut layers = Vec::new();
    let mut notes = Vec::new();
    for (index, key) in plan.chain.iter().enumerate() {
        let layer = match store.layer(key) {
            Ok(Some(layer)) => layer,
            // One that cannot be read is made again.
            Ok(None) | Err(StoreError::Record { .. }) => {
                install_layer(store, plan, index, limits, from, &mut notes)?
            }
            Err(error) => return Err(error.into()),
        };
        layers.push(layer);
    }
    let config = config_of(&plan.config, &layers)?;
    Ok(Image { digest: plan.digest.clone(), layers: plan.chain.clone(), config, notes, lease })
}

fn install_layer(
    store: &Store,
    plan: &Plan,
    index: usize,
    limits: UnpackLimits,
    from: &mut dyn Layers,
    notes: &mut Vec<String>,
) -> Result<Layer, ImageError> {
    let failed = |error: UnpackError| ImageError::Layer {
        number: index + 1,
        count: plan.chain.len(),
        digest: plan.names[index].clone(),
        error: Box::new(error),
    };
    let step = format!("image layer {}", plan.names[index]);
    let draft = store.begin_layer(&plan.chain[index], &plan.chain[..index], None, &step)?;
    let mut archive = from.open(index)?;
    let unpacked = unpack(&mut *archive, draft.writer()?, limits);
    drop(archive);
    let unpacked = match unpacked {
        // What is written was not at fault then.
        Err(error @ (UnpackError::Layer(_) | UnpackError::Write { .. })) => {
            return Err(failed(error));
        }
        other => {
            from.close(index)?;
            other.map_err(failed)?
        }
    };
    let found = ContentDigest::from_bytes(unpacked.digest);
    if found != plan.diff_ids[index] {
        let expected = format!("sha256:{}", plan.diff_ids[index]);
        let found = format!("sha256:{found}");
        return Err(failed(UnpackError::Digest { expected, found }));
    }
    notes.extend(unpacked.notes);
    draft.commit_written(unpacked.written).map_err(|error| failed(UnpackError::Layer(error)))
}

/// The key of each layer: the digest of all up to it. See the OCI image specification,
/// `config.md`, layer chain id.
pub(super) fn chain_ids(diff_ids: &[ContentDigest]) -> Vec<ContentDigest> {
    let mut chain: Vec<ContentDigest> = Vec::new();
    for diff_id in diff_ids {
        let id = match chain.last() {
            None => diff_id.clone(),
            Some(below) => digest_of(format!("sha256:{below} sha256:{diff_id}").as_bytes()),
        };
        chain.push(id);
    }
    chain
}

/// Reads a manifest or index.
pub(super) fn document(bytes: &[u8], what: &str) -> Result<Document, ImageError> {
    let raw: RawDocument = parse(bytes, what)?;
    match raw {
        RawDocument { manifests: Some(manifests), .. } => Ok(Document::Index(manifests)),
        RawDocument { config: Some(config), layers: Some(layers), .. } => {
            Ok(Document::Manifest { config, layers })
        }
        RawDocument { version, .. } => {
            let reason = match version {
                Some(1) => "it has the schema version 1, which is obsolete: push it again",
                _ => "it is neither a manifest nor an index",
            };
            Err(ImageError::Malformed { what: what.to_owned(), reason: reason.to_owned() })
        }
    }
}

/// The manifest for this machine.
pub(super) fn for_this_machine(index: &[Descriptor]) -> Result<&Descriptor, ImageError> {
    let fits = |it: &&Descriptor| {
        let platform = it.platform.as_ref();
        platform.is_some_and(|it| it.os == "linux" && it.architecture == ARCHITECTURE)
    };
    let variant =
        |it: &&Descriptor| it.platform.as_ref().and_then(|it| it.variant.as_deref()) == VARIANT;
    let plain = |it: &&Descriptor| it.platform.as_ref().is_some_and(|it| it.variant.is_none());
    let all = || index.iter().filter(fits);
    let found = all().find(variant).or_else(|| all().find(plain)).or_else(|| all().next());
    // An index of one image need not say for what it is; its configuration does.
    let found =
        found.or_else(|| index.first().filter(|it| index.len() == 1 && it.platform.is_none()));
    found.ok_or_else(|| {
        let name = |it: &Descriptor| match &it.platform {
            Some(it) => format!("{}/{}", it.os, it.architecture),
            None => "an unnamed platform".to_owned(),
        };
        let offered = index.iter().map(name).collect::<Vec<_>>().join(", ");
        ImageError::Platform { wanted: format!("linux/{ARCHITECTURE}"), offered }
    })
}

/// Checks bytes against what names them.
pub(super) fn check(bytes: &[u8], expected: &Descriptor, what: &str) -> Result<(), ImageError> {
    if bytes.len() as u64 != expected.size {
        let (expected, found) = (expected.size, bytes.len() as u64);
        return Err(ImageError::Size { what: what.to_owned(), expected, found });
    }
    check_digest(bytes, &expected.content(what)?, what)
}

pub(super) fn check_digest(
    bytes: &[u8],
    expected: &ContentDigest,
    what: &str,
) -> Result<(), ImageError> {
    let found = ContentDigest::from_bytes(Sha256::digest(bytes).into());
    if found == *expected {
        return Ok(());
    }
    Err(wrong_digest(what, expected, &found))
}

pub(super) fn wrong_digest(
    what: &str,
    expected: &ContentDigest,
    found: &ContentDigest,
) -> ImageError {
    let (expected, found) = (format!("sha256:{expected}"), format!("sha256:{found}"));
    ImageError::Digest { what: what.to_owned(), expected, found }
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ImageError::Malformed { what: what.to_owned(), reason: error.to_string() })
}

pub(super) fn sha256(digest: &str, what: &str) -> Result<ContentDigest, ImageError> {
    let digits = digest.strip_prefix("sha256:").map(str::to_owned);
    digits.and_then(|it| ContentDigest::try_from(it).ok()).ok_or_else(|| ImageError::Malformed {
        what: what.to_owned(),
        reason: format!("`{digest}` is not a SHA-256 digest, which is the only kind supported"),
    })
}

fn config_of(raw: &RawSettings, layers: &[Layer]) -> Result<ImageConfig, ImageError> {
    let variable = |it: &String| {
        let (name, value) = it.split_once('=').unwrap_or((it, ""));
        (name.to_owned(), value.to_owned())
    };
    let set = |it: &Option<String>| it.clone().filter(|it| !it.is_empty());
    let user = match set(&raw.user) {
        None => None,
        Some(written) => {
            let view = View::new(layers)?;
            let read = |path: &str| {
                let bytes = view.read(path.as_ref(), IMAGE_USERS_BYTES_MAX);
                let bytes =
                    bytes.map_err(|error| ImageError::Read { what: path.to_owned(), error })?;
                Ok::<_, ImageError>(
                    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned(),
                )
            };
            let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
            Some(users::resolve(&written, &passwd, &group).map_err(|reason| {
                ImageError::Malformed { what: "the image's user".to_owned(), reason }
            })?)
        }
    };
    Ok(ImageConfig {
        env: raw.env.iter().flatten().map(variable).collect(),
        entrypoint: raw.entrypoint.clone().unwrap_or_default(),
        cmd: raw.cmd.clone().unwrap_or_default(),
        working_directory: set(&raw.working_dir),
        user,
        exposed_ports: raw.exposed_ports.iter().flatten().map(|(port, _)| port.clone()).collect(),
        stop_signal: set(&raw.stop_signal),
    })
}
