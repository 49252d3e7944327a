//! Surroundings that cannot be.

use crate::web;

/// Checks a field of a service with a private network.
fn private(field: &str, expected: &str) {
    web(&format!("network: private\n    {field}"), expected);
}

#[test]
fn impossible_environments_and_users_are_refused() {
    web(
        "environment: tools",
        "line 4, column 18: services.web.environment: no environment is called `tools`; \
         expected one of `environments`, or a recipe (add `environments:` and `tools` at \
         the top)",
    );
    web(
        "environment: host",
        "line 4, column 18: services.web.environment: no environment is called `host`; \
         expected one of `environments`, or a recipe (write {base: host}, or leave it \
         out)",
    );
    web(
        "environment: [A=s3cret]",
        "line 4, column 18: services.web.environment: found a list; expected the name of \
         one of `environments`, or a recipe (variables go into `env`)",
    );
    web(
        "environment: 5",
        "line 4, column 18: services.web.environment: found a number; expected the name \
         of one of `environments`, or a recipe",
    );
    web(
        "runtime: runc",
        "line 4, column 14: services.web.runtime: found `runc`; expected `process`, `oci` \
         or `docker`",
    );
    web(
        "user: www-data",
        "line 4, column 11: services.web.user: found the text `www-data`; expected a user \
         id such as 1000, or 1000:1000, up to 65534 (write the number that the \
         environment has for it)",
    );
    web(
        "user: 70000",
        "line 4, column 11: services.web.user: found the number `70000`; expected a user \
         id such as 1000, or 1000:1000, up to 65534",
    );
    web(
        r#"user: "1:2:3""#,
        "line 4, column 11: services.web.user: found the text `1:2:3`; expected a user id \
         such as 1000, or 1000:1000, up to 65534",
    );
    web(
        "user: [1]",
        "line 4, column 11: services.web.user: found a list; expected a user id such as \
         1000, or 1000:1000, up to 65534",
    );
    web(
        "user: -1",
        "line 4, column 11: services.web.user: found the number `-1`; expected a user id \
         such as 1000, or 1000:1000, up to 65534",
    );
}

#[test]
fn impossible_volumes_and_secrets_are_refused() {
    web(
        "volumes: data",
        "line 4, column 14: services.web.volumes: found text; expected a list of volumes \
         (write for example [data])",
    );
    web(
        r#"volumes: ["data:/srv"]"#,
        "line 4, column 15: services.web.volumes[0]: found the text `data:/srv`; expected \
         a volume's name such as data, or a map (write {name: data, path: /srv/data}; \
         folders of the node are `mounts`)",
    );
    web(
        "volumes: [Data]",
        "line 4, column 15: services.web.volumes[0]: `Data` is not a name: a name has \
         lower-case letters, digits and hyphens only, not 'D'; expected lower-case \
         letters, digits and hyphens, such as web-1 (write `data`)",
    );
    web(
        "volumes: [data, data]",
        "line 4, column 21: services.web.volumes[1]: the volume `data` is given twice; \
         expected each volume once",
    );
    web(
        "volumes: [{path: /srv}]",
        "line 4, column 15: services.web.volumes[0]: no `name`; expected the volume's \
         `name`",
    );
    web(
        "volumes: [{name: data, path: /proc/x}]",
        "line 4, column 34: services.web.volumes[0].path: `/proc/x` lies in `/proc`, \
         which Spawnery fills; expected a path elsewhere, such as /srv/app",
    );
    web(
        "volumes: [{name: data, path: /run/secrets}]",
        "line 4, column 34: services.web.volumes[0].path: `/run/secrets` lies in \
         `/run/secrets`, which Spawnery fills; expected a path elsewhere, such as \
         /srv/app",
    );
    web(
        "volumes: [{name: data, path: srv}]",
        "line 4, column 34: services.web.volumes[0].path: `srv` is not absolute; expected \
         an absolute path such as /etc/app.conf (write `/srv`)",
    );
    web(
        "volumes: [{name: data, readonly: true}]",
        "line 4, column 28: services.web.volumes[0].readonly: unknown field `readonly`; \
         expected one of name, path, exclusive, read_only (did you mean `read_only`?)",
    );
    web(
        "volumes: [a, {name: b, path: /srv/a}]",
        "line 4, column 18: services.web.volumes[1]: two things are put at `/srv/a`; \
         expected paths that can stand together",
    );
    web(
        "secrets: password",
        "line 4, column 14: services.web.secrets: found text; expected a list of secrets \
         (write for example [password])",
    );
    web(
        r#"secrets: ["S3cret!"]"#,
        "line 4, column 15: services.web.secrets[0]: text that is not the name of a \
         secret; expected the name of a secret, such as registry (keep the value by \
         `spawnery secret set NAME`)",
    );
    web(
        "secrets: [a, a]",
        "line 4, column 18: services.web.secrets[1]: the secret `a` is given twice; \
         expected each once",
    );
    web(
        "secrets: [{variable: A}]",
        "line 4, column 15: services.web.secrets[0]: no `name`; expected the secret's \
         `name`",
    );
    web(
        "secrets: [{name: a, value: s3cret}]",
        "line 4, column 25: services.web.secrets[0].value: unknown field `value`; \
         expected one of name, variable (keep the value by `spawnery secret set NAME`, \
         not in a manifest)",
    );
    web(
        r#"secrets: [{name: a, variable: "A-B"}]"#,
        "line 4, column 35: services.web.secrets[0].variable: text that is not the name \
         of a variable; expected the name of a variable, such as PASSWORD (a name has \
         letters, digits and `_`)",
    );
    web(
        "secrets: [{name: a, variable: A}, {name: b, variable: A}]",
        "line 4, column 39: services.web.secrets[1]: the variable `A` is given twice; \
         expected each once",
    );
}

