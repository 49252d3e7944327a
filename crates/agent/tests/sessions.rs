//! What an agent does for sessions, with a real launcher and a controller that does what the test
//! says.

mod support;

use spawnery_model::{
    DurationMs, InstanceId, LimitReached, Name, Notice, Observation, Readiness, SessionOrder,
    StartOrder, Timestamp, Want, WarningCause,
};
use spawnery_wire::link::{LogFrame, LogStart};
use std::time::Duration;
use support::{AgentProcess, Controller, Data, instance, run_again, soon, start_order};
use tokio::net::UnixListener;

/// A key lease that is far longer than the time between two reports.
const LEASE: DurationMs = DurationMs(9_000);

fn session(run: &[&str]) -> StartOrder {
    let session = SessionOrder {
        key: Some(Name::new("alice").expect("a name")),
        lease: Some(LEASE),
        notices: Vec::new(),
    };
    StartOrder { session: Some(Box::new(session)), epoch: 3, ..start_order(run) }
}

fn warned(mut order: StartOrder, notices: &[Notice]) -> StartOrder {
    order.session.get_or_insert_default().notices = notices.to_vec();
    order
}

#[tokio::test]
async fn a_session_goes_on_while_its_controller_confirms_reports_and_not_for_long_after() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (_agent, mut link) = controller.start(&data).await;
    link.want_only(Vec::new()).await;
    let (id, other) = (instance(1), instance(2));
    link.run(id, session(&["sh", "-c", "echo $SPAWNERY_KEY $SPAWNERY_EPOCH; sleep 1000"])).await;
    let mut log = link.logs(id, LogStart::Sequence(1), true).await;
    log.until("alice 3\n").await;
    // Meanwhile the reports are confirmed.
    link.run(other, start_order(&["sleep", "10"])).await;
    link.until_ended(other).await;
    let ready = matches!(link.seen[&id], Observation::Ready { .. });
    assert!(ready, "{:?}", link.seen[&id]);
    // Now the link is there, but nothing is confirmed.
    match log.rest().await.1 {
        LogFrame::Exited { exit } => assert_eq!(exit.limit, Some(LimitReached::KeyLease)),
        last => panic!("{last:?}"),
    }
    let exit = link.until_ended(id).await;
    assert_eq!((exit.limit, exit.signal), (Some(LimitReached::KeyLease), Some(15)));
}

#[tokio::test]
async fn a_session_whose_agent_is_killed_ends_by_itself_and_the_next_agent_tells_why() {
    let data = Data::new();
    let place = tempfile::tempdir().expect("a temporary folder");
    let socket = place.path().join("controller");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let (agent, mut link) = AgentProcess::start(&data, &socket, &listener).await;
    link.want_only(Vec::new()).await;
    let id = instance(1);
    link.run(id, session(&["sleep", "1000"])).await;
    let pid = link.until_ready(id).await;
    let lives = || std::path::Path::new(&format!("/proc/{pid}")).exists();
    agent.kill();
    assert!(lives(), "it does not end with its agent");
    let gone = async {
        while lives() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the end of the session", gone).await;
    assert!(data.launcher_pid().is_some(), "the launcher lives on");
    let (_agent, mut link) = AgentProcess::start(&data, &socket, &listener).await;
    assert_eq!(link.until_ended(id).await.limit, Some(LimitReached::KeyLease));
}

#[tokio::test]
async fn one_that_was_ready_by_its_output_stays_ready_for_the_next_agent() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (agent, mut link) = controller.start(&data).await;
    link.want_only(Vec::new()).await;
    let id = instance(1);
    let script = "echo starting; read line; echo now ready; sleep 1000";
    let mut order = start_order(&["sh", "-c", script]);
    order.process.stdin = Some(true);
    order.process.ready = Some(Readiness::Output { text: "ready".to_owned() });
    link.run(id, order.clone()).await;
    let mut log = link.logs(id, LogStart::Sequence(1), true).await;
    log.until("starting\n").await;
    link.until("running", id, |seen| matches!(seen, Observation::Running { .. })).await;
    feed(&link, id).await;
    let pid = link.until_ready(id).await;
    agent.stop().await;
    // What it wrote is not needed any more.
    let logs = data.path().join("launcher/instances").join(id.to_string()).join("log/0");
    std::fs::remove_dir_all(logs).expect("its log");

    let (_agent, mut link) = controller.start(&data).await;
    assert_eq!(link.seen[&id], Observation::Ready { pid });
    link.want_only(vec![run_again(id, order)]).await;
    link.want(id, Want::Stop).await;
    link.until_ended(id).await;
}

async fn feed(link: &support::Link, instance: InstanceId) {
    use spawnery_wire::link::{StreamReply, StreamRequest};
    use tokio::io::AsyncWriteExt;
    let request = StreamRequest::Stdin { instance, process: 0 };
    let (reply, mut stream) = link.open(&request).await;
    assert_eq!(reply, StreamReply::Accepted);
    stream.write_all(b"go\n").await.expect("sent");
    stream.flush().await.expect("sent");
    stream.shutdown().await.expect("closed");
}

/// Says which signals come, and each new content of `/tmp/end`.
const WARNED: &str = r#"
    use Time::HiRes; $| = 1; my $last = "";
    $SIG{USR1} = sub { print "signal\n" };
    print "up\n";
    while (1) {
        Time::HiRes::sleep(0.01);
        open(my $file, "<", "/tmp/end") or next;
        my $line = <$file>; print $line if $line ne $last; $last = $line;
    }
"#;

#[tokio::test]
async fn a_program_is_warned_by_signal_and_file_and_no_signal_comes_twice() {
    let data = Data::new();
    let mut controller = Controller::new();
    let (agent, mut link) = controller.start(&data).await;
    link.want_only(Vec::new()).await;
    let id = instance(1);
    let order = || start_order(&["perl", "-e", WARNED]);
    let notice = |cause, ends_at| Notice {
        cause,
        ends_at: Timestamp(ends_at),
        signal: Some(10),
        file: Some("/tmp/end".to_owned()),
    };
    let first = notice(WarningCause::Idle, 1_000);
    let second = notice(WarningCause::Duration, 2_000);
    link.run(id, order()).await;
    let mut log = link.logs(id, LogStart::Sequence(1), true).await;
    log.until("up\n").await;
    let once = warned(order(), std::slice::from_ref(&first));
    link.run(id, once.clone()).await;
    link.run(id, once).await;
    let idle = r#"{"cause":"idle","ends_at":"1970-01-01T00:00:01.000Z","ends_at_ms":1000}"#;
    log.until(&format!("signal\n{idle}\n")).await;
    agent.stop().await;

    let (_agent, mut link) = controller.start(&data).await;
    let both = warned(order(), &[first, second]);
    link.want_only(vec![run_again(id, both)]).await;
    let mut log = link.logs(id, LogStart::Sequence(1), true).await;
    let longest = r#"{"cause":"duration","ends_at":"1970-01-01T00:00:02.000Z","ends_at_ms":2000}"#;
    log.until(&format!("{longest}\n")).await;
    link.want(id, Want::Stop).await;
    let exit = link.until_ended(id).await;
    assert_eq!(exit.last_output, format!("up\nsignal\n{idle}\nsignal\n{longest}\n"));
}
