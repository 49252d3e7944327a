//! The head file: the last acknowledged position and hash. The crate's documentation says why
//! it exists and why it is not synced.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::chain::{ChainHash, Link};
use crate::folder::open_private;
use crate::{Position, Warning};

/// Layout: magic, position (little endian), hash, CRC-32C of all before it (little endian).
/// One write of less than a disk sector, so that it is not torn.
const SIZE_BYTES: usize = 8 + 8 + ChainHash::SIZE_BYTES + 4;
const MAGIC: &[u8; 8] = b"SPWNHED1";
const CRC_OFFSET: usize = SIZE_BYTES - 4;

/// The open head file of a journal that is being written.
#[derive(Debug)]
pub(crate) struct HeadFile {
    file: File,
}

impl HeadFile {
    pub fn open(path: &Path) -> io::Result<HeadFile> {
        Ok(HeadFile { file: open_private(path)? })
    }

    /// Notes that everything up to `link` has been synced and may be acknowledged.
    pub fn write(&self, link: Link) -> io::Result<()> {
        self.file.write_all_at(&encode(link), 0)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// What was found in a head file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// There is no such file: a new journal, or it was removed.
    Missing,
    /// It is not what was written.
    Damaged,
    /// The last acknowledged link.
    Sound(Link),
}

impl Head {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> io::Result<Head> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(decode(&bytes).map_or(Head::Damaged, Head::Sound)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Head::Missing),
            Err(error) => Err(error),
        }
    }

    /// What to tell about it, for a journal that ends at `last`.
    pub fn warning(self, last: Position) -> Option<Warning> {
        match self {
            Head::Missing if last > 0 => Some(Warning::HeadMissing),
            Head::Missing | Head::Sound(_) => None,
            Head::Damaged => Some(Warning::HeadDamaged),
        }
    }
}

fn encode(link: Link) -> [u8; SIZE_BYTES] {
    let mut bytes = [0; SIZE_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&link.position.to_le_bytes());
    bytes[16..CRC_OFFSET].copy_from_slice(&link.hash.0);
    let crc = crc32c::crc32c(&bytes[..CRC_OFFSET]);
    bytes[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Link> {
    let bytes: &[u8; SIZE_BYTES] = bytes.try_into().ok()?;
    let crc = u32::from_le_bytes(bytes[CRC_OFFSET..].try_into().ok()?);
    if &bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..CRC_OFFSET]) != crc {
        return None;
    }
    let position = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
    Some(Link { position, hash: ChainHash::from_slice(&bytes[16..CRC_OFFSET])? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let link = Link::GENESIS.next(b"payload");
        let sound = encode(link);
        assert_eq!(decode(&sound), Some(link));
        for bit in 0..SIZE_BYTES * 8 {
            let mut bytes = sound;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes), None, "bit {bit}");
        }
        for size in 0..SIZE_BYTES {
            assert_eq!(decode(&sound[..size]), None, "cut to {size}");
        }
    }
}
