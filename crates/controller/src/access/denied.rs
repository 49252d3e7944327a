//! Why a token is refused.

use spawnery_model::limits::{TOKEN_LEEWAY, TOKEN_LIFE_MAX};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Characters of a text of the caller's that a reason repeats.
const SHOWN_LENGTH_MAX: usize = 40;

/// Why a token is refused. No reason holds the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// None was shown.
    #[error("the request shows no token")]
    Missing,
    /// It is not shown as a bearer token.
    #[error("the Authorization header is not of the scheme Bearer")]
    Scheme,
    /// It is neither the admin token nor a JWT.
    #[error("the token is not valid: {0}")]
    Malformed(&'static str),
    /// Its algorithm is not one that its key is for.
    #[error("the token is signed with {found}, which is not taken{}", wanted.map(|it| format!(": its key is for {it}")).unwrap_or_default())]
    Algorithm {
        /// What it says.
        found: Shown,
        /// What its key is for, if the key is known.
        wanted: Option<&'static str>,
    },
    /// No key is known by the id that it names, or it names none and there is no only one.
    #[error("the key that the token is signed with is not known: {0}")]
    UnknownKey(Shown),
    /// The signature is not that of its key.
    #[error("the token's signature is not valid")]
    Signature,
    /// A claim is missing, or is not what it has to be.
    #[error("the token's claim `{claim}` {reason}")]
    Claim {
        /// The claim's name.
        claim: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It names a role that there is not, or none.
    #[error("the token's claim `roles` {0}")]
    Role(String),
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come yet.
    #[error(
        "the token is not valid yet: `nbf` or `iat` is more than {} s ahead of this server's clock",
        TOKEN_LEEWAY.0 / 1000
    )]
    NotYet,
    /// It lives for longer than can be revoked.
    #[error("the token lives for too long: `exp` may be at most {} days ahead", TOKEN_LIFE_MAX.0 / 86_400_000)]
    TooLong,
    /// It is from somebody else than is configured.
    #[error("the token's issuer is not the one that is taken here")]
    Issuer,
    /// It is for somebody else than this server.
    #[error("the token is not for this server: its claim `aud` does not name it")]
    Audience,
    /// It was revoked.
    #[error("the token was revoked")]
    Revoked,
}

/// The words for the reasons, as counters have them, in the order of the counters.
pub const REASONS: [&str; 14] = [
    "missing",
    "scheme",
    "malformed",
    "algorithm",
    "unknown-key",
    "signature",
    "claim",
    "role",
    "expired",
    "not-yet",
    "too-long",
    "issuer",
    "audience",
    "revoked",
];

impl Denied {
    /// The reason in one word, which stays the same over releases.
    pub fn word(&self) -> &'static str {
        REASONS[self.place()]
    }

    fn place(&self) -> usize {
        match self {
            Denied::Missing => 0,
            Denied::Scheme => 1,
            Denied::Malformed(_) => 2,
            Denied::Algorithm { .. } => 3,
            Denied::UnknownKey(_) => 4,
            Denied::Signature => 5,
            Denied::Claim { .. } => 6,
            Denied::Role(_) => 7,
            Denied::Expired => 8,
            Denied::NotYet => 9,
            Denied::TooLong => 10,
            Denied::Issuer => 11,
            Denied::Audience => 12,
            Denied::Revoked => 13,
        }
    }
}

/// A text of the caller's that may be repeated to it: short and without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    pub(super) fn new(text: &str) -> Shown {
        let plain = text.chars().filter(|c| !c.is_control());
        Shown(plain.take(SHOWN_LENGTH_MAX).collect())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How often each reason was told.
#[derive(Debug, Default)]
pub(super) struct Refusals([AtomicU64; REASONS.len()]);

impl Refusals {
    pub(super) fn count(&self, denied: &Denied) {
        self.0[denied.place()].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> [(&'static str, u64); REASONS.len()] {
        std::array::from_fn(|place| (REASONS[place], self.0[place].load(Ordering::Relaxed)))
    }
}
