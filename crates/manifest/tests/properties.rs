//! Rubbish never breaks the readers, and what is written is read back.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use spawnery_manifest::{Format, Manifest, check_label, parse};
use spawnery_model::limits::{
    CPU_MAX, DURATION_MAX, KEY_LEASE_MIN, MEMORY_MAX, MEMORY_MIN, STOP_GRACE_MAX,
};
use spawnery_model::{
    Access, Bytes, Constraint, ConstraintOperator, CpuMillis, DurationMs, File, JobSettings, Kind,
    Missed, Name, Network, Overlap, Port, Process, Replicas, Restart, RestartPolicy, Schedule,
    ServiceSettings, SessionSettings, Stop, Warnings, Workload,
};
use std::collections::BTreeMap;

const FORMATS: [Format; 3] = [Format::Yaml, Format::Toml, Format::Json];

const EXAMPLES: [(Format, &str); 4] = [
    (Format::Yaml, include_str!("../../../examples/tour.yaml")),
    (Format::Toml, include_str!("../../../examples/fleet.toml")),
    (Format::Json, include_str!("../../../examples/jobs.json")),
    (Format::Yaml, include_str!("../../../examples/environment.yaml")),
];

/// Checks that a manifest is read back from its canonical form, or that its errors lie within
/// the text and can be shown.
fn check(format: Format, text: &str) -> Result<(), TestCaseError> {
    let errors = match parse(text, format) {
        Ok(manifest) => return check_canonical(&manifest),
        Err(errors) => errors,
    };
    prop_assert!(!errors.errors().is_empty());
    let text_with_newlines = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text_with_newlines.split('\n').collect();
    for error in errors.errors() {
        prop_assert!((1..=lines.len()).contains(&error.line), "{error:?}");
        let line = lines[error.line - 1].chars().count();
        prop_assert!((1..=line + 1).contains(&error.column), "{error:?}");
        prop_assert!(error.width >= 1, "{error:?}");
        prop_assert!(error.column + error.width <= line + 2, "{error:?}");
        prop_assert!(!error.found.is_empty() && !error.expected.is_empty());
    }
    let shown = errors.render("m", text);
    let is_bad = |c: char| c.is_control() && c != '\n';
    prop_assert!(!shown.contains(is_bad), "{shown:?}");
    Ok(())
}

fn check_canonical(manifest: &Manifest) -> Result<(), TestCaseError> {
    let json = manifest.to_json();
    match parse(&json, Format::Json) {
        Ok(again) => {
            prop_assert_eq!(&again.workloads, &manifest.workloads);
            prop_assert_eq!(&again.environments, &manifest.environments);
            prop_assert_eq!(again.to_json(), json);
        }
        Err(errors) => prop_assert!(false, "{}\n{}", errors, json),
    }
    Ok(())
}

/// What is hard to read, somewhere.
fn snippet() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "",
        "\0",
        "\r",
        "\r\n",
        "\n",
        "\t",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "*a",
        "&a ",
        "[",
        "]",
        "{",
        "}",
        ":",
        ": ",
        ",",
        "- ",
        "? ",
        "!!binary ",
        "!x ",
        "|",
        ">",
        "'''",
        "\"\"\"",
        "\"",
        "'",
        "#",
        "%YAML 1.2\n",
        "---\n",
        "...\n",
        "<<: ",
        "é",
        "😀",
        "\\ud83d",
        "\\ude00",
        "\\u00",
        "1e999",
        "0x",
        "-0",
        "~",
        "null",
        "true",
        "=",
        "==",
        "..",
        "/",
        "   ",
        "inf",
        "1979-05-27T07:32:00Z",
        "services",
        "jobs",
        "run",
        "files",
        "4096T",
        "-1s",
        "99999999999999999999999999999999999999999999",
    ]);
    prop_oneof![
        4 => fixed.prop_map(str::to_owned),
        1 => "\\PC{0,4}",
        1 => any::<char>().prop_map(|c| c.to_string()),
    ]
}

/// A change of a text: where (of 65536), how much is cut out, and what is put in.
fn edit() -> impl Strategy<Value = (u16, usize, String)> {
    (any::<u16>(), prop_oneof![3 => Just(0), 1 => 0..40usize], snippet())
}

