//! The hash that ties each entry to all entries before it.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::Position;

/// The hash of an entry: the first 16 bytes of SHA-256 over the previous entry's hash, the
/// position (8 bytes, little endian) and the payload.
///
/// SHA-256 because a checksum such as CRC-32C, chained, keeps only 32 bits and is linear, so
/// that two errors can cancel out. 16 bytes because that rules out chance and still costs less
/// than a tenth of a typical record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChainHash(pub(crate) [u8; ChainHash::SIZE_BYTES]);

impl ChainHash {
    /// Its length in bytes.
    pub const SIZE_BYTES: usize = 16;

    /// The hash "before" the first entry.
    pub const GENESIS: ChainHash = ChainHash(*b"spawnery-journal");

    /// The hash of the entry that follows the one with this hash.
    pub fn next(self, position: Position, payload: &[u8]) -> ChainHash {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(position.to_le_bytes());
        hasher.update(payload);
        let mut hash = [0; ChainHash::SIZE_BYTES];
        hash.copy_from_slice(&hasher.finalize()[..ChainHash::SIZE_BYTES]);
        ChainHash(hash)
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<ChainHash> {
        bytes.try_into().ok().map(ChainHash)
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({self})")
    }
}

/// A position together with its hash: a point to which the chain can be checked, or from which
/// it can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub position: Position,
    pub hash: ChainHash,
}

impl Link {
    pub const GENESIS: Link = Link { position: 0, hash: ChainHash::GENESIS };

    /// The link of the entry that follows.
    pub fn next(self, payload: &[u8]) -> Link {
        let position = self.position + 1;
        Link { position, hash: self.hash.next(position, payload) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_depends_on_predecessor_position_and_payload() {
        let one = ChainHash::GENESIS.next(1, b"a");
        assert_eq!(one, ChainHash::GENESIS.next(1, b"a"));
        assert_ne!(one, ChainHash::GENESIS.next(2, b"a"));
        assert_ne!(one, ChainHash::GENESIS.next(1, b"b"));
        assert_ne!(one, one.next(1, b"a"));
    }

    /// The layout on disk must not change unnoticed: journals of older versions stay readable.
    #[test]
    fn hash_stays_the_same_across_versions() {
        assert_eq!(
            ChainHash::GENESIS.next(1, b"payload").to_string(),
            "f01fdde35eeb3db48fbd691dd57e0b26"
        );
    }
}
