//! What holds for every runtime. Each function is one promise.

mod bounds;
mod inside;
mod sessions;
mod survival;

pub use bounds::*;
pub use inside::*;
pub use sessions::*;
pub use survival::*;

use crate::support::World;
use spawnery_model::{
    Bytes, CpuMillis, DurationMs, Exit, Id, InstanceId, Name, Network, Process, RuntimeKind,
    StartOrder, Stop,
};
use spawnery_runtime::{
    DialError, Event, Events, ExecOrder, ListeningSocket, Log, OperationError, Prepared, Runtime,
};
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One test for each promise, with the world that `$world` makes.
#[macro_export]
macro_rules! conformance_tests {
    ($world:expr) => {
        $crate::conformance_tests!($world;
            an_instance_ends_with_its_code_and_all_its_output,
            a_program_that_does_not_exist_is_a_failed_start,
            a_further_process_shares_the_surroundings_of_its_instance,
            a_further_process_runs_as_the_user_that_is_named,
            a_further_process_beyond_its_time_ends_with_what_it_started,
            a_terminal_is_given_or_refused_with_the_reason,
            the_processes_of_an_instance_are_listed,
            files_are_written_and_read_as_the_user_inside,
            what_is_written_to_a_standard_input_arrives,
            a_port_is_reached_once_something_listens,
            memory_beyond_the_limit_ends_it_as_out_of_memory,
            no_more_processes_start_than_allowed,
            no_more_processor_time_is_used_than_allowed,
            every_line_of_much_output_is_kept_in_order,
            a_stop_signal_is_handled_by_the_program,
            what_ignores_the_stop_signal_is_killed_after_the_grace,
            the_inside_is_its_own_and_holds_the_files,
            secrets_and_folders_are_found_inside,
            an_environment_is_the_root,
            the_next_agent_finds_the_instance_and_its_log,
            an_instance_ends_with_its_launcher,
            an_instance_is_ready_when_its_check_holds,
            a_text_that_comes_later_makes_it_ready,
            a_lease_that_nobody_renews_ends_it,
            a_lease_that_is_renewed_goes_on,
            what_is_noted_of_an_instance_is_found_by_the_next_agent,
            a_line_is_written_inside_at_once_and_follows_no_link,
        );
    };
    ($world:expr; $($promise:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $promise() {
                $crate::conformance::$promise($world).await;
            }
        )*
    };
}

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// A server that echoes one line of each connection on port 8080.
pub const ECHO: &str = r#"
    use IO::Socket::INET;
    my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die $!;
    while (my $client = $server->accept) { my $line = <$client>; print $client "echo $line"; close $client }
"#;

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let within = tokio::time::timeout(DEADLINE, future).await;
    within.unwrap_or_else(|_| panic!("{what} did not come"))
}

pub fn instance(number: u128) -> InstanceId {
    InstanceId(Id::from_bits(number))
}

pub fn order(run: &[&str]) -> StartOrder {
    StartOrder {
        workload: Name::new("web").expect("a name"),
        epoch: 1,
        process: Process {
            run: run.iter().map(|word| (*word).to_owned()).collect(),
            env: BTreeMap::from([("COLOUR".to_owned(), "red".to_owned())]),
            memory: Bytes::mib(256),
            cpu_reserved: CpuMillis(100),
            cpu_max: None,
            disk_max: None,
            pids_max: 64,
            ports: Vec::new(),
            working_directory: None,
            network: Network::None,
            files: Vec::new(),
            stdin: None,
            ready: None,
        },
        stop: Stop { signal: 15, grace: DurationMs(10_000) },
        surroundings: None,
        session: None,
    }
}

/// An order that a runtime of this kind is to carry out.
pub fn order_for(kind: RuntimeKind, run: &[&str]) -> StartOrder {
    let mut order = order(run);
    order.surroundings.get_or_insert_default().runtime = kind;
    order
}

pub fn exec(run: &[&str]) -> ExecOrder {
    ExecOrder {
        run: run.iter().map(|word| (*word).to_owned()).collect(),
        env: BTreeMap::new(),
        working_directory: None,
        stdin: false,
        user: None,
        terminal: None,
        timeout: None,
    }
}

