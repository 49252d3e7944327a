//! Writes environments and surroundings as JSON.

use crate::base::HOST;
use crate::egress::{DEFAULTS, shown};
use crate::quantity::whole_bytes;
use crate::reader::word_of;
use crate::surroundings::RUNTIMES;
use serde_json::{Map, Value, json};
use spawnery_model::{
    Base, Egress, Environment, EnvironmentLock, GitReference, Local, Network, Python, Source,
    Surroundings,
};

/// Adds the fields of `around`. Of `environments`, one is written by its name.
pub(crate) fn surroundings_fields(
    around: &Surroundings,
    network: Network,
    environments: &[Environment],
    fields: &mut Map<String, Value>,
) {
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    if let Some(environment) = &around.environment {
        let is_named = environment.name.is_some() && environments.contains(environment);
        let value = match &environment.name {
            Some(name) if is_named => json!(name.as_str()),
            Some(name) => {
                let mut recipe = recipe(environment);
                recipe["name"] = json!(name.as_str());
                recipe
            }
            None => recipe(environment),
        };
        set("environment", value);
    }
    set("runtime", json!(word_of(RUNTIMES, &around.runtime)));
    if let Some(user) = around.user {
        set("user", json!(format!("{}:{}", user.uid, user.gid)));
    }
    let volumes = around.volumes.iter().map(|volume| {
        json!({
            "name": volume.name.as_str(),
            "path": volume.path,
            "exclusive": volume.exclusive,
            "read_only": volume.read_only,
        })
    });
    set("volumes", volumes.collect());
    let secrets = around.secrets.iter().map(|secret| match &secret.variable {
        Some(variable) => json!({ "name": secret.name.as_str(), "variable": variable }),
        None => json!({ "name": secret.name.as_str() }),
    });
    set("secrets", secrets.collect());
    set("devices", json!(around.devices));
    let mounts = around
        .mounts
        .iter()
        .map(|mount| json!({ "from": mount.from, "to": mount.to, "read_only": mount.read_only }));
    set("mounts", mounts.collect());
    if network == Network::Private {
        set("egress", egress(&around.egress));
    }
    set("warm", json!(around.warm));
}

fn egress(egress: &Egress) -> Value {
    let mut value = json!({
        "rules": egress.rules.iter().map(shown).collect::<Vec<_>>(),
        "default": word_of(DEFAULTS, &egress.deny_by_default),
    });
    if let Some(names) = &egress.names {
        value["names"] = json!(names);
    }
    if let Some(transfer) = egress.transfer_max {
        value["transfer"] = json!(whole_bytes(transfer));
    }
    value
}

/// A recipe, without its name.
pub(crate) fn recipe(environment: &Environment) -> Value {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    set("base", base(&environment.base));
    if !environment.apt.is_empty() {
        set("packages", json!({ "apt": environment.apt }));
    }
    if let Some(value) = &environment.python {
        set("python", python(value));
    }
    if let Some(value) = &environment.source {
        set("source", source(value));
    }
    for (name, is_directory) in [("files", false), ("directories", true)] {
        let files = environment.files.iter().filter(|file| file.directory == is_directory);
        let files = files.map(|file| json!({ "from": local(&file.from), "to": file.to }));
        let files: Vec<Value> = files.collect();
        if !files.is_empty() {
            set(name, json!(files));
        }
    }
    if !environment.build.is_empty() {
        set("build", json!(environment.build));
    }
    set("build_network", json!(environment.build_network));
    if let Some(value) = &environment.lock {
        set("lock", lock(value));
    }
    Value::Object(fields)
}

fn base(base: &Base) -> Value {
    match base {
        Base::Host => json!(HOST),
        Base::Image { reference, credentials: None } => json!({ "image": reference }),
        Base::Image { reference, credentials: Some(name) } => {
            json!({ "image": reference, "credentials": name.as_str() })
        }
        Base::ImageFile(file) => json!({ "image": local(file) }),
        Base::Debian { suite } => json!({ "debian": suite }),
        Base::Directory(folder) => json!({ "directory": local(folder) }),
    }
}

fn local(local: &Local) -> Value {
    match &local.tree {
        Some(tree) => json!({ "path": local.path, "tree": tree.as_str() }),
        None => json!({ "path": local.path }),
    }
}

fn python(python: &Python) -> Value {
    let mut value = json!({ "packages": python.packages });
    if let Some(version) = &python.version {
        value["version"] = json!(version);
    }
    if let Some(requirements) = &python.requirements {
        value["requirements"] = local(requirements);
    }
    if let Some(index) = &python.index {
        value["index"] = json!(index);
    }
    if let Some(credentials) = &python.credentials {
        value["credentials"] = json!(credentials.as_str());
    }
    value
}

fn source(source: &Source) -> Value {
    let mut value = json!({ "git": source.git, "to": source.to });
    match &source.reference {
        GitReference::Default => {}
        GitReference::Branch(branch) => value["branch"] = json!(branch),
        GitReference::Tag(tag) => value["tag"] = json!(tag),
        GitReference::Commit(commit) => value["commit"] = json!(commit),
    }
    if let Some(credentials) = &source.credentials {
        value["credentials"] = json!(credentials.as_str());
    }
    value
}

fn lock(lock: &EnvironmentLock) -> Value {
    // Its serde form has the fields of the manifest.
    serde_json::to_value(lock).expect("a lock is plain data")
}
