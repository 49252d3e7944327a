//! What a private layer may hold where the file system has project quotas.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use spawnery_sandbox::client::layer_of;
use spawnery_sandbox::launcher::log_dir;
use spawnery_sandbox::protocol::{Reply, Request};
use spawnery_sandbox::spec::{LimitReached, SandboxSpec};
use support::layers::{Layers, of};
use support::{As, Bench};

const BYTES_MAX: u64 = 32 << 20;

/// Asks for one project after another (`Q_GETNEXTQUOTA` by `quotactl_fd(2)`).
const LIST_LIMITS: &str = r"
import ctypes, errno, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
mount, project = os.open(sys.argv[1], os.O_RDONLY), 0
while True:
    found = ctypes.create_string_buffer(72)
    if libc.syscall(443, mount, ctypes.c_int(0x80000902 - (1 << 32)), project, found) < 0:
        assert ctypes.get_errno() == errno.ENOENT, ctypes.get_errno()
        break
    words = struct.unpack('8Q2I', found)
    if words[0] or words[3]:
        print(words[9], words[0], words[3])
    project = words[9] + 1
";

/// A file system with project quotas, in which launchers have their data.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// `None`, and said so, if the kernel knows no project quotas at all.
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
        std::fs::create_dir(&mount).expect("made");
        std::fs::File::create(&image).and_then(|it| it.set_len(256 << 20)).expect("made");
        let image = image.to_string_lossy().into_owned();
        run("/sbin/mkfs.ext4", &["-q", "-F", "-O", "project,quota", &image]);
        let arguments = ["-t", "ext4", "-o", options, &image, &mount.to_string_lossy()];
        let mounted = Command::new("mount").args(arguments).output().expect("it runs");
        if !mounted.status.success() {
            let said = String::from_utf8_lossy(&mounted.stderr).into_owned();
            assert!(!kernel_has_quotas(), "the kernel has project quotas, and yet: {said}");
            support::skip("this kernel is built without CONFIG_QFMT_V2, and so without quotas");
            return None;
        }
        support::open_to_others(dir.path());
        Some(Self { dir })
    }

    fn bench(&self) -> Bench {
        Bench::start_in(&self.dir.path().join("mount"), As::Us)
    }

    /// Projects with limits in this file system, a line for each.
    fn limits(&self) -> String {
        let mount = self.dir.path().join("mount");
        run("/usr/bin/python3", &["-c", LIST_LIMITS, &mount.to_string_lossy()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: an init that is just ending may be in it for a moment more.
        let _ = Command::new("umount").arg("-l").arg(self.dir.path().join("mount")).status();
    }
}

/// Whether the kernel says that it is built with the format of quotas that ext4 needs.
fn kernel_has_quotas() -> bool {
    let config = Command::new("zcat").arg("/proc/config.gz").output().expect("it runs");
    let config = String::from_utf8_lossy(&config.stdout).into_owned();
    // Where the kernel does not tell, it is asked to prove it.
    !config.contains("# CONFIG_QFMT_V2 is not set")
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn limited(script: &str, bytes_max: u64) -> SandboxSpec {
    SandboxSpec { disk_bytes_max: Some(bytes_max), ..SandboxSpec::new(["sh", "-c", script]) }
}

fn described(bench: &mut Bench) -> String {
    match bench.ask(Request::Describe) {
        Reply::Description { description } => description.disk_limit.unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_system_that_holds_quotas_is_found() {
    for (options, held) in [("loop,prjquota", true), ("loop", false)] {
        let Some(disk) = Disk::new(options) else { return };
        let said = described(&mut disk.bench());
        assert_eq!(said.contains("project quota"), held, "{options}: {said}");
    }
}

#[test]
fn a_full_layer_ends_with_that_reason() {
    let Some(disk) = Disk::new("loop,prjquota") else { return };
    let mut bench = disk.bench();
    let (exit, output) =
        bench.run_spec("it", limited("head -c 100000000 /dev/zero > big || exit 7", BYTES_MAX));
    assert_eq!((exit.code, exit.limit), (Some(7), Some(LimitReached::Disk)), "{output}");
    let script = "head -c 20000000 /dev/zero > big && wc -c < big";
    let (exit, output) = bench.run_spec("fits", limited(script, BYTES_MAX));
    assert_eq!((exit.limit, output.trim()), (None, "20000000"), "{exit:?}");
}

#[test]
fn very_many_files_end_with_that_reason() {
    let Some(disk) = Disk::new("loop,prjquota") else { return };
    let mut bench = disk.bench();
    let script = "for i in $(seq 20000); do : > f$i || exit 7; done";
    let (exit, output) = bench.run_spec("it", limited(script, BYTES_MAX));
    assert_eq!(exit.limit, Some(LimitReached::Disk), "{exit:?} {output}");
}

#[test]
fn two_sandboxes_have_their_own_limits() {
    let Some(disk) = Disk::new("loop,prjquota") else { return };
    let mut bench = disk.bench();
    let fill = "head -c 20000000 /dev/zero > big || exit 7";
    bench.start_spec("large", limited(&format!("{fill}; sleep 600"), BYTES_MAX));
    let (exit, _) = bench.run_spec("small", limited(fill, BYTES_MAX / 4));
    assert_eq!((exit.code, exit.limit), (Some(7), Some(LimitReached::Disk)));
    let (exit, _) = bench.run_spec("large-too", limited(fill, BYTES_MAX));
    assert_eq!((exit.code, exit.limit), (Some(0), None));
}

#[test]
fn a_kept_layer_is_limited_and_stays() {
    let layers = Layers::new(As::Us);
    let low = layers.minimal(|_| {});
    let Some(disk) = Disk::new("loop,prjquota") else { return };
    let mut bench = disk.bench();
    let mut spec = limited("echo x > /kept; head -c 100000000 /dev/zero > /big", BYTES_MAX);
    spec.argv[0] = "/bin/sh".into();
    (spec.root, spec.keeps_layer) = (of(&[&low]), Some(true));
    let (exit, _) = bench.run_spec("it", spec);
    assert_eq!(exit.limit, Some(LimitReached::Disk), "{exit:?}");
    assert!(layer_of(bench.dir.path(), "it").upper.join("kept").exists());
}

#[test]
fn a_workload_cannot_leave_its_project() {
    let Some(disk) = Disk::new("loop,prjquota") else { return };
    let mut bench = disk.bench();
    let script = r"
import fcntl, os, struct
os.mkdir('d')
for flags, project in ((0x200, 5), (0x200, 0), (0, None)):
    fd = os.open('d', os.O_RDONLY)
    try:
        got = bytearray(28)
        fcntl.ioctl(fd, 0x801c581f, got)
        words = list(struct.unpack('5I8s', got))
        assert words[3] > 0
        words[0], words[3] = flags, words[3] if project is None else project
        fcntl.ioctl(fd, 0x401c5820, struct.pack('5I8s', *words))
        print('changed')
    except OSError as error:
        print('refused', error.errno)
";
    let mut spec = SandboxSpec::new(["/usr/bin/python3", "-c", script]);
    spec.disk_bytes_max = Some(BYTES_MAX);
    let (_, output) = bench.run_spec("it", spec);
    let refused = output.lines().filter(|line| line.starts_with("refused")).count();
    assert_eq!(refused, 3, "{output}");
}

#[test]
fn limits_are_gone_with_their_instance_even_after_a_crash() {
    for crash in [false, true] {
        let Some(disk) = Disk::new("loop,prjquota") else { return };
        let mut bench = disk.bench();
        let (exit, _) = bench.run_spec("it", limited("echo x > file", BYTES_MAX));
        assert_eq!(exit.code, Some(0));
        assert!(!disk.limits().is_empty(), "a limit is there as long as the instance");
        if crash {
            bench.crash_and_restart();
        }
        assert_eq!(bench.ask(Request::Forget { instance: "it".into() }), Reply::Done);
        let until = Instant::now() + support::DEADLINE;
        while !disk.limits().is_empty() {
            assert!(Instant::now() < until, "a limit is left: {}", disk.limits());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(!Path::new(&log_dir(bench.dir.path(), "it", 0)).exists());
    }
}
