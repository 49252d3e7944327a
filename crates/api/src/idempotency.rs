//! The header `Idempotency-Key`: a repeated request gets the first one's answer.

use crate::failure::{Answer, Failure, code};
use axum::http::request::Parts;
use sha2::{Digest, Sha256};
use spawnery_cluster::IdempotencyKey;
use spawnery_model::limits::IDEMPOTENCY_KEY_LENGTH_MAX;

/// The header's name.
pub(crate) const HEADER: &str = "idempotency-key";

/// The key of a request, if it has one: the client's key below its subject, so that subjects
/// cannot meet, with a fingerprint of the request.
pub(crate) fn key(parts: &Parts, subject: &str, body: &[u8]) -> Answer<Option<IdempotencyKey>> {
    let Some(value) = parts.headers.get(HEADER) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    if text.is_empty() || text.len() > IDEMPOTENCY_KEY_LENGTH_MAX {
        let detail = format!(
            "an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_LENGTH_MAX} visible ASCII characters"
        );
        return Err(Failure::new(code::PARAMETER, detail));
    }
    Ok(Some(IdempotencyKey {
        // Of a subject with a colon nobody could tell where it ends.
        key: format!("{}:{text}", subject.replace('%', "%25").replace(':', "%3a")),
        fingerprint: fingerprint(parts.method.as_str(), parts.uri.path(), body),
    }))
}

/// 64 bits of a SHA-256. It stands in the journal, so it must be the same in every release.
fn fingerprint(method: &str, path: &str, body: &[u8]) -> u64 {
    let mut hasher = Sha256::new();
    for part in [method.as_bytes(), path.as_bytes(), body] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let hash: [u8; 32] = hasher.finalize().into();
    let (first, _) = hash.split_first_chunk::<8>().expect("a hash has 32 bytes");
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_depends_on_each_part_and_stays_the_same_over_releases() {
        let first = fingerprint("POST", "/v1/sessions", b"{}");
        assert_eq!(first, 3_263_845_610_082_504_726);
        assert_ne!(first, fingerprint("PUT", "/v1/sessions", b"{}"));
        assert_ne!(first, fingerprint("POST", "/v1/sessions{", b"}"));
        assert_ne!(first, fingerprint("POST", "/v1/sessions", b"{ }"));
    }
}
