//! Random secrets, ids and the clock: what the core must not reach for itself.

use sha2::{Digest, Sha256};
use spawnery_cluster::{Ids, SecretHash};
use spawnery_model::{Id, Timestamp};
use std::time::{SystemTime, UNIX_EPOCH};

/// A secret of 256 random bits, as 64 hexadecimal digits. Has no `Debug` and no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new one.
    pub fn generate() -> Secret {
        let mut bytes = [0u8; 32];
        fill_random(&mut bytes);
        Secret(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The secret itself; whoever takes it out sees to it that it is not shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What may be kept of it.
    pub fn hash(&self) -> SecretHash {
        hash_secret(&self.0)
    }
}

/// The hash under which a secret is kept (SHA-256; the secrets are random, so no salt is needed).
pub fn hash_secret(secret: &str) -> SecretHash {
    SecretHash(Sha256::digest(secret.as_bytes()).into())
}

/// Ids from the system's randomness.
#[derive(Debug)]
pub(crate) struct SystemIds;

impl Ids for SystemIds {
    fn fresh(&mut self) -> Id {
        let mut bytes = [0u8; 16];
        fill_random(&mut bytes);
        Id::from_bits(u128::from_be_bytes(bytes))
    }
}

fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("Linux has randomness once it has booted, see getrandom(2)");
}

/// The time by the system's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}
