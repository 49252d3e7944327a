//! The process runtime with a real launcher.

mod conformance;
mod support;

use conformance::{instance, next_end, order, read_to_end, soon};
use spawnery_model::RuntimeKind;
use spawnery_runtime::{Event, OperationError, Prepared, ProcessRuntime, Runtime, Runtimes};
use spawnery_sandbox::launcher::SOCKET_NAME;
use spawnery_sandbox::limits::PROTOCOL_VERSION;
use spawnery_sandbox::protocol::{Hello, Message, encode_frame};
use std::io::Write;
use support::{Data, World};

conformance_tests!(World::new(RuntimeKind::Process, Runtimes::default()).await);

#[tokio::test]
async fn what_ran_under_a_launcher_that_died_is_lost_and_new_instances_start() {
    let data = Data::new();
    let (runtime, mut events) = data.connect().await;
    runtime
        .start(instance(1), &order(&["sleep", "1000"]), Prepared::default())
        .await
        .expect("started");
    let log = runtime.log(instance(1), 0).expect("a log");
    data.kill_launcher();
    let event = soon("the loss", events.recv()).await.expect("the runtime lives");
    assert!(matches!(event, Event::Disconnected { .. }), "{event:?}");
    let (ended, exit) = next_end(&mut events).await;
    assert_eq!((ended, exit.lost), (instance(1), true));
    assert!(read_to_end(log).await.1.lost);
    assert_eq!(runtime.signal(instance(1), 0, 15).await, Err(OperationError::NotRunning));
    runtime.start(instance(2), &order(&["true"]), Prepared::default()).await.expect("started");
    assert_eq!(next_end(&mut events).await.1.code, Some(0));
}

#[tokio::test]
async fn a_start_during_the_death_of_the_launcher_ends_one_way_or_the_other() {
    let data = Data::new();
    let (runtime, mut events) = data.connect().await;
    let order = order(&["sleep", "1000"]);
    let (started, ()) =
        tokio::join!(runtime.start(instance(1), &order, Prepared::default()), async {
            data.kill_launcher();
        });
    if started.is_ok() {
        let found = runtime.found().await.expect("a list");
        if found.iter().any(|found| found.exit.is_some()) {
            assert!(next_end(&mut events).await.1.lost);
        }
    }
}

#[tokio::test]
async fn the_launcher_is_shut_down_only_when_nothing_runs() {
    let data = Data::new();
    let (runtime, mut events) = data.connect().await;
    runtime
        .start(instance(1), &order(&["sleep", "1000"]), Prepared::default())
        .await
        .expect("started");
    assert!(runtime.shut_down().await.is_err());
    runtime.stop(instance(1), order(&[]).stop).await.expect("stopping");
    next_end(&mut events).await;
    runtime.shut_down().await.expect("nothing runs");
    let event = soon("the end", events.recv()).await.expect("the runtime lives");
    assert!(matches!(event, Event::Disconnected { .. }), "{event:?}");
    drop(runtime);

    let (runtime, _events) = data.connect().await;
    assert_eq!(runtime.found().await.expect("a list").len(), 1);
}

#[tokio::test]
async fn a_start_whose_agent_died_is_followed_by_the_next_agent() {
    let data = Data::new();
    let (runtime, events) = data.connect().await;
    // The request is sent, and nobody waits for its answer.
    let order = order(&["sleep", "1000"]);
    let listed = async { while runtime.found().await.expect("a list").is_empty() {} };
    tokio::select! {
        biased;
        () = listed => {}
        started = runtime.start(instance(1), &order, Prepared::default()) => drop(started),
    }
    drop((runtime, events));

    let (runtime, _events) = data.connect().await;
    assert_ne!(runtime.resume(instance(1)).await.expect("it starts").pid, 0);
    assert!(runtime.resume(instance(2)).await.is_err(), "nobody began with it");
}

#[tokio::test]
async fn a_launcher_of_another_version_is_named_and_left_alone() {
    let data = Data::new();
    let socket = std::os::unix::net::UnixListener::bind(data.path().join(SOCKET_NAME));
    let socket = socket.expect("a socket");
    let other = std::thread::spawn(move || {
        let (mut stream, _) = socket.accept().expect("a connection");
        let hello = Hello { version: PROTOCOL_VERSION + 1, subscribe: false, pid: 1 };
        let mut bytes = Vec::new();
        encode_frame(&Message::Hello(hello), &mut bytes);
        stream.write_all(&bytes).expect("sent");
        // Until the runtime has had enough.
        std::io::copy(&mut stream, &mut std::io::sink()).expect("read");
    });
    let connected = ProcessRuntime::connect(data.launcher(Runtimes::default())).await;
    let error = connected.expect_err("it cannot be used").to_string();
    let expected = format!("version {}", PROTOCOL_VERSION + 1);
    assert!(error.contains(&expected), "{error}");
    other.join().expect("no panic");
}
