//! Files and folders beside a manifest: read by content, and sent where the server lacks them.

use crate::error::CliError;
use crate::progress::Progress;
use futures::StreamExt;
use spawnery_client::Client;
use spawnery_environment::Tree;
use spawnery_manifest::{LocalKind, LocalPath};
use spawnery_model::ContentDigest;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use tokio_util::io::ReaderStream;

/// How many files are sent at once: enough to fill a connection with small ones.
const UPLOADS_MAX: usize = 8;

/// Bytes of a file that are read at once.
const PIECE_BYTES: usize = 256 << 10;

/// What the environments of a manifest take from beside it.
#[derive(Debug, Default)]
pub(crate) struct LocalContent {
    /// What was read, by its path.
    read: BTreeMap<PathBuf, (ContentDigest, bool)>,
    content: BTreeMap<ContentDigest, Content>,
}

#[derive(Debug, Clone)]
enum Content {
    /// The listing of a tree.
    Listing(Vec<u8>),
    /// A file.
    File(PathBuf),
}

impl LocalContent {
    /// Reads what is at `local`, from `folder`, and gives back its digest.
    pub(crate) fn read(
        &mut self,
        folder: &Path,
        local: &LocalPath,
    ) -> Result<ContentDigest, String> {
        let path = folder.join(local.path.trim_start_matches("./"));
        let (digest, is_folder) = match self.read.get(&path) {
            Some(found) => found.clone(),
            None => self.add(&path)?,
        };
        match (local.kind, is_folder) {
            (LocalKind::File, true) => Err("it is a folder".to_owned()),
            (LocalKind::Folder, false) => Err("it is a file".to_owned()),
            _ => Ok(digest),
        }
    }

    fn add(&mut self, path: &Path) -> Result<(ContentDigest, bool), String> {
        let (tree, files) = Tree::read(path).map_err(|error| error.to_string())?;
        let found = (tree.digest(), tree.is_folder());
        let files = files.into_iter().map(|(digest, path)| (digest, Content::File(path)));
        self.content.extend(files);
        self.content.insert(found.0.clone(), Content::Listing(tree.encode()));
        self.read.insert(path.to_owned(), found.clone());
        Ok(found)
    }

    /// Sends what the server does not have.
    pub(crate) async fn send(&self, client: &Client) -> Result<(), CliError> {
        if self.content.is_empty() {
            return Ok(());
        }
        let digests: Vec<ContentDigest> = self.content.keys().cloned().collect();
        let missing = client.missing_content(&digests).await?;
        let count = missing.len();
        let mut sent = 0;
        let mut progress = Progress::new();
        let wanted = missing.into_iter().filter_map(|digest| {
            let content = self.content.get(&digest)?.clone();
            Some(put(client.clone(), digest, content))
        });
        let mut uploads = futures::stream::iter(wanted).buffer_unordered(UPLOADS_MAX);
        while let Some(result) = uploads.next().await {
            result?;
            sent += 1;
            progress.say(format!("sending files: {sent} of {count}"));
        }
        Ok(())
    }
}

async fn put(client: Client, digest: ContentDigest, content: Content) -> Result<(), CliError> {
    match content {
        Content::Listing(bytes) => {
            let piece = futures::stream::iter([Ok::<_, io::Error>(bytes.into())]);
            Ok(client.put_content(&digest, piece).await?)
        }
        Content::File(path) => {
            let file = tokio::fs::File::open(&path).await;
            let file = file.map_err(|error| {
                CliError::usage(format!("cannot read {}: {error}", path.display()))
                    .hint("see that nobody changes it, and try again")
            })?;
            let pieces = ReaderStream::with_capacity(file, PIECE_BYTES);
            let sent = client.put_content(&digest, pieces).await;
            sent.map_err(|error| {
                let error = CliError::from(error);
                CliError { message: format!("{}: {}", path.display(), error.message), ..error }
            })
        }
    }
}