/// The next end of an instance; other events are passed over.
pub async fn next_end(events: &mut Events) -> (InstanceId, Exit) {
    loop {
        let event = soon("the end of an instance", events.recv()).await;
        if let Event::Ended { instance, exit } = event.expect("the runtime lives") {
            return (instance, exit);
        }
    }
}

/// All output of a process until its end, and that end.
pub async fn read_to_end(mut log: Log) -> (String, Exit) {
    let mut output = Vec::new();
    let mut next = 1;
    loop {
        let progress = log.progress();
        let page = log.files.read_from(next, usize::MAX).expect("a log");
        assert!(page.gaps.is_empty());
        output.extend(page.records.into_iter().flat_map(|record| record.bytes));
        next = page.next_seq;
        if let Some(exit) = progress.exit {
            return (String::from_utf8(output).expect("text"), exit);
        }
        soon("output", log.changed()).await;
    }
}

/// Waits for output that contains `text`.
pub async fn wait_for_output(mut log: Log, text: &str) {
    loop {
        let progress = log.progress();
        let page = log.files.read_from(1, usize::MAX).expect("a log");
        let output: Vec<u8> = page.records.into_iter().flat_map(|record| record.bytes).collect();
        if String::from_utf8_lossy(&output).contains(text) {
            return;
        }
        assert_eq!(progress.exit, None, "it ended without {text:?}");
        soon(text, log.changed()).await;
    }
}

pub async fn an_instance_ends_with_its_code_and_all_its_output(mut world: World) {
    let (kind, runtime, events) = (world.kind, &world.runtime, &mut world.events);
    let order = |run: &[&str]| order_for(kind, run);
    let id = instance(1);
    let script = "echo $COLOUR $SPAWNERY_WORKLOAD; echo bad >&2; exit 7";
    runtime.start(id, &order(&["sh", "-c", script]), Prepared::default()).await.expect("started");
    let (ended, exit) = next_end(events).await;
    assert_eq!((ended, exit.code, exit.signal, exit.lost), (id, Some(7), None, false));
    assert!(exit.last_output.contains("red web") && exit.last_output.contains("bad"));
    let (output, end) = read_to_end(runtime.log(id, 0).expect("a log")).await;
    assert_eq!((output.contains("red web"), end.code), (true, Some(7)));
    let found = runtime.found().await.expect("a list");
    let found = found.iter().find(|found| found.instance == id).expect("it is kept");
    assert_eq!(found.exit.as_ref().and_then(|exit| exit.code), Some(7));
    runtime.forget(id).await.expect("forgotten");
    runtime.forget(id).await.expect("forgotten already");
    assert!(runtime.found().await.expect("a list").iter().all(|found| found.instance != id));
    assert_eq!(runtime.log(id, 0).err(), Some(OperationError::Unknown));
}

pub async fn a_program_that_does_not_exist_is_a_failed_start(world: World) {
    let (kind, runtime) = (world.kind, &world.runtime);
    let order = |run: &[&str]| order_for(kind, run);
    let started =
        runtime.start(instance(2), &order(&["no-such-program"]), Prepared::default()).await;
    let error = started.expect_err("it cannot start");
    assert!(error.message.contains("no-such-program"), "{error}");
    let again = runtime.start(instance(2), &order(&["true"]), Prepared::default()).await;
    assert!(again.is_err(), "an id is never used twice");
}