#[test]
fn impossible_devices_and_mounts_are_refused() {
    web(
        "devices: /dev/kvm",
        "line 4, column 14: services.web.devices: found text; expected a list of device \
         nodes (write for example [/dev/kvm])",
    );
    web(
        "devices: [kvm]",
        "line 4, column 15: services.web.devices[0]: `kvm` is no device node; expected a \
         device node below /dev, such as /dev/kvm",
    );
    web(
        r#"devices: ["/dev/kvm:/dev/kvm"]"#,
        "line 4, column 15: services.web.devices[0]: `/dev/kvm:/dev/kvm` is no device \
         node; expected a device node below /dev, such as /dev/kvm (write /dev/kvm; it \
         has the same name inside)",
    );
    web(
        "devices: [/dev/../etc/shadow]",
        "line 4, column 15: services.web.devices[0]: `/dev/../etc/shadow` is no device \
         node; expected a device node below /dev, such as /dev/kvm",
    );
    web(
        "devices: [/dev/kvm, /dev/kvm]",
        "line 4, column 25: services.web.devices[1]: `/dev/kvm` is given twice; expected \
         each device once",
    );
    web(
        "mounts: [/mnt]",
        "line 4, column 14: services.web.mounts[0]: found the text `/mnt`; expected a map \
         with `from`, `to` or `read_only`",
    );
    web(
        "mounts: [{from: /mnt}]",
        "line 4, column 14: services.web.mounts[0]: a mount without `from` or without \
         `to`; expected both `from` and `to`",
    );
    web(
        "mounts: [{from: mnt, to: /srv/mnt}]",
        "line 4, column 21: services.web.mounts[0].from: `mnt` is not absolute; expected \
         an absolute path such as /etc/app.conf (write `/mnt`)",
    );
    web(
        "mounts: [{from: /mnt, to: /sys/x}]",
        "line 4, column 31: services.web.mounts[0].to: `/sys/x` lies in `/sys`, which \
         Spawnery fills; expected a path elsewhere, such as /srv/app",
    );
    web(
        "egress: {}",
        "line 4, column 13: services.web.egress: `egress` without a private network; \
         expected `network: private` beside it",
    );
}

