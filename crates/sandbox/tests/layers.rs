//! Roots of layers, their users, and what is mounted in them.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use spawnery_sandbox::client::layer_of;
use spawnery_sandbox::protocol::{Reply, Request};
use spawnery_sandbox::spec::{FileSpec, MountSpec, RootSpec, SandboxSpec, UserSpec};
use support::layers::{Layers, of, over_host, own, put};
use support::{As, Bench, everybody, is_root};

fn sh(root: Option<RootSpec>, script: &str) -> SandboxSpec {
    SandboxSpec { root, ..SandboxSpec::new(["/bin/sh", "-c", script]) }
}

fn user(uid: u32) -> Option<UserSpec> {
    Some(UserSpec { uid, gid: uid, groups: Vec::new() })
}

/// Whether ids can be mapped as they like.
fn rootful(whose: As) -> bool {
    whose == As::Us && is_root()
}

#[test]
fn the_topmost_layer_wins_and_what_it_removed_is_not_there() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let low = layers.minimal(|layer| {
            put(layer, "root/data/both", "low\n");
            put(layer, "root/data/only-low", "low only\n");
            put(layer, "root/data/gone", "x");
            put(layer, "root/opaque/gone", "x");
        });
        let high = layers.add("high", |layer| {
            put(layer, "root/data/both", "high\n");
            put(layer, "root/opaque/there", "x");
            let opaque = layer.join("root/opaque");
            rustix::fs::setxattr(
                &opaque,
                "user.overlay.opaque",
                b"y",
                rustix::fs::XattrFlags::empty(),
            )
            .expect("marked");
            let (mode, kind) = (rustix::fs::Mode::empty(), rustix::fs::FileType::CharacterDevice);
            let gone = layer.join("root/data/gone");
            rustix::fs::mknodat(rustix::fs::CWD, gone, kind, mode, 0).expect("made");
        });
        let mut bench = Bench::start(whose);
        let script = "cat /data/both /data/only-low; ls /data /opaque; ls /usr 2>/dev/null";
        let (exit, output) = bench.run_spec("it", sh(of(&[&high, &low]), script));
        let expected = "high\nlow only\n/data:\nboth\nonly-low\n\n/opaque:\nthere\n";
        assert_eq!(output, expected, "{whose:?} {exit:?}");
    }
}

#[test]
fn a_root_without_any_folder_gets_what_it_needs() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let minimal = layers.minimal(|_| {});
        let mut bench = Bench::start(whose);
        let script = "id -u; pwd; echo $HOME; cat /etc/hostname; grep -c localhost /etc/hosts; \
            cat /proc/1/comm; echo x > /tmp/x && echo x > /dev/shm/x && echo x > /dev/null; \
            head -c 4 /dev/urandom | wc -c; stat -c %a /tmp; echo new > /file && cat /file";
        let (exit, output) = bench.run_spec("it", sh(of(&[&minimal]), script));
        let expected = "0\n/\n/\nsandbox\n2\ninit\n4\n1777\nnew\n";
        assert_eq!(output, expected, "{whose:?} {exit:?}");
        let root = layers.path().join("minimal/root");
        let mut names: Vec<_> = fs::read_dir(root).expect("listed").flatten().collect();
        assert_eq!(names.pop().map(|it| it.file_name()), Some("bin".into()));
        assert!(names.is_empty(), "the layer was changed: {names:?}");
    }
}

#[test]
fn many_layers_fit() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let mut all: Vec<String> = (0..127)
            .map(|number| {
                layers.add(&format!("layer-with-a-long-name-to-fill-the-options-{number}"), |it| {
                    put(it, &format!("root/numbers/{number}"), "");
                })
            })
            .collect();
        all.push(layers.minimal(|_| {}));
        let root = RootSpec { layers: all, host: false };
        let mut bench = Bench::start(whose);
        let (exit, output) = bench.run_spec("it", sh(Some(root), "ls /numbers | wc -l"));
        assert_eq!(output.trim(), "127", "{whose:?} {exit:?}");
    }
}

