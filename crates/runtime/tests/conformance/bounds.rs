//! Limits, output, ends, and what is inside.

use super::{instance, next_end, order_for, read_to_end, wait_for_output};
use crate::support::World;
use spawnery_model::{Bytes, CpuMillis, DurationMs, Exit, File, RuntimeKind, StartOrder};
use spawnery_runtime::{MountSpec, Prepared, RootSpec, Runtime, SecretFile};
use spawnery_sandbox::limits::HOST_ID_BASE;
use std::path::Path;

/// Runs an order to its end: all output, and the end.
async fn run(world: &mut World, order: &StartOrder, prepared: Prepared) -> (String, Exit) {
    let id = instance(1);
    world.runtime.start(id, order, prepared).await.expect("started");
    let (ended, exit) = next_end(&mut world.events).await;
    assert_eq!(ended, id);
    let (output, _) = read_to_end(world.runtime.log(id, 0).expect("a log")).await;
    (output, exit)
}

pub async fn memory_beyond_the_limit_ends_it_as_out_of_memory(mut world: World) {
    // In small steps, each written to, and never more than a part of the machine's memory.
    let program = "my @kept; for (1..400) { push @kept, chr(65 + $_ % 26) x 1_000_000 } print 1";
    let mut order = order_for(world.kind, &["perl", "-e", program]);
    order.process.memory = Bytes::mib(64);
    let (output, exit) = run(&mut world, &order, Prepared::default()).await;
    assert!(exit.out_of_memory, "{exit:?} {output}");
    assert_eq!((output.as_str(), exit.code), ("", None));
}

pub async fn no_more_processes_start_than_allowed(mut world: World) {
    let program = "my $n = 0; for (1..40) { my $p = fork; last unless defined $p; \
        if (!$p) { sleep 1000; exit } $n++ } print $n";
    let mut order = order_for(world.kind, &["perl", "-e", program]);
    order.process.pids_max = 10;
    let (output, exit) = run(&mut world, &order, Prepared::default()).await;
    let count: u32 = output.parse().expect("a number");
    assert!((5..10).contains(&count) && exit.code == Some(0), "{count} {exit:?}");
}

pub async fn no_more_processor_time_is_used_than_allowed(mut world: World) {
    // Two seconds by the clock at a fifth of a core; it may be less on a busy machine.
    let program = "use Time::HiRes; my $end = Time::HiRes::time() + 2; \
        1 while Time::HiRes::time() < $end; my ($user, $system) = times; print $user + $system";
    let mut order = order_for(world.kind, &["perl", "-e", program]);
    order.process.cpu_max = Some(CpuMillis(200));
    let (output, _) = run(&mut world, &order, Prepared::default()).await;
    let seconds: f64 = output.parse().expect("a number");
    assert!(seconds < 1.0, "{seconds}");
}

