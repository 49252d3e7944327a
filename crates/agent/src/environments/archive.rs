//! Stands for the archives of the crate `environment` until these are here.

use spawnery_environment::{EnvironmentRecord, Layer, Store};
use spawnery_model::ContentDigest;
use std::io::{Read, Write};

const NOT_YET: &str = "archives cannot be made yet";

pub(crate) fn pack_layer(_: &Layer, _: &mut dyn Write) -> Result<(), String> {
    Err(NOT_YET.to_owned())
}

pub(crate) fn unpack_layer(_: &Store, _: &ContentDigest, _: impl Read) -> Result<(), String> {
    Err(NOT_YET.to_owned())
}

pub(crate) fn export_oci(
    _: &Store,
    _: &EnvironmentRecord,
    _: &mut dyn Write,
) -> Result<(), String> {
    Err(NOT_YET.to_owned())
}

pub(crate) fn export_tar(
    _: &Store,
    _: &EnvironmentRecord,
    _: &mut dyn Write,
) -> Result<(), String> {
    Err(NOT_YET.to_owned())
}
