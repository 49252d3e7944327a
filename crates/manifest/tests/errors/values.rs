//! Fields with values that cannot be.

use crate::{tick, web};

#[test]
fn impossible_limits_are_refused() {
    web(
        "memmory: 256M",
        "line 4, column 5: services.web.memmory: unknown field `memmory`; expected one \
         of run, env, memory, cpu, cpuShares, disk, pids, ports, network, \
         working_directory, stdin, ready, replicas, restart, stop, files, constraints, labels, environment, runtime, user, volumes, secrets, devices, mounts, egress, warm \
         (did you mean `memory`?)",
    );
    web(
        "memAlloc: 256M",
        "line 4, column 5: services.web.memAlloc: unknown field `memAlloc`; expected one \
         of run, env, memory, cpu, cpuShares, disk, pids, ports, network, \
         working_directory, stdin, ready, replicas, restart, stop, files, constraints, labels, environment, runtime, user, volumes, secrets, devices, mounts, egress, warm \
         (did you mean `memory`?)",
    );
    web(
        "image: debian",
        "line 4, column 5: services.web.image: unknown field `image`; expected one of \
         run, env, memory, cpu, cpuShares, disk, pids, ports, network, \
         working_directory, stdin, ready, replicas, restart, stop, files, constraints, labels, environment, runtime, user, volumes, secrets, devices, mounts, egress, warm (write `environment: {base: {image: …}}`)",
    );
    web(
        "memory: 256",
        "line 4, column 13: services.web.memory: 256B is too little; expected an amount \
         such as 512M or 4G, at least 1M (a number without a unit is bytes; write 256M)",
    );
    web(
        "memory: 0",
        "line 4, column 13: services.web.memory: 0B is too little; expected an amount \
         such as 512M or 4G, at least 1M",
    );
    web(
        "memory: lots",
        "line 4, column 13: services.web.memory: `lots` does not start with a number; \
         expected an amount such as 512M or 4G, at least 1M",
    );
    web(
        "memory: 1X",
        "line 4, column 13: services.web.memory: `1X` has the unknown unit `X`; expected \
         an amount such as 512M or 4G, at least 1M (the units are B, K, M, G and T)",
    );
    web(
        "memory: -1M",
        "line 4, column 13: services.web.memory: `-1M` is negative; expected an amount \
         such as 512M or 4G, at least 1M",
    );
    web(
        "memory: [1]",
        "line 4, column 13: services.web.memory: found a list; expected an amount such \
         as 512M or 4G, at least 1M",
    );
    web(
        "memory: 2000T",
        "line 4, column 13: services.web.memory: `2000T` is more than 1024T, the most \
         that can be asked for; expected an amount such as 512M or 4G, at least 1M",
    );
    web(
        "cpu: 0",
        "line 4, column 10: services.web.cpu: no processor share at all; expected a \
         number of cores such as 2 or 0.5, at least 0.001",
    );
    web(
        "cpu: -1",
        "line 4, column 10: services.web.cpu: `-1` is negative; expected a number of \
         cores such as 2 or 0.5, at least 0.001",
    );
    web(
        "cpu: 0.0001",
        "line 4, column 10: services.web.cpu: `0.0001` has more than three digits after \
         the point; expected a number of cores such as 2 or 0.5, at least 0.001 (round \
         it to thousandths of a core)",
    );
    web(
        "cpu: 500m",
        "line 4, column 10: services.web.cpu: `500m` is in thousandths; expected a \
         number of cores such as 2 or 0.5, at least 0.001 (write 0.5)",
    );
    web(
        "cpu: 50%",
        "line 4, column 10: services.web.cpu: `50%` has a unit; expected a number of \
         cores such as 2 or 0.5, at least 0.001 (write the number of cores alone)",
    );
    web(
        "cpu: 99999",
        "line 4, column 10: services.web.cpu: `99999` is more than 10000 cores, the most \
         that can be asked for; expected a number of cores such as 2 or 0.5, at least \
         0.001",
    );
    web(
        "cpu: {max: 1}",
        "line 4, column 10: services.web.cpu: no `reserved`; expected `reserved`, and \
         maybe `max` (add for example reserved: 0.1)",
    );
    web(
        "cpu: {reserved: 2, max: 1}",
        "line 4, column 10: services.web.cpu: `max` is less than `reserved`; expected at \
         least what is reserved",
    );
    web(
        "cpu: 1\n    cpuShares: 512",
        "line 5, column 16: services.web: `cpu` and `cpuShares` are both given; expected \
         one of the two (1024 shares are one core; keep `cpu`)",
    );
    web(
        "cpuShares: 0",
        "line 4, column 16: services.web.cpuShares: found the number `0`; expected a \
         whole number from 1 to 10240000",
    );
    web(
        "disk: 0",
        "line 4, column 11: services.web.disk: 0B is too little; expected an amount such \
         as 1G or 4G, at least 1B",
    );
    web(
        "pids: 0",
        "line 4, column 11: services.web.pids: found the number `0`; expected a whole \
         number from 1 to 4194304",
    );
    web(
        "pids: 1.5",
        "line 4, column 11: services.web.pids: found the number `1.5`; expected a whole \
         number from 1 to 4194304",
    );
    web(
        r#"pids: "5""#,
        "line 4, column 11: services.web.pids: found the text `5`; expected a whole \
         number from 1 to 4194304 (remove the quotes)",
    );
    web(
        "pids: many",
        "line 4, column 11: services.web.pids: found the text `many`; expected a whole \
         number from 1 to 4194304",
    );
}