pub async fn every_line_of_much_output_is_kept_in_order(mut world: World) {
    let order = order_for(world.kind, &["seq", "1", "200000"]);
    let id = instance(1);
    world.runtime.start(id, &order, Prepared::default()).await.expect("started");
    let log = world.runtime.log(id, 0).expect("a log");
    let files = log.files.clone();
    let (output, exit) = read_to_end(log).await;
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(exit.code, Some(0));
    assert!(output == expected, "{} bytes instead of {}", output.len(), expected.len());
    let page = files.read_from(1, usize::MAX).expect("a log");
    let numbers: Vec<u64> = page.records.iter().map(|record| record.seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    next_end(&mut world.events).await;
}

pub async fn a_stop_signal_is_handled_by_the_program(mut world: World) {
    let id = instance(1);
    let program = "$| = 1; $SIG{INT} = sub { print qq(bye\\n); exit 5 }; print qq(up\\n); \
        sleep 1 while 1";
    let mut order = order_for(world.kind, &["perl", "-e", program]);
    order.stop.signal = 2;
    world.runtime.start(id, &order, Prepared::default()).await.expect("started");
    wait_for_output(world.runtime.log(id, 0).expect("a log"), "up\n").await;
    world.runtime.stop(id, order.stop).await.expect("stopping");
    let (_, exit) = next_end(&mut world.events).await;
    assert_eq!((exit.code, exit.signal, exit.last_output.as_str()), (Some(5), None, "up\nbye\n"));
}

pub async fn what_ignores_the_stop_signal_is_killed_after_the_grace(mut world: World) {
    let id = instance(1);
    let script = "trap '' TERM; echo up; while :; do sleep 1; done";
    let mut order = order_for(world.kind, &["sh", "-c", script]);
    order.stop.grace = DurationMs(200);
    world.runtime.start(id, &order, Prepared::default()).await.expect("started");
    wait_for_output(world.runtime.log(id, 0).expect("a log"), "up\n").await;
    world.runtime.stop(id, order.stop).await.expect("stopping");
    let (_, exit) = next_end(&mut world.events).await;
    assert_eq!((exit.code, exit.signal, exit.out_of_memory), (None, Some(9), false));
}

pub async fn the_inside_is_its_own_and_holds_the_files(mut world: World) {
    let canary = tempfile::NamedTempFile::new().expect("a file of the host");
    let canary_path = canary.path().to_str().expect("text");
    let script = format!(
        "cat /work/greeting; stat -c %a /work/greeting; id -u; hostname; \
         echo own > /etc/own && cat /etc/own; ls {canary_path} 2>&1; ls /proc/1/root{canary_path} 2>&1; \
         grep -c eth /proc/net/dev; grep NoNewPrivs /proc/self/status; \
         grep CapEff /proc/self/status; kill -0 $$ && echo alive"
    );
    let mut order = order_for(world.kind, &["sh", "-c", &script]);
    let content = b"hello from the manifest\n".to_vec();
    order.process.files = vec![File { path: "/work/greeting".to_owned(), mode: 0o640, content }];
    let (output, exit) = run(&mut world, &order, Prepared::default()).await;
    let lines: Vec<&str> = output.lines().collect();
    let [greeting, mode, user, host, own, canary, first, cards, privileges, powers, alive] =
        lines[..]
    else {
        panic!("{output}")
    };
    assert_eq!((greeting, mode), ("hello from the manifest", "640"));
    assert_eq!((user, host, own), ("1000", "web", "own"));
    assert!(canary.contains("No such file"), "{canary}");
    let hidden = first.contains("ermission denied") || first.contains("No such file");
    assert!(hidden, "{first}");
    assert_eq!((cards, privileges, alive), ("0", "NoNewPrivs:\t1", "alive"));
    assert_eq!((powers, exit.code), ("CapEff:\t0000000000000000", Some(0)));
    assert!(!Path::new("/etc/own").exists());
}

pub async fn secrets_and_folders_are_found_inside(mut world: World) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).expect("open to all");
    std::fs::write(folder.path().join("given"), "shared\n").expect("written");
    let mount = |target: &str, read_only| MountSpec {
        source: folder.path().to_str().expect("text").to_owned(),
        target: target.to_owned(),
        read_only,
    };
    let mut prepared = Prepared {
        mounts: vec![mount("/srv/notes", false), mount("/srv/fixed", true)],
        secret_files: vec![SecretFile { name: "token".to_owned(), bytes: b"hunter2\n".to_vec() }],
        secret_env: vec![("PASSWORD".to_owned(), "swordfish".to_owned())],
        ..Prepared::default()
    };
    let mut order = order_for(world.kind, &["true"]);
    if world.kind == RuntimeKind::Docker {
        // The engine keeps the variables of a container on its disk.
        let started = world.runtime.start(instance(2), &order, prepared.clone()).await;
        let error = started.expect_err("it is refused").to_string();
        assert!(error.contains("as a file") && !error.contains("swordfish"), "{error}");
        prepared.secret_env.clear();
        order.process.env.insert("PASSWORD".to_owned(), "swordfish".to_owned());
    }
    // Changed, because what an instance says itself is kept.
    let script = "tr a-z b-za < /run/secrets/token; stat -c %a /run/secrets/token; \
        echo $PASSWORD | tr a-z b-za; \
        cat /srv/notes/given; echo new > /srv/notes/new && echo written; \
        (echo x > /srv/fixed/x) 2>/dev/null || echo refused; \
        (echo x > /run/secrets/x) 2>/dev/null || echo refused";
    order.process.run = ["sh", "-c", script].map(str::to_owned).to_vec();
    let (output, exit) = run(&mut world, &order, prepared).await;
    let expected = "ivoufs2\n400\ntxpsegjti\nshared\nwritten\nrefused\nrefused\n";
    assert_eq!((output.as_str(), exit.code), (expected, Some(0)));
    assert_eq!(std::fs::read_to_string(folder.path().join("new")).expect("there"), "new\n");
    let of_variable = (world.kind != RuntimeKind::Docker).then_some("swordfish");
    for word in ["hunter2"].into_iter().chain(of_variable) {
        assert_eq!(world.files_that_hold(word), Vec::<std::path::PathBuf>::new());
    }
}

pub async fn an_environment_is_the_root(mut world: World) {
    use std::os::unix::fs::chown;
    let layers = tempfile::tempdir().expect("a folder");
    let (top, low) = (layers.path().join("top"), layers.path().join("low"));
    let own = |path: &Path| chown(path, Some(HOST_ID_BASE), Some(HOST_ID_BASE)).expect("owned");
    for (layer, dir) in [(&top, "etc"), (&low, "etc"), (&low, "bin")] {
        let dir = layer.join("root").join(dir);
        std::fs::create_dir_all(&dir).expect("made");
        own(&layer.join("root"));
        own(&dir);
    }
    std::fs::copy("/usr/bin/busybox", low.join("root/bin/sh")).expect("busybox-static");
    std::fs::write(low.join("root/etc/below"), "below\n").expect("written");
    std::fs::write(low.join("root/etc/both"), "wrong\n").expect("written");
    std::fs::write(top.join("root/etc/both"), "above\n").expect("written");
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let root = RootSpec { layers: vec![text(&top), text(&low)], host: false };
    let prepared = Prepared { root: Some(root), ..Prepared::default() };
    let script = "read a < /etc/below; read b < /etc/both; echo $a $b; \
        [ -e /usr/bin ] || echo alone; echo own > /etc/own && echo written";
    let order = order_for(world.kind, &["/bin/sh", "-c", script]);
    let (output, exit) = run(&mut world, &order, prepared).await;
    assert_eq!((output.as_str(), exit.code), ("below above\nalone\nwritten\n", Some(0)));
    assert!(!low.join("root/etc/own").exists() && !top.join("root/etc/own").exists());
}
