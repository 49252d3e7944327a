//! Roots as images of the engine: each is handed over once.

use super::archive;
use crate::shim::inside::{Inside, place_of, through};
use crate::shim::{AtStep, Failure};
use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::CreateImageOptions;
use bytes::Bytes;
use futures::{StreamExt, stream};
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{MountFlags, mount};
use spawnery_sandbox::spec::{RootSpec, SandboxSpec};
use spawnery_sandbox::tool::shared_folders;
use std::ffi::CString;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// The repository of all images that are made here.
const REPOSITORY: &str = "spawnery/root";

/// To be raised when another image is made of the same root.
const VERSION: u32 = 1;

/// Bytes of an archive that are handed over at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Such pieces on their way to the engine.
const PIECES_MAX: usize = 8;

/// File in the data folder that is locked while an image is made, so that one is made once.
const LOCK_FILE: &str = "docker-images.lock";

/// A text file of the root, such as `/etc/passwd`; empty if it is not there.
pub(super) fn text(spec: &SandboxSpec, path: &str) -> Result<String, Failure> {
    for folder in folders(spec.root.as_ref()) {
        let text = Inside::open(&folder, (0, 0)).at("open the root")?.read(path);
        if !text.is_empty() {
            return Ok(text);
        }
    }
    Ok(String::new())
}

/// The folders that are seen as `/`, the topmost first.
fn folders(root: Option<&RootSpec>) -> Vec<PathBuf> {
    let layers = root.iter().flat_map(|root| &root.layers);
    let mut folders: Vec<PathBuf> = layers.map(|layer| Path::new(layer).join("root")).collect();
    if root.is_none_or(|root| root.host) {
        folders.push(shared_folders().0);
    }
    folders
}

/// Makes sure that the engine has an image of the root, and gives its name.
pub(super) async fn provide(docker: &Docker, spec: &SandboxSpec) -> Result<String, Failure> {
    let root = spec.root.as_ref();
    if let Some(layer) = root.filter(|root| root.host).and_then(|root| with_usr(root)) {
        let reason = format!("{layer} changes /usr of the host; give the environment a base image");
        return Err(Failure::new("use the docker runtime", reason));
    }
    let programs = programs(root);
    let tag = tag(root, &programs).at("look at the root")?;
    let image = format!("{REPOSITORY}:{tag}");
    let lock = File::options().create(true).append(true).open(LOCK_FILE).at("lock the images")?;
    let waiting = tokio::task::spawn_blocking(move || {
        flock(&lock, FlockOperation::LockExclusive).map(|()| lock)
    });
    let _lock = waiting.await.at("lock the images")?.at("lock the images")?;
    match docker.inspect_image(&image).await {
        Ok(_) => return Ok(image),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
        Err(error) => return Err(Failure::new("look for the image", error)),
    }
    let merged = merge(folders(root)).at("mount the layers of the root")?;
    hand_over(docker, merged, programs, &tag).await.at("hand the root over to the engine")?;
    Ok(image)
}

/// A layer that would lie over the host's `/usr`, which the engine cannot do.
fn with_usr(root: &RootSpec) -> Option<&str> {
    let with_usr = |layer: &&String| Path::new(layer).join("usr").exists();
    root.layers.iter().find(with_usr).map(String::as_str)
}

/// The same for the same root: layers have their digest in their path, the base its fingerprint.
fn tag(root: Option<&RootSpec>, programs: &[String]) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    (VERSION, programs).hash(&mut hasher);
    root.map(|root| &root.layers).hash(&mut hasher);
    if root.is_none_or(|root| root.host) {
        let fingerprint = shared_folders().0.with_extension("fingerprint");
        std::fs::read(fingerprint)?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// What is in the host's `/usr/sbin`, if `/sbin` is a link to it and is seen.
fn programs(root: Option<&RootSpec>) -> Vec<String> {
    let is_link = std::fs::symlink_metadata("/sbin").is_ok_and(|it| it.is_symlink());
    if !is_link || root.is_some_and(|root| !root.host) {
        return Vec::new();
    }
    let entries = std::fs::read_dir("/usr/sbin").into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// One folder that shows all of them. It stays mounted as long as this process's mount namespace.
fn merge(folders: Vec<PathBuf>) -> io::Result<PathBuf> {
    /// The instance's own folder is of no use otherwise, as the engine has a root of its own.
    const PLACE: &str = "/mnt";
    let [_, _, ..] = folders[..] else {
        return folders.into_iter().next().ok_or(io::ErrorKind::NotFound.into());
    };
    let places = folders.iter().map(|it| place_of(it)).collect::<io::Result<Vec<_>>>()?;
    let lower: Vec<String> = places.iter().map(|it| through(it).display().to_string()).collect();
    let options = CString::new(format!("lowerdir={},userxattr", lower.join(":")))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount("overlay", PLACE, "overlay", flags, options.as_c_str())?;
    Ok(PLACE.into())
}

async fn hand_over(
    docker: &Docker,
    root: PathBuf,
    programs: Vec<String>,
    tag: &str,
) -> Result<(), String> {
    let (pieces, receiver) = mpsc::channel(PIECES_MAX);
    let packing = tokio::task::spawn_blocking(move || {
        let writer = BufWriter::with_capacity(PIECE_BYTES, Pieces(pieces.clone()));
        let packed = archive::of_root(&root, &programs, writer);
        if let Err(error) = &packed {
            // The engine must not take what has come so far for the whole.
            let broken = io::Error::new(error.kind(), error.to_string());
            let _ = pieces.blocking_send(Err(broken));
        }
        packed
    });
    let body = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(REPOSITORY.to_owned()),
        tag: Some(tag.to_owned()),
        ..Default::default()
    };
    let body = bollard::body_try_stream(body);
    let mut progress = Box::pin(docker.create_image(Some(options), Some(body), None));
    let mut failure = None;
    while let Some(step) = progress.next().await {
        failure = step.err().map(|error| error.to_string()).or(failure);
    }
    let packed = packing.await.map_err(|error| error.to_string())?;
    packed.map_err(|error| error.to_string())?;
    failure.map_or(Ok(()), Err)
}

/// Writes into a channel.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
