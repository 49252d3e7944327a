//! Fields of sessions and of readiness that cannot be.

use crate::{web, yaml};

#[test]
fn impossible_sessions_are_refused() {
    let shell = |field: &str, expected: &str| {
        yaml(&format!("sessions:\n  shell:\n    run: x\n    {field}\n"), expected);
    };
    shell(
        "port: http",
        "line 4, column 11: sessions.shell.port: there is no port called `http`; expected the name \
         of one of `ports`",
    );
    shell(
        "access: publik",
        "line 4, column 13: sessions.shell.access: the unknown access `publik`; expected `token`, \
         `public` or `{forward: URL}` (did you mean `public`?)",
    );
    shell(
        "access: {forward: 'ftp://x'}",
        "line 4, column 23: sessions.shell.access.forward: the scheme `ftp`; expected a \
         URL such as https://auth.example.org/check",
    );
    shell(
        "key_lease: 1s",
        "line 4, column 16: sessions.shell.key_lease: `1s` is too short; expected at least 20s",
    );
    shell(
        "warnings: {file: tmp/x}",
        "line 4, column 22: sessions.shell.warnings.file: `tmp/x` is not absolute; expected \
         an absolute path such as /etc/app.conf (write `/tmp/x`)",
    );
    shell(
        "ready: {http: health}",
        "line 4, column 19: sessions.shell.ready.http: found the text `health`; expected a path such as /health, in \
         ASCII and without spaces",
    );
    shell(
        "ready: {http: /}",
        "line 4, column 12: sessions.shell.ready: there are no `ports`; expected the name of one of \
         `ports`",
    );
    shell(
        "ready: {}",
        "line 4, column 12: sessions.shell.ready: no check; expected one of `http`, `port` and \
         `output`",
    );
    yaml(
        "sessions:\n  shell:\n    run: x\n    duration: 2h\n    duration_limit: 1h\n",
        "line 5, column 21: sessions.shell.duration_limit: 1h is less than what it limits; expected \
         at least 2h",
    );
    web(
        "idle_timeout: 1h",
        "line 4, column 5: services.web.idle_timeout: unknown field `idle_timeout`; expected one of \
         run, env, memory, cpu, cpuShares, disk, pids, ports, network, working_directory, stdin, \
         ready, replicas, restart, stop, files, constraints, labels, environment, runtime, user, \
         volumes, secrets, devices, mounts, egress, warm (only sessions have it, not a service)",
    );
}