#[test]
fn layers_over_the_view_of_the_host_add_to_it() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let layer = layers.add("layer", |layer| {
            put(layer, "root/opt/tool", "of the root\n");
            put(layer, "usr/share/spawnery-test/data", "of usr\n");
            for dir in ["usr", "usr/share", "usr/share/spawnery-test"] {
                fs::set_permissions(layer.join(dir), fs::Permissions::from_mode(0o755))
                    .expect("set");
            }
        });
        let mut bench = Bench::start(whose);
        let script = "cat /opt/tool /usr/share/spawnery-test/data; id -u; echo $HOME; \
            test -e /usr/bin/env && echo host";
        let (exit, output) = bench.run_spec("it", sh(over_host(&[&layer]), script));
        let expected = "of the root\nof usr\n1000\n/home/user\nhost\n";
        assert_eq!(output, expected, "{whose:?} {exit:?}");
    }
}

#[test]
fn links_in_a_layer_lead_no_mount_and_no_write_out() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let outside = layers.path().join("outside");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("hosts"), "untouched").expect("written");
        own(&outside, layers.owner());
        let hostile = layers.minimal(|layer| {
            let root = layer.join("root");
            for name in ["proc", "dev", "tmp"] {
                symlink(&outside, root.join(name)).expect("linked");
            }
            fs::create_dir(root.join("etc")).expect("made");
            symlink(outside.join("hosts"), root.join("etc/hosts")).expect("linked");
            symlink("/proc/1/root", root.join("srv")).expect("linked");
            symlink("../../../../../../..", root.join("up")).expect("linked");
            rustix::fs::mknodat(
                rustix::fs::CWD,
                root.join("etc/passwd"),
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o644),
                0,
            )
            .expect("made");
        });
        let mut bench = Bench::start(whose);
        let script = "cat /proc/1/comm; cat /up/new; echo y > /dev/null; echo z > /tmp/z; \
            grep -c localhost /etc/hosts";
        let mut spec = sh(of(&[&hostile]), script);
        let path = "/up/new".to_owned();
        spec.files = vec![FileSpec { path, mode: 0o644, bytes: b"inside\n".to_vec() }];
        let (exit, output) = bench.run_spec("it", spec.clone());
        assert_eq!(output, "init\ninside\n2\n", "{whose:?} {exit:?}");
        let names: Vec<_> = fs::read_dir(&outside).expect("listed").flatten().collect();
        assert_eq!(names.len(), 1, "{whose:?}: something was made outside: {names:?}");
        assert_eq!(fs::read(outside.join("hosts")).expect("read"), b"untouched");
        // Through a link of /proc nothing is reached at all.
        spec.files[0].path = "/srv/new".into();
        let start = Request::Start { instance: "b".into(), spec: Box::new(spec) };
        match bench.ask(start) {
            Reply::StartFailed { step, .. } => assert_eq!(step, "write /srv/new", "{whose:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn setuid_programs_and_devices_of_a_layer_have_no_effect() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let layer = layers.minimal(|_| {});
        let root = Path::new(&layer).join("root");
        fs::create_dir(root.join("suid")).expect("made");
        let program = root.join("suid/busybox");
        fs::copy("/usr/bin/busybox", &program).expect("copied");
        fs::set_permissions(program, fs::Permissions::from_mode(0o4755)).expect("set");
        if is_root() {
            let (mode, kind) =
                (rustix::fs::Mode::from_raw_mode(0o666), rustix::fs::FileType::CharacterDevice);
            let device = rustix::fs::makedev(1, 3);
            rustix::fs::mknodat(rustix::fs::CWD, root.join("null"), kind, mode, device)
                .expect("made");
        }
        let mut bench = Bench::start(whose);
        let script = "/suid/busybox id -u; cat /null 2>/dev/null || echo no; \
            mknod /tmp/n c 1 3 2>/dev/null || echo no";
        let mut spec = sh(of(&[&layer]), script);
        spec.user = user(1234);
        let (exit, output) = bench.run_spec("it", spec);
        assert_eq!(output, "1234\nno\nno\n", "{whose:?} {exit:?}");
    }
}