#[test]
fn impossible_ports_and_networks_are_refused() {
    web(
        "ports: 8000",
        "line 4, column 12: services.web.ports: found the number `8000`; expected a list \
         of ports (write for example [8000])",
    );
    web(
        "ports: [0]",
        "line 4, column 13: services.web.ports[0]: found the number `0`; expected a \
         whole number from 1 to 65535",
    );
    web(
        "ports: [70000]",
        "line 4, column 13: services.web.ports[0]: found the number `70000`; expected a \
         whole number from 1 to 65535",
    );
    web(
        "ports: [80, 80]",
        "line 4, column 17: services.web.ports[1]: port 80 is given twice; expected each \
         port once",
    );
    web(
        r#"ports: ["80:8080"]"#,
        "line 4, column 13: services.web.ports[0]: found the text `80:8080`; expected a \
         port from 1 to 65535 (write only the port on which it listens)",
    );
    web(
        "ports: [{name: HTTP, port: 80}]",
        "line 4, column 20: services.web.ports[0].name: `HTTP` is not a name: a name has \
         lower-case letters, digits and hyphens only, not 'H'; expected lower-case \
         letters, digits and hyphens, such as web-1 (write `http`)",
    );
    web(
        "ports: [{name: a}]",
        "line 4, column 13: services.web.ports[0]: no `port`; expected `port`, and maybe \
         `name`",
    );
    web(
        "ports: [{name: a, port: 1}, {name: a, port: 2}]",
        "line 4, column 33: services.web.ports[1]: two ports are called `a`; expected \
         each name once",
    );
    web(
        "network: bridge",
        "line 4, column 14: services.web.network: found `bridge`; expected `none`, `private` or `host`",
    );
    web(
        "network: hosts",
        "line 4, column 14: services.web.network: found `hosts`; expected `none`, `private` or `host` (did you mean `host`?)",
    );
}

