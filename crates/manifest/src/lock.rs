//! Locks: what the recipes of a manifest were resolved to, kept in a file beside it.

use crate::Manifest;
use crate::error::{ManifestErrors, Problem, quoted};
use crate::git::commit;
use crate::local::digest;
use crate::place::Span;
use crate::process::checked_name;
use crate::reader::{Field, Reader};
use crate::schema;
use crate::tree::Node;
use serde_json::Value as Json;
use spawnery_model::limits::{LOCK_BYTES_MAX, LOCK_ENTRIES_MAX};
use spawnery_model::{EnvironmentLock, LockedPackage, Name};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A lock file: a lock for each environment of a manifest, by its name. An environment without a
/// name of its own has that of its workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockFile {
    /// The locks.
    pub environments: BTreeMap<Name, EnvironmentLock>,
}

impl LockFile {
    /// Reads a lock file, which is TOML.
    pub fn parse(text: &str) -> Result<LockFile, ManifestErrors> {
        let mut problems = Vec::new();
        let mut reader = Reader::default();
        let mut lock_file = LockFile::default();
        if text.len() > LOCK_BYTES_MAX {
            let found = format!("the lock file has {} bytes", text.len());
            let expected = format!("at most {LOCK_BYTES_MAX} bytes");
            problems.push(Problem::new(Span::START, found, expected));
        } else if let Some(root) = crate::toml::parse_lock(text, &mut problems) {
            reader.fields(&root, &[FILE_FIELDS], |_| None, &mut lock_file);
        }
        problems.append(&mut reader.finish());
        match problems.is_empty() {
            true => Ok(lock_file),
            false => Err(ManifestErrors::of(problems, text)),
        }
    }

    /// Writes the lock file. Equal locks give equal text.
    pub fn to_toml(&self) -> String {
        let mut text = HEADER.to_owned();
        for (name, lock) in &self.environments {
            write_lock(&mut text, name, lock);
        }
        text
    }
}

impl Manifest {
    /// Puts the locks of a lock file into the environments that they are for. Environments that
    /// it does not know stay as they are.
    pub fn with_locks(mut self, lock_file: &LockFile) -> Manifest {
        let find = |name: &Name| lock_file.environments.get(name);
        for environment in &mut self.environments {
            if let Some(lock) = environment.name.as_ref().and_then(find) {
                environment.lock = Some(lock.clone());
            }
        }
        for workload in &mut self.workloads {
            let surroundings = workload.surroundings.as_mut();
            let environment = surroundings.and_then(|around| around.environment.as_mut());
            if let Some(environment) = environment
                && let Some(lock) = find(environment.name.as_ref().unwrap_or(&workload.name))
            {
                environment.lock = Some(lock.clone());
            }
        }
        self
    }
}

const HEADER: &str = "\
# Written by `spawnery environment lock`. Do not edit it: run that command again.
#
# It pins all that the environments of the manifest beside it leave open: digests
# of images, versions of packages, commits. With it every machine builds the same.
# Keep it together with the manifest, in version control.

version = 1
";

fn write_lock(text: &mut String, name: &Name, lock: &EnvironmentLock) {
    // All fields by name, so that a new one cannot be forgotten here.
    let EnvironmentLock { recipe, image, apt, python, requirements, commit, base } = lock;
    let mut line = |shown: String| {
        text.push_str(&shown);
        text.push('\n');
    };
    let string = |text: &str| toml::Value::from(text).to_string();
    line(format!("\n[environments.{name}]"));
    line(format!("recipe = {}", string(recipe)));
    let optional = [("image", image), ("python", python), ("commit", commit)];
    for (field, value) in optional {
        if let Some(value) = value {
            line(format!("{field} = {}", string(value)));
        }
    }
    for (field, packages) in [("base", base), ("apt", apt)] {
        if packages.is_empty() {
            continue;
        }
        line(format!("{field} = ["));
        for package in packages {
            let mut shown = format!("    {{ name = {}", string(&package.name));
            let fields = [
                ("version", &package.version),
                ("architecture", &package.architecture),
                ("sha256", &package.sha256),
            ];
            for (field, value) in fields {
                write!(shown, ", {field} = {}", string(value))
                    .expect("writing to a string cannot fail");
            }
            line(format!("{shown} }},"));
        }
        line("]".to_owned());
    }
    if !requirements.is_empty() {
        line("requirements = [".to_owned());
        for requirement in requirements {
            line(format!("    {},", string(requirement)));
        }
        line("]".to_owned());
    }
}

const FILE_FIELDS: &[Field<LockFile>] = &[
    Field {
        name: "version",
        doc: "The version of the file's format.",
        schema: || schema::whole(1, 1),
        read: |reader, node, _| {
            reader.whole(node, 1, 1);
        },
    },
    Field {
        name: "environments",
        doc: "The locks, by the names of the environments.",
        schema: || schema::map_of(json_schema()),
        read: |reader, node, draft| {
            let map = reader.map(node, "a map of locks by the names of environments");
            for (key, value) in map.into_iter().flatten() {
                reader.within(&key.text, |reader| {
                    let name = checked_name(reader, key.span, &key.text);
                    if let (Some(name), Some(lock)) = (name, lock(reader, value)) {
                        draft.environments.insert(name, lock);
                    }
                });
            }
        },
    },
];

