//! Tokens and callers.

use serde::{Deserialize, Serialize};
use spawnery_model::Name;
use utoipa::ToSchema;

/// Make a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// For whom it speaks: becomes the owner of sessions, and stands in records.
    pub subject: String,
    /// What it may do: `admin`, `operator`, `user` or `viewer`, or several of them.
    pub roles: Vec<String>,
    /// The session templates that it may use; all that there are when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub templates: Option<Vec<Name>>,
    /// The most that it may have: `memory`, `cpu`, `disk`, `pids`, `clients`, `duration`,
    /// `idle_timeout` and `transfer` of one session, `sessions` at once and `creates_per_minute`.
    /// Amounts are as in a manifest, such as `512M`, or numbers: of bytes, cores and seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub limits: Option<serde_json::Value>,
    /// For how long it can be used; a day when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life_ms: Option<u64>,
}

/// A token that was made. Has no `Debug`, because it holds the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// The token; shown this once.
    pub token: String,
    /// Its id, by which it can be revoked.
    pub id: String,
    /// For whom it speaks.
    pub subject: String,
    /// What it may do.
    pub roles: Vec<String>,
    /// Until when it can be used.
    pub expires_at_ms: u64,
}

/// A token that was made here and has not expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its id, by which it can be revoked.
    pub id: String,
    /// For whom it speaks.
    pub subject: String,
    /// What it may do.
    pub roles: Vec<String>,
    /// The session templates that it may use; without, all that there are.
    #[schema(value_type = Option<Vec<String>>)]
    pub templates: Option<Vec<Name>>,
    /// When it was made.
    pub created_at_ms: u64,
    /// Until when it can be used.
    pub expires_at_ms: u64,
    /// Who made it.
    pub by: String,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// Revoke tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeTokensRequest {
    /// The token with this id, or the only one whose id begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// All tokens of this subject that have been issued so far, wherever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whether `id` is of a token that was not made here: its whole claim `jti`.
    #[serde(default)]
    pub foreign: bool,
    /// Whether the sessions of the subject end too.
    #[serde(default)]
    pub end_sessions: bool,
}

/// What revoking came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevokeTokensReply {
    /// The tokens that were made here and could be used until now, by their ids.
    pub tokens: Vec<String>,
    /// How many sessions are being ended.
    pub sessions_ending: u64,
}

/// Whom a token speaks for, and what it allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallerView {
    /// Who.
    pub subject: String,
    /// What it may do.
    pub roles: Vec<String>,
    /// The session templates that it may use; without, all that there are.
    #[schema(value_type = Option<Vec<String>>)]
    pub templates: Option<Vec<Name>>,
    /// The most that it may have.
    #[schema(value_type = Object)]
    pub limits: serde_json::Value,
    /// The token's id, if it has one.
    pub id: Option<String>,
    /// Until when the token can be used; the admin token has no end.
    pub expires_at_ms: Option<u64>,
}
