//! Files by the SHA-256 of what is in them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use spawnery_model::ContentDigest;

use crate::disk::{self, At, DiskError};
use crate::limits::COPY_BUFFER_BYTES;

/// A store of files by content. Clones share it; the folder belongs to one process at a time,
/// which the [`Store`](crate::Store) around it sees to.
///
/// A file is there with all its content or not at all, also after a crash.
#[derive(Debug, Clone)]
pub struct Content {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    incoming: PathBuf,
    next: AtomicU64,
}

/// Why something with the content did not work.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// What came is not what was announced. Nothing is kept of it.
    #[error(
        "the content that came has the digest {found}, but {expected} was announced: \
         it was changed or cut off on its way; send it again"
    )]
    WrongDigest {
        /// What was announced.
        expected: ContentDigest,
        /// What came.
        found: ContentDigest,
    },
    /// The sender failed. Nothing is kept of what came.
    #[error("cannot read the content to be stored: {0}")]
    Source(#[source] io::Error),
    /// It is not there.
    #[error("the content {0} is not in the store: send it first")]
    Missing(ContentDigest),
    /// The disk failed or is full.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// One file of the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentEntry {
    /// Its SHA-256.
    pub digest: ContentDigest,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was last stored, read or touched, in milliseconds since the Unix epoch.
    pub used_ms: u64,
}

impl Content {
    /// Opens the content in a folder, which is made if it is missing. What a crash left half
    /// written is removed.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or cleaned.
    pub fn open(folder: &Path) -> Result<Content, ContentError> {
        let incoming = folder.join("incoming");
        disk::make_private_folder(folder)?;
        disk::remove_all(&incoming)?;
        disk::make_private_folder(&incoming)?;
        let inner = Inner { folder: folder.to_owned(), incoming, next: AtomicU64::new(0) };
        Ok(Content { inner: Arc::new(inner) })
    }

    /// Stores what a reader gives, and returns its digest. With `expected`, anything else is an
    /// error of which nothing is left.
    ///
    /// # Errors
    ///
    /// When the reader fails, the digest is another, or the disk fails.
    pub fn put(
        &self,
        expected: Option<&ContentDigest>,
        from: &mut dyn Read,
    ) -> Result<ContentDigest, ContentError> {
        let temporary = self.temporary();
        let stored = self.receive(expected, from, &temporary);
        if stored.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        stored
    }

    /// Stores some bytes.
    ///
    /// # Errors
    ///
    /// As [`Content::put`].
    pub fn put_bytes(&self, mut bytes: &[u8]) -> Result<ContentDigest, ContentError> {
        self.put(None, &mut bytes)
    }

    /// Opens a file of the content for reading, and notes its use.
    ///
    /// # Errors
    ///
    /// When it is not there, or cannot be read.
    pub fn get(&self, digest: &ContentDigest) -> Result<File, ContentError> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => {
                disk::touch(&path)?;
                Ok(file)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ContentError::Missing(digest.clone()))
            }
            Err(error) => Err(error).at("open", &path)?,
        }
    }

    /// Reads a whole file of the content that is known to be small.
    ///
    /// # Errors
    ///
    /// As [`Content::get`].
    pub fn get_bytes(&self, digest: &ContentDigest) -> Result<Vec<u8>, ContentError> {
        let mut bytes = Vec::new();
        self.get(digest)?.read_to_end(&mut bytes).at("read", &self.path(digest))?;
        Ok(bytes)
    }

    /// Which of the digests are not there. Those that are there are noted as used, so that they
    /// are still there when the missing ones have come.
    pub fn missing<'a>(
        &self,
        digests: impl IntoIterator<Item = &'a ContentDigest>,
    ) -> Vec<ContentDigest> {
        let absent = |digest: &&ContentDigest| disk::touch(&self.path(digest)).is_err();
        digests.into_iter().filter(absent).cloned().collect()
    }

    /// Whether it is there. Notes its use.
    pub fn has(&self, digest: &ContentDigest) -> bool {
        disk::touch(&self.path(digest)).is_ok()
    }

    /// Its size in bytes, or `None` if it is not there.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub fn size_bytes(&self, digest: &ContentDigest) -> Result<Option<u64>, ContentError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at("look at", &path)?,
        }
    }

    /// All that is there, in the order of the digests.
    ///
    /// # Errors
    ///
    /// When a folder cannot be read.
    pub fn list(&self) -> Result<Vec<ContentEntry>, ContentError> {
        let mut entries = Vec::new();
        for shard in fs::read_dir(&self.inner.folder).at("list", &self.inner.folder)? {
            let shard = shard.at("list", &self.inner.folder)?.path();
            if shard == self.inner.incoming {
                continue;
            }
            for file in fs::read_dir(&shard).at("list", &shard)? {
                let file = file.at("list", &shard)?;
                let name = file.file_name().into_string().unwrap_or_default();
                let Ok(digest) = ContentDigest::try_from(name) else { continue };
                let metadata = file.metadata().at("look at", &file.path())?;
                let (size_bytes, used_ms) = (metadata.len(), disk::used_ms(&metadata));
                entries.push(ContentEntry { digest, size_bytes, used_ms });
            }
        }
        entries.sort_by(|a, b| a.digest.cmp(&b.digest));
        Ok(entries)
    }

    /// Removes a file; `false` if it was not there.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub fn remove(&self, digest: &ContentDigest) -> Result<bool, ContentError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).at("remove", &path)?,
        }
    }

    /// Where the file is, or would be. Nobody may write to it.
    pub fn path(&self, digest: &ContentDigest) -> PathBuf {
        let text = digest.as_str();
        self.inner.folder.join(&text[..2]).join(text)
    }

    fn temporary(&self) -> PathBuf {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.inner.incoming.join(number.to_string())
    }

    fn receive(
        &self,
        expected: Option<&ContentDigest>,
        from: &mut dyn Read,
        temporary: &Path,
    ) -> Result<ContentDigest, ContentError> {
        let mut file = File::create(temporary).at("make", temporary)?;
        let found = copy_hashing(from, &mut file, temporary)?;
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(ContentError::WrongDigest { expected: expected.clone(), found });
        }
        file.sync_all().at("sync", temporary)?;
        let path = self.path(&found);
        let shard = path.parent().unwrap_or(&self.inner.folder);
        if !shard.exists() {
            disk::make_private_folder(shard)?;
            disk::sync_folder(&self.inner.folder)?;
        }
        fs::rename(temporary, &path).at("put in place", &path)?;
        disk::sync_folder(shard)?;
        Ok(found)
    }
}

