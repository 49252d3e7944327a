//! Making and revoking tokens.

use super::caller::Role;
use super::claims::{TEMPLATES_MAX, check_subject};
use super::limits;
use super::verifier::Verifier;
use crate::handle::{Controller, SubmitError};
use jsonwebtoken::Header;
use serde_json::{Map, Value, json};
use spawnery_cluster::access::Revoked;
use spawnery_cluster::{Command, IdempotencyKey, Rejection, Reply, TokenRequest};
use spawnery_model::limits::TOKEN_LIFE_MAX;
use spawnery_model::{DurationMs, Name, OwnerLimits, Timestamp};
use std::collections::BTreeSet;

/// The token that is to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// For whom it speaks.
    pub subject: String,
    /// What it may do.
    pub roles: BTreeSet<Role>,
    /// The templates that it may use; without, all.
    pub templates: Option<BTreeSet<Name>>,
    /// The most that it may have.
    pub limits: OwnerLimits,
    /// For how long it can be used.
    pub life: DurationMs,
}

/// A token that was made. Shows nothing of itself, and is kept by nobody but its owner.
pub struct CreatedToken {
    /// The token.
    pub token: String,
    /// Its id, by which it can be revoked.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it can be used.
    pub expires_at: Timestamp,
}

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// What it is to say does not fit.
    #[error("{0}")]
    Invalid(String),
    /// It could not be signed.
    #[error("the token cannot be signed: {0}")]
    Sign(jsonwebtoken::errors::Error),
    /// The controller refused it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl Verifier {
    /// Makes a token, and records that it was made. The same idempotency key gives the same token.
    pub async fn create_token(
        &self,
        controller: &Controller,
        new: NewToken,
        by: String,
        key: Option<IdempotencyKey>,
    ) -> Result<CreatedToken, TokenError> {
        check(&new)?;
        let request = TokenRequest {
            subject: new.subject.clone(),
            roles: new.roles.iter().map(|role| role.word().to_owned()).collect(),
            templates: new.templates.clone().map(|names| names.into_iter().collect()),
            life: new.life,
            by,
        };
        let reply = controller.submit(Command::CreateToken(Box::new(request)), key).await?;
        let Reply::Token { id, created_at, expires_at } = reply else {
            return Err(TokenError::Submit(Rejection::IdempotencyConflict.into()));
        };
        let claims = self.claims(&new, &id, created_at, expires_at);
        let header = Header::new(jsonwebtoken::Algorithm::HS256);
        let token =
            jsonwebtoken::encode(&header, &claims, self.encoding()).map_err(TokenError::Sign)?;
        Ok(CreatedToken { token, id, created_at, expires_at })
    }

    /// Revokes tokens: when this returns, none of them is taken any more and what is open in their
    /// name ends. Gives the ids of those that were made here, and how many sessions are being ended.
    pub async fn revoke(
        &self,
        controller: &Controller,
        command: RevokeRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<(Vec<String>, u64), SubmitError> {
        let RevokeRequest { revoked, foreign, end_sessions, by } = command;
        let command = Command::RevokeTokens { revoked, foreign, end_sessions, by };
        let reply = controller.submit(command, key).await?;
        self.read_revocations(controller).await?;
        match reply {
            Reply::Revoked { tokens, sessions } => Ok((tokens, sessions)),
            _ => Err(Rejection::IdempotencyConflict.into()),
        }
    }

    fn claims(
        &self,
        new: &NewToken,
        id: &str,
        created_at: Timestamp,
        expires_at: Timestamp,
    ) -> Value {
        let roles: Vec<&str> = new.roles.iter().map(|role| role.word()).collect();
        let mut claims = Map::new();
        let mut say = |claim: &str, value: Value| claims.insert(claim.to_owned(), value);
        say("sub", json!(new.subject));
        say("roles", json!(roles));
        say("jti", json!(id));
        say("iat", seconds(created_at));
        say("exp", seconds(expires_at));
        if let Some(templates) = &new.templates {
            say("templates", json!(templates));
        }
        if new.limits != OwnerLimits::default() {
            say("limits", limits::to_json(&new.limits));
        }
        if let Some(issuer) = &self.parties().issuer {
            say("iss", json!(issuer));
        }
        if let Some(audience) = &self.parties().audience {
            say("aud", json!(audience));
        }
        Value::Object(claims)
    }
}

/// Which tokens are to be revoked.
#[derive(Debug, Clone)]
pub struct RevokeRequest {
    /// Which ones.
    pub revoked: Revoked,
    /// Whether the id may be of a token that was not made here.
    pub foreign: bool,
    /// Whether the sessions of their subject end too.
    pub end_sessions: bool,
    /// Who asks.
    pub by: String,
}

fn check(new: &NewToken) -> Result<(), TokenError> {
    let invalid = |reason: String| Err(TokenError::Invalid(reason));
    if let Err(reason) = check_subject(&new.subject) {
        return invalid(format!("the subject {reason}"));
    }
    if new.roles.is_empty() {
        let words = Role::ALL.map(Role::word).join(", ");
        return invalid(format!("it has no role: the roles are {words}"));
    }
    if new.templates.as_ref().is_some_and(|names| names.len() > TEMPLATES_MAX) {
        return invalid(format!("it has more than {TEMPLATES_MAX} templates"));
    }
    if new.life == DurationMs(0) || new.life > TOKEN_LIFE_MAX {
        let days = TOKEN_LIFE_MAX.0 / 86_400_000;
        return invalid(format!("its life is not between 1 ms and {days} days"));
    }
    Ok(())
}

/// A time as tokens have it. Fractions are kept, so that a token that is made right after its
/// subject's tokens were revoked is a later one.
fn seconds(at: Timestamp) -> Value {
    match at.0.is_multiple_of(1000) {
        true => json!(at.0 / 1000),
        false => json!(at.0 as f64 / 1000.0),
    }
}

impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken").field("id", &self.id).finish_non_exhaustive()
    }
}
