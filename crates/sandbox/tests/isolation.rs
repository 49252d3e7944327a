//! What a workload can see and do.

mod support;

use spawnery_sandbox::protocol::{Reply, Request};
use spawnery_sandbox::spec::{FileSpec, Network, SandboxSpec};
use support::{As, Bench, everybody};

/// Runs a script under every kind of launcher and compares its output.
fn check(script: &str, expected: &str) {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let (exit, output) = bench.sh("it", script);
        assert_eq!(output.trim(), expected, "{whose:?}: {script}: {exit:?}");
    }
}

#[test]
fn folders_of_the_host_are_not_there() {
    check(
        "ls -A /root /home /var/tmp /tmp /mnt /opt 2>&1 | tr '\\n' ' '",
        "/home: user  /mnt:  /opt:  /root:  /tmp:  /var/tmp:",
    );
}

#[test]
fn secrets_of_the_host_are_not_there() {
    check(
        "for f in /etc/shadow /etc/gshadow /etc/ssh /etc/ssl/private /etc/sudoers /boot; do \
        test -e $f && echo $f; done; echo end",
        "end",
    );
}

#[test]
fn a_user_of_its_own_with_a_home_that_can_be_written() {
    check(
        "id -u; id -g; id -un; echo $HOME; cd; echo x > file && cat file; pwd",
        "1000\n1000\nuser\n/home/user\nx\n/home/user",
    );
}

#[test]
fn only_its_own_processes_are_seen() {
    check(
        "set -- /proc/[0-9]*; echo $#; cat /proc/1/comm; tr -d '\\0' < /proc/1/cmdline",
        "2\ninit\ninit",
    );
}

#[test]
fn the_init_cannot_be_looked_into() {
    check(
        "cat /proc/1/environ /proc/1/maps /proc/1/mem 2>/dev/null | wc -c; \
        ls /proc/1/root/ /proc/1/cwd/ /proc/1/fd/ 2>/dev/null | wc -l; kill -9 1 2>/dev/null; echo alive",
        "0\n0\nalive",
    );
}

#[test]
fn no_descriptor_of_the_launcher_leaks() {
    check("ls /proc/self/fd | tr '\\n' ' '", "0 1 2 3");
}

#[test]
fn no_capabilities_no_new_privileges_and_a_filter() {
    check(
        "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'",
        "CapInh:0000000000000000\nCapPrm:0000000000000000\nCapEff:0000000000000000\n\
         CapBnd:0000000000000000\nCapAmb:0000000000000000\nNoNewPrivs:1\nSeccomp:2",
    );
}

#[test]
fn setuid_programs_gain_nothing() {
    check("cp /usr/bin/id /tmp/id; chmod 4755 /tmp/id; /tmp/id -u", "1000");
}

#[test]
fn every_mount_but_none_forbids_setuid() {
    check("grep -vc nosuid /proc/self/mounts", "0");
}

#[test]
fn namespaces_mounts_and_keys_are_refused() {
    check(
        "unshare -U true 2>/dev/null || echo no; unshare -m true 2>/dev/null || echo no; \
        mount -t tmpfs x /tmp 2>/dev/null || echo no; umount /proc 2>/dev/null || echo no; \
        hostname other 2>/dev/null || echo no",
        "no\nno\nno\nno\nno",
    );
}

#[test]
fn system_calls_answer_as_documented() {
    let script = r#"
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    return errno.errorcode.get(ctypes.get_errno(), "?") if libc.syscall(*args) == -1 else "ok"
import platform
numbers = {"x86_64": (435, 321, 425, 250), "aarch64": (435, 280, 425, 219)}[platform.machine()]
print(*[call(n, 0, 0, 0, 0, 0) for n in numbers])
import socket
def family(f, kind=socket.SOCK_STREAM, proto=0):
    try: socket.socket(f, kind, proto); return "ok"
    except OSError as e: return errno.errorcode[e.errno]
print(family(40), family(38, socket.SOCK_SEQPACKET), family(17, socket.SOCK_RAW), family(16, socket.SOCK_RAW, 0), family(16, socket.SOCK_RAW, 9), family(socket.AF_INET))
"#;
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let (_, output) =
            bench.run_spec("it", SandboxSpec::new(["/usr/bin/python3", "-c", script]));
        assert_eq!(
            output, "ENOSYS EPERM EPERM EPERM\nEPERM EPERM EPERM ok EPERM ok\n",
            "{whose:?}"
        );
    }
}

#[test]
fn proc_and_sys_give_no_way_out() {
    check(
        "cat /proc/sysrq-trigger /proc/kcore /proc/timer_list 2>/dev/null | wc -c; \
        echo 1 2>/dev/null > /proc/sys/vm/drop_caches || echo no; ls /sys | wc -l; \
        echo x 2>/dev/null > /dev/new || echo no; echo y > /dev/null && echo yes; \
        head -c 4 /dev/urandom | wc -c; ls /dev/sda /dev/vda /dev/mem 2>/dev/null | wc -l",
        "0\nno\n0\nno\nyes\n4\n0",
    );
}

#[test]
fn a_program_in_usr_cannot_be_changed_for_others() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script = "touch /usr/bin/spawnery-was-here 2>/dev/null && echo mine || echo read-only";
        let (_, first) = bench.sh("a", script);
        let (_, second) = bench.sh("b", "ls /usr/bin/spawnery-was-here 2>/dev/null | wc -l");
        assert_eq!(second.trim(), "0");
        assert!(!std::path::Path::new("/usr/bin/spawnery-was-here").exists());
        if whose == As::PlainUser {
            assert_eq!(first.trim(), "read-only");
        }
    }
}

