//! Images: references, registries, files of images, and how their layers get into the store.

mod files;
mod image;
mod local;
pub mod platform;
mod pull;
mod reference;
mod registry;
mod spool;
mod users;

use std::io;

use spawnery_model::ContentDigest;

use crate::archive::UnpackError;
use crate::disk::DiskError;
use crate::layer::LayerError;
use crate::store::{ImageConfig, Lease, StoreError};

pub use files::{ArchiveFiles, Files, FolderFiles, TreeFiles};
pub use local::import;
pub use pull::{Progress, PullOptions, pull};
pub use reference::{Reference, ReferenceError};
pub use registry::{Credentials, RegistryOptions};

/// An image whose layers are in the store.
#[derive(Debug)]
pub struct Image {
    /// The digest of its manifest, for this machine's platform: `sha256:…`. What a lock pins.
    pub digest: String,
    /// Keys of its layers, the lowest first: their chain ids (see the OCI image specification,
    /// `config.md`).
    pub layers: Vec<ContentDigest>,
    /// What processes need to know.
    pub config: ImageConfig,
    /// What was left out of the layers, and why, for people.
    pub notes: Vec<String>,
    /// Keeps the layers until an environment has them.
    pub lease: Lease,
}

/// Why an image could not be brought into the store. Nothing is left of what failed; layers that
/// were whole before it failed stay, and are not fetched again.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The registry does not answer.
    #[error(
        "cannot {step}: the registry {registry} cannot be reached: {reason}; \
         check its name, the network and its certificate, and try again"
    )]
    Unreachable {
        /// What was asked for.
        step: String,
        /// Host and port.
        registry: String,
        /// What went wrong.
        reason: String,
    },
    /// The registry does not let us in.
    #[error("cannot {step}: the registry {registry} refuses the access: {mend}")]
    Credentials {
        /// What was asked for.
        step: String,
        /// Host and port.
        registry: String,
        /// What to do.
        mend: &'static str,
    },
    /// There is no such image.
    #[error(
        "the registry {registry} does not have the image {image}: \
         correct its name or tag (some registries say this of images that need credentials)"
    )]
    Unknown {
        /// The image.
        image: String,
        /// Host and port.
        registry: String,
    },
    /// The registry answers with an error.
    #[error("cannot {step}: the registry {registry} answers {status}")]
    Refused {
        /// What was asked for.
        step: String,
        /// Host and port.
        registry: String,
        /// The status of its answer, with its reason.
        status: String,
    },
    /// Something is not what its digest says.
    #[error(
        "{what} has the digest {found}, but should have {expected}: \
         it is damaged or not to be trusted; push the image again"
    )]
    Digest {
        /// Which part of the image.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Something has another size than announced.
    #[error(
        "{what} has {found} bytes, but should have {expected}: \
         it was cut off or is damaged; try again, or push the image again"
    )]
    Size {
        /// Which part of the image.
        what: String,
        /// What was announced, in bytes.
        expected: u64,
        /// What came, in bytes.
        found: u64,
    },
    /// Something of the image cannot be understood.
    #[error("{what} cannot be understood: {reason}")]
    Malformed {
        /// Which part of the image.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// It is not for this machine.
    #[error("the image has nothing for {wanted}, only for {offered}: build it for this machine")]
    Platform {
        /// This machine's platform.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// A file is not an image, or one of several.
    #[error("{what} is not an image that can be used: {reason}")]
    NotAnImage {
        /// The file or folder.
        what: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A layer could not be unpacked.
    #[error("cannot unpack layer {number} of {count} ({digest}): {error}")]
    Layer {
        /// Which one, from 1.
        number: usize,
        /// Of how many.
        count: usize,
        /// Its digest.
        digest: String,
        /// What is wrong.
        #[source]
        error: Box<UnpackError>,
    },
    /// A layer could not be put into the store.
    #[error(transparent)]
    Draft(#[from] LayerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store's disk failed or is full.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file of the image cannot be read.
    #[error("cannot read {what}: {error}")]
    Read {
        /// Which one.
        what: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl ImageError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            ImageError::Layer { error, .. } => error.is_full(),
            ImageError::Draft(error) => error.is_full(),
            ImageError::Store(error) => error.is_full(),
            ImageError::Disk(error) => error.is_full(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
