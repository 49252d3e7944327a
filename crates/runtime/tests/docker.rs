//! The docker runtime with an engine of the test's own.

#![cfg(feature = "docker")]

mod conformance;
#[path = "support/engine.rs"]
mod engine;
mod support;

use engine::Engine;
use spawnery_model::RuntimeKind;
use std::path::Path;
use support::World;

async fn world() -> World {
    let engine = Engine::start();
    let mut world = World::new(RuntimeKind::Docker, engine.runtimes()).await;
    world.guard = Some(Box::new(engine));
    world
}

conformance_tests!(world().await);

#[test]
fn an_engine_that_answers_is_available() {
    let engine = Engine::start();
    let mut runtimes = engine.runtimes();
    assert_eq!(runtimes.check(RuntimeKind::Docker), Ok(()));
    runtimes.docker.socket = "/nonexistent/docker.sock".to_owned();
    let error = runtimes.check(RuntimeKind::Docker).expect_err("there is none").to_string();
    assert!(error.contains("docker runtime") && error.contains("/nonexistent"), "{error}");
    assert!(Path::new(&engine.socket()).exists());
}
