//! Files of a sandbox, from outside.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use minicbor::Decode;
use spawnery_sandbox::files::protocol::{
    FileErrorKind, FileEvent, FileEventKind, FileInfo, FileKind, FileRange, FileReply, FileRequest,
    decode_file_frame, encode_file_frame, file_frame_length,
};
use spawnery_sandbox::protocol::{Reply, Request};
use spawnery_sandbox::spec::{ExecSpec, SandboxSpec, UserSpec};
use support::{As, Bench, DEADLINE, everybody, is_root};

fn idle(whose: As) -> Bench {
    let mut bench = Bench::start(whose);
    bench.start_spec("it", SandboxSpec::new(["sleep", "1000"]));
    bench
}

fn open(bench: &mut Bench, request: &FileRequest) -> UnixStream {
    let asked = Request::Files { instance: "it".into() };
    let (reply, fd) = bench.client.request_with_fd(asked).expect("an answer");
    assert_eq!(reply, Reply::Dialed);
    let mut socket = UnixStream::from(fd.expect("a socket"));
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket.write_all(&encode_file_frame(request)).expect("sent");
    socket
}

fn frame<M: for<'b> Decode<'b, ()>>(socket: &mut UnixStream) -> M {
    let mut head = [0; 4];
    socket.read_exact(&mut head).expect("an answer");
    let mut body = vec![0; file_frame_length(head).expect("a length")];
    socket.read_exact(&mut body).expect("an answer");
    decode_file_frame(&body).expect("it is understood")
}

fn ask(bench: &mut Bench, request: &FileRequest) -> FileReply {
    frame(&mut open(bench, request))
}

fn info(bench: &mut Bench, request: &FileRequest) -> FileInfo {
    match ask(bench, request) {
        FileReply::Info(info) => info,
        other => panic!("{request:?}: {other:?}"),
    }
}

#[track_caller]
fn refused(bench: &mut Bench, request: &FileRequest) -> FileErrorKind {
    match ask(bench, request) {
        FileReply::Failed { kind, .. } => kind,
        other => panic!("{request:?}: {other:?}"),
    }
}

fn chunks(socket: &mut UnixStream, bytes: &[u8]) {
    for chunk in bytes.chunks(100_000).chain([&[][..]]) {
        let length = u32::try_from(chunk.len()).expect("it is short");
        socket.write_all(&length.to_le_bytes()).expect("sent");
        socket.write_all(chunk).expect("sent");
    }
}

fn send(bench: &mut Bench, request: &FileRequest, bytes: &[u8]) -> FileReply {
    let mut socket = open(bench, request);
    chunks(&mut socket, bytes);
    frame(&mut socket)
}

fn write(bench: &mut Bench, path: &str, bytes: &[u8]) -> FileReply {
    send(bench, &FileRequest::Write { path: path.into(), offset: None, mode: None }, bytes)
}

fn read_part(
    bench: &mut Bench,
    path: &str,
    range: Option<FileRange>,
) -> Result<Vec<u8>, FileErrorKind> {
    let mut socket = open(bench, &FileRequest::Read { path: path.into(), range });
    match frame(&mut socket) {
        FileReply::Content { length, .. } => {
            let mut bytes = Vec::new();
            socket.read_to_end(&mut bytes).expect("all of it");
            assert_eq!(bytes.len() as u64, length);
            Ok(bytes)
        }
        FileReply::Failed { kind, .. } => Err(kind),
        other => panic!("{other:?}"),
    }
}

fn read(bench: &mut Bench, path: &str) -> Result<Vec<u8>, FileErrorKind> {
    read_part(bench, path, None)
}

/// Runs a script inside; numbers are used once.
fn sh(bench: &mut Bench, number: u32, script: &str) -> String {
    let spec = ExecSpec::new(["sh", "-c", script]);
    let reply = bench.ask(Request::Exec { instance: "it".into(), exec: number, spec });
    assert!(matches!(reply, Reply::Started { .. }), "{reply:?}");
    bench.exit_of("it", number);
    bench.output("it", number)
}

