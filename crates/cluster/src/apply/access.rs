//! Tokens that were made, and revoked ones.

use super::{About, Applier};
use crate::access::{Revoked, RevokedSubject, TokenEntry};
use crate::record::Change;
use spawnery_model::Timestamp;

impl Applier<'_> {
    /// What changes tokens.
    pub(super) fn apply_to_tokens(&mut self, change: &Change) {
        match change {
            Change::TokenCreated { id, subject, roles, templates, expires_at, by } => {
                let entry = TokenEntry {
                    subject: subject.clone(),
                    roles: roles.clone(),
                    templates: templates.clone(),
                    created_at: self.state.access.issued_at(subject, self.at),
                    expires_at: *expires_at,
                    by: by.clone(),
                };
                self.token_created(id, entry);
            }
            Change::TokensRevoked { revoked, until, end_sessions, by } => {
                self.tokens_revoked(revoked, *until, *end_sessions, by);
            }
            other => unreachable!("this changes no tokens: {other:?}"),
        }
    }

    fn token_created(&mut self, id: &str, entry: TokenEntry) {
        let at = self.at;
        let (subject, by) = (&entry.subject, &entry.by);
        let message = format!("token {id} was made for {subject} by {by}");
        let access = &mut self.state.access;
        access.forget_expired(at);
        access.tokens.insert(id.to_owned(), entry);
        self.event("token.created", About::default(), message);
    }

    fn tokens_revoked(
        &mut self,
        revoked: &Revoked,
        until: Timestamp,
        end_sessions: bool,
        by: &str,
    ) {
        let at = self.at;
        if end_sessions && let Some(owner) = self.state.access.subject_of(revoked) {
            let owner = owner.to_owned();
            self.owner_revoked(&owner, by);
        }
        let access = &mut self.state.access;
        access.forget_expired(at);
        let message = match revoked {
            Revoked::Id(id) => {
                access.revoked_ids.insert(id.clone(), until);
                format!("token {id} was revoked by {by}")
            }
            Revoked::Subject(subject) => {
                access.revoked_subjects.insert(subject.clone(), RevokedSubject { at, until });
                format!("all tokens of {subject} were revoked by {by}")
            }
        };
        self.event("token.revoked", About::default(), message);
    }
}
