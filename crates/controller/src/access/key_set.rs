//! Public keys, and which algorithm goes with each (RFC 7517, RFC 7518, RFC 8037).

use super::denied::{Denied, Shown};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use std::sync::Arc;

/// Keys of one set. More: the set is refused; providers publish two or three.
const KEYS_MAX: usize = 64;

/// Bytes of the shortest RSA modulus that is taken: 2048 bits (RFC 7518, section 3.3).
const RSA_MODULUS_BYTES_MIN: usize = 256;

/// One public key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The keys of one source that can be used.
#[derive(Debug, Clone, Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// How many others there are.
    pub(super) skipped: usize,
}

#[derive(Deserialize)]
struct SetText {
    keys: Vec<serde_json::Value>,
}

/// The parameters of a key that are looked at.
#[derive(Deserialize)]
struct KeyText {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a key set. Keys that cannot be used here (for encryption, of other kinds, too short)
    /// are skipped: providers publish such beside those for tokens.
    pub(super) fn parse(text: &[u8]) -> Result<KeySet, String> {
        let set: SetText =
            serde_json::from_slice(text).map_err(|error| format!("it is no key set: {error}"))?;
        let found = set.keys.len();
        if found > KEYS_MAX {
            return Err(format!("it has {found} keys, more than {KEYS_MAX}"));
        }
        let read = |value| serde_json::from_value::<KeyText>(value).ok();
        let keys: Vec<Key> =
            set.keys.into_iter().filter_map(|value| Key::of(read(value)?)).collect();
        if keys.is_empty() {
            return Err("it has no public key for EdDSA, ES256 or RS256".to_owned());
        }
        let skipped = found - keys.len();
        Ok(KeySet { keys, skipped })
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

impl Key {
    fn of(text: KeyText) -> Option<Key> {
        let for_signatures = text.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && text.key_ops.as_ref().is_none_or(|all| all.iter().any(|one| one == "verify"));
        if !for_signatures {
            return None;
        }
        let (algorithm, key) = match (text.kty.as_str(), text.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (text.n?, text.e?);
                // Base 64 has 4 characters for 3 bytes.
                if n.len() * 3 / 4 < RSA_MODULUS_BYTES_MIN {
                    return None;
                }
                (Algorithm::RS256, DecodingKey::from_rsa_components(&n, &e))
            }
            ("EC", Some("P-256")) => {
                (Algorithm::ES256, DecodingKey::from_ec_components(&text.x?, &text.y?))
            }
            ("OKP", Some("Ed25519")) => {
                (Algorithm::EdDSA, DecodingKey::from_ed_components(&text.x?))
            }
            _ => return None,
        };
        // A key that says for which algorithm it is, is for no other. RFC 9864 has a name for EdDSA
        // that says the curve.
        let is_meant = text.alg.is_none_or(|alg| {
            alg == name(algorithm) || (algorithm == Algorithm::EdDSA && alg == "Ed25519")
        });
        Some(Key { id: text.kid, algorithm, key: key.ok().filter(|_| is_meant)? })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.key
    }
}

/// What the algorithm of a key is called.
fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RS256 => "RS256",
        Algorithm::ES256 => "ES256",
        _ => "EdDSA",
    }
}

/// The key of `sets` that a token names by `id`, or the only one for its algorithm if it names
/// none.
pub(super) fn choose<'a>(
    sets: &'a [Arc<KeySet>],
    algorithm: &str,
    id: Option<&str>,
) -> Result<&'a Key, Denied> {
    let keys = sets.iter().flat_map(|set| set.keys.iter());
    let is_for = |key: &&Key| name(key.algorithm) == algorithm;
    let Some(id) = id else {
        let mut fitting = keys.filter(is_for);
        return match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (None, _) => Err(Denied::UnknownKey(Shown::new("there is none for its algorithm"))),
            (Some(_), Some(_)) => {
                Err(Denied::UnknownKey(Shown::new("it names none, and there are several")))
            }
        };
    };
    let named: Vec<&Key> = keys.filter(|key| key.id.as_deref() == Some(id)).collect();
    match (named.iter().copied().find(is_for), named.first()) {
        (Some(key), _) => Ok(key),
        (None, Some(other)) => {
            let wanted = Some(name(other.algorithm));
            Err(Denied::Algorithm { found: Shown::new(algorithm), wanted })
        }
        (None, None) => Err(Denied::UnknownKey(Shown::new(&format!("`kid` is {id}")))),
    }
}
