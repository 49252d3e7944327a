//! What a user writes: checked, and turned into the model.
//!
//! A manifest is YAML, TOML or JSON. Each format becomes one tree of values with their places
//! (`tree`); one reader goes over the tree by one table of fields (`reader`, `Field`), so that
//! every format has the same errors, and reader, hints and schema cannot differ.
//!
//! Invariant: touches nothing — no file, clock, environment or network. Every error names the
//! place, the reason and the mend, and all errors that can be found are found at once.

mod base;
mod constraint;
mod cron;
mod draft;
mod egress;
mod error;
mod files;
mod format;
mod git;
mod json;
mod kinds;
mod lifecycle;
mod local;
mod lock;
mod nearest;
mod path;
mod place;
mod placed;
mod process;
mod python;
mod quantity;
mod reader;
mod readiness;
mod recipe;
mod schema;
mod session;
mod source;
mod surroundings;
mod toml;
mod top;
mod tree;
mod url;
mod write;
mod write_environment;
mod yaml;

pub use constraint::{LabelError, check_label, parse as parse_constraint};
pub use error::{ERRORS_MAX, ManifestError, ManifestErrors};
pub use format::{Format, FormatError};
pub use local::{LocalKind, LocalPath};
pub use lock::LockFile;
pub use quantity::{
    AmountError, bytes as parse_bytes, cores as parse_cores, duration as parse_duration,
};
pub use schema::schema;
pub use source::FileSource;

use crate::error::Problem;
use crate::place::{Lines, Span};
use crate::reader::Reader;
use spawnery_model::limits::MANIFEST_BYTES_MAX;
use spawnery_model::{Environment, Name, Workload};
use std::collections::BTreeMap;

/// A checked manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Services, then jobs, then session templates, each in the order of their names.
    pub workloads: Vec<Workload>,
    /// Files of the workloads whose content lies beside the manifest. Put it in by
    /// [`with_files`](Manifest::with_files).
    pub sources: Vec<FileSource>,
    /// The section `environments`, in the order of their names; each has a name. Workloads that
    /// use one have a copy of it.
    pub environments: Vec<Environment>,
    /// Files and folders beside the manifest that its environments take over. Put the digests of
    /// what is there in by [`with_trees`](Manifest::with_trees).
    pub locals: Vec<LocalPath>,
}

/// Reads a manifest.
///
/// All errors that can be found are found, up to [`ERRORS_MAX`]; after a break of the format's
/// own rules, only those before it.
pub fn parse(text: &str, format: Format) -> Result<Manifest, ManifestErrors> {
    let mut problems = Vec::new();
    let mut reader = Reader::default();
    let mut top = top::Top::default();
    if text.len() > MANIFEST_BYTES_MAX {
        let found = format!("the manifest has {} bytes", text.len());
        let expected = format!("at most {MANIFEST_BYTES_MAX} bytes");
        let problem = Problem::new(Span::START, found, expected);
        problems.push(problem.hint("split it, and keep large files elsewhere"));
    } else if text.trim_start_matches('\u{feff}').trim().is_empty() {
        top::nothing(&mut reader);
    } else if let Some(root) = format.tree(text, &mut problems) {
        top = top::manifest(&mut reader, &root);
    } else if problems.is_empty() {
        top::nothing(&mut reader);
    }
    problems.append(&mut reader.finish());
    if !problems.is_empty() {
        return Err(ManifestErrors::of(problems, text));
    }
    Ok(Manifest::of(top, text))
}

impl Manifest {
    fn of(mut top: top::Top, text: &str) -> Manifest {
        let kind = |workload: &Workload| match workload.kind {
            spawnery_model::Kind::Service(_) => 0,
            spawnery_model::Kind::Job(_) => 1,
            spawnery_model::Kind::Session(_) => 2,
        };
        top.workloads.sort_by(|(a, _), (b, _)| {
            let order = kind(a).cmp(&kind(b));
            order.then_with(|| a.name.cmp(&b.name))
        });
        let lines = Lines::of(text);
        let locals = top.locals.into_iter().map(|local| LocalPath::of(local, &lines));
        let mut manifest = Manifest {
            workloads: Vec::new(),
            sources: Vec::new(),
            environments: top.environments,
            locals: locals.collect(),
        };
        for (workload, sources) in top.workloads {
            let sources = sources.into_iter();
            let sources = sources.map(|source| FileSource::of(&workload, source, &lines));
            manifest.sources.extend(sources);
            manifest.workloads.push(workload);
        }
        manifest
    }

    /// The environments of the manifest by their names, of which one without a name of its own
    /// has that of its workload. Workloads without a recipe are left out.
    pub fn recipes(&self) -> BTreeMap<&Name, &Environment> {
        let named = self.environments.iter();
        let named = named.filter_map(|environment| Some((environment.name.as_ref()?, environment)));
        let used = self.workloads.iter().filter_map(|workload| {
            let environment = workload.surroundings.as_ref()?.environment.as_deref()?;
            Some((environment.name.as_ref().unwrap_or(&workload.name), environment))
        });
        used.chain(named).collect()
    }

    fn environments_mut(&mut self) -> impl Iterator<Item = &mut Environment> {
        let used = self
            .workloads
            .iter_mut()
            .filter_map(|workload| workload.surroundings.as_mut()?.environment.as_deref_mut());
        self.environments.iter_mut().chain(used)
    }
}
