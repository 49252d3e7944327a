//! Who asks, and what that allows.

use spawnery_model::{Instance, Name, Origin, OwnerLimits, Timestamp};
use std::collections::BTreeSet;

/// What a token lets its owner do. A token may have several roles; each adds to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything.
    Admin,
    /// Everything but making and revoking tokens, setting secrets and inviting machines.
    Operator,
    /// Creates sessions, and sees and uses those that are its own or that name it.
    User,
    /// Sees everything, and changes nothing.
    Viewer,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 4] = [Role::Admin, Role::Operator, Role::User, Role::Viewer];

    /// The role as it stands in a token.
    pub fn word(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Operator => "operator",
            Role::User => "user",
            Role::Viewer => "viewer",
        }
    }

    /// The role that `word` names.
    pub fn parse(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// Who asks, as the token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who: becomes the owner of sessions, and stands in records.
    pub subject: String,
    /// What it may do.
    pub roles: BTreeSet<Role>,
    /// The session templates that it may use; without, all that there are.
    pub templates: Option<BTreeSet<Name>>,
    /// The most that it may have.
    pub limits: OwnerLimits,
    /// The id of the token, by which it can be revoked.
    pub jti: Option<String>,
    /// When the token was issued, if it says so.
    pub issued_at: Option<Timestamp>,
    /// Until when the token can be used; the admin token has no end.
    pub expires_at: Option<Timestamp>,
}

impl Caller {
    /// The subject of the admin token. No other token may name it.
    pub const ADMIN: &'static str = "admin";

    /// Whoever shows the admin token.
    pub fn admin() -> Caller {
        Caller {
            subject: Caller::ADMIN.to_owned(),
            roles: BTreeSet::from([Role::Admin]),
            templates: None,
            limits: OwnerLimits::default(),
            jti: None,
            issued_at: None,
            expires_at: None,
        }
    }

    /// Whether it has one of these roles.
    pub fn has_any(&self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.roles.contains(role))
    }

    /// Whether it may create sessions of the template called `template`.
    pub fn may_use(&self, template: &Name) -> bool {
        let is_listed = self.templates.as_ref().is_none_or(|listed| listed.contains(template));
        is_listed && self.has_any(&[Role::User, Role::Operator, Role::Admin])
    }

    /// Whether it may create sessions that bring their own definition: that is to run anything, so
    /// it takes an operator whose token is for all templates.
    pub fn may_use_inline(&self) -> bool {
        self.templates.is_none() && self.may_operate()
    }

    /// Whether it may see what belongs to others.
    pub fn sees_all(&self) -> bool {
        self.has_any(&[Role::Viewer, Role::Operator, Role::Admin])
    }

    /// Whether it may change what belongs to others.
    pub fn may_operate(&self) -> bool {
        self.has_any(&[Role::Operator, Role::Admin])
    }

    /// Whether it may see `instance`. For whom this is not so there is no such instance.
    pub fn may_see(&self, instance: &Instance) -> bool {
        self.sees_all() || self.is_named_by(instance)
    }

    /// Whether it may use and end `instance`.
    pub fn may_touch(&self, instance: &Instance) -> bool {
        self.may_operate() || (self.roles.contains(&Role::User) && self.is_named_by(instance))
    }

    /// Whether a session is its own, or shared with it.
    fn is_named_by(&self, instance: &Instance) -> bool {
        match &instance.origin {
            Origin::Session { owner, .. } => {
                let shared = instance.session.as_ref().map(|session| &session.shared_with);
                *owner == self.subject || shared.is_some_and(|with| with.contains(&self.subject))
            }
            Origin::Replica { .. } | Origin::NodeReplica { .. } | Origin::Attempt { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(roles: &[Role], templates: Option<&[&str]>) -> Caller {
        let name = |text: &&str| Name::new(*text).unwrap();
        Caller {
            roles: roles.iter().copied().collect(),
            templates: templates.map(|listed| listed.iter().map(name).collect()),
            ..Caller::admin()
        }
    }

    #[test]
    fn templates_are_those_that_are_listed_or_all_and_inline_is_for_operators() {
        let check = |roles: &[Role], templates: Option<&[&str]>, shell: bool, inline: bool| {
            let caller = caller(roles, templates);
            assert_eq!(caller.may_use(&Name::new("shell").unwrap()), shell, "{caller:?}");
            assert_eq!(caller.may_use_inline(), inline, "{caller:?}");
        };
        check(&[Role::User], None, true, false);
        check(&[Role::User], Some(&["shell"]), true, false);
        check(&[Role::User], Some(&["other"]), false, false);
        check(&[Role::User], Some(&[]), false, false);
        check(&[Role::Viewer], None, false, false);
        check(&[Role::Viewer, Role::User], None, true, false);
        check(&[Role::Operator], None, true, true);
        check(&[Role::Operator], Some(&["shell"]), true, false);
        check(&[Role::Admin], None, true, true);
        check(&[], None, false, false);
    }

    #[test]
    fn a_role_is_read_by_the_word_that_it_is_written_by() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.word()), Some(role));
        }
        assert_eq!(Role::parse("Admin"), None);
        assert_eq!(Role::parse(""), None);
    }
}
