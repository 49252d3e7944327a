//! What outlives the agent, and what does not outlive the launcher.

use super::{exec, instance, next_end, order_for, read_to_end, soon, wait_for_output};
use crate::support::World;
use spawnery_model::DurationMs;
use spawnery_runtime::{Event, Prepared, Runtime};

pub async fn the_next_agent_finds_the_instance_and_its_log(world: World) {
    let id = instance(1);
    let script = "echo one; read line; echo $line; sleep 1000";
    let mut order = order_for(world.kind, &["sh", "-c", script]);
    order.process.stdin = Some(true);
    let started = world.runtime.start(id, &order, Prepared::default()).await.expect("started");
    wait_for_output(world.runtime.log(id, 0).expect("a log"), "one\n").await;
    world.runtime.exec(id, exec(&["sleep", "1000"])).await.expect("it runs");
    world.runtime.exec(id, exec(&["no-such-program"])).await.expect_err("it cannot start");

    let mut world = world.next_agent().await;
    let runtime = &world.runtime;
    let found = runtime.found().await.expect("a list");
    let [found] = &found[..] else { panic!("{found:?}") };
    assert_eq!((found.pid, &found.exit), (Some(started.pid), &None));
    assert_eq!(*found.order, order);
    assert_eq!(runtime.execs_running(id), Ok(1), "one runs, and one never did");
    runtime.write_stdin(id, 0, b"two\n".to_vec(), true).await.expect("it runs");
    wait_for_output(runtime.log(id, 0).expect("a log"), "one\ntwo\n").await;
    runtime.stop(id, order.stop).await.expect("stopping");
    assert_eq!(next_end(&mut world.events).await.0, id);
}

pub async fn an_instance_ends_with_its_launcher(mut world: World) {
    let id = instance(1);
    let mut order = order_for(world.kind, &["perl", "-e", "sleep 1000"]);
    order.stop.grace = DurationMs(0);
    let started = world.runtime.start(id, &order, Prepared::default()).await.expect("started");
    let process = format!("/proc/{}", started.pid);
    assert!(std::path::Path::new(&process).exists(), "{process} is its main process");
    let log = world.runtime.log(id, 0).expect("a log");
    world.kill_launcher();
    let event = soon("the loss", world.events.recv()).await.expect("the runtime lives");
    assert!(matches!(event, Event::Disconnected { .. }), "{event:?}");
    let (ended, exit) = next_end(&mut world.events).await;
    assert_eq!((ended, exit.lost), (id, true));
    assert!(read_to_end(log).await.1.lost);
    let gone = async {
        while std::path::Path::new(&process).exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    soon("the end of the main process", gone).await;
    let order = order_for(world.kind, &["true"]);
    world.runtime.start(instance(2), &order, Prepared::default()).await.expect("started");
    assert_eq!(next_end(&mut world.events).await.1.code, Some(0));
}