pub async fn a_further_process_shares_the_surroundings_of_its_instance(mut world: World) {
    let (kind, runtime, events) = (world.kind, &world.runtime, &mut world.events);
    let order = |run: &[&str]| order_for(kind, run);
    let id = instance(3);
    runtime.start(id, &order(&["sleep", "1000"]), Prepared::default()).await.expect("started");
    let mut wanted = exec(&["sh", "-c", "echo $COLOUR $SHAPE; exit 3"]);
    wanted.env.insert("SHAPE".to_owned(), "round".to_owned());
    let first = runtime.exec(id, wanted).await.expect("it runs");
    let (output, exit) = read_to_end(runtime.log(id, first).expect("a log")).await;
    assert_eq!((output.as_str(), exit.code), ("red round\n", Some(3)));
    let second = runtime.exec(id, exec(&["sleep", "1000"])).await.expect("it runs");
    assert_ne!(first, second);
    assert_eq!(runtime.execs_running(id), Ok(1), "the first one has ended");
    runtime.signal(id, second, 9).await.expect("it runs");
    let (_, exit) = read_to_end(runtime.log(id, second).expect("a log")).await;
    assert_eq!(runtime.execs_running(id), Ok(0));
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    assert_eq!(runtime.signal(id, second, 9).await, Err(OperationError::NotRunning));
    assert_eq!(runtime.signal(id, 99, 9).await, Err(OperationError::Unknown));
    let missing = runtime.exec(id, exec(&["no-such-program"])).await;
    assert!(matches!(missing, Err(OperationError::Failed { .. })), "{missing:?}");
    let usage = runtime.usage(id).await.expect("it runs");
    assert_ne!(usage.memory_bytes, Some(0));
    assert_eq!((usage.network_bytes_in, usage.network_bytes_out), (None, None), "it has none");

    let third = runtime.exec(id, exec(&["sleep", "1000"])).await.expect("it runs");
    runtime.stop(id, order(&[]).stop).await.expect("stopping");
    let (ended, exit) = next_end(events).await;
    assert_eq!((ended, exit.signal), (id, Some(15)));
    read_to_end(runtime.log(id, third).expect("it ends with its instance")).await;
    assert_eq!(runtime.exec(id, exec(&["true"])).await, Err(OperationError::NotRunning));
    assert_eq!(runtime.execs_running(id), Err(OperationError::NotRunning));
    assert_eq!(runtime.exec(instance(99), exec(&["true"])).await, Err(OperationError::Unknown));
}

pub async fn what_is_written_to_a_standard_input_arrives(mut world: World) {
    let (kind, runtime, events) = (world.kind, &world.runtime, &mut world.events);
    let order = |run: &[&str]| order_for(kind, run);
    let id = instance(4);
    let mut order = order(&["cat"]);
    order.process.stdin = Some(true);
    runtime.start(id, &order, Prepared::default()).await.expect("started");
    let taken = runtime.write_stdin(id, 0, b"hello\n".to_vec(), false).await.expect("it runs");
    assert_eq!(taken.bytes, 6);
    wait_for_output(runtime.log(id, 0).expect("a log"), "hello\n").await;
    runtime.write_stdin(id, 0, Vec::new(), true).await.expect("it runs");
    let (_, exit) = next_end(events).await;
    assert_eq!((exit.code, exit.last_output.as_str()), (Some(0), "hello\n"));
}

pub async fn a_port_is_reached_once_something_listens(mut world: World) {
    let (kind, runtime, events) = (world.kind, &world.runtime, &mut world.events);
    let order = |run: &[&str]| order_for(kind, run);
    let id = instance(5);
    runtime.start(id, &order(&["perl", "-e", ECHO]), Prepared::default()).await.expect("started");
    let listening = async {
        while runtime.listening(id, vec![8080, 1]).await.expect("it runs") != [true, false] {
            tokio::task::yield_now().await;
        }
    };
    soon("an open port", listening).await;
    let sockets = runtime.sockets(id).await.expect("it runs");
    assert_eq!(sockets, [ListeningSocket { port: 8080, loopback_only: false }]);
    let mut stream = runtime.dial(id, 8080).await.expect("it listens");
    stream.write_all(b"hello\n").await.expect("written");
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.expect("read");
    assert_eq!(answer, "echo hello\n");
    assert_eq!(runtime.dial(id, 1).await.err(), Some(DialError::Refused));
    runtime.stop(id, order(&[]).stop).await.expect("stopping");
    next_end(events).await;
    let gone = runtime.dial(id, 8080).await.err();
    assert_eq!(gone, Some(DialError::Operation(OperationError::NotRunning)));
}
