//! What is no manifest, or breaks its format.

use crate::{json, toml, yaml};

#[test]
fn what_is_no_manifest_is_refused() {
    yaml(
        "",
        "line 1, column 1: the manifest declares nothing; expected at least one service, \
         job or session (start with `services:`, a name and `run:` below it)",
    );
    yaml(
        "# nothing\n",
        "line 1, column 1: the manifest declares nothing; expected at least one service, \
         job or session (start with `services:`, a name and `run:` below it)",
    );
    yaml(
        "services: {}\n",
        "line 1, column 1: the manifest declares nothing; expected at least one service, \
         job or session (start with `services:`, a name and `run:` below it)",
    );
    yaml(
        "services:\n",
        "line 1, column 9: services: found nothing; expected a map of services by their \
         names",
    );
    yaml(
        "services: [web]\n",
        "line 1, column 11: services: found a list; expected a map of services by their \
         names",
    );
    yaml("just text", "line 1, column 1: found the text `just text`; expected a map of fields");
    yaml(
        "servces:\n  web: {run: x}\n",
        "line 1, column 1: servces: unknown field `servces`; expected one of services, jobs, sessions, environments, $schema (did you mean `services`?)",
    );
    yaml(
        "run: x\n",
        "line 1, column 1: run: unknown field `run`; expected one of services, jobs, sessions, environments, $schema (it belongs to a workload: below `services:`, `jobs:` or \
         `sessions:` and a name)",
    );
    json("[]", "line 1, column 1: found a list; expected a map of fields");
    toml(
        "x = 1\n",
        "line 1, column 1: x: unknown field `x`; expected one of services, jobs, sessions, environments, $schema",
    );
}

#[test]
fn a_workload_without_a_name_of_its_own_or_a_program_is_refused() {
    yaml(
        "services:\n  web: {}\n",
        "line 2, column 3: services.web: the service `web` does not say what to run; \
         expected the field `run` (add for example `run: echo hello`)",
    );
    yaml(
        "services:\n  web:\n",
        "line 2, column 6: services.web: found nothing; expected a map of fields",
    );
    yaml(
        "services:\n  My_Web: {run: x}\n",
        "line 2, column 3: services.My_Web: `My_Web` is not a name: a name has \
         lower-case letters, digits and hyphens only, not 'M'; expected lower-case \
         letters, digits and hyphens, such as web-1 (write `my-web`)",
    );
    yaml(
        "services:\n  web: {run: x}\njobs:\n  web: {run: x}\n",
        "line 4, column 3: jobs.web: `web` is the name of a service too; expected names \
         that differ over services, jobs and sessions",
    );
    yaml(
        "services:\n  web: {run: x}\n  web: {run: y}\n",
        "line 3, column 3: `web` is given twice; expected each name once (keep one of \
         the two)",
    );
    yaml(
        "services:\n  web:\n    run: x\n    run: y\n",
        "line 4, column 5: `run` is given twice; expected each name once (keep one of \
         the two)",
    );
    yaml(
        "services: {web: {run: []}}\n",
        "line 1, column 23: services.web.run: found an empty list; expected a program to \
         run",
    );
    yaml(
        "services: {web: {run: \"\"}}\n",
        "line 1, column 23: services.web.run: found empty text; expected a list such as \
         [sleep, 60], or a line for `sh -c`",
    );
    yaml(
        "services: {web: {run: [\"\", a]}}\n",
        "line 1, column 24: services.web.run[0]: found empty text; expected a program to \
         run",
    );
    yaml(
        "services: {web: {run: [a, null]}}\n",
        "line 1, column 27: services.web.run[1]: found nothing; expected a word of text \
         (for empty text write \"\")",
    );
    yaml(
        "services: {web: {run: [a, \"b\\0\"]}}\n",
        "line 1, column 27: services.web.run[1]: a NUL character in text; expected text \
         without a NUL",
    );
    yaml(
        "services: {web: {run: {a: b}}}\n",
        "line 1, column 23: services.web.run: found a map; expected a list such as \
         [sleep, 60], or a line for `sh -c`",
    );
    toml(
        "[services.web]\nrun = \"x\"\n[jobs.web]\nrun = \"y\"\n",
        "line 3, column 7: jobs.web: `web` is the name of a service too; expected names \
         that differ over services, jobs and sessions",
    );
}

#[test]
fn what_breaks_yaml_is_refused() {
    yaml(
        "services:\n\tweb: {run: x}\n",
        "line 2, column 2: tabs disallowed within this context (block indentation); \
         expected valid YAML (indent with spaces; YAML does not take tabs)",
    );
    yaml(
        "services:\n  web: {run: x\n",
        "line 2, column 8: unclosed bracket '{'; expected valid YAML",
    );
    yaml(
        "services: {web: {run: x}}\n---\njobs: {}\n",
        "line 2, column 1: a second document starts here; expected one document in a \
         manifest (remove the `---`, or make two manifests)",
    );
    yaml(
        "services: {web: {run: !shell x}}\n",
        "line 1, column 30: a tag that means nothing here; expected a value without a \
         tag (remove the word that starts with `!`)",
    );
    yaml(
        "services: {web: {run: *line}}\n",
        "line 1, column 23: no anchor is called `line`; expected the name of an anchor \
         above (mark the value that is meant with `&line`, or put quotes round text that \
         starts with `*`)",
    );
    yaml(
        "services: {web: &w {run: *w}}\n",
        "line 1, column 26: an alias inside the value that it repeats; expected an alias \
         of a finished value",
    );
    yaml(
        "? [a]\n: b\n",
        "line 1, column 3: found a list where a name stands; expected a name before the \
         colon",
    );
    yaml(
        "services:\n  web:\n    run: x\n    <<: {pids: 5}\n",
        "line 4, column 5: services.web.\"<<\": unknown field `<<`; expected one of run, \
         env, memory, cpu, cpuShares, disk, pids, ports, network, working_directory, \
         stdin, ready, replicas, restart, stop, files, constraints, labels, environment, runtime, user, volumes, secrets, devices, mounts, egress, warm (YAML 1.2 does not \
         merge maps; repeat the fields)",
    );
    yaml(
        "äö: ü\nservices: {web: {run: x, pids: 0}}\n",
        concat!(
            "line 1, column 1: \"äö\": unknown field `äö`; expected one of services, jobs, sessions, environments, $schema\n",
            "line 2, column 32: services.web.pids: found the number `0`; expected a whole number from 1 to 4194304"
        ),
    );
}

