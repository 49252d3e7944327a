//! `spawnery check`: is a manifest valid?

use super::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::manifest_file::{ManifestFile, ReadError};
use crate::output::note;
use crate::words::count;
use serde::Serialize;
use spawnery_manifest::{Manifest, ManifestErrors};
use std::path::PathBuf;

/// Check a manifest without applying it
///
/// Shows all that is wrong with it, each with its place, what was expected and how to mend it.
/// Needs no server.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Manifests: YAML, TOML or JSON by the ending of their names
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What was found in one file.
#[derive(Debug, Serialize)]
struct Finding {
    file: String,
    is_valid: bool,
    services: usize,
    jobs: usize,
    sessions: usize,
    errors: Vec<FieldError>,
}

#[derive(Debug, Serialize)]
struct FieldError {
    line: usize,
    column: usize,
    field: String,
    found: String,
    expected: String,
    hint: Option<String>,
}

impl Check {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let mut findings = Vec::new();
        for path in &self.files {
            let file = path.display().to_string();
            match ManifestFile::try_read(path) {
                Ok(read) => findings.push(valid(file, &read.manifest)),
                Err(ReadError::File(error)) => return Err(error),
                Err(ReadError::Manifest { errors, text }) => {
                    if !context.output.is_json {
                        note(errors.render(&file, &text).trim_end());
                    }
                    findings.push(invalid(file, &errors));
                }
            }
        }
        if context.output.is_json {
            context.output.json(&findings)?;
        } else {
            show(context, &findings)?;
        }
        match findings.iter().all(|finding| finding.is_valid) {
            true => Ok(ExitCode::OK),
            false => Err(CliError::silent(ExitCode::USAGE)),
        }
    }
}

fn show(context: &Context, findings: &[Finding]) -> Result<(), CliError> {
    for finding in findings.iter().filter(|finding| finding.is_valid) {
        let parts = [
            (finding.services, "service"),
            (finding.jobs, "job"),
            (finding.sessions, "session template"),
        ];
        let parts = parts.iter().filter(|(number, _)| *number > 0);
        let parts: Vec<String> = parts.map(|(number, noun)| count(*number, noun)).collect();
        let all = parts.join(", ");
        context.output.line(format!("{}: valid ({all})", finding.file))?;
    }
    Ok(())
}

fn valid(file: String, manifest: &Manifest) -> Finding {
    let of_kind = |word: &str| {
        let workloads = manifest.workloads.iter();
        workloads.filter(|workload| workload.kind.word() == word).count()
    };
    Finding {
        file,
        is_valid: true,
        services: of_kind("service"),
        jobs: of_kind("job"),
        sessions: of_kind("session"),
        errors: Vec::new(),
    }
}

fn invalid(file: String, errors: &ManifestErrors) -> Finding {
    let errors = errors.errors().iter().map(|error| FieldError {
        line: error.line,
        column: error.column,
        field: error.field.clone(),
        found: error.found.clone(),
        expected: error.expected.clone(),
        hint: error.hint.clone(),
    });
    Finding { file, is_valid: false, services: 0, jobs: 0, sessions: 0, errors: errors.collect() }
}
