//! Bad manifests, and what a person is told.

mod bounds;
mod recipes;
mod sessions;
mod surroundings;
mod syntax;
mod values;

use spawnery_manifest::{Format, parse};

/// Checks all errors of a manifest, one on each line.
fn check(format: Format, text: &str, expected: &str) {
    let errors = match parse(text, format) {
        Ok(_) => "no error".to_owned(),
        Err(errors) => errors.to_string(),
    };
    assert_eq!(errors, expected, "{text}");
}

fn yaml(text: &str, expected: &str) {
    check(Format::Yaml, text, expected);
}

fn toml(text: &str, expected: &str) {
    check(Format::Toml, text, expected);
}

fn json(text: &str, expected: &str) {
    check(Format::Json, text, expected);
}

/// Checks a field of a service; it stands on line 4 from column 5.
fn web(field: &str, expected: &str) {
    yaml(&format!("services:\n  web:\n    run: x\n    {field}\n"), expected);
}

/// Checks a field of a job; it stands on line 4 from column 5.
fn tick(field: &str, expected: &str) {
    yaml(&format!("jobs:\n  tick:\n    run: x\n    {field}\n"), expected);
}