#[test]
fn what_is_written_stays_in_the_layer_of_its_own() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let low = layers.minimal(|layer| {
            put(layer, "root/data/old", "old\n");
        });
        let mut bench = Bench::start(whose);
        let script = "echo new > /data/new; echo changed > /data/old; rm /bin/true; cat /data/*";
        let (exit, output) = bench.run_spec("a", sh(of(&[&low]), script));
        assert_eq!(output, "new\nchanged\n", "{whose:?} {exit:?}");
        let (_, output) = bench.run_spec("b", sh(of(&[&low]), "cat /data/*; true && echo yes"));
        assert_eq!(output, "old\nyes\n", "{whose:?}");
    }
}

#[test]
fn a_kept_layer_can_be_used_as_a_layer() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let low = layers.minimal(|layer| {
            put(layer, "root/data/old", "old");
        });
        let mut bench = Bench::start(whose);
        let mut spec = sh(of(&[&low]), "echo built > /built; rm /data/old");
        spec.keeps_layer = Some(true);
        bench.run_spec("build", spec);
        let paths = layer_of(bench.dir.path(), "build");
        assert!(!mounted_below(bench.dir.path()), "{whose:?}");
        let built = layers.add("built", |_| {});
        fs::remove_dir(Path::new(&built).join("root")).expect("removed");
        fs::rename(&paths.upper, Path::new(&built).join("root")).expect("renamed");
        let (exit, output) =
            bench.run_spec("it", sh(of(&[&built, &low]), "cat /built; ls /data | wc -l"));
        assert_eq!(output, "built\n0\n", "{whose:?} {exit:?}");
        assert_eq!(bench.ask(Request::Forget { instance: "build".into() }), Reply::Done);
    }
}

fn mounted_below(dir: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("read");
    mounts.contains(&*dir.to_string_lossy())
}

#[test]
fn user_0_may_do_what_package_managers_do_and_no_more() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let low = layers.minimal(|layer| {
            let file = put(layer, "root/closed", "closed\n");
            fs::set_permissions(file, fs::Permissions::from_mode(0o000)).expect("set");
        });
        let mut bench = Bench::start(whose);
        let script = "grep -E '^(CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'; \
            cat /closed; mount -t tmpfs x /tmp 2>/dev/null || echo no; hostname x 2>/dev/null || echo no";
        let (exit, output) = bench.run_spec("it", sh(of(&[&low]), script));
        let expected = "CapEff:00000000800404fb\nCapBnd:00000000800404fb\n\
             CapAmb:0000000000000000\nNoNewPrivs:1\nSeccomp:2\nclosed\nno\nno\n";
        assert_eq!(output, expected, "{whose:?} {exit:?}");
        if rootful(whose) {
            let script = "touch /f && chown 33:44 /f && stat -c '%u %g' /f; \
                su -s /bin/sh www -c 'id -u; id -g; grep CapEff /proc/self/status | tr -d \"\\t\"'";
            let mut spec = sh(of(&[&low]), script);
            let (path, bytes) = ("/etc/passwd".to_owned(), b"www:x:33:44::/:/bin/sh\n".to_vec());
            spec.files = vec![FileSpec { path, mode: 0o644, bytes }];
            let (exit, output) = bench.run_spec("b", spec);
            assert_eq!(output, "33 44\n33\n44\nCapEff:0000000000000000\n", "{exit:?}");
        }
    }
}

#[test]
fn a_user_has_its_name_its_home_and_its_groups() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let low = layers.minimal(|layer| {
            put(layer, "root/etc/passwd", "root:x:0:0::/:/bin/sh\nann:x:7:8::/srv/ann:/bin/sh\n");
            put(layer, "root/srv/ann/x", "");
        });
        let mut bench = Bench::start(whose);
        let script = "id -u; id -g; id -G; echo $USER $HOME; pwd; \
            grep CapEff /proc/self/status | tr -d '\\t'";
        let mut spec = sh(of(&[&low]), script);
        spec.user = Some(UserSpec { uid: 7, gid: 8, groups: vec![20, 30] });
        let (exit, output) = bench.run_spec("it", spec);
        let groups = if rootful(whose) { "8 20 30" } else { "8" };
        let expected = format!("7\n8\n{groups}\nann /srv/ann\n/srv/ann\nCapEff:0000000000000000\n");
        assert_eq!(output, expected, "{whose:?} {exit:?}");
    }
}

