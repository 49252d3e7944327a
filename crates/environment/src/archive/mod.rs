//! Layers and environments as streams: tar archives in and out.

mod chunks;
mod entries;
mod export;
mod pack;
mod unpack;
mod write;

pub use export::{ExportError, ExportFormat, export};
pub use pack::{TransferError, pack, unpack as unpack_packed};
pub use unpack::{UnpackError, UnpackLimits, Unpacked};

pub(crate) use entries::{Entries, EntryKind};
pub(crate) use unpack::unpack;

#[cfg(test)]
mod tests;
