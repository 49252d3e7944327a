//! What a token says, checked.

use super::caller::{Caller, Role};
use super::denied::{Denied, Shown};
use super::limits;
use serde::Deserialize;
use serde_json::Value;
use spawnery_model::limits::{TOKEN_LEEWAY, TOKEN_LIFE_MAX};
use spawnery_model::{Name, OwnerLimits, Timestamp};
use std::collections::BTreeSet;

/// Characters of a subject: those of an e-mail address or a URL of an identity provider. More:
/// refused.
pub(super) const SUBJECT_LENGTH_MAX: usize = 255;

/// Characters of a token's id. More: refused.
const JTI_LENGTH_MAX: usize = 255;

/// Templates that a token lists. More: refused.
pub(super) const TEMPLATES_MAX: usize = 256;

/// The claims that are looked at (RFC 7519, section 4.1, and our own). Others are skipped; one that
/// is there twice is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Claims {
    sub: Option<Value>,
    roles: Option<Value>,
    templates: Option<Value>,
    limits: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iat: Option<Value>,
    jti: Option<Value>,
    iss: Option<Value>,
    aud: Option<Value>,
}

/// Whose tokens are taken, and for whom they have to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Parties {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
}

impl Claims {
    /// Who a token with these claims speaks for at the time `now`.
    pub(super) fn caller(self, parties: &Parties, now: Timestamp) -> Result<Caller, Denied> {
        self.check_parties(parties)?;
        let expires_at = time("exp", self.exp.as_ref())?;
        let expires_at = expires_at.ok_or_else(|| wrong("exp", "is missing"))?;
        let issued_at = time("iat", self.iat.as_ref())?;
        let begins_at = time("nbf", self.nbf.as_ref())?;
        check_times(expires_at, begins_at, issued_at, now)?;
        Ok(Caller {
            subject: subject(self.sub.as_ref())?,
            roles: roles(self.roles.as_ref())?,
            templates: self.templates.as_ref().map(templates).transpose()?,
            limits: self.limits.as_ref().map(owner_limits).transpose()?.unwrap_or_default(),
            jti: self.jti.as_ref().map(jti).transpose()?,
            issued_at,
            expires_at: Some(expires_at),
        })
    }

    fn check_parties(&self, parties: &Parties) -> Result<(), Denied> {
        if let Some(wanted) = &parties.issuer
            && self.iss.as_ref().and_then(Value::as_str) != Some(wanted)
        {
            return Err(Denied::Issuer);
        }
        let named: Vec<Option<&str>> = match &self.aud {
            None => Vec::new(),
            Some(Value::Array(items)) => items.iter().map(Value::as_str).collect(),
            Some(item) => vec![item.as_str()],
        };
        // A token for somebody else is not for us, also if nobody has said who we are (RFC 7519,
        // section 4.1.3).
        let is_ours = match &parties.audience {
            Some(wanted) => named.contains(&Some(wanted)),
            None => named.is_empty(),
        };
        if is_ours { Ok(()) } else { Err(Denied::Audience) }
    }
}

fn check_times(
    expires_at: Timestamp,
    begins_at: Option<Timestamp>,
    issued_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Denied> {
    if expires_at.plus(TOKEN_LEEWAY) <= now {
        return Err(Denied::Expired);
    }
    // One that was issued in the future would outlive the revocation of its subject.
    let latest = now.plus(TOKEN_LEEWAY);
    if begins_at.max(issued_at).is_some_and(|at| at > latest) {
        return Err(Denied::NotYet);
    }
    let from = issued_at.map_or(now, |issued_at| issued_at.min(now));
    if expires_at > from.plus(TOKEN_LIFE_MAX) {
        return Err(Denied::TooLong);
    }
    Ok(())
}

/// A time in seconds since 1970, whole or not (RFC 7519, section 2: NumericDate).
fn time(claim: &'static str, value: Option<&Value>) -> Result<Option<Timestamp>, Denied> {
    let Some(value) = value else {
        return Ok(None);
    };
    let seconds = value.as_f64().filter(|seconds| (0.0..1e11).contains(seconds));
    let seconds = seconds.ok_or_else(|| wrong(claim, "is not a number of seconds since 1970"))?;
    Ok(Some(Timestamp((seconds * 1000.0).round() as u64)))
}

fn subject(value: Option<&Value>) -> Result<String, Denied> {
    let value = value.ok_or_else(|| wrong("sub", "is missing"))?;
    let text = value.as_str().ok_or_else(|| wrong("sub", "is not a text"))?;
    check_subject(text).map_err(|reason| wrong("sub", &reason))?;
    Ok(text.to_owned())
}

/// Whether `text` can be a subject; if not, why.
pub(super) fn check_subject(text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if text.trim().is_empty() || length > SUBJECT_LENGTH_MAX {
        return Err(format!("has not 1 to {SUBJECT_LENGTH_MAX} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err("has control characters".to_owned());
    }
    if text == Caller::ADMIN {
        return Err(format!("is `{text}`, which stands for the admin token"));
    }
    Ok(())
}

fn roles(value: Option<&Value>) -> Result<BTreeSet<Role>, Denied> {
    let known = || Role::ALL.map(Role::word).join(", ");
    let words: Vec<Option<&str>> = match value {
        Some(Value::Array(items)) => items.iter().map(Value::as_str).collect(),
        Some(item) => vec![item.as_str()],
        None => Vec::new(),
    };
    if words.is_empty() {
        return Err(Denied::Role(format!("names no role: the roles are {}", known())));
    }
    let role = |word: Option<&str>| {
        let word = word.ok_or_else(|| Denied::Role("is not a list of words".to_owned()))?;
        Role::parse(word).ok_or_else(|| {
            let shown = Shown::new(word);
            Denied::Role(format!("names the role `{shown}`: the roles are {}", known()))
        })
    };
    words.into_iter().map(role).collect()
}

fn templates(value: &Value) -> Result<BTreeSet<Name>, Denied> {
    let items = value.as_array().ok_or_else(|| wrong("templates", "is not a list of names"))?;
    if items.len() > TEMPLATES_MAX {
        return Err(wrong("templates", &format!("has more than {TEMPLATES_MAX} names")));
    }
    let name = |item: &Value| {
        let name = item.as_str().and_then(|text| Name::new(text).ok());
        name.ok_or_else(|| wrong("templates", "has something that is not a name"))
    };
    items.iter().map(name).collect()
}

fn owner_limits(value: &Value) -> Result<OwnerLimits, Denied> {
    limits::parse(value).map_err(|error| wrong("limits", &format!("cannot be read: {error}")))
}

fn jti(value: &Value) -> Result<String, Denied> {
    let text = value.as_str().filter(|text| (1..=JTI_LENGTH_MAX).contains(&text.len()));
    let text = text.filter(|text| !text.chars().any(char::is_control));
    let reason = format!("is not a text of 1 to {JTI_LENGTH_MAX} characters");
    text.map(str::to_owned).ok_or_else(|| wrong("jti", &reason))
}

fn wrong(claim: &'static str, reason: &str) -> Denied {
    Denied::Claim { claim, reason: reason.to_owned() }
}