fn edited(text: &str, edits: &[(u16, usize, String)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (place, cut, put) in edits {
        let start = characters.len() * usize::from(*place) / 65536;
        let end = (start + cut).min(characters.len());
        characters.splice(start..end, put.chars());
    }
    characters.into_iter().collect()
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?".prop_map(|text| Name::new(text).expect("it is a name"))
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z =:#'\"\\\\]{0,9}", "[^\\x00]{0,9}"]
}

fn time(most: DurationMs) -> impl Strategy<Value = DurationMs> {
    let round = (1..=48u64).prop_map(|hours| DurationMs::from_secs(hours * 75));
    prop_oneof![round, (1..=most.0).prop_map(DurationMs)]
}

fn memory() -> impl Strategy<Value = Bytes> {
    let round = (1..=4096u64).prop_map(Bytes::mib);
    prop_oneof![round, (MEMORY_MIN.0..=MEMORY_MAX.0).prop_map(Bytes)]
}

fn path() -> impl Strategy<Value = String> {
    "/[a-z.é ]{0,5}[a-z](/[a-z]{1,3}){0,2}"
}

fn label() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9._/-]{1,9}".prop_filter("reserved", |key| check_label(key, "").is_ok())
}

fn label_value() -> impl Strategy<Value = String> {
    r"[^,\s\p{Cc}]{1,4}( [^,\s\p{Cc}]{1,4})?"
        .prop_filter("not a value", |value| check_label("a", value).is_ok())
}

fn constraint() -> impl Strategy<Value = Constraint> {
    use ConstraintOperator::{Exists, In, NotExists, NotIn};
    let compared = (prop::sample::select(vec![In, NotIn]), vec(label_value(), 1..4));
    let present = (prop::sample::select(vec![Exists, NotExists]), Just(Vec::new()));
    (label(), prop_oneof![compared, present]).prop_map(|(label, (operator, values))| Constraint {
        label,
        operator,
        values,
    })
}

fn files() -> impl Strategy<Value = Vec<File>> {
    let content = prop_oneof![vec(any::<u8>(), 0..20), text().prop_map(String::into_bytes)];
    btree_map(path(), (0..=0o777u32, content), 0..3).prop_map(|files| {
        let mut kept: Vec<File> = Vec::new();
        for (path, (mode, content)) in files {
            let folder = |above: &str| path.starts_with(&format!("{above}/"));
            if !kept.iter().any(|file| folder(&file.path)) {
                kept.push(File { path, mode, content });
            }
        }
        kept
    })
}

fn process() -> impl Strategy<Value = Process> {
    let run = ("[a-z/]{1,9}", vec(text(), 0..4)).prop_map(|(program, mut arguments)| {
        arguments.insert(0, program);
        arguments
    });
    let cpu = (1..=CPU_MAX.0, option::of(0..=CPU_MAX.0)).prop_map(|(reserved, more)| {
        let max = more.map(|more| CpuMillis((reserved + more).min(CPU_MAX.0)));
        (CpuMillis(reserved), max)
    });
    let ports = btree_map(1..=u16::MAX, Just(()), 0..4).prop_map(|ports| {
        let numbered = ports.into_keys().enumerate();
        let named = numbered.map(|(index, port)| Port {
            name: Name::new(format!("p{index}")).expect("it is a name"),
            port,
        });
        named.collect::<Vec<_>>()
    });
    let network = prop::sample::select(vec![Network::None, Network::Host]);
    let env = btree_map("[^=\\x00]{1,9}", text(), 0..4);
    (
        (run, env, memory(), cpu, option::of((1..=MEMORY_MAX.0).prop_map(Bytes)), 1..=4_194_304u32),
        (ports, option::of(path()), network, files(), any::<bool>()),
    )
        .prop_map(|((run, env, memory, cpu, disk_max, pids_max), rest)| {
            let (ports, working_directory, network, files, stdin) = rest;
            Process {
                run,
                env,
                memory,
                cpu_reserved: cpu.0,
                cpu_max: cpu.1,
                disk_max,
                pids_max,
                ports,
                working_directory,
                network,
                files,
                stdin: stdin.then_some(true),
                ready: None,
            }
        })
}

