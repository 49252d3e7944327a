//! What the workspace holds: its crates and their dependencies, and its files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Failure;
use crate::process::{self, cargo};

/// The folder of the workspace. Cargo says where this crate lies now; where it lay when it was
/// built may be another place.
pub fn root() -> PathBuf {
    let here = std::env::var("CARGO_MANIFEST_DIR")
        .unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let here = PathBuf::from(here);
    here.ancestors().nth(2).map_or_else(|| here.clone(), Path::to_owned)
}

/// A crate of this workspace.
pub struct Member {
    /// Its folder in `crates/`, which is its name without `spawnery-`.
    pub name: String,
    /// The ids of all packages that it is built from, near and far, without those of its tests.
    pub closure: BTreeSet<String>,
    /// The names of the packages that it uses itself.
    pub dependencies: BTreeSet<String>,
    /// The names of the packages that only its tests and examples use.
    pub dev_dependencies: BTreeSet<String>,
    /// The first file of each of its targets, and whether it is a test or an example.
    pub targets: Vec<(PathBuf, TargetKind)>,
}

/// What a target is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TargetKind {
    /// It goes into the product.
    Product,
    /// It is built by `cargo test`, `cargo bench` or as an example.
    Test,
}

/// A package from elsewhere, or from here.
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The licence that it states, as an SPDX expression.
    pub licence: Option<String>,
    /// Where it comes from; `None` if it lies in this workspace.
    pub source: Option<String>,
}

/// What `cargo metadata` says.
pub struct Workspace {
    /// The crates of this workspace, by name.
    pub members: Vec<Member>,
    /// All packages that are built for this machine, by id.
    pub packages: BTreeMap<String, Package>,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    ///
    /// When cargo fails, for instance because `Cargo.lock` does not fit the manifests.
    pub fn load() -> Result<Workspace, Failure> {
        let version = process::output(&mut cargo(&["--version", "--verbose"]))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host =
            host.ok_or("`cargo --version --verbose` does not name this machine's platform")?;
        // With a platform, what only other systems need is not even downloaded.
        let text = process::output(
            cargo(&["metadata", "--format-version=1", "--locked", "--filter-platform"]).arg(host),
        )?;
        let metadata: Value = serde_json::from_str(&text)
            .map_err(|error| format!("cannot read what `cargo metadata` wrote: {error}"))?;
        Ok(Workspace::from_metadata(&metadata))
    }

    fn from_metadata(metadata: &Value) -> Workspace {
        let packages = list(&metadata["packages"])
            .map(|package| {
                let found = Package {
                    name: text(&package["name"]),
                    version: text(&package["version"]),
                    licence: package["license"].as_str().map(str::to_owned),
                    source: package["source"].as_str().map(str::to_owned),
                };
                (text(&package["id"]), found)
            })
            .collect();
        let edges: BTreeMap<String, Vec<String>> = list(&metadata["resolve"]["nodes"])
            .map(|node| (text(&node["id"]), normal_dependencies(node)))
            .collect();
        let members = list(&metadata["workspace_members"]).map(text).collect::<BTreeSet<_>>();
        let members = list(&metadata["packages"])
            .filter(|package| members.contains(&text(&package["id"])))
            .map(|package| member(package, &edges))
            .collect();
        Workspace { members, packages }
    }
}

fn member(package: &Value, edges: &BTreeMap<String, Vec<String>>) -> Member {
    let name = text(&package["name"]);
    let folder = Path::new(package["manifest_path"].as_str().unwrap_or_default()).parent();
    let folder = folder.and_then(Path::file_name).map(|it| it.to_string_lossy().into_owned());
    let names = |kind: Option<&str>| {
        list(&package["dependencies"])
            .filter(|it| it["kind"].as_str() == kind)
            .map(|it| text(&it["name"]))
            .collect()
    };
    Member {
        name: folder.unwrap_or(name),
        closure: closure(&text(&package["id"]), edges),
        dependencies: names(None),
        dev_dependencies: names(Some("dev")),
        targets: list(&package["targets"]).map(target).collect(),
    }
}

fn target(target: &Value) -> (PathBuf, TargetKind) {
    let kinds: Vec<&str> = list(&target["kind"]).filter_map(Value::as_str).collect();
    let product = kinds.iter().any(|kind| ["lib", "bin", "proc-macro"].contains(kind));
    let kind = if product { TargetKind::Product } else { TargetKind::Test };
    (PathBuf::from(text(&target["src_path"])), kind)
}

/// The ids of the packages that a package is built from, without build scripts and tests.
fn normal_dependencies(node: &Value) -> Vec<String> {
    list(&node["deps"])
        .filter(|it| list(&it["dep_kinds"]).any(|kind| kind["kind"].is_null()))
        .map(|it| text(&it["pkg"]))
        .collect()
}

fn closure(start: &str, edges: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![start];
    while let Some(id) = open.pop() {
        for next in edges.get(id).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    found
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// All files below the root that a person wrote, as paths relative to it, in order.
///
/// # Errors
///
/// When a folder cannot be read.
pub fn files(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(root.join(&folder))
            .map_err(|error| format!("cannot read the folder {}: {error}", folder.display()))?;
        for entry in entries {
            let entry = entry.map_err(|error| format!("{}: {error}", folder.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = folder.join(&name);
            let kind = entry.file_type().map_err(|error| format!("{}: {error}", path.display()))?;
            if kind.is_dir() {
                let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo";
                if !hidden && name != "target" {
                    folders.push(path);
                }
            } else if kind.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