#[test]
fn what_is_written_is_there_inside_and_comes_back() {
    for whose in everybody() {
        let mut bench = idle(whose);
        let large: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
        let FileReply::Info(written) = write(&mut bench, "/home/user/new/deep/file", &large) else {
            panic!("it is not written");
        };
        assert_eq!((written.size_bytes, written.mode, written.uid), (3_000_000, 0o644, 1000));
        assert!(read(&mut bench, "/home/user/new/deep/file") == Ok(large.clone()));
        let seen = sh(&mut bench, 1, "wc -c < ~/new/deep/file; stat -c %u ~/new; ls -A ~/new/deep");
        assert_eq!(seen, "3000000\n1000\nfile\n", "{whose:?}");
        let part = |first, count| FileRange::From { offset: first, length_max: count };
        let path = "/home/user/new/deep/file";
        assert_eq!(read_part(&mut bench, path, Some(part(250, Some(3)))), Ok(vec![250, 0, 1]));
        let last = Some(FileRange::Last { length_max: 2 });
        assert_eq!(read_part(&mut bench, path, last), Ok(large[2_999_998..].to_vec()));
        assert_eq!(
            read_part(&mut bench, path, Some(part(2_999_999, None))).map(|it| it.len()),
            Ok(1)
        );
        let beyond = read_part(&mut bench, path, Some(part(3_000_000, None)));
        assert_eq!(beyond, Err(FileErrorKind::Range));
        // A part in the middle, and one behind the end.
        let at =
            |offset| FileRequest::Write { path: path.into(), offset: Some(offset), mode: None };
        send(&mut bench, &at(1), b"xy");
        send(&mut bench, &at(3_000_002), b"z");
        assert_eq!(read_part(&mut bench, path, Some(part(0, Some(4)))), Ok(vec![0, b'x', b'y', 3]));
        let end = read_part(&mut bench, path, Some(part(3_000_000, None)));
        assert_eq!(end, Ok(vec![0, 0, b'z']));
    }
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all_and_keeps_its_mode() {
    let mut bench = idle(As::Us);
    sh(
        &mut bench,
        1,
        "cd /tmp; echo old > script; chmod 751 script; ln script other; echo one > f; chmod 640 f; ln -s f link",
    );
    let mode = |reply: FileReply| match reply {
        FileReply::Info(info) => info.mode,
        other => panic!("{other:?}"),
    };
    assert_eq!(mode(write(&mut bench, "/tmp/f", b"two\n")), 0o640);
    let given = FileRequest::Write { path: "/tmp/g".into(), offset: None, mode: Some(0o4755) };
    assert_eq!(mode(send(&mut bench, &given, b"")) & 0o777, 0o755);
    // By another name, or through a link, it is the same file that changes.
    write(&mut bench, "/tmp/script", b"new\n");
    write(&mut bench, "/tmp/link", b"three\n");
    let seen =
        sh(&mut bench, 2, "cd /tmp; cat other f; stat -c %a script; test -L link && echo link");
    assert_eq!(seen, "new\nthree\n751\nlink\n");
    // A sender that breaks off leaves the old file, and nothing else.
    let request = FileRequest::Write { path: "/tmp/f".into(), offset: None, mode: None };
    let mut socket = open(&mut bench, &request);
    socket.write_all(&5u32.to_le_bytes()).expect("sent");
    socket.write_all(b"torn").expect("sent");
    drop(socket);
    let script = "cd /tmp; while ls -A | grep -q part; do sleep 0.01; done; cat f; ls -A | wc -l";
    assert_eq!(sh(&mut bench, 3, script), "three\n5\n");
}

#[test]
fn folders_are_listed_in_pages_made_moved_and_removed() {
    let mut bench = idle(As::Us);
    sh(&mut bench, 1, "mkdir /tmp/d; cd /tmp/d; touch b a c; mkdir e; ln -s a l; mkfifo p");
    let list = |after: Option<&str>, limit| FileRequest::List {
        path: "/tmp/d".into(),
        after: after.map(str::to_owned),
        limit,
    };
    let names = |reply| match reply {
        FileReply::Entries { entries, more } => {
            (entries.iter().map(|it| it.name.clone()).collect::<Vec<_>>().join(" "), more)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(names(ask(&mut bench, &list(None, 4))), ("a b c e".to_owned(), true));
    assert_eq!(names(ask(&mut bench, &list(Some("e"), 4))), ("l p".to_owned(), false));
    let FileReply::Entries { entries, .. } = ask(&mut bench, &list(Some("c"), 9)) else { panic!() };
    let kinds: Vec<FileKind> = entries.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [FileKind::Folder, FileKind::Link, FileKind::Special]);
    assert_eq!(entries[1].target.as_deref(), Some("a"));
    let path = |path: &str| path.to_owned();
    let make = FileRequest::MakeFolder { path: path("/tmp/x/y"), mode: Some(0o700) };
    assert_eq!(info(&mut bench, &make).mode, 0o700);
    assert_eq!(info(&mut bench, &make).kind, FileKind::Folder, "one that is there will do");
    let rename = |from: &str, to: &str, replace| FileRequest::Move {
        path: path(from),
        to: path(to),
        replace,
    };
    assert_eq!(info(&mut bench, &rename("/tmp/d/a", "/tmp/x/y/a", false)).name, "a");
    assert_eq!(
        refused(&mut bench, &rename("/tmp/d/b", "/tmp/x/y/a", false)),
        FileErrorKind::Exists
    );
    info(&mut bench, &rename("/tmp/d/b", "/tmp/x/y/a", true));
    assert_eq!(refused(&mut bench, &rename("/tmp/d/b", "/tmp/z", false)), FileErrorKind::NotFound);
    info(&mut bench, &FileRequest::SetMode { path: path("/tmp/d/c"), mode: 0o600 });
    let remove = |path: &str, recursive| FileRequest::Remove { path: path.into(), recursive };
    assert_eq!(refused(&mut bench, &remove("/tmp/d", false)), FileErrorKind::NotEmpty);
    assert_eq!(refused(&mut bench, &remove("/", true)), FileErrorKind::Invalid);
    assert_eq!(ask(&mut bench, &remove("/tmp/d/l", false)), FileReply::Done);
    assert_eq!(ask(&mut bench, &remove("/tmp/d", true)), FileReply::Done);
    assert_eq!(refused(&mut bench, &remove("/tmp/d", true)), FileErrorKind::NotFound);
    assert_eq!(sh(&mut bench, 2, "ls /tmp /tmp/x/y"), "/tmp:\nx\n\n/tmp/x/y:\na\n");
}

#[test]
fn what_cannot_be_done_is_told_by_its_kind() {
    let mut bench = idle(As::Us);
    sh(&mut bench, 1, "cd /tmp; mkdir d; echo f > f; chmod 0 f; mkfifo p; ln -s loop loop");
    let path = |path: &str| path.to_owned();
    assert_eq!(read(&mut bench, "/tmp/none"), Err(FileErrorKind::NotFound));
    assert_eq!(read(&mut bench, "/tmp/d"), Err(FileErrorKind::IsFolder));
    assert_eq!(read(&mut bench, "/tmp/p"), Err(FileErrorKind::Special));
    assert_eq!(read(&mut bench, "/tmp/f"), Err(FileErrorKind::Denied));
    assert_eq!(read(&mut bench, "/tmp/f/g"), Err(FileErrorKind::NotFolder));
    assert_eq!(read(&mut bench, "/tmp/loop"), Err(FileErrorKind::Invalid));
    assert_eq!(read(&mut bench, "tmp"), Err(FileErrorKind::Invalid));
    let list = FileRequest::List { path: path("/tmp/f"), after: None, limit: 1 };
    assert_eq!(refused(&mut bench, &list), FileErrorKind::NotFolder);
    for (path, expected) in [
        ("/tmp/d", FileErrorKind::IsFolder),
        ("/tmp/f", FileErrorKind::Denied),
        ("/proc/x", FileErrorKind::Other),
        ("/", FileErrorKind::IsFolder),
    ] {
        match write(&mut bench, path, &[7; 300_000]) {
            FileReply::Failed { kind, reason } => assert_eq!(kind, expected, "{path}: {reason}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    let unknown = Request::Files { instance: "other".into() };
    assert_eq!(bench.ask(unknown), Reply::NotFound);
}

#[test]
fn a_full_disk_is_told_as_such() {
    let mut bench = Bench::new();
    let mut spec = SandboxSpec::new(["sleep", "1000"]);
    spec.tmp_bytes_max = 1024 * 1024;
    bench.start_spec("it", spec);
    match write(&mut bench, "/tmp/large", &vec![1; 4 * 1024 * 1024]) {
        FileReply::Failed { kind: FileErrorKind::NoSpace, .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(sh(&mut bench, 1, "ls -A /tmp"), "", "nothing of it is left");
}

#[test]
fn no_path_leads_to_the_host_or_into_a_process() {
    for whose in everybody() {
        let mut bench = idle(whose);
        let secret = bench.dir.path().join("secret");
        std::fs::write(&secret, "of the host").expect("written");
        let secret = secret.display().to_string();
        let links = format!(
            "cd /tmp; ln -s {secret} absolute; ln -s ../../../../../..{secret} relative; \
             ln -s /proc/1/root root; ln -s /proc/self/exe exe; ln -s /proc/self/mem mem; \
             ln -s /proc/self/fd fds; ln -s /proc/1/cwd cwd; mkdir d; ln -s /proc/self/root d/r"
        );
        sh(&mut bench, 1, &links);
        let through = ["/tmp/root", "/proc/1/root", "/proc/self/root", "/tmp/d/r", "/tmp/cwd"];
        let mut paths: Vec<String> = through.iter().map(|it| format!("{it}{secret}")).collect();
        paths.extend([secret.clone(), "/tmp/absolute".into(), "/tmp/relative".into()]);
        paths.extend((0..20).flat_map(|fd| [format!("/tmp/fds/{fd}"), format!("/dev/fd/{fd}")]));
        for path in [
            "/tmp/exe",
            "/tmp/mem",
            "/proc/self/environ",
            "/proc/self/maps",
            "/proc/1/mem",
            "/proc/self/task/1/mem",
            "/proc/thread-self/mem",
            "/dev/stdin",
            "/proc/self/cwd/etc/passwd",
        ] {
            paths.push(path.into());
        }
        for path in paths {
            let found = read(&mut bench, &path);
            assert!(found.is_err(), "{whose:?}: {path} is read: {found:?}");
            let packed = ask(&mut bench, &FileRequest::Pack { path: path.clone() });
            let is_link = matches!(&packed, FileReply::Info(info) if info.kind == FileKind::Link);
            assert!(is_link || matches!(packed, FileReply::Failed { .. }), "{path}: {packed:?}");
        }
        for path in ["/tmp/../etc/passwd", "/..", "/tmp/d/.."] {
            assert_eq!(read(&mut bench, path), Err(FileErrorKind::Invalid), "{path}");
        }
        write(&mut bench, "/tmp/absolute", b"changed");
        write(&mut bench, "/tmp/relative", b"changed");
        assert_eq!(std::fs::read_to_string(&secret).expect("it is there"), "of the host");
    }
}

#[test]
fn renames_during_a_request_gain_nothing() {
    let mut bench = idle(As::Us);
    let secret = bench.dir.path().join("secret");
    std::fs::write(&secret, "of the host").expect("written");
    // A folder that is now one, now a link to where the server's own memory and root are.
    let script = "cd /tmp; mkdir real; echo harmless > real/mem; ln -s /proc/self bad; echo ready; \
        while :; do mv -T real at; mv -T at real; mv -T bad at; mv -T at bad; done";
    let spec = ExecSpec::new(["sh", "-c", script]);
    bench.ask(Request::Exec { instance: "it".into(), exec: 1, spec });
    bench.wait_for_output("it", 1, "ready");
    for _ in 0..300 {
        let part = Some(FileRange::From { offset: 0, length_max: Some(64) });
        let found = read_part(&mut bench, "/tmp/at/mem", part);
        assert!(found.as_ref().map_or(true, |it| it == b"harmless\n"), "{found:?}");
    }
}

#[test]
fn who_is_inside_cannot_look_into_the_server() {
    let mut bench = Bench::new();
    let mut spec = SandboxSpec::new(["sleep", "1000"]);
    spec.user = is_root().then(|| UserSpec { uid: 0, gid: 0, groups: Vec::new() });
    bench.start_spec("it", spec);
    let watch = FileRequest::Watch { path: "/tmp".into(), recursive: false };
    let mut socket = open(&mut bench, &watch);
    assert_eq!(frame::<FileReply>(&mut socket), FileReply::Done);
    let script = "for p in /proc/[0-9]*; do test \"$(cat $p/comm)\" = files || continue; echo found; \
        head -c 1 $p/mem 2>&1; cat $p/environ 2>&1; ls -l $p/exe 2>&1; ls $p/fd 2>&1; \
        grep -E 'NoNewPrivs|Seccomp:' $p/status; done";
    let seen = sh(&mut bench, 1, script);
    assert_eq!(seen.matches("found").count(), 1, "{seen}");
    assert_eq!(seen.matches("ermission denied").count(), 4, "{seen}");
    assert!(seen.contains("NoNewPrivs:\t1") && seen.contains("Seccomp:\t2"), "{seen}");
    drop(socket);
    let gone = "while grep -qx files /proc/[0-9]*/comm; do sleep 0.01; done; echo gone";
    assert_eq!(sh(&mut bench, 2, gone), "gone\n");
}

#[test]
fn more_requests_than_a_sandbox_serves_are_refused() {
    let mut bench = idle(As::Us);
    let watch = FileRequest::Watch { path: "/tmp".into(), recursive: false };
    let open_ones: Vec<UnixStream> = (0..32).map(|_| open(&mut bench, &watch)).collect();
    let reply = bench.ask(Request::Files { instance: "it".into() });
    assert!(
        matches!(&reply, Reply::DialFailed { reason, .. } if reason.contains("32")),
        "{reply:?}"
    );
    drop(open_ones);
    let until = std::time::Instant::now() + DEADLINE;
    while bench.ask(Request::Files { instance: "it".into() }) != Reply::Dialed {
        assert!(std::time::Instant::now() < until, "none has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_session_of_root_reaches_the_files_of_all_its_users() {
    if !is_root() {
        return support::skip("without root a sandbox has one user");
    }
    let mut bench = Bench::new();
    let mut spec = SandboxSpec::new(["sleep", "1000"]);
    spec.user = Some(UserSpec { uid: 0, gid: 0, groups: Vec::new() });
    bench.start_spec("it", spec);
    sh(&mut bench, 1, "echo theirs > /tmp/f; chmod 600 /tmp/f; chown 1234:77 /tmp/f");
    assert_eq!(read(&mut bench, "/tmp/f").as_deref(), Ok(&b"theirs\n"[..]));
    let FileReply::Info(info) = write(&mut bench, "/tmp/f", b"changed") else { panic!() };
    assert_eq!((info.uid, info.gid, info.mode), (1234, 77, 0o600));
}

/// All of a packed folder, and how it ended.
fn pack(bench: &mut Bench, path: &str) -> (Vec<u8>, FileReply) {
    let mut socket = open(bench, &FileRequest::Pack { path: path.into() });
    let first = frame(&mut socket);
    assert!(matches!(first, FileReply::Info(_)), "{first:?}");
    let mut all = Vec::new();
    loop {
        let mut head = [0; 4];
        socket.read_exact(&mut head).expect("a chunk");
        let mut chunk = vec![0; u32::from_le_bytes(head) as usize];
        socket.read_exact(&mut chunk).expect("a chunk");
        if chunk.is_empty() {
            return (all, frame(&mut socket));
        }
        all.extend(chunk);
    }
}

#[test]
fn a_folder_goes_out_and_comes_back_as_it_was() {
    let mut bench = idle(As::Us);
    let long = "n".repeat(150);
    let script = format!(
        "mkdir -p /tmp/a/b/empty; cd /tmp/a; echo one > f; chmod 751 f; touch -d @1000000000 f; \
         head -c 700000 /dev/urandom > b/{long}; ln -s ../f b/l; chmod 550 b/empty; mkfifo b/p"
    );
    sh(&mut bench, 1, &script);
    let (tar, end) = pack(&mut bench, "/tmp/a");
    assert_eq!(end, FileReply::Done);
    let unpack = FileRequest::Unpack { path: "/tmp/x/y".into() };
    let reply = send(&mut bench, &unpack, &tar);
    assert!(matches!(&reply, FileReply::Info(info) if info.kind == FileKind::Folder), "{reply:?}");
    let look = "cd $1; find . ! -name p -exec stat -c '%n %F %a %s' {} + | grep -v '^\\. ' | sed 's/\\(directory .*\\) .*/\\1/' | sort; \
        stat -c %Y f; cat $(find . -type f | sort) | sha256sum; readlink b/l";
    let seen = |bench: &mut Bench, number, path: &str| {
        sh(bench, number, &format!("set -- {path}; {look}"))
    };
    let before = seen(&mut bench, 2, "/tmp/a");
    assert!(before.contains("f regular file 751 4") && before.contains("1000000000"), "{before}");
    assert_eq!(seen(&mut bench, 3, "/tmp/x/y"), before);
    // What is mounted from elsewhere is left out, however much is asked for.
    let (_, end) = pack(&mut bench, "/tmp/a/f");
    assert_eq!(end, FileReply::Done);
    sh(&mut bench, 4, "echo hidden > /tmp/a/h; chmod 0 /tmp/a/h");
    let (_, end) = pack(&mut bench, "/tmp/a");
    assert!(matches!(end, FileReply::Failed { kind: FileErrorKind::Denied, .. }), "{end:?}");
}

#[test]
fn an_archive_writes_nothing_beside_its_folder() {
    let mut bench = idle(As::Us);
    sh(&mut bench, 1, "mkdir /tmp/in /tmp/out; echo old > /tmp/out/f; ln -s /tmp/out /tmp/in/link");
    let unpack = FileRequest::Unpack { path: "/tmp/in".into() };
    let file = |path: &str, link: Option<(tar::EntryType, &str)>| {
        let mut builder = tar::Builder::new(Vec::new());
        if let Some((kind, target)) = link {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_mode(0o777);
            builder.append_link(&mut header, "way", target).expect("packed");
        }
        let mut header = tar::Header::new_gnu();
        // As a hostile archive has it, which the library would refuse to write.
        header.as_gnu_mut().expect("gnu").name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(3);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, &b"new"[..]).expect("packed");
        builder.into_inner().expect("packed")
    };
    let symlink = tar::EntryType::Symlink;
    for (name, archive) in [
        ("dots", file("../out/f", None)),
        ("dots below", file("a/../../out/f", None)),
        ("its own link", file("way/f", Some((symlink, "/tmp/out")))),
        ("a link that is there", file("link/f", None)),
        ("a link upwards", file("way/out/f", Some((symlink, "..")))),
        ("a hard link", file("way", Some((tar::EntryType::Link, "../out/f")))),
        ("rubbish", vec![b'x'; 2000]),
    ] {
        let reply = send(&mut bench, &unpack, &archive);
        assert!(matches!(reply, FileReply::Failed { .. }), "{name}: {reply:?}");
    }
    // From the root on means from the folder on.
    let reply = send(&mut bench, &unpack, &file("/tmp/out/f", None));
    assert!(matches!(reply, FileReply::Info(_)), "{reply:?}");
    assert_eq!(sh(&mut bench, 2, "cat /tmp/out/f /tmp/in/tmp/out/f; ls /tmp/out"), "old\nnewf\n");
}

#[test]
fn what_happens_to_files_is_told() {
    use FileEventKind::{Attributes, Created, Modified, Moved, Removed};
    let mut bench = idle(As::Us);
    sh(&mut bench, 1, "mkdir -p /tmp/w/below; echo x > /tmp/w/old");
    let watch = FileRequest::Watch { path: "/tmp/w".into(), recursive: true };
    let mut socket = open(&mut bench, &watch);
    assert_eq!(frame::<FileReply>(&mut socket), FileReply::Done);
    let mut number = 1;
    let mut expect =
        |bench: &mut Bench, script: &str, expected: &[(FileEventKind, &str, Option<&str>)]| {
            number += 1;
            sh(bench, number, &format!("cd /tmp/w; {script}"));
            for (kind, path, from) in expected {
                let event = FileEvent {
                    kind: *kind,
                    path: format!("/tmp/w{path}"),
                    from: from.map(|from| format!("/tmp/w{from}")),
                };
                loop {
                    let FileReply::Event(told) = frame(&mut socket) else { panic!("no event") };
                    // Programs do more than one thinks.
                    if told == event {
                        break;
                    }
                    assert!(
                        matches!(told.kind, FileEventKind::Modified | Attributes),
                        "{told:?} before {event:?}"
                    );
                }
            }
        };
    expect(&mut bench, "echo y >> old", &[(Modified, "/old", None)]);
    expect(&mut bench, "touch below/new", &[(Created, "/below/new", None)]);
    expect(&mut bench, "chmod 600 old", &[(Attributes, "/old", None)]);
    expect(&mut bench, "mv old below/moved", &[(Moved, "/below/moved", Some("/old"))]);
    expect(&mut bench, "mv below/moved /tmp/away", &[(Removed, "/below/moved", None)]);
    expect(&mut bench, "mkdir d2", &[(Created, "/d2", None)]);
    expect(&mut bench, "touch d2/in", &[(Created, "/d2/in", None)]);
    expect(&mut bench, "rm below/new", &[(Removed, "/below/new", None)]);
    sh(&mut bench, 99, "rm -r /tmp/w");
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).expect("it ends with what is watched");
}
