//! Manifests in files.

use crate::error::CliError;
use crate::exit::ExitCode;
use crate::local_content::LocalContent;
use crate::output::note;
use spawnery_client::Client;
use spawnery_manifest::{FileSource, Format, LockFile, Manifest, ManifestErrors};
use spawnery_model::limits::{FILES_BYTES_MAX, LOCK_BYTES_MAX, MANIFEST_BYTES_MAX};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A manifest, checked, with the files that it names.
pub(crate) struct ManifestFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it says, with the digests of what lies beside it.
    pub(crate) manifest: Manifest,
    /// What lies beside it.
    content: LocalContent,
}

/// A manifest that cannot be used.
pub(crate) enum ReadError {
    /// The file cannot be read, or is none by its name.
    File(CliError),
    /// What it says is wrong.
    Manifest {
        /// What is wrong.
        errors: ManifestErrors,
        /// Its text.
        text: String,
    },
}

impl ManifestFile {
    /// Reads the manifest at `path`, and shows what is wrong with it.
    pub(crate) fn read(path: &Path) -> Result<ManifestFile, CliError> {
        ManifestFile::shown(path, ManifestFile::try_read(path))
    }

    fn shown(path: &Path, read: Result<ManifestFile, ReadError>) -> Result<ManifestFile, CliError> {
        read.map_err(|error| match error {
            ReadError::File(error) => error,
            ReadError::Manifest { errors, text } => {
                note(errors.render(&path.display().to_string(), &text).trim_end());
                CliError::silent(ExitCode::USAGE)
            }
        })
    }

    /// Reads the manifest at `path` without the lock file beside it, and shows what is wrong.
    pub(crate) fn read_unlocked(path: &Path) -> Result<ManifestFile, CliError> {
        ManifestFile::shown(path, ManifestFile::try_read_unlocked(path))
    }

    /// Reads the manifest at `path` with the lock file beside it, if there is one.
    pub(crate) fn try_read(path: &Path) -> Result<ManifestFile, ReadError> {
        let mut file = ManifestFile::try_read_unlocked(path)?;
        // A manifest without environments has no lock file, whatever else is called so.
        if !file.manifest.recipes().is_empty()
            && let Some(lock_file) = ManifestFile::read_lock(path).map_err(ReadError::File)?
        {
            file.manifest = file.manifest.with_locks(&lock_file);
        }
        Ok(file)
    }

    fn try_read_unlocked(path: &Path) -> Result<ManifestFile, ReadError> {
        let format = Format::of_path(path);
        let format = format.map_err(|error| ReadError::File(CliError::usage(error)))?;
        let text = read_text(path, MANIFEST_BYTES_MAX).map_err(ReadError::File)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let parsed = spawnery_manifest::parse(&text, format);
        let filled = parsed.and_then(|parsed| parsed.with_files(|source| content(folder, source)));
        let mut content = LocalContent::default();
        let filled =
            filled.and_then(|filled| filled.with_trees(|local| content.read(folder, local)));
        match filled {
            Ok(manifest) => Ok(ManifestFile { path: path.to_owned(), manifest, content }),
            Err(errors) => Err(ReadError::Manifest { errors, text }),
        }
    }

    /// Where the lock file of the manifest at `path` is: beside it, with the ending `.lock`.
    pub(crate) fn lock_path(path: &Path) -> PathBuf {
        path.with_extension("lock")
    }

    /// The lock file of the manifest at `path`, if there is one.
    pub(crate) fn read_lock(path: &Path) -> Result<Option<LockFile>, CliError> {
        let path = ManifestFile::lock_path(path);
        if !path.exists() {
            return Ok(None);
        }
        let text = read_text(&path, LOCK_BYTES_MAX)?;
        let parsed = LockFile::parse(&text).map_err(|errors| {
            note(errors.render(&path.display().to_string(), &text).trim_end());
            CliError::silent(ExitCode::USAGE)
        });
        parsed.map(Some)
    }

    /// Sends what lies beside the manifest, as far as the server does not have it.
    pub(crate) async fn send(&self, client: &Client) -> Result<(), CliError> {
        self.content.send(client).await
    }

    /// The manifest for the server.
    pub(crate) fn json(&self) -> Result<String, CliError> {
        let json = self.manifest.to_json();
        match json.len() <= MANIFEST_BYTES_MAX {
            true => Ok(json),
            false => Err(CliError::usage(format!(
                "{} has {} bytes with its files; at most {MANIFEST_BYTES_MAX} are taken",
                self.path.display(),
                json.len()
            ))
            .hint("split it into several manifests")),
        }
    }
}

fn read_text(path: &Path, bytes_max: usize) -> Result<String, CliError> {
    let shown = path.display();
    let bytes = read_at_most(path, bytes_max).map_err(|error| {
        CliError::usage(format!("cannot read {shown}: {error}"))
            .hint("see that the path is right and that you may read it")
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        CliError::usage(format!("{shown}:{line}: the text is not UTF-8"))
            .hint("save the file as UTF-8")
    })
}

/// The content and the permission bits of a file beside a manifest.
fn content(folder: &Path, source: &FileSource) -> Result<(Vec<u8>, u32), String> {
    let read = read_file(&folder.join(&source.source), FILES_BYTES_MAX);
    read.map_err(|error| error.to_string())
}

/// The content of a file, up to one byte more than `bytes_max`, and its permission bits.
pub(crate) fn read_file(path: &Path, bytes_max: usize) -> io::Result<(Vec<u8>, u32)> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let content = read_at_most(path, bytes_max)?;
    Ok((content, metadata.permissions().mode() & 0o777))
}

/// Reads a file up to one byte more than `bytes_max`, so that it is seen when there is more.
pub(crate) fn read_at_most(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