#[test]
fn impossible_env_and_files_are_refused_without_their_values() {
    web(
        "env: [TOKEN=s3cret]",
        "line 4, column 10: services.web.env: found a list; expected a map such as \
         {GREETING: hello}, not a list",
    );
    web(
        r#"env: {"A=B": s3cret}"#,
        "line 4, column 11: services.web.env.\"A=B\": `A=B` is not the name of a \
         variable; expected a name without `=` and without a NUL",
    );
    web(
        r#"env: {"": s3cret}"#,
        "line 4, column 11: services.web.env.\"\": `` is not the name of a variable; \
         expected a name without `=` and without a NUL",
    );
    web(
        "env: {A: null}",
        "line 4, column 14: services.web.env.A: found nothing; expected text (for an \
         empty value write \"\")",
    );
    web(
        "env: {TOKEN: [s3cret]}",
        "line 4, column 18: services.web.env.TOKEN: found a list; expected text",
    );
    web(
        r#"env: {A: "s3cret\0"}"#,
        "line 4, column 14: services.web.env.A: a NUL character in text; expected text \
         without a NUL",
    );
    web(
        "working_directory: srv",
        "line 4, column 24: services.web.working_directory: `srv` is not absolute; \
         expected an absolute path such as /etc/app.conf (write `/srv`)",
    );
    web(
        "working_directory: /a/../b",
        "line 4, column 24: services.web.working_directory: `/a/../b` has the part `..`; \
         expected an absolute path such as /etc/app.conf (write the path without `..`)",
    );
    web(
        "stdin: yes",
        "line 4, column 12: services.web.stdin: found the text `yes`; expected true or \
         false (write true)",
    );
    web(
        "files: {app.conf: s3cret}",
        "line 4, column 13: services.web.files.\"app.conf\": `app.conf` is not absolute; \
         expected an absolute path such as /etc/app.conf (write `/app.conf`)",
    );
    web(
        "files: {/etc/../x: y}",
        "line 4, column 13: services.web.files.\"/etc/../x\": `/etc/../x` has the part \
         `..`; expected an absolute path such as /etc/app.conf (write the path without \
         `..`)",
    );
    web(
        "files: {/etc//x: y}",
        "line 4, column 13: services.web.files.\"/etc//x\": `/etc//x` has an empty part; \
         expected an absolute path such as /etc/app.conf (remove the slash that is too \
         much)",
    );
    web(
        "files: {/: y}",
        "line 4, column 13: services.web.files.\"/\": `/` is the root folder; expected \
         an absolute path such as /etc/app.conf",
    );
    web(
        "files: {/a: {}}",
        "line 4, column 17: services.web.files.\"/a\": a file without content; expected \
         one of `content`, `content_base64` and `source`",
    );
    web(
        "files: {/a: {content: s3cret, source: y}}",
        "line 4, column 17: services.web.files.\"/a\": a file with more than one \
         content; expected one of `content`, `content_base64` and `source`",
    );
    web(
        "files: {/a: x, /a/b: y}",
        "line 4, column 20: services.web.files.\"/a/b\": `/a` is a file and a folder; \
         expected paths that can stand together",
    );
    web(
        "files: {/a: {content: x, mode: 644}}",
        "line 4, column 36: services.web.files.\"/a\".mode: found the number `644`; \
         expected permission bits in octal digits, such as \"0644\" or \"0755\" (write \
         the octal digits as text, in quotes)",
    );
    web(
        r#"files: {/a: {content: x, mode: "4755"}}"#,
        "line 4, column 36: services.web.files.\"/a\".mode: `4755` has more than the \
         permission bits; expected permission bits in octal digits, such as \"0644\" or \
         \"0755\" (an instance cannot gain privileges; write \"0755\")",
    );
    web(
        "files: {/a: {content: x, mode: rw}}",
        "line 4, column 36: services.web.files.\"/a\".mode: found the text `rw`; \
         expected permission bits in octal digits, such as \"0644\" or \"0755\"",
    );
    web(
        "files: {/a: {source: /etc/passwd}}",
        "line 4, column 26: services.web.files.\"/a\".source: `/etc/passwd` is not \
         beside the manifest; expected a path from the manifest's folder, such as \
         ./app.conf",
    );
    web(
        r#"files: {/a: {content_base64: "s3cret"}}"#,
        "line 4, column 34: services.web.files.\"/a\".content_base64: text that is not \
         in base 64; expected base 64 (`base64 FILE` makes it; plain text goes into \
         `content`)",
    );
    web(
        "files: {/a: 5}",
        "line 4, column 17: services.web.files.\"/a\": found a number; expected text \
         (put quotes round it)",
    );
}