#[test]
fn the_host_name_is_its_own() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let mut spec =
            SandboxSpec::new(["sh", "-c", "uname -n; cat /etc/hostname; echo $HOSTNAME"]);
        spec.hostname = "box-7".into();
        assert_eq!(bench.run_spec("it", spec).1, "box-7\nbox-7\nbox-7\n", "{whose:?}");
    }
}

#[test]
fn without_network_there_is_only_the_loopback_interface() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let probe = format!(
        "ls /sys/class/net 2>/dev/null; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; \
         /usr/bin/python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 2)' \
         2>&1 | tail -1"
    );
    check(&probe, "lo\nConnectionRefusedError: [Errno 111] Connection refused");
}

#[test]
fn with_the_hosts_network_its_listeners_are_reached() {
    for whose in everybody() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let mut bench = Bench::start(whose);
        let script = format!(
            "import socket; socket.create_connection((\"127.0.0.1\", {port}), 2); print(\"in\")"
        );
        let mut spec = SandboxSpec::new(["/usr/bin/python3", "-c", &script]);
        spec.network = Network::Host;
        assert_eq!(bench.run_spec("it", spec).1, "in\n", "{whose:?}");
    }
}

#[test]
fn files_are_written_before_the_start() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script = "cat /work/deep/er/a; stat -c %a /work/deep/er/a; wc -c < /home/user/big; cat /etc/hosts";
        let mut spec = SandboxSpec::new(["sh", "-c", script]);
        let file = |path: &str, mode, bytes: &[u8]| FileSpec {
            path: path.into(),
            mode,
            bytes: bytes.to_vec(),
        };
        spec.files = vec![
            file("/work/deep/er/a", 0o640, b"text\n"),
            file("/home/user/big", 0o600, &vec![b'x'; 300_000]),
            file("/etc/hosts", 0o644, b"1.2.3.4 there\n"),
        ];
        let (_, output) = bench.run_spec("it", spec);
        assert_eq!(output, "text\n640\n300000\n1.2.3.4 there\n", "{whose:?}");
    }
}

#[test]
fn a_file_path_that_could_escape_is_refused() {
    let mut bench = Bench::new();
    let mut spec = SandboxSpec::new(["true"]);
    spec.files = vec![FileSpec { path: "/a/../../b".into(), mode: 0o644, bytes: Vec::new() }];
    let reply = bench.ask(Request::Start { instance: "it".into(), spec: Box::new(spec) });
    assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
}

#[test]
fn the_environment_is_what_was_given_and_the_defaults() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let mut spec = SandboxSpec::new(["env"]);
        spec.env = vec![("A".into(), "b c".into()), ("LANG".into(), "C".into())];
        let (_, output) = bench.run_spec("it", spec);
        let mut lines: Vec<&str> = output.lines().collect();
        lines.sort_unstable();
        let expected = [
            "A=b c",
            "HOME=/home/user",
            "HOSTNAME=sandbox",
            "LANG=C",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TMPDIR=/tmp",
            "USER=user",
        ];
        assert_eq!(lines, expected, "{whose:?}");
    }
}

#[test]
fn text_is_utf_8_unless_a_locale_is_named() {
    let mut bench = Bench::new();
    let mut check = |name: &str, env: &[(&str, &str)], expected: &str| {
        let mut spec = SandboxSpec::new(["locale", "charmap"]);
        spec.env = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let (_, output) = bench.run_spec(name, spec);
        assert_eq!(output.trim_end(), expected, "{env:?}");
    };
    check("none", &[], "UTF-8");
    check("lang", &[("LANG", "C")], "ANSI_X3.4-1968");
    check("all", &[("LC_ALL", "C")], "ANSI_X3.4-1968");
    check("utf", &[("LANG", "C.UTF-8")], "UTF-8");
}

#[test]
fn the_files_with_the_host_name_are_those_of_the_instance() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let mut spec = SandboxSpec::new(["sh", "-c", "uname -n; cat /etc/hostname /etc/hosts"]);
        for (id, name) in [("short", "a"), ("long", "a-rather-long-name"), ("same", "session")] {
            spec.hostname = name.into();
            let (_, output) = bench.run_spec(id, spec.clone());
            let expected = format!(
                "{name}\n{name}\n127.0.0.1 localhost {name}\n\
                 ::1 localhost ip6-localhost ip6-loopback\n"
            );
            assert_eq!(output, expected, "{whose:?}");
        }
    }
}

#[test]
fn tmp_has_its_own_size() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        let script =
            "stat -c %a /tmp; head -c 3000000 /dev/zero 2>/dev/null > /tmp/x; wc -c < /tmp/x";
        let mut spec = SandboxSpec::new(["sh", "-c", script]);
        spec.tmp_bytes_max = 1 << 20;
        let (_, output) = bench.run_spec("it", spec);
        let first_and_last = (output.lines().next(), output.lines().last());
        assert_eq!(first_and_last, (Some("1777"), Some("1048576")), "{whose:?}: {output}");
    }
}

#[test]
fn signals_and_streams_are_as_a_program_expects() {
    check(
        "grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\t'; readlink /proc/self/fd/0; umask; ulimit -c; ulimit -n",
        "SigBlk:0000000000000000\nSigIgn:0000000000000000\n/dev/null\n0022\n0\n1024",
    );
}
