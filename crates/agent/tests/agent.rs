//! Agents with a real launcher and a controller that does what the test says.

mod support;

use spawnery_agent::{Agent, AgentError, StartError};
use spawnery_model::{Observation, Want};
use spawnery_wire::link::{LogFrame, LogStart, RefusalKind, StreamReply, StreamRequest};
use std::collections::BTreeMap;
use support::{Controller, Data, instance, run_again, soon, start_order, with_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server that reads all that a connection says, and then answers with it, on port 8080.
const ECHO: &str = r#"
    use IO::Socket::INET;
    my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die $!;
    while (my $client = $server->accept) {
        local $/; my $all = <$client>; print $client "heard $all"; close $client
    }
"#;

#[tokio::test]
async fn an_instance_lives_from_its_start_to_its_end() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (agent, mut link) = controller.start(&data).await;
    assert_eq!(link.introduction.name.as_str(), "node-1");
    assert_eq!(link.introduction.labels["os"], "linux");
    link.want_only(Vec::new()).await;

    let id = instance(1);
    let script = "trap 'echo bye; exit 5' TERM; echo hello; while true; do sleep 0.05; done";
    link.run(id, start_order(&["sh", "-c", script])).await;
    // It may come before the order.
    let mut log = link.logs(id, LogStart::Sequence(1), true).await;
    link.until_ready(id).await;
    log.until("hello\n").await;
    link.want(id, Want::Stop).await;
    link.until("stopping", id, |seen| !matches!(seen, Observation::Ready { .. })).await;
    let exit = link.until_ended(id).await;
    assert_eq!((exit.code, exit.lost), (Some(5), false));
    assert_eq!(exit.last_output, "hello\nbye\n");
    let (rest, last) = log.rest().await;
    assert_eq!(rest, "bye\n");
    assert!(matches!(last, LogFrame::Exited { exit } if exit.code == Some(5)));

    link.want(id, Want::Forget).await;
    agent.stop().await;
    assert!(data.launcher_pid().is_some(), "the launcher lives on");
}

#[tokio::test]
async fn a_new_agent_finds_the_same_process_and_its_log_without_a_gap() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (agent, mut link) = controller.start(&data).await;
    link.want_only(Vec::new()).await;
    let id = instance(1);
    let script = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.01; done";
    link.run(id, start_order(&["sh", "-c", script])).await;
    let pid = link.until_ready(id).await;
    let mut log = link.logs(id, LogStart::Sequence(1), true).await;
    let last = log.until("line 3\n").await;
    agent.stop().await;

    let (_agent, mut link) = controller.start(&data).await;
    assert_eq!(link.seen[&id], Observation::Ready { pid });
    link.want_only(vec![run_again(id, start_order(&["sh", "-c", script]))]).await;
    let mut log = link.logs(id, LogStart::Sequence(last + 1), true).await;
    match log.next().await {
        LogFrame::Record { sequence, bytes, .. } => {
            assert_eq!(sequence, last + 1);
            assert!(bytes.starts_with(b"line 4\n"), "{bytes:?}");
        }
        other => panic!("{other:?}"),
    }
    link.want(id, Want::Stop).await;
    link.until_ended(id).await;
}

#[tokio::test]
async fn instances_of_a_launcher_that_was_killed_are_lost() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (_agent, mut link) = controller.start(&data).await;
    link.want_only(Vec::new()).await;
    link.run(instance(1), start_order(&["sleep", "1000"])).await;
    link.until_ready(instance(1)).await;
    let mut log = link.logs(instance(1), LogStart::Sequence(1), true).await;
    data.signal_launcher(rustix::process::Signal::KILL);
    let exit = link.until_ended(instance(1)).await;
    assert!(exit.lost && exit.failure.is_some(), "{exit:?}");
    assert!(matches!(log.next().await, LogFrame::Exited { exit } if exit.lost));

    link.run(instance(2), start_order(&["true"])).await;
    assert_eq!(link.until_ended(instance(2)).await.code, Some(0));
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (_agent, mut link) = controller.start(&data).await;
    link.want_only(Vec::new()).await;
    link.run(instance(1), start_order(&["no-such-program"])).await;
    let exit = link.until_ended(instance(1)).await;
    let failure = exit.failure.expect("a reason");
    assert!(failure.contains("no-such-program") && !exit.lost, "{failure}");
    let mut log = link.logs(instance(1), LogStart::Sequence(1), true).await;
    assert!(matches!(log.next().await, LogFrame::Exited { .. }));
}