fn kind() -> impl Strategy<Value = Kind> {
    let replicas =
        prop_oneof![(0..=10_000u32).prop_map(Replicas::Count), Just(Replicas::EveryNode)];
    let service = replicas.prop_map(|replicas| Kind::Service(ServiceSettings { replicas }));
    let crons = vec!["* * * * *", "*/10 30 2 * * 1-5", "0 0 29 2 *"];
    let zones = vec!["UTC", "Europe/Zurich"];
    let schedule = (prop::sample::select(crons), prop::sample::select(zones));
    let schedule = schedule.prop_map(|(cron, time_zone)| Schedule {
        cron: cron.to_owned(),
        time_zone: time_zone.to_owned(),
    });
    let job = (
        option::of(schedule),
        prop::sample::select(vec![Overlap::Skip, Overlap::Allow]),
        prop::sample::select(vec![Missed::Skip, Missed::RunLatest]),
        time(DURATION_MAX),
        1..=10_000u32,
        option::of(time(DURATION_MAX)),
    )
        .prop_map(|(schedule, overlap, missed, start_deadline, attempts_max, timeout)| {
            Kind::Job(JobSettings {
                schedule,
                overlap,
                missed,
                start_deadline,
                attempts_max,
                timeout,
            })
        });
    let times = || option::of(time(DURATION_MAX));
    let access = prop_oneof![
        Just(None),
        Just(Some(Access::Public)),
        Just(Some(Access::Forward { url: "https://auth.example.org/check".to_owned() })),
    ];
    let warnings = option::of((times(), times(), option::of(1..=64i32)));
    let session = (times(), times(), option::of(1..=1000u32), warnings, access, times());
    let session = session.prop_map(
        |(duration_max, idle_timeout, clients_max, warnings, access, stale_period)| {
            let warnings = warnings.map(|(before_duration, before_idle, signal)| {
                Box::new(Warnings { before_duration, before_idle, signal, file: None })
            });
            Kind::Session(SessionSettings {
                duration_max,
                idle_timeout,
                duration_limit: duration_max,
                clients_max,
                warnings: warnings.filter(|warnings| **warnings != Warnings::default()),
                access: access.map(Box::new),
                stale_period,
                key_lease: idle_timeout.filter(|time| *time >= KEY_LEASE_MIN),
                ..SessionSettings::default()
            })
        },
    );
    prop_oneof![service, job, session]
}

fn restart() -> impl Strategy<Value = Restart> {
    let policies = vec![RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always];
    let policy = prop::sample::select(policies);
    (policy, time(DURATION_MAX), time(DURATION_MAX), time(DURATION_MAX)).prop_map(
        |(policy, one, other, reset_after)| Restart {
            policy,
            delay: one.min(other),
            delay_max: one.max(other),
            reset_after,
            restarts_max: None,
        },
    )
}

fn workload() -> impl Strategy<Value = Workload> {
    let stop = (1..=64i32, time(STOP_GRACE_MAX));
    let labels = btree_map(label(), prop_oneof![Just(String::new()), label_value()], 0..3);
    (name(), kind(), process(), restart(), stop, vec(constraint(), 0..3), labels).prop_map(
        |(name, kind, process, mut restart, (signal, grace), constraints, labels)| {
            if let Kind::Job(job) = &kind {
                restart.policy = match job.attempts_max {
                    1 => RestartPolicy::Never,
                    _ => RestartPolicy::OnFailure,
                };
            }
            Workload {
                name,
                kind,
                process,
                restart,
                stop: Stop { signal, grace },
                constraints,
                labels,
                surroundings: None,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rubbish_is_refused_within_the_text(pieces in vec(snippet(), 0..30)) {
        let text = pieces.concat();
        for format in FORMATS {
            check(format, &text)?;
        }
    }

    #[test]
    fn any_text_is_refused_within_the_text(text in any::<String>()) {
        for format in FORMATS {
            check(format, &text)?;
        }
    }

    #[test]
    fn a_changed_manifest_is_read_or_refused_within_the_text(
        example in 0..EXAMPLES.len(),
        edits in vec(edit(), 1..6),
    ) {
        let (format, text) = EXAMPLES[example];
        check(format, &edited(text, &edits))?;
    }

    #[test]
    fn every_workload_is_written_and_read_back(workloads in vec(workload(), 1..4)) {
        // One of each name, and in the order that reading gives.
        let by_name: BTreeMap<(u8, Name), Workload> = workloads
            .into_iter()
            .enumerate()
            .map(|(index, mut workload)| {
                let base: String = workload.name.as_str().chars().take(60).collect();
                workload.name = Name::new(format!("{base}{index}")).expect("it is a name");
                let kind = match workload.kind {
                    Kind::Service(_) => 0,
                    Kind::Job(_) => 1,
                    Kind::Session(_) => 2,
                };
                ((kind, workload.name.clone()), workload)
            })
            .collect();
        let manifest = Manifest {
            workloads: by_name.into_values().collect(),
            sources: Vec::new(),
            environments: Vec::new(),
            locals: Vec::new(),
        };
        check_canonical(&manifest)?;
        let json = manifest.to_json();
        prop_assert_eq!(parse(&json, Format::Json).map(|m| m.workloads), Ok(manifest.workloads));
    }
}
