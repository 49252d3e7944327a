//! How errors are shown, what they keep to themselves, and what bounds the work on bad input.

use crate::yaml;
use spawnery_manifest::{ERRORS_MAX, Format, parse};
use spawnery_model::limits::MANIFEST_BYTES_MAX;

#[test]
fn an_error_is_shown_with_its_line_and_its_mend() {
    let check = |format, text: &str, expected: &str| {
        let errors = parse(text, format).expect_err("the manifest is wrong");
        assert_eq!(errors.render("fleet", text), expected);
    };
    check(
        Format::Yaml,
        "services:\n  web:\n    run: x\n    memmory: 256M\n    stop: {signal: TREM}\n",
        "\
fleet:4:5: unknown field `memmory`
  |
4 |     memmory: 256M
  |     ^^^^^^^
  field: services.web.memmory
  expected: one of run, env, memory, cpu, cpuShares, disk, pids, ports, network,
            working_directory, stdin, ready, replicas, restart, stop, files,
            constraints, labels, environment, runtime, user, volumes, secrets,
            devices, mounts, egress, warm
  hint: did you mean `memory`?

fleet:5:20: the unknown signal `TREM`
  |
5 |     stop: {signal: TREM}
  |                    ^^^^
  field: services.web.stop.signal
  expected: a signal such as TERM, INT or 15
  hint: did you mean `TERM`?

2 errors
",
    );
    check(
        Format::Toml,
        "[services.web]\nrun = \"x\"\nports = [8000, 70_000]\n",
        "\
fleet:3:16: found the number `70000`
  |
3 | ports = [8000, 70_000]
  |                ^^^^^^
  field: services.web.ports[1]
  expected: a whole number from 1 to 65535

1 error
",
    );
    check(
        Format::Json,
        "",
        "\
fleet:1:1: the manifest declares nothing
  expected: at least one service, job or session
  hint: start with `services:`, a name and `run:` below it

1 error
",
    );
}

#[test]
fn no_error_repeats_a_secret() {
    for field in [
        "env: [s3cret]",
        "env: {A: [s3cret]}",
        "env: {A: \"s3cret\\0\"}",
        "env: {\"A=\": s3cret}",
        "files: {a: s3cret}",
        "files: {/a: {content: [s3cret]}}",
        "files: {/a: {content_base64: s3cret}}",
        "run: [s3cret, [s3cret]]",
        "run: {s3cret: s3cret}",
    ] {
        let text = format!("services:\n  web:\n    {field}\n");
        let errors = parse(&text, Format::Yaml).expect_err("the manifest is wrong");
        let keys_only = errors.to_string();
        assert!(!keys_only.contains("s3cret"), "{keys_only}");
    }
}

#[test]
fn a_manifest_that_is_too_large_is_refused_unread() {
    let text = " ".repeat(MANIFEST_BYTES_MAX + 1);
    yaml(
        &text,
        "line 1, column 1: the manifest has 4194305 bytes; expected at most 4194304 bytes \
         (split it, and keep large files elsewhere)",
    );
}

#[test]
fn many_errors_are_counted_and_few_are_kept() {
    let fields: String = (0..10_000).map(|n| format!("    x{n}: 1\n")).collect();
    let text = format!("services:\n  web:\n    run: x\n{fields}");
    let errors = parse(&text, Format::Yaml).expect_err("the manifest is wrong");
    assert_eq!(errors.errors().len(), ERRORS_MAX);
    assert_eq!(errors.errors()[0].line, 4);
    assert!(errors.render("m", &text).ends_with("50 errors or more\n"));
}

#[test]
fn repeated_and_nested_values_cannot_grow_beyond_a_bound() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, above) in ["b", "c", "d", "e", "f", "g", "h", "i"].iter().zip("abcdefgh".chars()) {
        let aliases = vec![format!("*{above}"); 10].join(", ");
        bomb.push_str(&format!("{name}: &{name} [{aliases}]\n"));
    }
    let first = |text: &str, format| {
        let errors = parse(text, format).expect_err("the manifest is wrong");
        errors.errors().last().map(|error| error.found.clone())
    };
    let found = first(&bomb, Format::Yaml).unwrap_or_default();
    assert!(found.contains("has more than"), "{found}");
    let mut chain = "a0: &a0 [x]\n".to_owned();
    for n in 1..5000 {
        chain.push_str(&format!("a{n}: &a{n} [*a{}]\n", n - 1));
    }
    let found = first(&chain, Format::Yaml).unwrap_or_default();
    assert!(found.contains("deep in each other"), "{found}");
    for format in [Format::Yaml, Format::Json] {
        let found = first(&"[".repeat(100_000), format).unwrap_or_default();
        assert!(!found.is_empty());
        let found = first(&"{\"a\":".repeat(100_000), format).unwrap_or_default();
        assert!(!found.is_empty());
    }
    assert!(first(&format!("a = {}", "[".repeat(100_000)), Format::Toml).is_some());
    let dotted = format!("{}a = 1", "a.".repeat(70));
    let found = first(&dotted, Format::Toml).unwrap_or_default();
    assert!(found.contains("deep in each other"), "{found}");
}
