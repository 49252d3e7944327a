//! What a private layer may hold.

mod support;

use spawnery_sandbox::client::layer_of;
use spawnery_sandbox::protocol::{Reply, Request};
use spawnery_sandbox::spec::{LimitReached, SandboxSpec};
use support::layers::{Layers, of};
use support::{Bench, everybody};

/// The limit of these tests; what exceeds it is bounded by `head`, should nothing hold it.
const BYTES_MAX: u64 = 32 << 20;

fn limited(script: &str) -> SandboxSpec {
    SandboxSpec { disk_bytes_max: Some(BYTES_MAX), ..SandboxSpec::new(["sh", "-c", script]) }
}

#[test]
fn what_fits_is_written() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script = "head -c 20000000 /dev/zero > big && wc -c < big && rm big && \
            head -c 20000000 /dev/zero > big && echo again";
        let (exit, output) = bench.run_spec("it", limited(script));
        assert_eq!(output, "20000000\nagain\n", "{whose:?} {exit:?}");
        assert_eq!((exit.code, exit.limit), (Some(0), None));
    }
}

#[test]
fn a_layer_that_is_full_ends_with_that_reason() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script = "head -c 100000000 /dev/zero > big || exit 7; sleep 60";
        let (exit, output) = bench.run_spec("it", limited(script));
        assert_eq!(exit.limit, Some(LimitReached::Disk), "{whose:?} {exit:?} {output}");
    }
}

#[test]
fn very_many_files_end_with_that_reason() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script = "import sys,time\ntry:\n  for i in range(60000): open(f'f{i}','w').close()\n\
            except OSError as error: print(error.errno); sys.exit(3)\ntime.sleep(60)";
        let mut spec = SandboxSpec::new(["/usr/bin/python3", "-c", script]);
        spec.disk_bytes_max = Some(BYTES_MAX);
        let (exit, output) = bench.run_spec("it", spec);
        assert_eq!(exit.limit, Some(LimitReached::Disk), "{whose:?} {exit:?} {output}");
    }
}

#[test]
fn a_closed_folder_hides_nothing() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script = "mkdir d && exec 3> d/big && chmod 000 d && \
            head -c 100000000 /dev/zero >&3 || exit 7; sleep 60";
        let (exit, _) = bench.run_spec("it", limited(script));
        assert_eq!(exit.limit, Some(LimitReached::Disk), "{whose:?} {exit:?}");
    }
}

#[test]
fn a_kept_layer_is_limited_and_stays() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let low = layers.minimal(|_| {});
        let mut bench = Bench::start(whose);
        let mut spec =
            limited("echo x > /kept; head -c 100000000 /dev/zero > /big || exit 7; sleep 60");
        spec.argv[0] = "/bin/sh".into();
        (spec.root, spec.keeps_layer) = (of(&[&low]), Some(true));
        let (exit, _) = bench.run_spec("it", spec);
        assert_eq!(exit.limit, Some(LimitReached::Disk), "{whose:?} {exit:?}");
        assert!(layer_of(bench.dir.path(), "it").upper.join("kept").exists());
    }
}

#[test]
fn loop_devices_and_images_are_gone_with_their_instance() {
    let mut bench = Bench::new();
    let (exit, _) = bench.run_spec("it", limited("echo x > file; df / > /dev/null"));
    assert_eq!(exit.code, Some(0));
    assert_eq!(bench.ask(Request::Forget { instance: "it".into() }), Reply::Done);
    let place = bench.dir.path().to_string_lossy().into_owned();
    let until = std::time::Instant::now() + support::DEADLINE;
    loop {
        let devices = std::fs::read_dir("/sys/block").expect("listed").flatten();
        let files = devices.filter_map(|device| {
            std::fs::read_to_string(device.path().join("loop/backing_file")).ok()
        });
        if !files.into_iter().any(|file| file.contains(&place)) {
            return;
        }
        assert!(std::time::Instant::now() < until, "a loop device is left");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_limit_that_holds_nothing_is_refused() {
    let mut bench = Bench::new();
    let spec = SandboxSpec { disk_bytes_max: Some(1), ..SandboxSpec::new(["true"]) };
    let reply = bench.ask(Request::Start { instance: "it".into(), spec: Box::new(spec) });
    assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
}