#[test]
fn fields_of_other_systems_are_known() {
    web(
        "warm: -1",
        "line 4, column 11: services.web.warm: found the number `-1`; expected a whole \
         number from 0 to 256",
    );
    web(
        "warm: 1000",
        "line 4, column 11: services.web.warm: found the number `1000`; expected a whole \
         number from 0 to 256",
    );
    web(
        "image: a",
        "line 4, column 5: services.web.image: unknown field `image`; expected one of \
         run, env, memory, cpu, cpuShares, disk, pids, ports, network, working_directory, \
         stdin, ready, replicas, restart, stop, files, constraints, labels, environment, \
         runtime, user, volumes, secrets, devices, mounts, egress, warm (write \
         `environment: {base: {image: …}}`)",
    );
    web(
        "aptRequires: git",
        "line 4, column 5: services.web.aptRequires: unknown field `aptRequires`; \
         expected one of run, env, memory, cpu, cpuShares, disk, pids, ports, network, \
         working_directory, stdin, ready, replicas, restart, stop, files, constraints, labels, \
         environment, runtime, user, volumes, secrets, devices, mounts, egress, warm \
         (write `environment: {packages: {apt: […]}}`)",
    );
    web(
        "source: x",
        "line 4, column 5: services.web.source: unknown field `source`; expected one of \
         run, env, memory, cpu, cpuShares, disk, pids, ports, network, working_directory, \
         stdin, ready, replicas, restart, stop, files, constraints, labels, environment, \
         runtime, user, volumes, secrets, devices, mounts, egress, warm (write \
         `environment: {source: {git: …}}`)",
    );
    web(
        "build: [a]",
        "line 4, column 5: services.web.build: unknown field `build`; expected one of \
         run, env, memory, cpu, cpuShares, disk, pids, ports, network, working_directory, \
         stdin, ready, replicas, restart, stop, files, constraints, labels, environment, \
         runtime, user, volumes, secrets, devices, mounts, egress, warm (write \
         `environment: {build: …}`)",
    );
    web(
        "includedFiles: [a]",
        "line 4, column 5: services.web.includedFiles: unknown field `includedFiles`; \
         expected one of run, env, memory, cpu, cpuShares, disk, pids, ports, network, \
         working_directory, stdin, ready, replicas, restart, stop, files, constraints, labels, \
         environment, runtime, user, volumes, secrets, devices, mounts, egress, warm \
         (write `environment: {files: {/srv/NAME: ./NAME}}`)",
    );
    web(
        "includedDirectories: [a]",
        "line 4, column 5: services.web.includedDirectories: unknown field \
         `includedDirectories`; expected one of run, env, memory, cpu, cpuShares, disk, \
         pids, ports, network, working_directory, stdin, ready, replicas, restart, stop, files, \
         constraints, labels, environment, runtime, user, volumes, secrets, devices, \
         mounts, egress, warm (write `environment: {directories: {/srv/NAME: ./NAME}}`)",
    );
    web(
        "useHostNet: true",
        "line 4, column 5: services.web.useHostNet: unknown field `useHostNet`; expected \
         one of run, env, memory, cpu, cpuShares, disk, pids, ports, network, \
         working_directory, stdin, ready, replicas, restart, stop, files, constraints, labels, \
         environment, runtime, user, volumes, secrets, devices, mounts, egress, warm \
         (write `network: host`)",
    );
    web(
        "restartInt: 5s",
        "line 4, column 5: services.web.restartInt: unknown field `restartInt`; expected \
         one of run, env, memory, cpu, cpuShares, disk, pids, ports, network, \
         working_directory, stdin, ready, replicas, restart, stop, files, constraints, labels, \
         environment, runtime, user, volumes, secrets, devices, mounts, egress, warm \
         (write `restart: {delay: …}`)",
    );
    web(
        "entity: x",
        "line 4, column 5: services.web.entity: unknown field `entity`; expected one of \
         run, env, memory, cpu, cpuShares, disk, pids, ports, network, working_directory, \
         stdin, ready, replicas, restart, stop, files, constraints, labels, environment, \
         runtime, user, volumes, secrets, devices, mounts, egress, warm (write `secrets: \
         [NAME]`)",
    );
    web(
        "base: host",
        "line 4, column 5: services.web.base: unknown field `base`; expected one of run, \
         env, memory, cpu, cpuShares, disk, pids, ports, network, working_directory, \
         stdin, ready, replicas, restart, stop, files, constraints, labels, environment, \
         runtime, user, volumes, secrets, devices, mounts, egress, warm (write \
         `environment: {base: …}`)",
    );
}

