//! What is recorded about tokens: those that were made here, and what was revoked.
//!
//! The tokens themselves are not here: each is signed by the shell when its record is durable, and
//! kept by nobody but its owner.

use minicbor::{Decode, Encode};
use spawnery_model::{DurationMs, Name, Timestamp};
use std::collections::BTreeMap;

/// What is recorded about tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Access {
    /// The tokens that were made here and have not expired, by their ids.
    #[n(0)]
    pub(crate) tokens: BTreeMap<String, TokenEntry>,
    /// Ids of revoked tokens, with the time from which nobody could use them anyway.
    #[n(1)]
    pub(crate) revoked_ids: BTreeMap<String, Timestamp>,
    /// Subjects all of whose tokens were revoked.
    #[n(2)]
    pub(crate) revoked_subjects: BTreeMap<String, RevokedSubject>,
}

/// A token that was made here.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TokenEntry {
    /// For whom it speaks.
    #[n(0)]
    pub subject: String,
    /// Its roles, in words.
    #[n(1)]
    pub roles: Vec<String>,
    /// The templates that it is for; without, all that there are.
    #[n(2)]
    pub templates: Option<Vec<Name>>,
    /// When it was made.
    #[n(3)]
    pub created_at: Timestamp,
    /// Until when it can be used.
    #[n(4)]
    pub expires_at: Timestamp,
    /// Who made it: the subject of another token.
    #[n(5)]
    pub by: String,
}

/// A subject all of whose tokens were revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct RevokedSubject {
    /// Tokens that were issued up to this time are revoked; later ones are good.
    #[n(0)]
    pub at: Timestamp,
    /// From when on nobody could use those tokens anyway.
    #[n(1)]
    pub until: Timestamp,
}

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Revoked {
    /// The token with this id (the claim `jti`).
    #[n(0)]
    Id(#[n(0)] String),
    /// All tokens of this subject that have been issued so far.
    #[n(1)]
    Subject(#[n(0)] String),
}

impl Access {
    /// The tokens that were made here and have not expired, by their ids.
    pub fn tokens(&self) -> impl Iterator<Item = (&str, &TokenEntry)> {
        self.tokens.iter().map(|(id, entry)| (id.as_str(), entry))
    }

    /// The token with this id, if it was made here.
    pub fn token(&self, id: &str) -> Option<&TokenEntry> {
        self.tokens.get(id)
    }

    /// The ids of revoked tokens, with the time from which nobody could use them anyway.
    pub fn revoked_ids(&self) -> &BTreeMap<String, Timestamp> {
        &self.revoked_ids
    }

    /// The subjects all of whose tokens were revoked.
    pub fn revoked_subjects(&self) -> &BTreeMap<String, RevokedSubject> {
        &self.revoked_subjects
    }

    /// Whether a token was revoked. One that does not say when it was issued counts as old.
    pub fn is_revoked(
        &self,
        id: Option<&str>,
        subject: &str,
        issued_at: Option<Timestamp>,
    ) -> bool {
        let by_id = id.is_some_and(|id| self.revoked_ids.contains_key(id));
        let issued_at = issued_at.unwrap_or_default();
        let by_subject = self.revoked_subjects.get(subject);
        by_id || by_subject.is_some_and(|revoked| issued_at <= revoked.at)
    }

    /// When a token of `subject` is issued that is made at the time `at`: after its revocation, so
    /// that this does not mean it.
    pub(crate) fn issued_at(&self, subject: &str, at: Timestamp) -> Timestamp {
        match self.revoked_subjects.get(subject) {
            Some(revoked) => at.max(revoked.at.plus(DurationMs(1))),
            None => at,
        }
    }

    /// Whose tokens `revoked` means, if that is known.
    pub(crate) fn subject_of<'a>(&'a self, revoked: &'a Revoked) -> Option<&'a str> {
        match revoked {
            Revoked::Id(id) => self.token(id).map(|entry| entry.subject.as_str()),
            Revoked::Subject(subject) => Some(subject),
        }
    }

    /// The ids of the tokens that `revoked` means and that are not revoked yet, of those made here.
    pub(crate) fn affected(&self, revoked: &Revoked) -> Vec<String> {
        let means = |id: &str, entry: &TokenEntry| match revoked {
            Revoked::Id(wanted) => wanted == id,
            Revoked::Subject(subject) => *subject == entry.subject,
        };
        let fresh = |id: &str, entry: &TokenEntry| {
            !self.is_revoked(Some(id), &entry.subject, Some(entry.created_at))
        };
        let affected = self.tokens().filter(|(id, entry)| means(id, entry) && fresh(id, entry));
        affected.map(|(id, _)| id.to_owned()).collect()
    }

    /// How many revocations still matter at the time `now`.
    pub(crate) fn revocations(&self, now: Timestamp) -> usize {
        let ids = self.revoked_ids.values().filter(|until| **until > now);
        let subjects = self.revoked_subjects.values().filter(|revoked| revoked.until > now);
        ids.count() + subjects.count()
    }

    /// Forgets what no longer matters at the time `now`.
    pub(crate) fn forget_expired(&mut self, now: Timestamp) {
        self.tokens.retain(|_, entry| entry.expires_at > now);
        self.revoked_ids.retain(|_, until| *until > now);
        self.revoked_subjects.retain(|_, revoked| revoked.until > now);
    }
}