#[tokio::test]
async fn further_processes_are_started_fed_and_signalled() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (_agent, mut link) = controller.start(&data).await;
    link.want_only(Vec::new()).await;
    let id = instance(1);
    link.run(id, start_order(&["sleep", "1000"])).await;
    link.until_ready(id).await;

    let exec = StreamRequest::Exec {
        instance: id,
        run: vec!["cat".to_owned()],
        env: BTreeMap::new(),
        working_directory: None,
        stdin: true,
        user: None,
        terminal: None,
        timeout: None,
    };
    let (reply, _) = link.open(&exec).await;
    let StreamReply::Started { process } = reply else { panic!("{reply:?}") };
    let (reply, mut stdin) = link.open(&StreamRequest::Stdin { instance: id, process }).await;
    assert_eq!(reply, StreamReply::Accepted);
    // More than a pipe holds.
    let sent = "0123456789abcde\n".repeat(20_000);
    stdin.write_all(sent.as_bytes()).await.expect("sent");
    stdin.shutdown().await.expect("closed");
    let start = LogStart::Sequence(1);
    let logs = StreamRequest::Logs { instance: id, process, start, follow: true };
    let (_, stream) = link.open(&logs).await;
    let (output, last) = support::LogStream::of(stream).rest().await;
    assert!(output == sent, "{} of {} bytes came back", output.len(), sent.len());
    assert!(matches!(last, LogFrame::Exited { exit } if exit.code == Some(0)));

    let signal = StreamRequest::Signal { instance: id, process: 0, signal: 9 };
    assert_eq!(link.open(&signal).await.0, StreamReply::Accepted);
    assert_eq!(link.until_ended(id).await.signal, Some(9));
    let refused = |reply: StreamReply| match reply {
        StreamReply::Refused { kind, .. } => kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(link.open(&signal).await.0), RefusalKind::NotRunning);
    assert_eq!(refused(link.open(&exec).await.0), RefusalKind::NotRunning);
    let dial = StreamRequest::Dial { instance: instance(9), port: 80 };
    assert_eq!(refused(link.open(&dial).await.0), RefusalKind::Unknown);
}

#[tokio::test]
async fn a_port_is_ready_and_reached_and_each_side_may_finish_first() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (_agent, mut link) = controller.start(&data).await;
    link.want_only(Vec::new()).await;
    let id = instance(1);
    link.run(id, with_port(start_order(&["perl", "-e", ECHO]), 8080)).await;
    link.until_ready(id).await;
    let (reply, mut stream) = link.open(&StreamRequest::Dial { instance: id, port: 8080 }).await;
    assert_eq!(reply, StreamReply::Accepted);
    stream.write_all(b"some words").await.expect("sent");
    stream.shutdown().await.expect("closed in one direction");
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.expect("read");
    assert_eq!(answer, "heard some words");
    let (reply, _) = link.open(&StreamRequest::Dial { instance: id, port: 1 }).await;
    assert!(matches!(reply, StreamReply::Refused { kind: RefusalKind::Failed, .. }), "{reply:?}");
}

#[tokio::test]
async fn a_log_is_read_from_where_it_is_asked_for() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (_agent, mut link) = controller.start(&data).await;
    link.want_only(Vec::new()).await;
    let id = instance(1);
    // More than a log keeps.
    let script = "head -c 40000000 /dev/zero | tr '\\0' x; echo; echo one; echo two";
    link.run(id, start_order(&["sh", "-c", script])).await;
    link.until_ended(id).await;
    let is_exited = |last: LogFrame| matches!(last, LogFrame::Exited { .. });

    let (output, last) = link.logs(id, LogStart::Tail(2), false).await.rest().await;
    assert_eq!(output, "one\ntwo\n");
    assert!(is_exited(last));
    let (output, last) = link.logs(id, LogStart::Since(u64::MAX), true).await.rest().await;
    assert_eq!(output, "");
    assert!(is_exited(last));
    let mut all = link.logs(id, LogStart::Sequence(1), false).await;
    let LogFrame::Gap { from: 1, to } = all.next().await else { panic!("no gap") };
    let LogFrame::Record { sequence, .. } = all.next().await else { panic!("no record") };
    assert_eq!(sequence, to + 1);
    let (output, last) = all.rest().await;
    assert!(output.ends_with("x\none\ntwo\n") && !output.contains("[gap]"));
    assert!(is_exited(last));
}

