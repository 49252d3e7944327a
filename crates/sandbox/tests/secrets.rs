//! Secrets reach their instance and nobody else.

mod support;

use std::fs;
use std::path::Path;

use spawnery_sandbox::protocol::{Reply, Request};
use spawnery_sandbox::spec::{ExecSpec, SandboxSpec, SecretFile};
use support::layers::{Layers, of};
use support::{Bench, everybody};

/// What must not be found anywhere.
const IN_A_FILE: &str = "s3cret-in-a-file";
const IN_THE_ENVIRONMENT: &str = "s3cret-in-the-environment";

fn with_secrets(mut spec: SandboxSpec) -> SandboxSpec {
    let bytes = IN_A_FILE.as_bytes().to_vec();
    spec.secret_files = Some(vec![SecretFile { name: "token".into(), bytes }]);
    spec.secret_env = Some(vec![("TOKEN".into(), IN_THE_ENVIRONMENT.into())]);
    spec
}

#[test]
fn secrets_are_files_in_memory_and_variables() {
    for whose in everybody() {
        let layers = Layers::new(whose);
        let low = layers.minimal(|_| {});
        let script = "test \"$(cat /run/secrets/token)\" = s3cret-in-a-file && \
            test \"$TOKEN\" = s3cret-in-the-environment && echo given; \
            stat -c '%a %u' /run/secrets /run/secrets/token | tr '\\n' ' '; id -u; \
            grep -c '^tmpfs /run/secrets tmpfs ro,nosuid,nodev,noexec' /proc/self/mounts; \
            echo x 2>/dev/null > /run/secrets/new || echo read-only";
        for (root, uid) in [(None, 1000), (of(&[&low]), 0)] {
            let spec = SandboxSpec { root, ..SandboxSpec::new(["/bin/sh", "-c", script]) };
            let mut bench = Bench::start(whose);
            let (exit, output) = bench.run_spec("it", with_secrets(spec));
            let expected = format!("given\n700 {uid} 400 {uid} {uid}\n1\nread-only\n");
            assert_eq!(output, expected, "{whose:?} {exit:?}");
        }
    }
}

#[test]
fn a_process_that_is_started_later_has_the_secrets_too() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        bench.start_spec("it", with_secrets(SandboxSpec::new(["sleep", "100"])));
        let script = "cat /run/secrets/token; echo \" $TOKEN $OTHER\"";
        let mut spec = ExecSpec::new(["/bin/sh", "-c", script]);
        spec.env.push(("OTHER".into(), "given".into()));
        bench.ask(Request::Exec { instance: "it".into(), exec: 1, spec });
        bench.exit_of("it", 1);
        let expected = format!("{IN_A_FILE} {IN_THE_ENVIRONMENT} given\n");
        assert_eq!(bench.output("it", 1), expected, "{whose:?}");
    }
}

#[test]
fn secrets_are_on_no_disk_and_in_no_answer() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        bench.start_spec("it", with_secrets(SandboxSpec::new(["sleep", "100"])));
        let mut all = format!("{:?}", bench.ask(Request::List));
        let spec = with_secrets(SandboxSpec::new(["/nowhere"]));
        all.push_str(&format!("{spec:?}"));
        let start = Request::Start { instance: "b".into(), spec: Box::new(spec) };
        let failed = bench.ask(start);
        assert!(matches!(failed, Reply::StartFailed { .. }), "{failed:?}");
        all.push_str(&format!("{failed:?}"));
        let mut bytes = all.into_bytes();
        read_all(bench.dir.path(), &mut bytes);
        for secret in [IN_A_FILE, IN_THE_ENVIRONMENT] {
            let found = bytes.windows(secret.len()).any(|it| it == secret.as_bytes());
            assert!(!found, "{whose:?}: {secret} was written down");
        }
    }
}

/// Appends everything in the data folder.
fn read_all(dir: &Path, bytes: &mut Vec<u8>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().expect("known");
        if kind.is_dir() {
            read_all(&entry.path(), bytes);
        } else if kind.is_file() {
            bytes.extend(fs::read(entry.path()).unwrap_or_default());
        }
    }
}

#[test]
fn secrets_of_one_instance_are_not_seen_by_another() {
    for whose in everybody() {
        let mut bench = Bench::start(whose);
        bench.start_spec("it", with_secrets(SandboxSpec::new(["sleep", "100"])));
        let script = "ls /run/secrets 2>/dev/null; echo \"$TOKEN\"; \
            cat /proc/*/environ 2>/dev/null | grep -c s3cret";
        let (_, output) = bench.sh("b", script);
        assert_eq!(output, "\n0\n", "{whose:?}");
    }
}

#[test]
fn names_that_could_escape_and_too_much_are_refused() {
    let mut bench = Bench::new();
    let table = [("../x", 1), ("", 1), ("a/b", 1), ("..", 1), ("big", 2 << 20)];
    for (number, (name, len)) in table.into_iter().enumerate() {
        let mut spec = SandboxSpec::new(["true"]);
        spec.secret_files = Some(vec![SecretFile { name: name.into(), bytes: vec![b'x'; len] }]);
        let instance = format!("it-{number}");
        let reply = bench.ask(Request::Start { instance, spec: Box::new(spec) });
        assert!(matches!(reply, Reply::Refused { .. }), "{name}: {reply:?}");
    }
}
