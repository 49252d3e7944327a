//! Tokens: made, listed and revoked; and what the caller's own allows.

use crate::app::App;
use crate::asker::Asker;
use crate::body::Change;
use crate::failure::{Answer, Failure, code};
use crate::limits::ID_PREFIX_LENGTH_MIN;
use crate::list::{self, PageParameters};
use crate::parameters::Parameters;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use spawnery_cluster::access::{Access, Revoked};
use spawnery_controller::access::{
    CreatedToken, NewToken, RevokeRequest, Role, TokenError, limits_to_json, parse_limits,
};
use spawnery_model::limits::TOKEN_LIFE_DEFAULT;
use spawnery_model::{DurationMs, OwnerLimits};
use spawnery_wire::api::{
    CallerView, Page, RevokeTokensReply, RevokeTokensRequest, TokenCreated, TokenRequest, TokenView,
};
use std::collections::BTreeSet;

/// Makes a token, which is shown this once.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless")),
    request_body = TokenRequest,
    responses((status = 201, description = "The token; shown this once", body = TokenCreated)),
)]
pub(crate) async fn create_token(
    State(app): State<App>,
    change: Change,
) -> Answer<(StatusCode, Json<TokenCreated>)> {
    let new = new_token(change.json()?)?;
    let (subject, roles) = (new.subject.clone(), words(&new.roles));
    let by = change.by();
    let created = app.verifier.create_token(&app.controller, new, by, change.key).await;
    let CreatedToken { token, id, created_at: _, expires_at } = created.map_err(not_made)?;
    let expires_at_ms = expires_at.0;
    Ok((StatusCode::CREATED, Json(TokenCreated { token, id, subject, roles, expires_at_ms })))
}

fn new_token(request: TokenRequest) -> Answer<NewToken> {
    let refused = |detail: String| Failure::new(code::BODY, detail);
    let role = |word: &String| {
        let known = Role::ALL.map(Role::word).join(", ");
        let shown: String = word.chars().take(40).collect();
        let role = Role::parse(word);
        role.ok_or_else(|| refused(format!("there is no role {shown:?}: the roles are {known}")))
    };
    let limits = match &request.limits {
        Some(limits) => {
            parse_limits(limits).map_err(|error| refused(format!("`limits`: {error}")))?
        }
        None => OwnerLimits::default(),
    };
    Ok(NewToken {
        subject: request.subject,
        roles: request.roles.iter().map(role).collect::<Answer<BTreeSet<Role>>>()?,
        templates: request.templates.map(|names| names.into_iter().collect()),
        limits,
        life: request.life_ms.map_or(TOKEN_LIFE_DEFAULT, DurationMs),
    })
}

fn not_made(error: TokenError) -> Failure {
    match error {
        TokenError::Invalid(reason) => Failure::new(code::BODY, reason),
        TokenError::Sign(_) => Failure::new(code::INTERNAL, error.to_string()),
        TokenError::Submit(error) => error.into(),
    }
}

fn words(roles: &BTreeSet<Role>) -> Vec<String> {
    roles.iter().map(|role| role.word().to_owned()).collect()
}

/// Lists the tokens that were made here and have not expired, by id. The tokens themselves nobody
/// has but their owners.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens",
    params(PageParameters),
    responses((status = 200, description = "A page of tokens", body = Page<TokenView>)),
)]
pub(crate) async fn list_tokens(
    State(app): State<App>,
    Parameters(page): Parameters<PageParameters>,
) -> Answer<Json<Page<TokenView>>> {
    let (limit, after) = page.checked()?;
    let after = after.unwrap_or_default();
    let now_ms = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let listed = app.query(move |state| {
        let access = state.access();
        let tokens = access
            .tokens()
            .filter(|(id, entry)| *id > after.as_str() && entry.expires_at.0 > now_ms);
        let view = |(id, entry): (&str, &spawnery_cluster::access::TokenEntry)| TokenView {
            id: id.to_owned(),
            subject: entry.subject.clone(),
            roles: entry.roles.clone(),
            templates: entry.templates.clone(),
            created_at_ms: entry.created_at.0,
            expires_at_ms: entry.expires_at.0,
            by: entry.by.clone(),
            revoked: access.is_revoked(Some(id), &entry.subject, Some(entry.created_at)),
        };
        list::page(tokens, limit, view, |token| token.id.clone())
    });
    Ok(Json(listed.await?))
}

/// Revokes a token, or all tokens of a subject that have been issued so far. From the answer on
/// they are refused everywhere, and what was open in their name has been told to end.
#[utoipa::path(
    post, path = "/v1/tokens/revoke", tag = "tokens",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless")),
    request_body = RevokeTokensRequest,
    responses((status = 200, description = "They are revoked", body = RevokeTokensReply)),
)]
pub(crate) async fn revoke_tokens(
    State(app): State<App>,
    change: Change,
) -> Answer<Json<RevokeTokensReply>> {
    let request: RevokeTokensRequest = change.json()?;
    let RevokeTokensRequest { foreign, end_sessions, .. } = request;
    let revoked = match (request.id, request.subject) {
        (Some(_), None) if foreign && end_sessions => {
            let detail = "whose sessions they are is not known of a token that was not made here";
            return Err(Failure::new(code::BODY, detail).hint("revoke its `subject` instead"));
        }
        (Some(id), None) if foreign => Revoked::Id(id),
        (Some(id), None) => Revoked::Id(app.query(move |it| whole_id(it.access(), id)).await??),
        (None, Some(subject)) => Revoked::Subject(subject),
        _ => return Err(Failure::new(code::BODY, "one of `id` and `subject` is needed")),
    };
    if matches!(&revoked, Revoked::Id(text) | Revoked::Subject(text) if !is_plain(text)) {
        let detail = "`id` and `subject` have 1 to 255 characters";
        return Err(Failure::new(code::BODY, detail));
    }
    let command = RevokeRequest { revoked, foreign, end_sessions, by: change.by() };
    let done = app.verifier.revoke(&app.controller, command, change.key).await;
    let (tokens, sessions_ending) = done?;
    Ok(Json(RevokeTokensReply { tokens, sessions_ending }))
}

fn is_plain(text: &str) -> bool {
    (1..=255).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// The id that begins so, if there is only one; else what was given, of which the core says that
/// there is none.
fn whole_id(access: &Access, id: String) -> Answer<String> {
    if access.token(&id).is_some() || id.len() < ID_PREFIX_LENGTH_MIN {
        return Ok(id);
    }
    let mut found = access.tokens().filter(|(known, _)| known.starts_with(&id));
    match (found.next(), found.next()) {
        (Some((only, _)), None) => Ok(only.to_owned()),
        (Some(_), Some(_)) => {
            let detail = format!("the id of more than one token begins with {id}");
            Err(Failure::new(code::ID_AMBIGUOUS, detail).hint("give more characters"))
        }
        (None, _) => Ok(id),
    }
}

/// Shows whom the request's token speaks for, and what it allows.
#[utoipa::path(
    get, path = "/v1/caller", tag = "tokens",
    responses((status = 200, description = "Who asks", body = CallerView)),
)]
pub(crate) async fn get_caller(asker: Asker) -> Json<CallerView> {
    let templates = asker.templates.as_ref();
    Json(CallerView {
        subject: asker.subject.clone(),
        roles: words(&asker.roles),
        templates: templates.map(|names| names.iter().cloned().collect()),
        limits: limits_to_json(&asker.limits),
        id: asker.jti.clone(),
        expires_at_ms: asker.expires_at.map(|at| at.0),
    })
}