/// The schema of a lock.
pub(crate) fn json_schema() -> Json {
    schema::object(&[LOCK_FIELDS], &["recipe"])
}

const LOCK_FIELDS: &[Field<EnvironmentLock>] = &[
    Field {
        name: "recipe",
        doc: "The digest of the recipe that was resolved.",
        schema: schema::text,
        read: |reader, node, draft| draft.recipe = word(reader, node).unwrap_or_default(),
    },
    Field {
        name: "image",
        doc: "The digest of the image: sha256: and 64 hexadecimal digits.",
        schema: schema::text,
        read: |reader, node, draft| draft.image = image(reader, node),
    },
    Field {
        name: "python",
        doc: "The exact version of the interpreter.",
        schema: schema::text,
        read: |reader, node, draft| draft.python = word(reader, node),
    },
    Field {
        name: "commit",
        doc: "The commit of the source.",
        schema: schema::text,
        read: |reader, node, draft| draft.commit = commit(reader, node),
    },
    Field {
        name: "base",
        doc: "All Debian packages of the base.",
        schema: packages_schema,
        read: |reader, node, draft| draft.base = packages(reader, node),
    },
    Field {
        name: "apt",
        doc: "All Debian packages that are installed onto the base.",
        schema: packages_schema,
        read: |reader, node, draft| draft.apt = packages(reader, node),
    },
    Field {
        name: "requirements",
        doc: "Python requirements with exact versions and hashes.",
        schema: || schema::list_of(schema::text()),
        read: |reader, node, draft| draft.requirements = requirements(reader, node),
    },
];

fn packages_schema() -> Json {
    let required = ["name", "version", "architecture", "sha256"];
    schema::list_of(schema::object(&[PACKAGE_FIELDS], &required))
}

/// Reads a lock.
pub(crate) fn lock(reader: &mut Reader, node: &Node) -> Option<EnvironmentLock> {
    let mut lock = EnvironmentLock::default();
    let is_right = reader.fields(node, &[LOCK_FIELDS], |_| None, &mut lock);
    if is_right && lock.recipe.is_empty() {
        let problem = Problem::new(node.span, "a lock without `recipe`", "what the lock is of");
        reader.report(problem.hint("make it anew by `spawnery environment lock`"));
        return None;
    }
    is_right.then_some(lock)
}

const PACKAGE_FIELDS: &[Field<[Option<String>; 4]>] = &[
    Field {
        name: "name",
        doc: "The package's name.",
        schema: schema::text,
        read: |reader, node, draft| draft[0] = word(reader, node),
    },
    Field {
        name: "version",
        doc: "Its version.",
        schema: schema::text,
        read: |reader, node, draft| draft[1] = word(reader, node),
    },
    Field {
        name: "architecture",
        doc: "Its architecture.",
        schema: schema::text,
        read: |reader, node, draft| draft[2] = word(reader, node),
    },
    Field {
        name: "sha256",
        doc: "The SHA-256 of the package file.",
        schema: schema::text,
        read: |reader, node, draft| draft[3] = digest(reader, node).map(String::from),
    },
];

fn packages(reader: &mut Reader, node: &Node) -> Vec<LockedPackage> {
    let items = reader.items(node, "packages", "[]", LOCK_ENTRIES_MAX);
    let mut packages = Vec::new();
    for (index, item) in items.into_iter().flatten().enumerate() {
        reader.within_item(index, |reader| {
            let mut draft = [None, None, None, None];
            let is_right = reader.fields(item, &[PACKAGE_FIELDS], |_| None, &mut draft);
            match draft {
                [Some(name), Some(version), Some(architecture), Some(sha256)] => {
                    packages.push(LockedPackage { name, version, architecture, sha256 });
                }
                _ if is_right => {
                    let expected = "`name`, `version`, `architecture` and `sha256`";
                    reader.report(Problem::new(item.span, "half a package", expected));
                }
                _ => {}
            }
        });
    }
    packages
}

fn requirements(reader: &mut Reader, node: &Node) -> Vec<String> {
    let items = reader.items(node, "requirements", "[]", LOCK_ENTRIES_MAX);
    let mut requirements = Vec::new();
    for (index, item) in items.into_iter().flatten().enumerate() {
        reader.within_item(index, |reader| {
            let expected = "a requirement with its hashes, in one line";
            let Some(text) = reader.text(item, expected) else {
                return;
            };
            // A line of its own would be an option of the installer.
            if text.is_empty() || text.starts_with('-') || text.contains(char::is_control) {
                let found = format!("{} is no requirement", quoted(text));
                reader.report(Problem::new(item.span, found, expected));
                return;
            }
            requirements.push(text.to_owned());
        });
    }
    requirements
}

fn image(reader: &mut Reader, node: &Node) -> Option<String> {
    let expected = "`sha256:` and 64 hexadecimal digits in lower case";
    let text = reader.text(node, expected)?;
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    match digits.parse::<spawnery_model::ContentDigest>() {
        Ok(_) => Some(text.to_owned()),
        Err(_) => reader.wrong(node, expected),
    }
}

/// Reads text without spaces.
fn word(reader: &mut Reader, node: &Node) -> Option<String> {
    let expected = "text without spaces";
    let text = reader.text(node, expected)?;
    let is_right = (1..=255).contains(&text.len())
        && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    match is_right {
        true => Some(text.to_owned()),
        false => reader.wrong(node, expected),
    }
}
