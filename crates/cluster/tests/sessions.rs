//! What sessions are promised when they end by themselves.

mod town;

use spawnery_cluster::{Command, Reply, SessionSource};
use spawnery_model::{InstanceId, Phase, RestartPolicy};
use town::{Town, exit_code, label, session};

fn from_template(town: &mut Town, template: &str) -> InstanceId {
    let command = Command::CreateSession {
        source: SessionSource::Template(label(template)),
        owner: "tester".to_owned(),
        terms: Box::default(),
    };
    match town.command(command).unwrap() {
        Reply::Session(instance) => instance,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_that_fails_is_started_anew_after_its_delay() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(session("shell", None));
    let first = from_template(&mut town, "shell");
    town.exits(first, exit_code(3));
    town.check("shell/session ended a: failed with exit code 3");
    town.pass(2000);
    town.check_live("shell/session ready a");
    let second = town.live("shell");
    let ended = town.state().instance(first).unwrap();
    assert_eq!(ended.restarted_as, Some(second));
    assert_eq!(ended.restarts_at, None);
}

#[test]
fn the_delay_grows_with_each_failure_in_a_row() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(session("shell", None));
    let first = from_template(&mut town, "shell");
    town.exits(first, exit_code(3));
    town.pass(2000);
    let second = town.live("shell");
    town.exits(second, exit_code(3));
    town.pass(1000);
    town.check_live("");
    town.pass(2000);
    town.check_live("shell/session ready a");
}

#[test]
fn a_session_that_finishes_well_stays_ended() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(session("shell", None));
    let first = from_template(&mut town, "shell");
    town.exits(first, exit_code(0));
    town.pass(60_000);
    town.check("shell/session ended a: finished");
}

#[test]
fn a_session_that_brought_its_definition_is_started_anew_from_it() {
    let mut town = Town::with_nodes(&["a"]);
    let first = town.session(session("own", None));
    town.exits(first, exit_code(1));
    town.pass(2000);
    let second = town.live("own");
    assert!(town.state().instance(second).unwrap().inline);
}

#[test]
fn ending_a_session_that_waits_for_its_restart_cancels_it() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(session("shell", None));
    let first = from_template(&mut town, "shell");
    town.exits(first, exit_code(3));
    let by = "tester".to_owned();
    town.command(Command::EndInstance { instance: first, by }).unwrap();
    town.pass(60_000);
    town.check_live("");
}

#[test]
fn removing_a_template_leaves_its_ended_sessions_as_they_are() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(session("shell", None));
    let first = from_template(&mut town, "shell");
    town.exits(first, exit_code(3));
    let (names, by) = (vec![label("shell")], "tester".to_owned());
    town.command(Command::Remove { names, by }).unwrap();
    town.pass(60_000);
    town.check("shell/session ended a: failed with exit code 3");
    assert_eq!(town.state().instance(first).unwrap().phase, Phase::Ended);
}

#[test]
fn a_restart_that_is_due_survives_a_restart_of_the_controller() {
    let mut town = Town::with_nodes(&["a"]);
    town.apply(session("shell", None));
    let first = from_template(&mut town, "shell");
    town.exits(first, exit_code(3));
    town.restart_controller();
    town.pass(5000);
    town.check_live("shell/session ready a");
}

#[test]
fn a_template_that_never_restarts_leaves_failures_ended() {
    let mut town = Town::with_nodes(&["a"]);
    let mut never = session("shell", None);
    never.restart.policy = RestartPolicy::Never;
    town.apply(never);
    let first = from_template(&mut town, "shell");
    town.exits(first, exit_code(3));
    town.pass(60_000);
    town.check("shell/session ended a: failed with exit code 3");
}