#[test]
fn impossible_egresses_are_refused() {
    private(
        "egress: [a]",
        "line 5, column 13: services.web.egress: found a list; expected a map of fields",
    );
    private(
        "egress: {allow: 10.0.0.0/8}",
        "line 5, column 21: services.web.egress.allow: found text; expected a list of \
         rules (write for example [\"10.0.0.0/8:443\"])",
    );
    private(
        "egress: {allow: [10.0.0.5/8]}",
        "line 5, column 22: services.web.egress.allow[0]: `10.0.0.5/8` has bits beyond \
         its first 8; expected a block of addresses such as 10.0.0.0/8 or 10.0.0.0/8:443 \
         (write 10.0.0.0/8, or 10.0.0.5 alone)",
    );
    private(
        "egress: {allow: [example.org]}",
        "line 5, column 22: services.web.egress.allow[0]: `example.org` is no block of \
         addresses; expected a block of addresses such as 10.0.0.0/8 or 10.0.0.0/8:443 \
         (names go into `names`)",
    );
    private(
        r#"egress: {allow: ["10.0.0.0/8:0"]}"#,
        "line 5, column 22: services.web.egress.allow[0]: `0` is no port; expected a \
         block of addresses such as 10.0.0.0/8 or 10.0.0.0/8:443 (a port is from 1 to \
         65535, a range such as 8000-8080)",
    );
    private(
        r#"egress: {deny: ["2001:db8::/32:443"]}"#,
        "line 5, column 21: services.web.egress.deny[0]: `2001:db8::/32:443` is no block \
         of addresses; expected a block of addresses such as 10.0.0.0/8 or 10.0.0.0/8:443 \
         (write [ADDRESS]/BITS:PORT with IPv6 and a port)",
    );
    private(
        "egress: {rules: [10.0.0.0/8]}",
        "line 5, column 22: services.web.egress.rules[0]: `10.0.0.0/8` without `allow` or \
         `deny`; expected `allow` or `deny` and a block such as 10.0.0.0/8:443 (write \
         `allow 10.0.0.0/8` or `deny 10.0.0.0/8`)",
    );
    private(
        r#"egress: {rules: ["permit 10.0.0.0/8"]}"#,
        "line 5, column 22: services.web.egress.rules[0]: `permit 10.0.0.0/8` without \
         `allow` or `deny`; expected `allow` or `deny` and a block such as 10.0.0.0/8:443 \
         (write `allow 10.0.0.0/8` or `deny 10.0.0.0/8`)",
    );
    private(
        "egress: {rules: [], allow: []}",
        "line 5, column 13: services.web.egress: `rules` beside `allow` or `deny`; \
         expected either `rules`, or `allow` and `deny` (in `rules` the order decides)",
    );
    private(
        r#"egress: {names: ["https://example.org/"]}"#,
        "line 5, column 22: services.web.egress.names[0]: `https://example.org/` is no \
         name; expected a name such as example.org or *.example.org (write example.org)",
    );
    private(
        "egress: {names: [10.0.0.1]}",
        "line 5, column 22: services.web.egress.names[0]: `10.0.0.1` is no name; expected \
         a name such as example.org or *.example.org (addresses go into `allow`)",
    );
    private(
        "egress: {names: [Example.org]}",
        "line 5, column 22: services.web.egress.names[0]: `Example.org` is no name; \
         expected a name such as example.org or *.example.org (write example.org)",
    );
    private(
        r#"egress: {names: ["a b"]}"#,
        "line 5, column 22: services.web.egress.names[0]: `a b` is no name; expected a \
         name such as example.org or *.example.org",
    );
    private(
        "egress: {default: none}",
        "line 5, column 23: services.web.egress.default: found `none`; expected `allow` \
         or `deny`",
    );
    private(
        "egress: {transfer: lots}",
        "line 5, column 24: services.web.egress.transfer: `lots` does not start with a \
         number; expected an amount such as 10G or 4G, at least 1B",
    );
    private(
        "egress: {domains: []}",
        "line 5, column 14: services.web.egress.domains: unknown field `domains`; \
         expected one of allow, deny, rules, names, default, transfer (did you mean \
         `names`?)",
    );
}

#[test]
fn what_cannot_stand_together_is_refused() {
    web(
        "files: {/srv/a/b: x}\n    volumes: [a]",
        "line 5, column 15: services.web.volumes[0]: the file `/srv/a/b` would be put \
         into `/srv/a`; expected paths that can stand together",
    );
    web(
        "files: {/srv/a: x}\n    volumes: [a]",
        "line 5, column 15: services.web.volumes[0]: two things are put at `/srv/a`; \
         expected paths that can stand together",
    );
    web(
        "files: {/srv: x}\n    volumes: [a]",
        "line 5, column 15: services.web.volumes[0]: `/srv` is a file and a folder; \
         expected paths that can stand together",
    );
    web(
        "env: {A: s3cret}\n    secrets: [{name: a, variable: A}]",
        "line 5, column 15: services.web.secrets: the variable `A` is in `env` too; \
         expected each variable once",
    );
    web(
        "volumes: [a]\n    mounts: [{from: /mnt, to: /srv/a}]",
        "line 5, column 14: services.web.mounts[0]: two things are put at `/srv/a`; \
         expected paths that can stand together",
    );
}
