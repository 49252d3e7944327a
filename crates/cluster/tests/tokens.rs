//! What is recorded about tokens, and what revoking does to sessions.

mod town;

use spawnery_cluster::{Command, Rejection, Reply, Revoked, SessionSource, TokenRequest};
use spawnery_model::limits::{TOKEN_LEEWAY, TOKEN_LIFE_MAX};
use spawnery_model::{DurationMs, InstanceId};
use town::{Town, exit_code, key, label, session};

fn request(subject: &str, life_ms: u64) -> Command {
    Command::CreateToken(Box::new(TokenRequest {
        subject: subject.to_owned(),
        roles: vec!["user".to_owned()],
        templates: None,
        life: DurationMs(life_ms),
        by: "tester".to_owned(),
    }))
}

fn create(town: &mut Town, subject: &str, life_ms: u64) -> String {
    match town.command(request(subject, life_ms)).unwrap() {
        Reply::Token { id, created_at, expires_at } => {
            assert_eq!(expires_at, created_at.plus(DurationMs(life_ms)));
            id
        }
        other => panic!("{other:?}"),
    }
}

fn revoke(town: &mut Town, revoked: Revoked, end_sessions: bool) -> (Vec<String>, u64) {
    let by = "tester".to_owned();
    match town.command(Command::RevokeTokens { revoked, foreign: true, end_sessions, by }).unwrap()
    {
        Reply::Revoked { tokens, sessions } => (tokens, sessions),
        other => panic!("{other:?}"),
    }
}

fn session_of(town: &mut Town, owner: &str) -> InstanceId {
    let source = SessionSource::Template(label("shell"));
    let owner = owner.to_owned();
    match town.command(Command::CreateSession { source, owner, terms: Box::default() }).unwrap() {
        Reply::Session(instance) => instance,
        other => panic!("{other:?}"),
    }
}

fn is_revoked(town: &Town, id: &str) -> bool {
    let access = town.state().access();
    let entry = access.token(id).expect("it is recorded");
    access.is_revoked(Some(id), &entry.subject, Some(entry.created_at))
}

#[test]
fn a_token_is_recorded_until_it_expires() {
    let mut town = Town::with_nodes(&[]);
    let short = create(&mut town, "ann", 1000);
    let long = create(&mut town, "ann", 100_000);
    assert_ne!(short, long);
    assert_eq!(town.state().access().tokens().count(), 2);
    town.pass(2000);
    create(&mut town, "bob", 1000);
    assert!(town.state().access().token(&short).is_none(), "it is forgotten");
    let entry = town.state().access().token(&long).unwrap();
    assert_eq!((entry.subject.as_str(), entry.by.as_str()), ("ann", "tester"));
}

#[test]
fn a_repeated_request_gets_the_same_token() {
    let mut town = Town::with_nodes(&[]);
    let first = town.keyed(request("ann", 1000), key("one")).unwrap();
    town.pass(5);
    assert_eq!(town.keyed(request("ann", 1000), key("one")).unwrap(), first);
    assert_eq!(town.state().access().tokens().count(), 1);
}

#[test]
fn a_token_is_revoked_by_its_id_and_only_it() {
    let mut town = Town::with_nodes(&[]);
    let (one, other) = (create(&mut town, "ann", 1000), create(&mut town, "ann", 1000));
    assert_eq!(revoke(&mut town, Revoked::Id(one.clone()), false), (vec![one.clone()], 0));
    assert!(is_revoked(&town, &one) && !is_revoked(&town, &other));
    assert_eq!(revoke(&mut town, Revoked::Id(one), false), (vec![], 0));
    let revoked = Revoked::Id("nobody".to_owned());
    let by = "tester".to_owned();
    let command = Command::RevokeTokens { revoked, foreign: false, end_sessions: false, by };
    let refused = town.command(command).unwrap_err();
    assert_eq!(refused, Rejection::TokenUnknown { id: "nobody".to_owned() });
}

#[test]
fn revoking_a_subject_means_what_was_issued_up_to_then_also_in_the_same_moment() {
    let mut town = Town::with_nodes(&[]);
    let old = create(&mut town, "ann", 100_000);
    let other = create(&mut town, "bob", 100_000);
    let (tokens, _) = revoke(&mut town, Revoked::Subject("ann".to_owned()), false);
    assert_eq!(tokens, std::slice::from_ref(&old));
    // No time has passed.
    let new = create(&mut town, "ann", 100_000);
    assert!(is_revoked(&town, &old));
    assert!(!is_revoked(&town, &new) && !is_revoked(&town, &other));
    let access = town.state().access();
    assert!(access.is_revoked(None, "ann", None), "one without a date counts as old");
}

#[test]
fn a_revocation_is_forgotten_once_the_token_could_not_be_used_anyway() {
    let mut town = Town::with_nodes(&[]);
    let id = create(&mut town, "ann", 1000);
    revoke(&mut town, Revoked::Id(id.clone()), false);
    revoke(&mut town, Revoked::Subject("bob".to_owned()), false);
    let forgotten = |town: &mut Town| {
        create(town, "eve", 1);
        let access = town.state().access();
        let id = !access.revoked_ids().contains_key(&id);
        (id, !access.revoked_subjects().contains_key("bob"))
    };
    town.pass(1000);
    assert_eq!(forgotten(&mut town), (false, false), "a verifier grants some leeway");
    town.pass(TOKEN_LEEWAY.0 + 1);
    assert_eq!(forgotten(&mut town), (true, false));
    town.pass(TOKEN_LIFE_MAX.0);
    assert_eq!(forgotten(&mut town), (true, true));
}

#[test]
fn the_sessions_of_a_revoked_owner_end_with_that_reason_if_it_is_asked_for() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(session("shell", None));
    let id = create(&mut town, "ann", 1000);
    for owner in ["ann", "ann", "bob"] {
        session_of(&mut town, owner);
    }
    assert_eq!(revoke(&mut town, Revoked::Id(id.clone()), false), (vec![id.clone()], 0));
    town.check_live("shell/session ready a\nshell/session ready a\nshell/session ready a");
    assert_eq!(revoke(&mut town, Revoked::Id(id), true), (vec![], 2));
    town.pass(1000);
    town.check_live("shell/session ready a");
    let ended = town.told("instance.ended");
    assert_eq!(ended.len(), 2);
    for message in ended {
        assert!(message.contains("its owner's token was revoked by tester"), "{message}");
    }
}

#[test]
fn a_session_that_waits_for_its_restart_is_not_started_for_a_revoked_owner() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(session("shell", None));
    let first = session_of(&mut town, "ann");
    town.exits(first, exit_code(3));
    let (_, sessions) = revoke(&mut town, Revoked::Subject("ann".to_owned()), true);
    assert_eq!(sessions, 1);
    town.pass(60_000);
    town.check_live("");
}

#[test]
fn what_was_revoked_is_still_so_after_a_restart() {
    let mut town = Town::with_nodes(&[]);
    let id = create(&mut town, "ann", 100_000);
    revoke(&mut town, Revoked::Id(id.clone()), false);
    revoke(&mut town, Revoked::Subject("bob".to_owned()), false);
    let before = town.state().access().clone();
    town.restart_controller();
    assert_eq!(*town.state().access(), before);
    assert!(is_revoked(&town, &id));
}
