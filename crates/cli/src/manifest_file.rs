//! Manifests in files.

use crate::error::CliError;
use crate::exit::ExitCode;
use crate::output::note;
use spawnery_manifest::{FileSource, Format, Manifest, ManifestErrors};
use spawnery_model::limits::{FILES_BYTES_MAX, MANIFEST_BYTES_MAX};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A manifest, checked, with the files that it names.
pub(crate) struct ManifestFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) manifest: Manifest,
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
        ManifestFile::try_read(path).map_err(|error| match error {
            ReadError::File(error) => error,
            ReadError::Manifest { errors, text } => {
                note(errors.render(&path.display().to_string(), &text).trim_end());
                CliError::silent(ExitCode::USAGE)
            }
        })
    }

    /// Reads the manifest at `path`.
    pub(crate) fn try_read(path: &Path) -> Result<ManifestFile, ReadError> {
        let format = Format::of_path(path);
        let format = format.map_err(|error| ReadError::File(CliError::usage(error)))?;
        let text = read_text(path).map_err(ReadError::File)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let parsed = spawnery_manifest::parse(&text, format);
        let filled = parsed.and_then(|parsed| parsed.with_files(|source| content(folder, source)));
        match filled {
            Ok(manifest) => Ok(ManifestFile { path: path.to_owned(), manifest }),
            Err(errors) => Err(ReadError::Manifest { errors, text }),
        }
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

fn read_text(path: &Path) -> Result<String, CliError> {
    let shown = path.display();
    let bytes = read_at_most(path, MANIFEST_BYTES_MAX).map_err(|error| {
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
fn read_at_most(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