#[test]
fn what_breaks_toml_is_refused() {
    toml(
        "[services.web\nrun = \"x\"\n",
        "line 1, column 14: unclosed table, expected `]`; expected valid TOML",
    );
    toml(
        "[services.web]\nrun = \"x\"\nrun = \"y\"\n",
        "line 3, column 1: duplicate key; expected valid TOML (keep one of the two)",
    );
    toml(
        "[services.web]\nrun = x\nmemory = 5 6\n",
        concat!(
            "line 2, column 7: string values must be quoted, expected literal string; expected valid TOML\n",
            "line 3, column 10: string values must be quoted, expected literal string; expected valid TOML"
        ),
    );
    toml(
        "[services.web]\nrun = \"x\"\nmemmory = \"1G\"\n",
        "line 3, column 1: services.web.memmory: unknown field `memmory`; expected one \
         of run, env, memory, cpu, cpuShares, disk, pids, ports, network, \
         working_directory, stdin, ready, replicas, restart, stop, files, constraints, labels, environment, runtime, user, volumes, secrets, devices, mounts, egress, warm \
         (did you mean `memory`?)",
    );
    toml(
        "[services.web]\nrun = \"x\"\ncpu = 0.0\nstart = 1979-05-27\n",
        concat!(
            "line 3, column 7: services.web.cpu: no processor share at all; expected a number of cores such as 2 or 0.5, at least 0.001\n",
            "line 4, column 1: services.web.start: unknown field `start`; expected one of run, env, memory, cpu, cpuShares, disk, pids, ports, network, working_directory, stdin, ready, replicas, restart, stop, files, constraints, labels, environment, runtime, user, volumes, secrets, devices, mounts, egress, warm (did you mean `restart`?)"
        ),
    );
    toml(
        "services.web.run = \"x\"\nservices.web.ports = [80, 0x50]\n",
        "line 2, column 27: services.web.ports[1]: port 80 is given twice; expected each \
         port once",
    );
    toml(
        "[services.web]\nrun = \"x\"\n[services.web.files.\"/a\"]\ncontent = \"\"\nmode = 420\n",
        "line 5, column 8: services.web.files.\"/a\".mode: found the number `420`; \
         expected permission bits in octal digits, such as \"0644\" or \"0755\" (write \
         the octal digits as text, in quotes)",
    );
}

#[test]
fn what_breaks_json_is_refused() {
    json(
        r#"{"services": {"web": {"run": "x", "memmory": "1G"}}}"#,
        "line 1, column 35: services.web.memmory: unknown field `memmory`; expected one \
         of run, env, memory, cpu, cpuShares, disk, pids, ports, network, \
         working_directory, stdin, ready, replicas, restart, stop, files, constraints, labels, environment, runtime, user, volumes, secrets, devices, mounts, egress, warm \
         (did you mean `memory`?)",
    );
    json(
        r#"{"services": {"web": {"run": "x"}, "web": {"run": "y"}}}"#,
        "line 1, column 36: `web` is given twice; expected each name once (keep one of \
         the two)",
    );
    json(
        r#"{"services": {"web": {"run": "x",}}}"#,
        "line 1, column 34: found `}`; expected a name in double quotes (remove the \
         comma before it)",
    );
    json(
        r#"{"services": {'web': 1}}"#,
        "line 1, column 15: found `'`; expected a name in double quotes (JSON has double \
         quotes only)",
    );
    json(
        r#"{"services": {"web": {"run": x}}}"#,
        "line 1, column 30: the word `x` without quotes; expected a value (put double \
         quotes round text)",
    );
    json(
        r#"{"services": {"web": {"run": "x", "mode": 0644}}}"#,
        "line 1, column 44: found `6`; expected the end of the number (text such as \
         \"512M\" or \"0644\" needs double quotes)",
    );
    json(
        r#"{"services": {"web": {"run": "x"#,
        "line 1, column 30: the text that starts here does not end; expected a closing \
         double quote",
    );
    json(
        r#"{"jobs": {"a": {"run": "\x"}}}"#,
        "line 1, column 25: an unknown escape; expected one of \\\" \\\\ \\/ \\b \\f \\n \
         \\r \\t \\uXXXX",
    );
    json(
        r#"{"jobs": {"a": {"run": "\ud800"}}}"#,
        "line 1, column 25: an escape that is no character; expected one of \\\" \\\\ \
         \\/ \\b \\f \\n \\r \\t \\uXXXX",
    );
    json(
        r#"{"jobs": {}} // no"#,
        "line 1, column 14: found `/`; expected the end of the manifest (JSON has no \
         comments; YAML and TOML do)",
    );
    json(
        "{\n  \"jobs\": {\n    \"a\": {\"run\": \"é\", \"attempts\": 1.0}\n  }\n}",
        "line 3, column 35: jobs.a.attempts: found the number `1.0`; expected a whole \
         number from 1 to 10000",
    );
}
