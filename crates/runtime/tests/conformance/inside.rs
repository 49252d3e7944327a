//! What is done inside an instance beside its main process.

use super::{exec, instance, order_for, read_to_end, soon, wait_for_output};
use crate::support::World;
use spawnery_model::{DurationMs, LimitReached, RuntimeKind};
use spawnery_runtime::{ExecOrder, OperationError, Prepared, Runtime, WindowSize};

/// Starts something that only waits.
async fn idle(world: &World) -> spawnery_model::InstanceId {
    let id = instance(1);
    let order = order_for(world.kind, &["sleep", "1000"]);
    world.runtime.start(id, &order, Prepared::default()).await.expect("started");
    id
}

async fn run(world: &World, order: ExecOrder) -> (String, spawnery_model::Exit) {
    let process = world.runtime.exec(instance(1), order).await.expect("it runs");
    read_to_end(world.runtime.log(instance(1), process).expect("a log")).await
}

pub async fn a_further_process_runs_as_the_user_that_is_named(world: World) {
    let id = idle(&world).await;
    let script = ["sh", "-c", "echo $(id -u) $(id -g) $USER"];
    let by = |user: &str| ExecOrder { user: Some(user.to_owned()), ..exec(&script) };
    assert_eq!(run(&world, by("root")).await.0, "0 0 root\n");
    assert_eq!(run(&world, by("4321:7")).await.0, "4321 7 4321\n");
    assert_eq!(run(&world, exec(&script)).await.0, "1000 1000 user\n");
    match world.runtime.exec(id, by("nonesuch")).await {
        Err(OperationError::Failed { reason }) => {
            assert!(reason.contains("`nonesuch` is not in its /etc/passwd"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

pub async fn a_further_process_beyond_its_time_ends_with_what_it_started(world: World) {
    let id = idle(&world).await;
    let script = "sleep 2001 & echo ready; sleep 2002; echo never";
    let timeout = Some(DurationMs(1500));
    let limited = ExecOrder { timeout, ..exec(&["sh", "-c", script]) };
    let (output, exit) = run(&world, limited).await;
    assert_eq!((output.as_str(), exit.code, exit.signal), ("ready\n", None, Some(9)));
    assert_eq!(exit.limit, Some(LimitReached::Time));
    let left = async {
        let script = ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"];
        while run(&world, exec(&script)).await.0.contains("sleep 200") {}
    };
    soon("the end of what it started", left).await;
    assert_eq!(world.runtime.execs_running(id), Ok(0));
    assert_eq!(world.runtime.processes(id).await.expect("it runs")[0].exit, None);
}

pub async fn a_terminal_is_given_or_refused_with_the_reason(world: World) {
    let id = idle(&world).await;
    let size = WindowSize { columns: 90, rows: 30 };
    let script = "echo $TERM; stty size; read line; stty size; exit 4";
    let order = ExecOrder { terminal: Some(size), ..exec(&["sh", "-c", script]) };
    let started = world.runtime.exec(id, order).await;
    if world.kind != RuntimeKind::Process {
        let Err(OperationError::Failed { reason }) = started else { panic!("{started:?}") };
        assert!(reason.contains("no terminals"), "{reason}");
        return;
    }
    let process = started.expect("it runs");
    let log = || world.runtime.log(id, process).expect("a log");
    wait_for_output(log(), "xterm-256color\r\n30 90\r\n").await;
    let size = WindowSize { columns: 100, rows: 40 };
    world.runtime.resize(id, process, size).await.expect("it has a terminal");
    world.runtime.write_stdin(id, process, b"\r".to_vec(), true).await.expect("it reads");
    let (output, exit) = read_to_end(log()).await;
    assert!(output.contains("40 100") && exit.code == Some(4), "{output} {exit:?}");
    let gone = world.runtime.resize(id, process, size).await;
    assert_eq!(gone, Err(OperationError::NotRunning));
}

pub async fn the_processes_of_an_instance_are_listed(world: World) {
    let id = idle(&world).await;
    run(&world, exec(&["sh", "-c", "exit 3"])).await;
    world.runtime.exec(id, exec(&["sleep", "1001"])).await.expect("it runs");
    let found = world.runtime.processes(id).await.expect("it runs");
    let [main, first, second] = &found[..] else { panic!("{found:?}") };
    assert_eq!(
        (main.process, &main.run[..], &main.exit),
        (0, &["sleep", "1000"].map(String::from)[..], &None)
    );
    assert_eq!((first.process, first.run[2].as_str()), (1, "exit 3"));
    assert_eq!(first.exit.as_ref().and_then(|exit| exit.code), Some(3));
    assert_eq!((second.process, &second.exit, second.terminal), (2, &None, false));
    assert!(main.started_at <= first.started_at && first.started_at <= second.started_at);
    let unknown = world.runtime.processes(instance(99)).await;
    assert_eq!(unknown, Err(OperationError::Unknown));
}

pub async fn files_are_written_and_read_as_the_user_inside(world: World) {
    use spawnery_sandbox::files::protocol::{
        FileReply, FileRequest, decode_file_frame, encode_file_frame, file_frame_length,
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let id = idle(&world).await;
    let exchange = async |request: FileRequest, chunks: &[&[u8]]| -> (FileReply, Vec<u8>) {
        let mut socket = soon("a socket", world.runtime.files(id)).await.expect("it runs");
        socket.write_all(&encode_file_frame(&request)).await.expect("sent");
        for chunk in chunks {
            let length = u32::try_from(chunk.len()).expect("short");
            socket.write_all(&length.to_le_bytes()).await.expect("sent");
            socket.write_all(chunk).await.expect("sent");
        }
        let mut head = [0; 4];
        socket.read_exact(&mut head).await.expect("an answer");
        let mut body = vec![0; file_frame_length(head).expect("a length")];
        socket.read_exact(&mut body).await.expect("an answer");
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.expect("the rest");
        (decode_file_frame(&body).expect("a reply"), rest)
    };
    let path = "/tmp/new/file".to_owned();
    let write = FileRequest::Write { path: path.clone(), offset: None, mode: Some(0o640) };
    let (written, _) = exchange(write, &[b"hello", b" inside", b""]).await;
    let FileReply::Info(info) = written else { panic!("{written:?}") };
    assert_eq!((info.size_bytes, info.mode, info.uid), (12, 0o640, 1000));
    let script = ["sh", "-c", "cat /tmp/new/file; stat -c ' %u %a' /tmp/new/file"];
    assert_eq!(run(&world, exec(&script)).await.0, "hello inside 1000 640\n");
    let (reply, content) = exchange(FileRequest::Read { path, range: None }, &[]).await;
    assert!(matches!(reply, FileReply::Content { length: 12, .. }), "{reply:?}");
    assert_eq!(content, b"hello inside");
    for path in ["/proc/self/mem", "/proc/1/root/etc/passwd", "/proc/self/exe"] {
        let read = FileRequest::Read { path: path.to_owned(), range: None };
        let (reply, _) = exchange(read, &[]).await;
        assert!(matches!(reply, FileReply::Failed { .. }), "{path}: {reply:?}");
    }
    // Nothing of the host is seen by a name of the host's.
    let marker = tempfile::NamedTempFile::new_in("/var/tmp").expect("a file of the host's");
    let stat = FileRequest::Stat { path: marker.path().display().to_string() };
    let (reply, _) = exchange(stat, &[]).await;
    assert!(matches!(reply, FileReply::Failed { .. }), "{reply:?}");
    let unknown = world.runtime.files(instance(99)).await;
    assert_eq!(unknown.err(), Some(OperationError::Unknown));
}
