//! May a token be made, and what does revoking come to?

use super::Outcome;
use crate::access::Revoked;
use crate::command::{Ids, Rejection, Reply, TokenRequest};
use crate::record::Change;
use crate::state::State;
use spawnery_model::{Id, Instance, Origin, Phase, Timestamp, limits};

pub(super) fn create_token(
    state: &State,
    request: TokenRequest,
    at: Timestamp,
    ids: &mut dyn Ids,
) -> Outcome {
    let usable = state.access.tokens.values().filter(|entry| entry.expires_at > at);
    if usable.count() >= limits::TOKENS_MAX {
        return Err(Rejection::Limit {
            what: "too many tokens are out",
            limit: limits::TOKENS_MAX,
        });
    }
    let fresh: Id = ids.fresh();
    let id = fresh.to_string();
    let TokenRequest { subject, roles, templates, life, by } = request;
    let created_at = state.access.issued_at(&subject, at);
    let expires_at = created_at.plus(life);
    let change = Change::TokenCreated { id: id.clone(), subject, roles, templates, expires_at, by };
    Ok((Some(change), Reply::Token { id, created_at, expires_at }))
}

pub(super) fn revoke_tokens(
    state: &State,
    revoked: Revoked,
    foreign: bool,
    end_sessions: bool,
    by: String,
    at: Timestamp,
) -> Outcome {
    let longest = at.plus(limits::TOKEN_LIFE_MAX);
    let known = match &revoked {
        Revoked::Id(id) => state.access.token(id),
        Revoked::Subject(_) => None,
    };
    let expires_at = match (&revoked, known) {
        (Revoked::Id(id), None) if !foreign => {
            return Err(Rejection::TokenUnknown { id: id.clone() });
        }
        (_, Some(entry)) => entry.expires_at,
        (_, None) => longest,
    };
    if state.access.revocations(at) >= limits::REVOCATIONS_MAX {
        let limit = limits::REVOCATIONS_MAX;
        return Err(Rejection::Limit { what: "too many tokens are revoked", limit });
    }
    let tokens = state.access.affected(&revoked);
    let sessions = match end_sessions {
        true => sessions_to_end(state, &revoked).count() as u64,
        false => 0,
    };
    // A verifier grants the leeway to tokens that have just expired.
    let until = expires_at.plus(limits::TOKEN_LEEWAY);
    let change = Change::TokensRevoked { revoked, until, end_sessions, by };
    Ok((Some(change), Reply::Revoked { tokens, sessions }))
}

/// The sessions that live, or are about to be restarted, and whose owner a revocation is about.
fn sessions_to_end<'a>(
    state: &'a State,
    revoked: &'a Revoked,
) -> impl Iterator<Item = &'a Instance> {
    let subject = state.access.subject_of(revoked);
    state.instances().filter(move |instance| {
        let lives = instance.phase != Phase::Ended || instance.restarts_at.is_some();
        let owner = match &instance.origin {
            Origin::Session { owner, .. } => Some(owner.as_str()),
            _ => None,
        };
        lives && instance.stop_cause.is_none() && owner.is_some() && owner == subject
    })
}
