//! The examples are right, and the schema knows all of their fields.

use serde_json::Value;
use spawnery_manifest::{Format, Manifest, parse, schema};
use spawnery_model::{Kind, Workload};
use std::path::{Path, PathBuf};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let files = std::fs::read_dir(folder).expect("the examples are there");
    let files = files.map(|file| file.expect("the examples can be listed").path());
    let mut files: Vec<PathBuf> = files.filter(|file| Format::of_path(file).is_ok()).collect();
    files.sort();
    files
}

fn read(path: &Path) -> Manifest {
    let text = std::fs::read_to_string(path).expect("the example is text");
    let format = Format::of_path(path).expect("the example has a format");
    parse(&text, format).unwrap_or_else(|errors| {
        panic!("{}", errors.render(&path.display().to_string(), &text));
    })
}

fn example(name: &str) -> Manifest {
    let path = examples().into_iter().find(|path| path.ends_with(name));
    read(&path.expect("the example is there"))
}

fn workload<'m>(manifest: &'m Manifest, name: &str) -> &'m Workload {
    let mut workloads = manifest.workloads.iter();
    workloads.find(|workload| workload.name.as_str() == name).expect("the workload is there")
}

#[test]
fn every_example_is_right_and_says_the_same_as_json() {
    assert!(examples().len() >= 3);
    for path in examples() {
        let manifest = read(&path);
        let json = manifest.to_json();
        let again = parse(&json, Format::Json).expect("the canonical form is right");
        assert_eq!(again.workloads, manifest.workloads, "{}", path.display());
        assert_eq!(again.to_json(), json, "{}", path.display());
    }
}

#[test]
fn the_tour_has_one_of_each_kind() {
    let tour = example("tour.yaml");
    assert_eq!(tour.workloads.len(), 3);
    let web = workload(&tour, "web");
    assert_eq!(web.process.ports[0].name.as_str(), "http");
    assert_eq!(web.process.files[0].path, "/srv/web.pl");
    let tick = workload(&tour, "tick");
    assert_eq!(&tick.process.run[..2], ["/bin/sh", "-c"]);
    let Kind::Job(job) = &tick.kind else {
        panic!("tick is a job");
    };
    let schedule = job.schedule.as_ref().expect("tick has a schedule");
    assert_eq!((schedule.cron.as_str(), schedule.time_zone.as_str()), ("* * * * *", "UTC"));
    assert!(matches!(workload(&tour, "shell").kind, Kind::Session(_)));
}

/// What the schema has to say against `value`: what an editor would underline.
fn against(schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().expect("required names are text");
        if value.get(name).is_none() {
            wrong.push(format!("{place}: {name} is missing"));
        }
    }
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
        let mut least: Option<Vec<String>> = None;
        for option in any {
            let mut against_option = Vec::new();
            against(option, value, place, &mut against_option);
            if least.as_ref().is_none_or(|least| against_option.len() < least.len()) {
                least = Some(against_option);
            }
        }
        wrong.extend(least.unwrap_or_default());
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        if !words.contains(value) {
            wrong.push(format!("{place}: none of the words"));
        }
        return;
    }
    let types = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        // Said by `anyOf` or `required` alone.
        _ => return,
    };
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_u64(),
        _ => panic!("{place}: unknown type {kind}"),
    };
    if !types.iter().any(|kind| is(kind)) {
        wrong.push(format!("{place}: not {types:?}"));
        return;
    }
    for item in value.as_array().into_iter().flatten() {
        against(&schema["items"], item, &format!("{place}[]"), wrong);
    }
    let Some(fields) = value.as_object() else {
        return;
    };
    for (name, value) in fields {
        let place = format!("{place}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(schema), _) => against(schema, value, &place, wrong),
            (None, Value::Bool(false)) => wrong.push(format!("{place}: unknown")),
            (None, schema) => against(schema, value, &place, wrong),
        }
    }
}

fn against_manifest(value: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(&schema()).expect("the schema is JSON");
    let mut wrong = Vec::new();
    against(&schema, value, "", &mut wrong);
    wrong
}