#[test]
fn impossible_ends_are_refused() {
    web(
        "restart: no",
        "line 4, column 14: services.web.restart: found the text `no`; expected `never`, \
         `on-failure` or `always` (write never)",
    );
    web(
        "restart: on-falure",
        "line 4, column 14: services.web.restart: found `on-falure`; expected `never`, \
         `on-failure` or `always` (did you mean `on-failure`?)",
    );
    web(
        "restart: {delay: 5m, delay_max: 1m}",
        "line 4, column 37: services.web.restart.delay_max: the delay starts at 5m and \
         may grow to 1m; expected `delay_max` of at least 5m",
    );
    web(
        "restart: {delay: 10}",
        "line 4, column 22: services.web.restart.delay: the number `10` without a unit; \
         expected a time with its unit, such as 500ms, 10s, 5m, 1h or 2d (write 10s if \
         seconds are meant)",
    );
    web(
        "restart: {delay: 0s}",
        "line 4, column 22: services.web.restart.delay: `0s` is too short; expected at \
         least 1ms",
    );
    web(
        "restart: {backoff: 1s}",
        "line 4, column 15: services.web.restart.backoff: unknown field `backoff`; \
         expected one of policy, delay, delay_max, reset_after, max",
    );
    web(
        "stop: SIGTREM",
        "line 4, column 11: services.web.stop: the unknown signal `SIGTREM`; expected a \
         signal such as TERM, INT or 15 (did you mean `TERM`?)",
    );
    web(
        "stop: 99",
        "line 4, column 11: services.web.stop: found the number `99`; expected a signal \
         such as TERM, INT or 15",
    );
    web(
        "stop: {grace: 2h}",
        "line 4, column 19: services.web.stop.grace: `2h` is too long; expected at most \
         1h",
    );
    web(
        "stop: {grace: 10 seconds}",
        "line 4, column 19: services.web.stop.grace: `10 seconds` has the unknown unit \
         `seconds`; expected a time with its unit, such as 500ms, 10s, 5m, 1h or 2d (the \
         units are ms, s, m, h and d)",
    );
    web(
        r#"stop: {grace: "10"}"#,
        "line 4, column 19: services.web.stop.grace: `10` has no unit; expected a time \
         with its unit, such as 500ms, 10s, 5m, 1h or 2d (write 10s if seconds are meant)",
    );
    tick(
        "restart: always",
        "line 4, column 14: jobs.tick.restart: a job that is always restarted; expected \
         `never` or `on-failure` (what never ends is a service)",
    );
    tick(
        "restart: never\n    attempts: 3",
        "line 5, column 15: jobs.tick.attempts: 3 attempts, but `restart` is `never`; \
         expected `restart: on-failure` (remove one of the two)",
    );
}

#[test]
fn impossible_places_are_refused() {
    web(
        "replicas: 20000",
        "line 4, column 15: services.web.replicas: found the number `20000`; expected a \
         whole number from 0 to 10000",
    );
    web(
        "replicas: each",
        "line 4, column 15: services.web.replicas: found the text `each`; expected a \
         number up to 10000 or `every-node`",
    );
    web(
        "replicas: -1",
        "line 4, column 15: services.web.replicas: found the number `-1`; expected a \
         whole number from 0 to 10000",
    );
    web(
        r#"constraints: ["zone = eu"]"#,
        "line 4, column 19: services.web.constraints[0]: the unknown operator `=`; \
         expected `zone == eu`, `zone != eu`, `zone in eu, us`, `zone not in eu, us`, \
         `has gpu` or `not has gpu` (write `zone == eu`)",
    );
    web(
        r#"constraints: ["zone contains eu"]"#,
        "line 4, column 19: services.web.constraints[0]: the unknown operator \
         `contains`; expected `zone == eu`, `zone != eu`, `zone in eu, us`, `zone not in \
         eu, us`, `has gpu` or `not has gpu`",
    );
    web(
        "constraints: zone == eu",
        "line 4, column 18: services.web.constraints: found the text `zone == eu`; \
         expected a list of conditions (write for example [\"zone == eu\"])",
    );
    web(
        "constraints: [gpu]",
        "line 4, column 19: services.web.constraints[0]: `gpu` is no condition; expected \
         `zone == eu`, `zone != eu`, `zone in eu, us`, `zone not in eu, us`, `has gpu` \
         or `not has gpu` (write `has gpu` if the label must be there)",
    );
    web(
        "constraints: {zone: []}",
        "line 4, column 25: services.web.constraints.zone: a condition without a value; \
         expected at least one value (`has` asks whether a label is there at all)",
    );
    web(
        r#"labels: {"a b": c}"#,
        "line 4, column 14: services.web.labels.\"a b\": the label `a b` with ' ' in its \
         name; expected letters, digits and any of . _ - /",
    );
    web(
        r#"labels: {a: "b,c"}"#,
        "line 4, column 17: services.web.labels.a: the value `b,c` of a label; expected \
         text without commas, line breaks and outer spaces",
    );
    web(
        "labels: [a]",
        "line 4, column 13: services.web.labels: found a list; expected a map such as \
         {team: web}",
    );
}

