//! From a tree to a layer.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use super::{Tree, TreeError, TreeKind};
use crate::content::Content;
use crate::layer::{Attributes, LayerError, LayerWriter};

impl Tree {
    /// Writes it into a layer, at an absolute path inside, with the modes of its entries. All is
    /// root's, and has the time 0, so that the same tree always gives the same layer.
    ///
    /// A folder is put over what is at the path; a file takes the place of it. The path may go
    /// through symbolic links of the layer and of those below, and never leaves the root.
    ///
    /// # Errors
    ///
    /// When a file is not in the content, the path leads out, or the disk fails or is full.
    pub fn write(
        &self,
        content: &Content,
        to: &mut LayerWriter,
        path: &Path,
    ) -> Result<(), TreeError> {
        for entry in &self.entries {
            let at = match entry.path.as_str() {
                "" => path.to_owned(),
                below => path.join(below),
            };
            let attributes = Attributes::new(entry.mode);
            match &entry.kind {
                TreeKind::Folder => to.folder(&at, &attributes)?,
                TreeKind::Link { target } => to.link(&at, OsStr::new(target), &attributes)?,
                TreeKind::File { digest, .. } => {
                    let mut from = content.get(digest)?;
                    to.file(&at, &attributes, |file| {
                        io::copy(&mut from, file).map_err(|error| LayerError::Entry {
                            step: "write",
                            path: at.to_string_lossy().into_owned(),
                            error,
                        })?;
                        Ok::<_, TreeError>(None)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Checks that it is a folder, or a single file, as a recipe wants it.
    ///
    /// # Errors
    ///
    /// When it is the other.
    pub fn expect_folder(&self, wanted: bool, path: &str) -> Result<(), TreeError> {
        let names = |folder: bool| if folder { "a folder" } else { "a file" };
        if self.is_folder() == wanted {
            return Ok(());
        }
        Err(TreeError::Wanted {
            path: path.to_owned(),
            found: names(self.is_folder()),
            wanted: names(wanted),
        })
    }
}
