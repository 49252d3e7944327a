//! What a workload can use up.

mod support;

use spawnery_sandbox::limits::LOG_BYTES_MIN;
use spawnery_sandbox::log::Gap;
use spawnery_sandbox::protocol::{Reply, Request};
use spawnery_sandbox::spec::SandboxSpec;
use support::{As, Bench, everybody};

#[test]
fn using_up_the_memory_ends_it_and_says_so() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script = "x = bytearray(1 << 30); import time; time.sleep(100)";
        let mut spec = SandboxSpec::new(["/usr/bin/python3", "-c", script]);
        spec.memory_bytes = Some(64 << 20);
        let (exit, output) = bench.run_spec("it", spec);
        assert!(exit.oom && exit.code.is_none(), "{whose:?}: {exit:?} {output}");
    }
}

#[test]
fn a_fork_bomb_is_bounded() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script = "
import os, time
count = 0
try:
    while count < 500:
        if os.fork() == 0:
            time.sleep(1000)
        count += 1
except OSError as error:
    print(count, error.errno)
";
        let mut spec = SandboxSpec::new(["/usr/bin/python3", "-c", script]);
        spec.pids_max = Some(20);
        assert_eq!(bench.run_spec("it", spec).1, "19 11\n", "{whose:?}");
    }
}

#[test]
fn usage_is_told_where_it_is_accounted() {
    let mut bench = Bench::new();
    let script =
        "x = bytearray(50 << 20); print('ready', flush=True); import time; time.sleep(1000)";
    bench.start_spec("it", SandboxSpec::new(["/usr/bin/python3", "-c", script]));
    bench.wait_for_output("it", 0, "ready");
    match bench.ask(Request::Usage { instance: "it".into() }) {
        Reply::Usage { usage } => {
            assert!(usage.memory_bytes.is_none_or(|bytes| bytes > 50 << 20), "{usage:?}");
            assert!(usage.cpu_usec.is_none_or(|usec| usec > 0), "{usage:?}");
            assert!(usage.pids.is_none_or(|pids| pids == 1), "{usage:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flood_of_output_has_no_gap_but_the_one_that_is_told() {
    let mut bench = Bench::new();
    let mut spec =
        SandboxSpec::new(["sh", "-c", "yes 0123456789abcde | head -c 52428800; echo end"]);
    spec.log_bytes_max = 1 << 20;
    let (exit, _) = bench.run_spec("it", spec);
    assert_eq!(exit.code, Some(0));
    assert!(exit.last_output.ends_with(b"0123456789abcde\nend\n"));
    let reader = bench.reader("it", 0);
    let (first, next) = (reader.first_seq().expect("read"), reader.next_seq().expect("read"));
    assert!(first > 1 && next > first);
    let page = reader.read_from(1, usize::MAX).expect("read");
    assert_eq!(page.gaps, [Gap { from: 1, to: first - 1 }]);
    let numbers: Vec<u64> = page.records.iter().map(|record| record.seq).collect();
    assert_eq!(numbers, (first..next).collect::<Vec<_>>());
    let kept: usize = page.records.iter().map(|record| record.bytes.len()).sum();
    assert!(kept as u64 <= (1 << 20).max(LOG_BYTES_MIN) && kept > 1 << 19, "{kept}");
}

#[test]
fn a_flood_does_not_keep_others_waiting_nor_grow_the_launcher() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let mut spec = SandboxSpec::new(["yes"]);
        spec.log_bytes_max = 1 << 20;
        bench.start_spec("flood", spec);
        bench.wait_for_output("flood", 0, "y\n");
        for number in 0..5 {
            assert_eq!(bench.sh(&format!("i{number}"), "echo hi").1, "hi\n");
        }
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", bench.client.launcher_pid()))
                .expect("the launcher lives");
        let kib: u64 = status
            .lines()
            .find_map(|line| {
                line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok()
            })
            .expect("a size");
        assert!(kib < 8 * 1024, "{kib} KiB");
        if whose == As::Us {
            bench.ask(Request::Stop { instance: "flood".into(), signal: 9, grace_ms: 0 });
            assert_eq!(bench.exit_of("flood", 0).signal, Some(9));
        }
    }
}

#[test]
fn control_groups_are_removed_at_the_end() {
    let bench = &mut Bench::new();
    bench.sh("it", "true");
    let list = std::fs::read_to_string(bench.dir.path().join("cgroups")).expect("read");
    bench.ask(Request::Shutdown { stop_all: true });
    bench.child.wait().expect("it ends");
    for dir in list.lines() {
        assert!(!std::path::Path::new(dir).exists(), "{dir}");
    }
}

#[test]
fn a_cpu_limit_slows_a_busy_process_down() {
    if !support::is_root() {
        return support::skip("cpu limits need root or a delegated control group");
    }
    let mut bench = Bench::new();
    let mut spec = SandboxSpec::new(["sh", "-c", "while :; do :; done"]);
    spec.cpu_millis_max = Some(100);
    bench.start_spec("it", spec);
    let list = std::fs::read_to_string(bench.dir.path().join("cgroups")).expect("read");
    let quotas: Vec<String> = list
        .lines()
        .flat_map(|dir| std::fs::read_dir(dir).expect("listed").flatten())
        .flat_map(|group| ["cpu.cfs_quota_us", "cpu.max"].map(|file| group.path().join(file)))
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .collect();
    let limited = |quota: &String| matches!(quota.trim(), "10000" | "10000 100000");
    assert_eq!(quotas.iter().filter(|quota| limited(quota)).count(), 1, "{quotas:?}");
}
