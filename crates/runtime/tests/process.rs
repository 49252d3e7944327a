//! The process runtime with a real launcher.

mod conformance;

use conformance::{instance, next_end, order, read_to_end, soon, wait_for_output};
use spawnery_runtime::{
    Event, Events, Launcher, OperationError, Prepared, ProcessRuntime, Runtime,
};
use spawnery_sandbox::client::Client;
use spawnery_sandbox::launcher::SOCKET_NAME;
use spawnery_sandbox::limits::PROTOCOL_VERSION;
use spawnery_sandbox::protocol::{Hello, Message, encode_frame};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A data folder whose launcher, if one runs, is ended with it.
struct Data(TempDir);

impl Data {
    fn new() -> Data {
        Data(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn launcher_pid(&self) -> Option<u32> {
        Client::connect(self.path()).ok().map(|client| client.launcher_pid())
    }

    fn kill_launcher(&self) {
        self.signal_launcher(rustix::process::Signal::KILL);
    }

    fn signal_launcher(&self, signal: rustix::process::Signal) {
        let pid = self.launcher_pid().expect("a launcher runs");
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a pid"), signal).expect("it is ours");
    }

    fn launcher(&self) -> Launcher {
        Launcher {
            data: self.path().to_owned(),
            program: PathBuf::from(env!("CARGO_BIN_EXE_runtime-test-launcher")),
        }
    }

    async fn connect(&self) -> (ProcessRuntime, Events) {
        ProcessRuntime::connect(self.launcher()).await.expect("a launcher")
    }
}

impl Drop for Data {
    /// Ends the launcher in order, so that nothing of it stays on the machine.
    fn drop(&mut self) {
        if self.launcher_pid().is_none() {
            return;
        }
        self.signal_launcher(rustix::process::Signal::TERM);
        let until = Instant::now() + Duration::from_secs(20);
        while self.launcher_pid().is_some() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

macro_rules! conforms {
    ($($promise:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let data = Data::new();
                let (runtime, mut events) = data.connect().await;
                conformance::$promise(&runtime, &mut events).await;
            }
        )*
    };
}

conforms!(
    an_instance_ends_with_its_code_and_all_its_output,
    a_program_that_does_not_exist_is_a_failed_start,
    a_further_process_shares_the_surroundings_of_its_instance,
    what_is_written_to_a_standard_input_arrives,
    a_port_is_reached_once_something_listens,
);

#[tokio::test]
async fn a_new_agent_finds_the_instance_and_its_log() {
    let data = Data::new();
    let (runtime, events) = data.connect().await;
    let order = order(&["sh", "-c", "echo one; read line; echo $line; sleep 1000"]);
    let mut with_stdin = order.clone();
    with_stdin.process.stdin = Some(true);
    let started =
        runtime.start(instance(1), &with_stdin, Prepared::default()).await.expect("started");
    wait_for_output(runtime.log(instance(1), 0).expect("a log"), "one\n").await;
    drop((runtime, events));

    let (runtime, mut events) = data.connect().await;
    let found = runtime.found().await.expect("a list");
    let [found] = &found[..] else { panic!("{found:?}") };
    assert_eq!((found.pid, &found.exit), (Some(started.pid), &None));
    assert_eq!(*found.order, with_stdin);
    runtime.write_stdin(instance(1), 0, b"two\n".to_vec(), true).await.expect("it runs");
    wait_for_output(runtime.log(instance(1), 0).expect("a log"), "one\ntwo\n").await;
    runtime.stop(instance(1), order.stop).await.expect("stopping");
    assert_eq!(next_end(&mut events).await.0, instance(1));
}

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
    let connected = ProcessRuntime::connect(data.launcher()).await;
    let error = connected.expect_err("it cannot be used").to_string();
    let expected = format!("version {}", PROTOCOL_VERSION + 1);
    assert!(error.contains(&expected), "{error}");
    other.join().expect("no panic");
}
