//! Who may do what: tokens, the keys that they are signed with, roles and revocations.
//!
//! Everything that asks (the API, the gateway) shows a token, and [`Verifier::verify`] says who that
//! is: a [`Caller`]. It is either the admin token, which lies in a file of the data folder, or a JWT
//! (RFC 7519). The key decides which algorithm it is used with, never the token:
//!
//! - `HS256` with the secret of this server, which also signs the tokens that are made here;
//! - `EdDSA` (Ed25519), `RS256` and `ES256` with the public keys of key sets (RFC 7517) from files
//!   and URLs.
//!
//! A token says `sub`, `roles` and `exp`; it may say `templates`, `limits`, `nbf`, `iat`, `jti`,
//! `iss` and `aud`. See [`Caller`] for what they allow, and [`Denied`] for why one is refused.
//!
//! Revocations are records in the journal. The verifier holds them in memory and follows them, and
//! [`Verifier::watch`] ends what is open when the token behind it is revoked or expires.

mod caller;
mod claims;
mod denied;
mod issue;
mod key_set;
mod key_source;
mod limits;
mod secret_file;
mod verifier;

pub use caller::{Caller, Role};
pub use denied::{Denied, REASONS, Shown};
pub use issue::{CreatedToken, NewToken, RevokeRequest, TokenError};
pub use key_source::{KeySource, KeySourceError};
pub use limits::{LimitError, parse as parse_limits, to_json as limits_to_json};
pub use secret_file::{ADMIN_TOKEN_FILE, JWT_SECRET_FILE, SecretFileError};
pub use verifier::{AccessError, Config, JwtSecret, Verifier};