#[tokio::test]
async fn a_log_of_a_running_process_ends_when_not_followed() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (_agent, mut link) = controller.start(&data).await;
    link.want_only(Vec::new()).await;
    let id = instance(1);
    link.run(id, start_order(&["sh", "-c", "echo hello; sleep 1000"])).await;
    link.logs(id, LogStart::Sequence(1), true).await.until("hello\n").await;
    let (output, last) = link.logs(id, LogStart::Since(0), false).await.rest().await;
    assert_eq!((output.as_str(), last), ("hello\n", LogFrame::End));
}

#[tokio::test]
async fn a_link_that_breaks_is_made_again_and_all_is_told() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (_agent, mut link) = controller.start(&data).await;
    link.want_only(Vec::new()).await;
    link.run(instance(1), start_order(&["sleep", "1000"])).await;
    let pid = link.until_ready(instance(1)).await;
    drop(link);
    controller.refuse("not now", false).await;

    let mut link = controller.accept().await;
    assert_eq!(link.seen[&instance(1)], Observation::Ready { pid });
    // What is not wanted any more is ended and forgotten.
    link.want_only(Vec::new()).await;
    link.until("the end", instance(1), |seen| matches!(seen, Observation::Stopping { .. })).await;
    let signal = StreamRequest::Signal { instance: instance(1), process: 0, signal: 15 };
    let forgotten = async {
        while !matches!(
            link.open(&signal).await.0,
            StreamReply::Refused { kind: RefusalKind::Unknown, .. }
        ) {}
    };
    soon("that it is forgotten", forgotten).await;
}

#[tokio::test]
async fn an_agent_that_is_refused_for_ever_ends_and_says_why() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (mut agent, link) = controller.start(&data).await;
    drop(link);
    controller.refuse("it was removed", true).await;
    let error = soon("the end", agent.ended()).await;
    assert_eq!(error, AgentError::Refused { reason: "it was removed".to_owned() });
    agent.stop().await;
}

#[tokio::test]
async fn a_data_folder_is_used_by_one_agent() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (agent, _link) = controller.start(&data).await;
    let second = Agent::start(data.config(), controller.connector(), None).await;
    assert!(matches!(second.err(), Some(StartError::Busy { .. })));
    agent.stop().await;
    controller.start(&data).await;
}

#[tokio::test]
async fn a_machine_joins_only_with_a_token() {
    let data = Data::new();
    let mut controller = Controller::new();
    let started = Agent::start(data.config(), controller.connector(), None).await;
    assert!(matches!(started.err(), Some(StartError::NotJoined)));
    let secret = Some("wrong".to_owned());
    let starting = Agent::start(data.config(), controller.connector(), secret);
    let (started, ()) = tokio::join!(starting, controller.refuse("no such token", false));
    assert!(
        matches!(started.err(), Some(StartError::Refused { reason }) if reason == "no such token")
    );
}

#[tokio::test]
async fn the_launcher_is_ended_when_nothing_runs() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (agent, mut link) = controller.start(&data).await;
    link.want_only(Vec::new()).await;
    link.run(instance(1), start_order(&["sleep", "1000"])).await;
    link.until_ready(instance(1)).await;
    assert!(agent.stop_launcher().await.is_err());
    link.want(instance(1), Want::Stop).await;
    link.until_ended(instance(1)).await;
    agent.stop_launcher().await.expect("nothing runs");
    agent.stop().await;
    assert_eq!(data.launcher_pid(), None);

    let (_agent, link) = controller.start(&data).await;
    assert!(matches!(link.seen[&instance(1)], Observation::Ended { .. }), "it is still known");
}
