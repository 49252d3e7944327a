//! The steps of files and folders from beside the manifest, and of a folder as the base.

use std::path::Path;

use spawnery_model::{ContentDigest, EnvironmentFile, Local};

use super::capture::attributes;
use super::failure::Failure;
use super::sandboxed::{Work, at};
use crate::content::ContentError;
use crate::layer::{Layer, LayerDraft, LayerError, LayerWriter};
use crate::tree::{Tree, TreeKind};

/// Makes a layer of files and folders.
pub(super) fn write(
    work: &Work<'_>,
    draft: LayerDraft,
    files: &[EnvironmentFile],
) -> Result<Layer, Failure> {
    let mut writer = draft.writer().map_err(Failure::of)?;
    for file in files {
        let tree = tree_of(work, &file.from)?;
        tree.expect_folder(file.directory, &file.from.path).map_err(Failure::of)?;
        write_tree(work, &tree, &mut writer, Path::new(&file.to))?;
    }
    let written = writer.finish().map_err(Failure::of)?;
    draft.commit_written(written).map_err(Failure::of)
}

/// Makes the lowest layer of a folder that is a whole root.
pub(super) fn write_base(
    work: &Work<'_>,
    draft: LayerDraft,
    folder: &Local,
) -> Result<Layer, Failure> {
    let tree = tree_of(work, folder)?;
    tree.expect_folder(true, &folder.path).map_err(Failure::of)?;
    let mut writer = draft.writer().map_err(Failure::of)?;
    write_tree(work, &tree, &mut writer, Path::new("/"))?;
    let written = writer.finish().map_err(Failure::of)?;
    draft.commit_written(written).map_err(Failure::of)
}

/// The listing of something that the client has sent.
pub(super) fn tree_of(work: &Work<'_>, local: &Local) -> Result<Tree, Failure> {
    let digest = digest_of(local)?;
    let bytes = work.store.content().get_bytes(digest).map_err(|error| missing(local, &error))?;
    Tree::decode(&bytes).map_err(|error| Failure::new(format!("`{}`: {error}", local.path)))
}

fn digest_of(local: &Local) -> Result<&ContentDigest, Failure> {
    local.tree.as_ref().ok_or_else(|| {
        Failure::new(format!("`{}` was not sent: send the manifest with its files", local.path))
    })
}

fn missing(local: &Local, error: &ContentError) -> Failure {
    Failure::new(format!("`{}`: {error}", local.path))
}

/// The content of a single file that the client has sent, if it has not more bytes.
pub(super) fn file_of(work: &Work<'_>, local: &Local, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let tree = tree_of(work, local)?;
    tree.expect_folder(false, &local.path).map_err(Failure::of)?;
    match tree.entries().first().map(|entry| &entry.kind) {
        Some(TreeKind::File { digest, size_bytes }) if *size_bytes <= bytes_max => {
            work.store.content().get_bytes(digest).map_err(|error| missing(local, &error))
        }
        Some(TreeKind::File { size_bytes, .. }) => {
            let path = &local.path;
            Err(Failure::new(format!("`{path}` has {size_bytes} bytes; {bytes_max} is the most")))
        }
        _ => Err(Failure::new(format!("`{}` is not a file", local.path))),
    }
}

/// Writes a tree over what is at a path. Over the view of the host all belongs to the user of
/// instances, who else could not read what only its owner may.
fn write_tree(
    work: &Work<'_>,
    tree: &Tree,
    writer: &mut LayerWriter,
    path: &Path,
) -> Result<(), Failure> {
    let user = work.user();
    for entry in tree.entries() {
        let target = match entry.path.as_str() {
            "" => path.to_owned(),
            below => path.join(below),
        };
        let attributes = attributes(entry.mode, user);
        match &entry.kind {
            TreeKind::Folder => writer.folder(&target, &attributes).map_err(Failure::of)?,
            TreeKind::Link { target: link } => {
                writer.link(&target, link.as_ref(), &attributes).map_err(Failure::of)?;
            }
            TreeKind::File { digest, .. } => {
                let from = work.store.content().get(digest);
                let mut from =
                    from.map_err(|error| Failure::new(format!("`{}`: {error}", target.display())))?;
                let fill = |file: &mut std::fs::File| {
                    std::io::copy(&mut from, file)
                        .map_err(|error| WriteError(at("copy", &target, &error)))?;
                    Ok(None)
                };
                writer.file::<WriteError>(&target, &attributes, fill).map_err(|it| it.0)?;
            }
        }
    }
    Ok(())
}

struct WriteError(Failure);

impl From<LayerError> for WriteError {
    fn from(error: LayerError) -> WriteError {
        WriteError(Failure::of(error))
    }
}