fn copy_hashing(
    from: &mut dyn Read,
    to: &mut File,
    path: &Path,
) -> Result<ContentDigest, ContentError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ContentError::Source(error)),
        };
        hash.update(&buffer[..count]);
        to.write_all(&buffer[..count]).at("write", path)?;
    }
    Ok(ContentDigest::from_bytes(hash.finalize().into()))
}

/// The digest of some bytes.
pub fn digest_of(bytes: &[u8]) -> ContentDigest {
    ContentDigest::from_bytes(Sha256::digest(bytes).into())
}

/// The SHA-256 of all that a reader gives, and its size in bytes.
pub(crate) fn sha256_of(from: &mut dyn Read) -> io::Result<([u8; 32], u64)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    let mut size_bytes = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok((hash.finalize().into(), size_bytes)),
            Ok(count) => {
                hash.update(&buffer[..count]);
                size_bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl ContentError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, ContentError::Disk(error) if error.is_full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Content) {
        let dir = tempfile::tempdir().expect("a folder");
        let content = Content::open(&dir.path().join("content")).expect("opened");
        (dir, content)
    }

    fn files_below(folder: &Path) -> usize {
        let mut count = 0;
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("listed").path();
            count += if path.is_dir() { files_below(&path) } else { 1 };
        }
        count
    }

    #[test]
    fn what_was_put_comes_back_and_goes_away() {
        let (_dir, content) = open();
        let digest = content.put_bytes(b"hello").expect("stored");
        assert_eq!(
            digest.as_str(),
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert_eq!(content.put_bytes(b"hello").expect("again"), digest);
        assert_eq!(content.get_bytes(&digest).expect("read"), b"hello");
        let absent = digest_of(b"absent");
        assert_eq!(content.missing([&digest, &absent]), std::slice::from_ref(&absent));
        assert_eq!(content.size_bytes(&digest).expect("known"), Some(5));
        let list = content.list().expect("listed");
        assert_eq!(
            list.iter().map(|it| (&it.digest, it.size_bytes)).collect::<Vec<_>>(),
            [(&digest, 5)]
        );
        assert!(content.remove(&digest).expect("removed"));
        assert!(!content.remove(&digest).expect("no error"));
        assert!(matches!(content.get(&digest), Err(ContentError::Missing(_))));
    }

    #[test]
    fn a_wrong_digest_and_a_broken_sender_leave_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the line is cut"))
            }
        }
        let (dir, content) = open();
        let expected = digest_of(b"this");
        let error = content.put(Some(&expected), &mut &b"that"[..]).expect_err("refused");
        assert!(matches!(error, ContentError::WrongDigest { .. }), "{error}");
        let error = content.put(None, &mut (&b"part"[..]).chain(Broken)).expect_err("refused");
        assert!(error.to_string().contains("the line is cut"), "{error}");
        assert_eq!(files_below(dir.path()), 0);
    }

    #[test]
    fn what_a_crash_left_is_removed_by_the_next_open() {
        let (dir, content) = open();
        content.put_bytes(b"kept").expect("stored");
        fs::write(dir.path().join("content/incoming/7"), b"half").expect("written");
        let content = Content::open(&dir.path().join("content")).expect("opened");
        assert_eq!(content.list().expect("listed").len(), 1);
        assert_eq!(files_below(dir.path()), 1);
    }
}
