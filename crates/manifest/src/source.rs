//! Files whose content lies beside the manifest.

use crate::Manifest;
use crate::draft::{SourceDraft, files_too_large};
use crate::error::{ManifestError, ManifestErrors, printable};
use crate::files::MODE_MAX;
use crate::place::Lines;
use spawnery_model::{File, Name, Workload};

/// A file of a workload whose content lies beside the manifest, and is still to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSource {
    /// Which workload needs it.
    pub workload: Name,
    /// Absolute path inside the instance.
    pub path: String,
    /// Where the content is, from the manifest's folder.
    pub source: String,
    /// Permission bits; without, those of the source.
    pub mode: Option<u32>,
    /// The place in the manifest, for an error about it; found and expected are empty.
    place: ManifestError,
}

impl FileSource {
    pub(crate) fn of(workload: &Workload, draft: SourceDraft, lines: &Lines<'_>) -> FileSource {
        let place = lines.place(draft.span);
        FileSource {
            workload: workload.name.clone(),
            path: draft.path,
            source: draft.source,
            mode: draft.mode,
            place: ManifestError::at(place, draft.field),
        }
    }

    fn error(&self, found: String, expected: String) -> ManifestError {
        ManifestError { found: printable(&found), expected, ..self.place.clone() }
    }
}

impl Manifest {
    /// Puts the content of all sources into their workloads. `read` finds the content and the
    /// permission bits of one, or says why it cannot.
    pub fn with_files(
        mut self,
        mut read: impl FnMut(&FileSource) -> Result<(Vec<u8>, u32), String>,
    ) -> Result<Manifest, ManifestErrors> {
        let mut errors = Vec::new();
        for source in std::mem::take(&mut self.sources) {
            match read(&source) {
                Ok((content, mode)) => errors.extend(self.put(source, content, mode).err()),
                Err(reason) => {
                    let expected = "a readable file beside the manifest".to_owned();
                    let found = format!("cannot read `{}`: {reason}", source.source);
                    errors.push(source.error(found, expected));
                }
            }
        }
        match errors.is_empty() {
            true => Ok(self),
            false => Err(ManifestErrors::from_errors(errors)),
        }
    }

    fn put(
        &mut self,
        source: FileSource,
        content: Vec<u8>,
        mode: u32,
    ) -> Result<(), ManifestError> {
        let mut workloads = self.workloads.iter_mut();
        let Some(workload) = workloads.find(|workload| workload.name == source.workload) else {
            let found = format!("no workload is called `{}`", source.workload);
            return Err(source.error(found, "a workload of this manifest".to_owned()));
        };
        let files = &mut workload.process.files;
        files.push(File {
            path: source.path.clone(),
            mode: source.mode.unwrap_or(mode & MODE_MAX),
            content,
        });
        if let Some((found, expected)) = files_too_large(files) {
            return Err(source.error(found, expected));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }
}