#[test]
fn an_exec_runs_as_the_same_user() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let low = layers.minimal(|_| {});
        let mut bench = Bench::start(whose);
        let mut spec = sh(of(&[&low]), "sleep 100");
        spec.user = user(77);
        bench.start_spec("it", spec);
        let exec = spawnery_sandbox::spec::ExecSpec::new(["id", "-u"]);
        let request = Request::Exec { instance: "it".into(), exec: 1, spec: exec };
        assert!(matches!(bench.ask(request), Reply::Started { .. }));
        bench.exit_of("it", 1);
        assert_eq!(bench.output("it", 1), "77\n", "{whose:?}");
    }
}

#[test]
fn folders_and_files_of_the_host_are_mounted() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let low = layers.minimal(|_| {});
        let host = layers.path().join("volume");
        put(&host, "file", "shared\n");
        own(&host, layers.owner());
        let mount = |source: &Path, target: &str, read_only| MountSpec {
            source: source.to_string_lossy().into_owned(),
            target: target.into(),
            read_only,
        };
        let mounts = vec![
            mount(&host, "/srv/deep/volume", false),
            mount(&host, "/ro", true),
            mount(&host.join("file"), "/etc/one", true),
        ];
        let script = "cat /srv/deep/volume/file /ro/file /etc/one; echo x > /srv/deep/volume/new; \
            echo y 2>/dev/null > /ro/no || echo read-only; grep -c ' nosuid,nodev\\|,nosuid,nodev' \
            /proc/self/mounts > /dev/null; grep volume /proc/self/mounts | grep -vc nosuid";
        for root in [of(&[&low]), None] {
            let own_root = root.is_some();
            let mut spec = sh(root, script);
            spec.mounts = Some(mounts.clone());
            spec.user = user(0);
            let mut bench = Bench::start(whose);
            let (exit, output) = bench.run_spec("it", spec);
            let expected = "shared\nshared\nshared\nread-only\n0\n";
            assert_eq!(output, expected, "{whose:?} {own_root} {exit:?}");
            let new = host.join("new");
            assert_eq!(fs::metadata(&new).expect("written").uid(), layers.owner());
            fs::remove_file(new).expect("removed");
            assert!(!host.join("no").exists());
        }
    }
}

#[test]
fn a_mount_that_is_not_there_is_named() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let mut spec = SandboxSpec::new(["true"]);
        let (source, target) = ("/nowhere/at-all".to_owned(), "/srv/x".to_owned());
        spec.mounts = Some(vec![MountSpec { source, target, read_only: false }]);
        match bench.ask(Request::Start { instance: "it".into(), spec: Box::new(spec) }) {
            Reply::StartFailed { step, reason } => {
                let said = format!("{step}: {reason}");
                assert!(said.contains("/nowhere/at-all"), "{whose:?}: {said}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_device_is_seen_and_can_be_used() {
    let device = Path::new("/dev/net/tun");
    if !device.exists() {
        support::skip("there is no /dev/net/tun");
        return;
    }
    let for_all = fs::metadata(device).expect("metadata").permissions().mode() & 0o006 == 0o006;
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script = "ls -l /dev/net/tun | cut -c1; cat /dev/net/tun 2>&1 | tail -1; ls /dev";
        let mut spec = SandboxSpec::new(["sh", "-c", script]);
        spec.devices = Some(vec!["/dev/net/tun".into()]);
        let (exit, output) = bench.run_spec("it", spec);
        // EBADFD comes from the driver: the device was opened. A launcher that is not root gives
        // no more than it has.
        let reached = output.contains("File descriptor in bad state");
        assert_eq!(reached, for_all || rootful(whose), "{whose:?} {output} {exit:?}");
        assert!(output.starts_with("c\n"), "{whose:?} {output}");
        assert!(!output.contains("loop") && output.contains("urandom"), "{whose:?} {output}");
        let mut spec = SandboxSpec::new(["true"]);
        spec.devices = Some(vec!["/dev/../etc/passwd".into()]);
        let reply = bench.ask(Request::Start { instance: "b".into(), spec: Box::new(spec) });
        assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
    }
}
