//! What sessions need: when they are ready, when they end by themselves, and how they are warned.

use super::{exec, instance, next_end, order_for, read_to_end, soon, wait_for_output};
use crate::support::World;
use spawnery_model::{
    DurationMs, InstanceId, LimitReached, Name, Notice, Port, SessionOrder, StartOrder, Timestamp,
    WarningCause,
};
use spawnery_node::{Check, Noted};
use spawnery_runtime::readiness::{Gone, until_ready};
use spawnery_runtime::{OperationError, Prepared, Runtime};
use spawnery_sandbox::clock::boottime_ms;

/// A server on port 8080 that answers the first request for `/up` by 503, those after it by 200,
/// and all others by 404. It says when it listens, in two pieces.
const SERVER: &str = r#"
    use IO::Socket::INET;
    $| = 1; print "starting\n";
    my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die $!;
    print "now list"; print "ening\n";
    my $asked = 0;
    while (my $client = $server->accept) {
        my $line = <$client>;
        while (my $rest = <$client>) { last if $rest eq "\r\n" }
        my $up = $line =~ m{^GET /up\?deep=1 HTTP/1.1\r\n$};
        my $status = $up ? ($asked++ ? "200 OK" : "503 Later") : "404 Not Found";
        print "answered $status\n";
        print $client "HTTP/1.1 $status\r\nContent-Length: 0\r\n\r\n"; close $client
    }
"#;

fn port(number: u16) -> Port {
    Port { name: Name::new("web").expect("a name"), port: number }
}

fn http(path: &str) -> Check {
    Check::Http { path: path.to_owned(), port: port(8080) }
}

fn output(text: &str) -> Check {
    Check::Output { text: text.to_owned() }
}

async fn start(world: &World, run: &[&str]) -> InstanceId {
    let order = order_for(world.kind, run);
    world.runtime.start(instance(1), &order, Prepared::default()).await.expect("started");
    instance(1)
}

pub async fn an_instance_is_ready_when_its_check_holds(mut world: World) {
    let id = start(&world, &["perl", "-e", SERVER]).await;
    let runtime = &world.runtime;
    let ready = async |check: Check| {
        let mut why = Vec::new();
        let until = until_ready(runtime, id, &check, |reason| why.push(reason.to_owned()));
        soon("ready", until).await.expect("it runs");
        why
    };
    ready(Check::Ports(vec![port(8080)])).await;
    ready(output("now listening")).await;
    let why = ready(http("/up?deep=1")).await;
    assert!(why.iter().any(|it| it.contains("answered by status 503")), "{why:?}");
    let nothing = Check::Ports(vec![port(8080), port(1)]);
    for check in [http("/nowhere"), nothing, output("not this")] {
        let mut why = Vec::new();
        let told = async {
            let until = until_ready(runtime, id, &check, |reason| why.push(reason.to_owned()));
            let patience = tokio::time::sleep(std::time::Duration::from_millis(200));
            tokio::select! { ready = until => panic!("{ready:?}"), () = patience => {} }
        };
        told.await;
        assert!(!why.is_empty(), "{check:?}");
    }
    runtime.stop(id, order_for(world.kind, &[]).stop).await.expect("stopping");
    next_end(&mut world.events).await;
    for check in [http("/up?deep=1"), Check::Ports(vec![port(8080)]), output("not this")] {
        assert_eq!(soon("the end", until_ready(runtime, id, &check, |_| ())).await, Err(Gone));
    }
}

pub async fn a_text_that_comes_later_makes_it_ready(mut world: World) {
    let script = "echo one; read line; printf now; read line; echo \" ready\"; sleep 1000";
    let mut order = order_for(world.kind, &["sh", "-c", script]);
    order.process.stdin = Some(true);
    let (runtime, id) = (&world.runtime, instance(1));
    runtime.start(id, &order, Prepared::default()).await.expect("started");
    let check = output("now ready");
    let until = until_ready(runtime, id, &check, |_| ());
    let go = async {
        for text in ["one\n", "one\nnow"] {
            wait_for_output(runtime.log(id, 0).expect("a log"), text).await;
            runtime.write_stdin(id, 0, b"go\n".to_vec(), false).await.expect("it runs");
        }
    };
    let (ready, ()) = soon("ready", async { tokio::join!(until, go) }).await;
    assert_eq!(ready, Ok(()));
    runtime.stop(id, order.stop).await.expect("stopping");
    next_end(&mut world.events).await;
}

fn leased(world: &World, run: &[&str], lease: DurationMs) -> StartOrder {
    let mut order = order_for(world.kind, run);
    let session = SessionOrder { lease: Some(lease), ..SessionOrder::default() };
    order.session = Some(Box::new(session));
    order
}

