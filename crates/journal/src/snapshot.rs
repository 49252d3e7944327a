//! Snapshots: one file for each state, written beside the entries and never changed.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::chain::{ChainHash, Link};
use crate::folder::{Folder, open_private};
use crate::{AppendError, Position, ReadError};

/// How many valid snapshots are kept: if the newest is damaged, the older one and the entries
/// after it still give the state.
pub(crate) const KEPT_COUNT: usize = 2;

/// Layout: magic, position, chain hash at that position, size of the state, SHA-256 over all of
/// these and the state; then the state. Numbers are little endian.
const MAGIC: &[u8; 8] = b"SPWNSNP1";
const DIGEST_OFFSET: usize = 8 + 8 + ChainHash::SIZE_BYTES + 8;
const HEADER_SIZE_BYTES: usize = DIGEST_OFFSET + 32;
const NAME_PREFIX: &str = "snapshot-";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// A state, and how far in the journal it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry whose effect is in the state.
    pub position: Position,
    /// The bytes that were saved.
    pub state: Vec<u8>,
}

/// A snapshot whose bytes are as they were written, with the link it claims to stand on.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub link: Link,
    pub state: Vec<u8>,
}

/// Writes `state` so that after a crash at any point the file is there as a whole or not at all.
pub(crate) fn save(folder: &Folder, link: Link, state: &[u8]) -> Result<(), AppendError> {
    let path = path_of(folder, link.position);
    let temporary = path.with_extension(&TEMPORARY_SUFFIX[1..]);
    let written = write_synced(&temporary, &header(link, state), state)
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| folder.sync());
    written.map_err(|error| {
        // The rest of a failed attempt only takes space; opening removes it too.
        let _ = fs::remove_file(&temporary);
        AppendError::io(&folder.path, error)
    })
}

/// Reads and checks one snapshot. The inner `Err` says what is wrong with it.
pub(crate) fn load(
    folder: &Folder,
    position: Position,
) -> Result<Result<Loaded, String>, ReadError> {
    let path = path_of(folder, position);
    let bytes = fs::read(&path).map_err(|error| ReadError::io(&path, error))?;
    Ok(decode(bytes, position))
}

/// The positions for which there is a file, newest first.
pub(crate) fn list(folder: &Folder) -> io::Result<Vec<Position>> {
    let mut positions = Vec::new();
    for item in fs::read_dir(&folder.path)? {
        positions.extend(item?.file_name().to_str().and_then(position_of));
    }
    positions.sort_unstable_by(|a, b| b.cmp(a));
    Ok(positions)
}

/// The size of a snapshot's file in bytes.
pub(crate) fn size_bytes(folder: &Folder, position: Position) -> io::Result<u64> {
    Ok(fs::metadata(path_of(folder, position))?.len())
}

pub(crate) fn remove(folder: &Folder, position: Position) -> io::Result<()> {
    fs::remove_file(path_of(folder, position))
}

/// Removes what a crash while saving left behind.
pub(crate) fn remove_temporaries(folder: &Folder) -> io::Result<()> {
    for item in fs::read_dir(&folder.path)? {
        let item = item?;
        let name = item.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.strip_suffix(TEMPORARY_SUFFIX).and_then(position_of).is_some() {
            fs::remove_file(item.path())?;
        }
    }
    Ok(())
}

fn write_synced(path: &std::path::Path, header: &[u8], state: &[u8]) -> io::Result<()> {
    let mut file = open_private(path)?;
    file.set_len(0)?;
    file.write_all(header)?;
    file.write_all(state)?;
    file.sync_all()
}

fn path_of(folder: &Folder, position: Position) -> PathBuf {
    folder.path.join(format!("{NAME_PREFIX}{position:020}"))
}

fn position_of(name: &str) -> Option<Position> {
    let digits = name.strip_prefix(NAME_PREFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

fn header(link: Link, state: &[u8]) -> [u8; HEADER_SIZE_BYTES] {
    let mut bytes = [0; HEADER_SIZE_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&link.position.to_le_bytes());
    bytes[16..32].copy_from_slice(&link.hash.0);
    bytes[32..DIGEST_OFFSET].copy_from_slice(&(state.len() as u64).to_le_bytes());
    let digest = digest(&bytes[..DIGEST_OFFSET], state);
    bytes[DIGEST_OFFSET..].copy_from_slice(&digest);
    bytes
}

fn digest(fields: &[u8], state: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(fields);
    hasher.update(state);
    hasher.finalize().into()
}

fn decode(mut bytes: Vec<u8>, position: Position) -> Result<Loaded, String> {
    if bytes.len() < HEADER_SIZE_BYTES {
        return Err(format!("it is cut off after {} bytes", bytes.len()));
    }
    let state = bytes.split_off(HEADER_SIZE_BYTES);
    let (fields, expected) = bytes.split_at(DIGEST_OFFSET);
    if &fields[..8] != MAGIC {
        return Err("it does not begin as a snapshot does".to_owned());
    }
    if digest(fields, &state) != expected {
        return Err("its hash does not match its content".to_owned());
    }
    let hash = ChainHash::from_slice(&fields[16..32]).ok_or("its header is too short")?;
    if fields[8..16] != position.to_le_bytes() {
        return Err("it is the snapshot of another position".to_owned());
    }
    Ok(Loaded { link: Link { position, hash }, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let guard = tempfile::tempdir().unwrap();
        let folder = Folder { path: guard.path().to_owned() };
        (guard, folder)
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let (_guard, folder) = folder();
        let link = Link::GENESIS.next(b"payload");
        save(&folder, link, b"the state").unwrap();
        let loaded = load(&folder, 1).unwrap().unwrap();
        assert_eq!((loaded.link, loaded.state.as_slice()), (link, &b"the state"[..]));

        let sound = fs::read(path_of(&folder, 1)).unwrap();
        for offset in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[offset] ^= 0x10;
            assert!(decode(bytes, 1).is_err(), "flip at {offset}");
            assert!(decode(sound[..offset].to_vec(), 1).is_err(), "cut at {offset}");
        }
        assert!(decode(sound, 2).is_err(), "under another name");
    }

    #[test]
    fn only_finished_snapshots_are_listed_and_leftovers_removed() {
        let (_guard, folder) = folder();
        for position in [7, 300] {
            save(&folder, Link { position, hash: ChainHash::GENESIS }, b"").unwrap();
        }
        let leftover = folder.path.join(format!("snapshot-{:020}.tmp", 9));
        fs::write(&leftover, b"half").unwrap();
        fs::write(folder.path.join("snapshot-latest"), b"not ours").unwrap();
        assert_eq!(list(&folder).unwrap(), [300, 7]);
        remove_temporaries(&folder).unwrap();
        assert!(!leftover.exists());
        assert!(folder.path.join("snapshot-latest").exists());
    }
}