#[test]
fn the_schema_takes_every_example_and_its_canonical_form() {
    for path in examples() {
        let canonical = read(&path).to_json();
        let mut values = vec![serde_json::from_str(&canonical).expect("it is JSON")];
        let text = std::fs::read_to_string(&path).expect("the example is text");
        match Format::of_path(&path) {
            Ok(Format::Json) => values.push(serde_json::from_str(&text).expect("it is JSON")),
            Ok(Format::Toml) => values.push(toml::from_str(&text).expect("it is TOML")),
            _ => {}
        }
        for value in values {
            assert_eq!(against_manifest(&value), Vec::<String>::new(), "{}", path.display());
        }
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let check = |text: &str, expected: &str| {
        assert!(parse(text, Format::Json).is_err(), "{text}");
        let value = serde_json::from_str(text).expect("it is JSON");
        assert_eq!(against_manifest(&value), [expected], "{text}");
    };
    check(r#"{"service":{}}"#, ".service: unknown");
    check(r#"{"services":{"a":{}}}"#, ".services.a: run is missing");
    check(r#"{"services":{"a":{"run":"x","memmory":1}}}"#, ".services.a.memmory: unknown");
    check(r#"{"jobs":{"a":{"run":"x","replicas":1}}}"#, ".jobs.a.replicas: unknown");
    check(
        r#"{"services":{"a":{"run":"x","network":"all"}}}"#,
        ".services.a.network: none of the words",
    );
}

/// The paths of all fields in a schema.
fn fields_of(schema: &Value, place: &str, fields: &mut Vec<String>) {
    for option in schema["anyOf"].as_array().into_iter().flatten() {
        fields_of(option, place, fields);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        assert!(field["description"].is_string(), "{place} is not described");
        fields.push(place.clone());
        fields_of(field, &place, fields);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            fields_of(&schema[inner], &format!("{place}.*"), fields);
        }
    }
}

#[test]
fn every_field_of_the_schema_is_known_to_the_reader() {
    let schema: Value = serde_json::from_str(&schema()).expect("the schema is JSON");
    let mut fields = Vec::new();
    fields_of(&schema, "", &mut fields);
    assert!(fields.len() > 60, "{fields:?}");
    for field in fields {
        // Each `*` is a map of any names, or a list: one of these shapes knows the field.
        let stars = field.matches('*').count() as u32;
        let unknown: Vec<_> = (0..2u32.pow(stars)).map(|shape| unknown(&field, shape)).collect();
        assert!(unknown.contains(&None), "{field}: {unknown:?}");
    }
}

/// What is unknown in a manifest with nothing but `field`, in which a `*` whose bit of `shape` is
/// set is a list.
fn unknown(field: &str, shape: u32) -> Option<String> {
    // A list in the place of any field: wrong or not, but never unknown.
    let mut value = serde_json::json!([[]]);
    let mut star = 0;
    for name in field.rsplit('.').filter(|name| !name.is_empty()) {
        value = match name {
            "*" => {
                star += 1;
                match shape >> (star - 1) & 1 {
                    1 => serde_json::json!([value]),
                    _ => serde_json::json!({ "a": value }),
                }
            }
            name => serde_json::json!({ name: value }),
        };
    }
    let errors = parse(&value.to_string(), Format::Json).err()?;
    let errors = errors.errors().iter();
    let mut found = errors.map(|error| error.found.clone());
    found.find(|found| found.starts_with("unknown field"))
}

const WITH_SOURCES: &str = "\
services:
  web:
    run: x
    files:
      /b: {source: ./b.conf}
      /a: {source: ../a.conf, mode: \"0600\"}
      /c: text
";

#[test]
fn sources_are_put_into_their_workloads() {
    let manifest = parse(WITH_SOURCES, Format::Yaml).expect("the manifest is right");
    let sources = manifest.sources.iter();
    let sources: Vec<&str> = sources.map(|source| source.source.as_str()).collect();
    assert_eq!(sources, ["./b.conf", "../a.conf"]);
    let again = parse(&manifest.to_json(), Format::Json).expect("sources are written");
    assert_eq!(again.sources.len(), 2);
    let manifest = manifest.with_files(|source| Ok((source.source.clone().into_bytes(), 0o100755)));
    let manifest = manifest.expect("the sources can be read");
    assert!(manifest.sources.is_empty());
    let files = &manifest.workloads[0].process.files;
    let files: Vec<_> =
        files.iter().map(|file| (file.path.as_str(), file.mode, file.content.as_slice())).collect();
    assert_eq!(
        files,
        [
            ("/a", 0o600, b"../a.conf".as_slice()),
            ("/b", 0o755, b"./b.conf"),
            ("/c", 0o644, b"text"),
        ]
    );
}

#[test]
fn a_source_that_cannot_be_used_is_reported_at_its_place() {
    let manifest = parse(WITH_SOURCES, Format::Yaml).expect("the manifest is right");
    let errors = manifest.with_files(|source| match source.path.as_str() {
        "/a" => Ok((vec![0; 2 << 20], 0o644)),
        _ => Err("no such file".to_owned()),
    });
    assert_eq!(
        errors.expect_err("neither can be used").to_string(),
        "line 5, column 11: services.web.files.\"/b\": cannot read `./b.conf`: no such file; \
         expected a readable file beside the manifest\n\
         line 6, column 11: services.web.files.\"/a\": the files of this workload and their \
         paths have 2097160 bytes; expected at most 1048576 bytes"
    );
}