pub async fn a_lease_that_nobody_renews_ends_it(world: World) {
    let program = "$| = 1; $SIG{TERM} = sub { print qq(bye\\n); exit 5 }; print qq(up\\n); \
        sleep 1 while 1";
    let order = leased(&world, &["perl", "-e", program], DurationMs(8000));
    let id = instance(1);
    world.runtime.heard(boottime_ms());
    world.runtime.start(id, &order, Prepared::default()).await.expect("started");
    wait_for_output(world.runtime.log(id, 0).expect("a log"), "up\n").await;
    // Its agent goes, and the next one hears nothing either.
    let mut world = world.next_agent().await;
    let (ended, exit) = next_end(&mut world.events).await;
    assert_eq!((ended, exit.limit), (id, Some(LimitReached::KeyLease)), "{exit:?}");
    assert_eq!((exit.code, exit.last_output.as_str()), (Some(5), "up\nbye\n"));
}

pub async fn a_lease_that_is_renewed_goes_on(mut world: World) {
    let kept = leased(&world, &["sleep", "1000"], DurationMs(65_000));
    let (id, now) = (instance(1), boottime_ms());
    world.runtime.start(id, &kept, Prepared::default()).await.expect("started");
    let short = leased(&world, &["sleep", "1000"], DurationMs(3_000));
    world.runtime.start(instance(2), &short, Prepared::default()).await.expect("started");
    world.runtime.heard(now);
    world.runtime.renew().await.expect("renewed");
    let (ended, exit) = next_end(&mut world.events).await;
    assert_eq!((ended, exit.limit), (instance(2), Some(LimitReached::KeyLease)));
    assert!(world.runtime.usage(id).await.is_ok(), "it runs");
    world.runtime.stop(id, kept.stop).await.expect("stopping");
    let (ended, exit) = next_end(&mut world.events).await;
    assert_eq!((ended, exit.limit), (id, None));
}

pub async fn what_is_noted_of_an_instance_is_found_by_the_next_agent(world: World) {
    let id = start(&world, &["sleep", "1000"]).await;
    let notice = Notice {
        cause: WarningCause::Duration,
        ends_at: Timestamp(7),
        signal: Some(10),
        file: Some("/tmp/end".to_owned()),
    };
    let noted = Noted { ready: true, notices: vec![notice] };
    world.runtime.note(id, noted.clone()).await.expect("noted");
    let unknown = world.runtime.note(instance(9), noted.clone()).await;
    assert_eq!(unknown, Err(OperationError::Unknown));
    let mut world = world.next_agent().await;
    let found = world.runtime.found().await.expect("a list");
    assert_eq!(found[0].noted, noted);
    world.runtime.stop(id, found[0].order.stop).await.expect("stopping");
    next_end(&mut world.events).await;
}

pub async fn a_line_is_written_inside_at_once_and_follows_no_link(mut world: World) {
    let outside = tempfile::NamedTempFile::new().expect("a file of the host");
    let id = start(&world, &["sleep", "1000"]).await;
    let runtime = &world.runtime;
    let read = async |script: &str| {
        let process = runtime.exec(id, exec(&["sh", "-c", script])).await.expect("it runs");
        read_to_end(runtime.log(id, process).expect("a log")).await.0
    };
    let line = r#"{"cause":"idle","it's":"$HOME"}"#;
    runtime.write_line(id, "/tmp/a notice", line).await.expect("written");
    let found = read("cat '/tmp/a notice'; stat -c %a '/tmp/a notice'; ls -A /tmp").await;
    assert_eq!(found, format!("{line}\n644\na notice\n"));
    let link = format!("ln -s {} /tmp/link; mkdir /tmp/kept", outside.path().display());
    read(&link).await;
    runtime.write_line(id, "/tmp/link", "second").await.expect("written");
    assert_eq!(
        read("cat /tmp/link; test -L /tmp/link || echo replaced").await,
        "second\nreplaced\n"
    );
    assert_eq!(std::fs::read(outside.path()).expect("read"), b"");
    for (path, reason) in [("/tmp/kept", "is no file"), ("/tmp/none/x", "none"), ("/proc/x", "")] {
        match runtime.write_line(id, path, "x").await {
            Err(OperationError::Failed { reason: said }) => {
                assert!(said.contains(reason), "{said}")
            }
            other => panic!("{path}: {other:?}"),
        }
    }
    assert_eq!(runtime.execs_running(id), Ok(0));
    runtime.stop(id, order_for(world.kind, &[]).stop).await.expect("stopping");
    next_end(&mut world.events).await;
    let late = runtime.write_line(id, "/tmp/link", "x").await;
    assert_eq!(late, Err(OperationError::NotRunning));
}
