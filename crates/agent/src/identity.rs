//! Who this node is, kept in `node.json` in its data folder.

use serde::{Deserialize, Serialize};
use spawnery_model::NodeId;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of the file in the data folder.
const FILE_NAME: &str = "node.json";

/// Name of the file with the incarnation of the last agent process.
const INCARNATION_FILE_NAME: &str = "incarnation";

/// The least distance of two incarnations: one process sees a handful of changes of an instance.
const INCARNATION_STEP: u64 = 1000;

/// Bytes that a file may have: far more than it needs.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a node keeps from when it joined. Has no `Debug`, because it holds a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedIdentity {
    /// The id that the controller gave.
    pub node: NodeId,
    /// The secret to show at each connection.
    pub credential: String,
    /// The certificate (DER, in hexadecimal) of the authority that vouches for the controller; not
    /// needed for a controller in the same process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// The identity cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("cannot {step} {path}: {error}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is not what was written once.
    #[error(
        "{path} is damaged at line {line}; restore it from a backup, or remove it and join the \
         cluster again with a new token"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where; the content is not shown, because it holds a secret.
        line: usize,
    },
}

impl SavedIdentity {
    /// The identity kept in the folder `data`; nothing, if this machine has not joined yet.
    pub fn load(data: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data.join(FILE_NAME);
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(IdentityError::Io { step: "read", path, error });
            }
        };
        let identity = serde_json::from_slice(&text);
        identity.map(Some).map_err(|error| IdentityError::Damaged { path, line: error.line() })
    }

    /// Keeps it in the folder `data`, readable by its owner only. It survives a loss of power as
    /// a whole or not at all.
    pub fn save(&self, data: &Path) -> Result<(), IdentityError> {
        let path = data.join(FILE_NAME);
        let text = serde_json::to_vec_pretty(self).expect("plain text fields are JSON");
        write(data, &path, &text).map_err(|error| IdentityError::Io { step: "write", path, error })
    }
}

/// The incarnation of this agent process: `now_ms`, but higher than those before it even if the
/// machine's clock was set back, by more than the number of changes that one process sees of one
/// instance.
pub(crate) fn next_incarnation(data: &Path, now_ms: u64) -> Result<u64, IdentityError> {
    let path = data.join(INCARNATION_FILE_NAME);
    let last = match read(&path) {
        // One that is damaged is no worse than none.
        Ok(text) => String::from_utf8_lossy(&text).trim().parse().unwrap_or(0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => {
            return Err(IdentityError::Io { step: "read", path, error });
        }
    };
    let next = now_ms.max(u64::saturating_add(last, INCARNATION_STEP));
    write(data, &path, next.to_string().as_bytes()).map_err(|error| IdentityError::Io {
        step: "write",
        path,
        error,
    })?;
    Ok(next)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(path)?, FILE_BYTES_MAX), &mut text)?;
    Ok(text)
}

fn write(data: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(data)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::Id;
    use std::os::unix::fs::PermissionsExt;

    fn identity() -> SavedIdentity {
        SavedIdentity {
            node: NodeId(Id::from_bits(9)),
            credential: "hunter2".to_owned(),
            authority: Some("00ff".to_owned()),
        }
    }

    #[test]
    fn an_identity_is_kept_for_its_owner_only() {
        let data = tempfile::tempdir().expect("a temporary folder");
        assert!(SavedIdentity::load(data.path()).expect("no file is no error").is_none());
        identity().save(data.path()).expect("saved");
        identity().save(data.path()).expect("saved again");
        assert!(SavedIdentity::load(data.path()).expect("loaded") == Some(identity()));
        let mode = fs::metadata(data.path().join(FILE_NAME)).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn incarnations_grow_even_when_the_clock_does_not() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let next = |now| next_incarnation(data.path(), now).expect("written");
        assert_eq!(next(5_000), 5_000);
        assert_eq!(next(5_001), 6_000);
        assert_eq!(next(9_000), 9_000);
        assert_eq!(next(1), 10_000);
        fs::write(data.path().join(INCARNATION_FILE_NAME), "rubbish").expect("written");
        assert_eq!(next(7_000), 7_000);
    }

    #[test]
    fn a_damaged_identity_is_an_error_that_keeps_the_secret() {
        let data = tempfile::tempdir().expect("a temporary folder");
        fs::write(data.path().join(FILE_NAME), "{\"credential\": \"hunter2\"").expect("written");
        let error = SavedIdentity::load(data.path()).err().expect("it is damaged").to_string();
        assert!(error.contains("node.json") && error.contains("join"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
