//! An environment as an archive that other programs read.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use spawnery_model::ContentDigest;

use super::write::{ArchiveWriter, Outgoing};
use crate::content::digest_of;
use crate::disk::{At, DiskError, explained};
use crate::layer::{Attributes, LayerError, SeenKind, View};
use crate::oci::platform;
use crate::store::{EnvironmentRecord, Store, StoreError};

/// What an environment is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// The root filesystem as a tar archive.
    Tar,
    /// The same, packed by zstd.
    TarZstd,
    /// An image of one layer: an OCI image layout in a tar archive, as `skopeo`, `podman load` and
    /// `docker load` take it.
    OciArchive,
}

/// Why an environment could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The stream cannot be written.
    #[error("cannot write the archive: {}", explained(.0))]
    Write(#[source] io::Error),
    /// The environment or a layer of it is not there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of it cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store's disk failed or is full.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Writes an environment as one root filesystem: all layers flattened, with ids as they are
/// inside. Of an environment over the view of the host it is what the layers add to that.
///
/// # Errors
///
/// When it is not in the store, or cannot be read or written.
pub fn export(
    store: &Store,
    digest: &ContentDigest,
    format: ExportFormat,
    to: &mut dyn Write,
) -> Result<(), ExportError> {
    let _lease = store.lease([digest.clone()]);
    let record =
        store.environment(digest)?.ok_or_else(|| StoreError::NoEnvironment(digest.clone()))?;
    match format {
        ExportFormat::Tar => flatten(store, &record, to).map(drop),
        ExportFormat::TarZstd => {
            let packed = zstd::stream::write::Encoder::new(to, 0).map_err(ExportError::Write)?;
            let packed = flatten(store, &record, packed)?;
            packed.finish().map(drop).map_err(ExportError::Write)
        }
        ExportFormat::OciArchive => oci_archive(store, &record, to),
    }
}

fn flatten<W: Write>(store: &Store, record: &EnvironmentRecord, to: W) -> Result<W, ExportError> {
    let mut view = View::new(&store.layers_of(record)?)?;
    let mut archive = ArchiveWriter::new(to);
    let mut names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    while let Some(mut seen) = view.next()? {
        let what = match seen.what {
            SeenKind::Folder => Outgoing::Folder,
            SeenKind::Link(ref target) => Outgoing::Link(target),
            SeenKind::Pipe => Outgoing::Pipe,
            SeenKind::File(ref mut file, size, same) => match same.and_then(|it| names.get(&it)) {
                Some(first) => Outgoing::HardLink(first),
                None => {
                    let written =
                        archive.write(&seen.path, &seen.attributes, Outgoing::File(size, file));
                    written.map_err(ExportError::Write)?;
                    if let Some(same) = same {
                        names.insert(same, seen.path);
                    }
                    continue;
                }
            },
        };
        archive.write(&seen.path, &seen.attributes, what).map_err(ExportError::Write)?;
    }
    archive.finish().map_err(ExportError::Write)
}

/// The layer has to be known before its name is written, so it is made beside the store first.
fn oci_archive(
    store: &Store,
    record: &EnvironmentRecord,
    to: &mut dyn Write,
) -> Result<(), ExportError> {
    let scratch = store.scratch()?;
    let path = scratch.folder().join("layer");
    let file = File::options().create_new(true).read(true).write(true).open(&path);
    let file = file.at("make", &path)?;
    let packed = GzEncoder::new(Hashing::new(file), Compression::fast());
    let unpacked = flatten(store, record, Hashing::new(packed))?;
    let (packed, diff_id, _) = unpacked.finish();
    let (mut file, blob, blob_bytes) = packed.finish().map_err(ExportError::Write)?.finish();
    file.rewind().at("read", &path)?;

    let config = config(record, &diff_id).to_string();
    let config_digest = digest_of(config.as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": format!("sha256:{config_digest}"),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": format!("sha256:{blob}"),
            "size": blob_bytes,
        }],
    })
    .to_string();
    let manifest_digest = digest_of(manifest.as_bytes());
    let mut descriptor = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": format!("sha256:{manifest_digest}"),
        "size": manifest.len(),
    });
    if let Some(name) = &record.name {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    }
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string();

    let mut archive = ArchiveWriter::new(to);
    let mut write = |path: &str, size: u64, from: &mut dyn Read| {
        let what = Outgoing::File(size, from);
        archive.write(Path::new(path), &Attributes::new(0o644), what).map_err(ExportError::Write)
    };
    let layout = r#"{"imageLayoutVersion":"1.0.0"}"#;
    write("oci-layout", layout.len() as u64, &mut layout.as_bytes())?;
    write("index.json", index.len() as u64, &mut index.as_bytes())?;
    let blob_path = |digest: &ContentDigest| format!("blobs/sha256/{digest}");
    write(&blob_path(&config_digest), config.len() as u64, &mut config.as_bytes())?;
    write(&blob_path(&manifest_digest), manifest.len() as u64, &mut manifest.as_bytes())?;
    write(&blob_path(&blob), blob_bytes, &mut file)?;
    archive.finish().map(drop).map_err(ExportError::Write)
}

fn config(record: &EnvironmentRecord, diff_id: &ContentDigest) -> Value {
    let it = &record.config;
    let mut config = json!({
        "Env": it.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "Entrypoint": it.entrypoint,
        "Cmd": it.cmd,
        "ExposedPorts": it.exposed_ports.iter().map(|port| (port.clone(), json!({})))
            .collect::<serde_json::Map<String, Value>>(),
    });
    if let Some(path) = &it.working_directory {
        config["WorkingDir"] = json!(path);
    }
    if let Some(user) = &it.user {
        config["User"] = json!(user.written);
    }
    if let Some(signal) = &it.stop_signal {
        config["StopSignal"] = json!(signal);
    }
    json!({
        "architecture": platform::ARCHITECTURE,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
    })
}

/// Hashes and counts what is written through it.
struct Hashing<W: Write> {
    to: W,
    hash: Sha256,
    size_bytes: u64,
}

impl<W: Write> Hashing<W> {
    fn new(to: W) -> Hashing<W> {
        Hashing { to, hash: Sha256::new(), size_bytes: 0 }
    }

    fn finish(self) -> (W, ContentDigest, u64) {
        (self.to, ContentDigest::from_bytes(self.hash.finalize().into()), self.size_bytes)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
