//! Root filesystems by content: what a recipe is turned into, and where the results are kept.
//!
//! A node has one [`Store`]. It holds [`Content`] (files by their SHA-256), layers (folders that
//! overlayfs can stack) and environments (an order of layers with a configuration). A [`Tree`]
//! lists a file or folder of a user by content, so that only what is missing is sent.
//!
//! Invariant: the same recipe and lock give the same digest; and what is in the store is whole,
//! because it appears by a rename after it is synced.

pub mod archive;
pub mod build;
pub mod content;
pub mod disk;
pub mod flights;
pub mod ids;
pub mod layer;
pub mod limits;
pub mod lock;
pub mod oci;
pub mod recipe;
pub mod store;
pub mod tree;

pub use build::{BuildError, Builder, BuiltEnvironment};
pub use content::{Content, ContentError};
pub use disk::DiskError;
pub use flights::Flights;
pub use ids::Ids;
pub use layer::{Attributes, Layer, LayerDraft, LayerError, LayerWriter};
pub use store::{
    EnvironmentInfo, EnvironmentParts, EnvironmentRecord, ImageConfig, ImageUser, Lease, Store,
    StoreError,
};
pub use tree::{Tree, TreeEntry, TreeError, TreeKind};