#[test]
fn impossible_schedules_are_refused() {
    web(
        r#"schedule: "* * * * *""#,
        "line 4, column 5: services.web.schedule: unknown field `schedule`; expected one \
         of run, env, memory, cpu, cpuShares, disk, pids, ports, network, \
         working_directory, stdin, ready, replicas, restart, stop, files, constraints, labels, environment, runtime, user, volumes, secrets, devices, mounts, egress, warm \
         (only jobs have it, not a service)",
    );
    tick(
        "schedule: 5",
        "line 4, column 15: jobs.tick.schedule: found the number `5`; expected a cron \
         expression such as \"*/5 * * * *\" (put quotes round it to make it text)",
    );
    tick(
        r#"schedule: """#,
        "line 4, column 15: jobs.tick.schedule: a cron expression has five or six \
         fields, this one is empty; expected a cron expression such as \"*/5 * * * *\" \
         (write for example `0 3 * * *` or `@daily`)",
    );
    tick(
        r#"schedule: "* * *""#,
        "line 4, column 15: jobs.tick.schedule: a cron expression has five fields \
         (minute, hour, day of month, month, day of week) or six (second first), this \
         one has 3; expected a cron expression such as \"*/5 * * * *\"",
    );
    tick(
        r#"schedule: "61 * * * *""#,
        "line 4, column 15: jobs.tick.schedule: minute: 61 is out of range; expected a \
         cron expression such as \"*/5 * * * *\" (write 0 to 59)",
    );
    tick(
        r#"schedule: {cron: "0 0 30 2 *"}"#,
        "line 4, column 22: jobs.tick.schedule: `0 0 30 2 *` never occurs: no year has \
         such a day; expected a cron expression such as \"*/5 * * * *\" (check day of \
         month and month)",
    );
    tick(
        r#"schedule: {cron: "0 0 * * *", time_zone: Europe/Zürich}"#,
        "line 4, column 46: jobs.tick.schedule: `Europe/Zürich` is not a time zone; \
         expected a time zone such as Europe/Zurich (did you mean `Europe/Zurich`?)",
    );
    tick(
        "schedule: {every: 7m}",
        "line 4, column 23: jobs.tick.schedule.every: `7m` does not divide a minute, an \
         hour or a day; expected a time such as 30s, 5m, 2h or 1d (write the times that \
         you mean as `cron`)",
    );
    tick(
        "schedule: {every: 1h, time_zone: Europe/Zurich}",
        "line 4, column 23: jobs.tick.schedule: `every` with a time zone; expected \
         `cron` with a time zone, or `every` alone",
    );
    tick(
        r#"schedule: {every: 1h, cron: "* * * * *"}"#,
        "line 4, column 23: jobs.tick.schedule: `cron` and `every` are both given; \
         expected one of the two",
    );
    tick(
        "schedule: {}",
        "line 4, column 15: jobs.tick.schedule: a schedule without times; expected \
         `cron` or `every`",
    );
    tick(
        "overlap: no",
        "line 4, column 14: jobs.tick.overlap: found `no`; expected `skip` or `allow`",
    );
    tick(
        "missed: run_latest",
        "line 4, column 13: jobs.tick.missed: found `run_latest`; expected `skip` or \
         `run-latest` (did you mean `run-latest`?)",
    );
    tick(
        "attempts: 0",
        "line 4, column 15: jobs.tick.attempts: found the number `0`; expected a whole \
         number from 1 to 10000",
    );
    tick(
        "timeout: 0s",
        "line 4, column 14: jobs.tick.timeout: `0s` is too short; expected at least 1ms",
    );
    tick(
        "timeout: 4000d",
        "line 4, column 14: jobs.tick.timeout: `4000d` is more than 3660 days, the \
         longest time that can be asked for; expected a time with its unit, such as \
         500ms, 10s, 5m, 1h or 2d",
    );
    tick(
        "duration: 6h",
        "line 4, column 5: jobs.tick.duration: unknown field `duration`; expected one of \
         run, env, memory, cpu, cpuShares, disk, pids, ports, network, \
         working_directory, stdin, ready, schedule, overlap, missed, start_deadline, attempts, \
         timeout, restart, stop, files, constraints, labels, environment, runtime, user, volumes, secrets, devices, mounts, egress, warm (only sessions have it, not \
         a job)",
    );
    tick(
        "start_deadline: soon",
        "line 4, column 21: jobs.tick.start_deadline: `soon` does not start with a \
         number; expected a time with its unit, such as 500ms, 10s, 5m, 1h or 2d",
    );
}
