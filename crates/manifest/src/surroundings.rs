//! The fields that say what an instance finds around its process.

use crate::draft::Draft;
use crate::egress;
use crate::error::{Problem, quoted};
use crate::local::LocalDraft;
use crate::path::{absolute_path, target_path};
use crate::place::Span;
use crate::process::checked_name;
use crate::reader::{Field, Reader};
use crate::recipe::{self, recipe};
use crate::tree::{Node, Value};
use crate::{placed, schema};
use spawnery_model::limits::{SURROUNDINGS_MAX, USER_ID_MAX, WARM_MAX};
use spawnery_model::{
    Egress, Environment, HostMount, Name, RuntimeKind, SecretUse, User, VolumeMount,
};

/// Fields of every kind: its surroundings.
pub(crate) const FIELDS: &[Field<Draft>] = &[
    Field {
        name: "environment",
        doc: "The root filesystem: the name of one of `environments`, or a recipe. Default a \
              read-only view of the node's system folders.",
        schema: || schema::any_of(&[schema::text_like("tools"), recipe::json_schema(true)]),
        read: |reader, node, draft| draft.around.environment = environment(reader, node),
    },
    Field {
        name: "runtime",
        doc: "How it is isolated: by Spawnery's own sandbox (`process`, the default), by an OCI \
              runtime (`oci`) or by a Docker engine (`docker`).",
        schema: || schema::words(RUNTIMES),
        read: |reader, node, draft| {
            draft.around.runtime = reader.word(node, RUNTIMES).unwrap_or_default();
        },
    },
    Field {
        name: "user",
        doc: "As whom it runs inside: a user id, or a user id and a group id as 1000:1000. \
              Default what the environment says.",
        schema: || schema::amount("1000:1000"),
        read: |reader, node, draft| draft.around.user = user(reader, node),
    },
    Field {
        name: "volumes",
        doc: "Folders that are kept between instances, on the node where they were first used: \
              names, seen at /srv/NAME, or maps.",
        schema: || {
            let map = schema::object(&[VOLUME_FIELDS], &["name"]);
            schema::list_of(schema::any_of(&[schema::text_like("data"), map]))
        },
        read: |reader, node, draft| volumes(reader, node, &mut draft.around),
    },
    Field {
        name: "secrets",
        doc: "Secrets that it is given (`spawnery secret set`): names, seen as files in \
              /run/secrets, or maps.",
        schema: || {
            let map = schema::object(&[SECRET_FIELDS], &["name"]);
            schema::list_of(schema::any_of(&[schema::text_like("password"), map]))
        },
        read: |reader, node, draft| secrets(reader, node, &mut draft.around),
    },
    Field {
        name: "devices",
        doc: "Device nodes of the node that it may use. The node's configuration must list them.",
        schema: || schema::list_of(schema::text_like("/dev/kvm")),
        read: |reader, node, draft| draft.around.devices = devices(reader, node),
    },
    Field {
        name: "mounts",
        doc: "Folders of the node that it sees. The node's configuration must list them.",
        schema: || schema::list_of(schema::object(&[MOUNT_FIELDS], &["from", "to"])),
        read: |reader, node, draft| mounts(reader, node, &mut draft.around),
    },
    Field {
        name: "egress",
        doc: "What it can reach with `network: private`.",
        schema: egress::json_schema,
        read: |reader, node, draft| {
            let egress = egress::egress(reader, node);
            draft.around.egress = Some((egress.unwrap_or_default(), node.span));
        },
    },
    Field {
        name: "warm",
        doc: "How many sandboxes are kept ready for it on each node that it may run on. Default \
              none.",
        schema: || schema::whole(0, WARM_MAX.into()),
        read: |reader, node, draft| {
            let warm = reader.whole(node, 0, WARM_MAX.into()).unwrap_or_default();
            draft.around.warm = warm as u32;
        },
    },
];

/// How an instance is isolated.
pub(crate) const RUNTIMES: &[(&str, RuntimeKind)] = &[
    ("process", RuntimeKind::Process),
    ("oci", RuntimeKind::Oci),
    ("docker", RuntimeKind::Docker),
];

/// The surroundings of one workload, as far as they were given.
#[derive(Default)]
pub(crate) struct SurroundingsDraft {
    pub(crate) environment: Option<EnvironmentDraft>,
    pub(crate) runtime: RuntimeKind,
    pub(crate) user: Option<User>,
    pub(crate) volumes: Vec<VolumeMount>,
    pub(crate) secrets: Vec<(SecretUse, Span)>,
    pub(crate) devices: Vec<String>,
    pub(crate) mounts: Vec<HostMount>,
    pub(crate) egress: Option<(Egress, Span)>,
    pub(crate) warm: u32,
    /// Where volumes and mounts are seen, with their places.
    pub(crate) targets: Vec<Target>,
}

impl SurroundingsDraft {
    /// Whether the environment was reported, so that what it would have had is not known.
    pub(crate) fn is_wrong(&self) -> bool {
        matches!(self.environment, Some(EnvironmentDraft::Wrong))
    }
}

/// Where something is seen inside.
pub(crate) struct Target {
    pub(crate) path: String,
    pub(crate) field: String,
    pub(crate) span: Span,
}

/// The environment of a workload, before names are looked up.
pub(crate) enum EnvironmentDraft {
    /// One of `environments`.
    Named(String, Span),
    /// A recipe.
    Inline(Box<Environment>, Span, Vec<LocalDraft>),
    /// Reported as wrong.
    Wrong,
}

/// What to do about a field that other systems have, or that belongs elsewhere.
pub(crate) fn mend(name: &str) -> Option<String> {
    let inside = |fields: &str| format!("write `environment: {{{fields}}}`");
    Some(match name {
        "image" | "container" => inside("base: {image: …}"),
        "aptRequires" | "packages" | "apt" => inside("packages: {apt: […]}"),
        "includedFiles" => inside("files: {/srv/NAME: ./NAME}"),
        "includedDirectories" | "directories" => inside("directories: {/srv/NAME: ./NAME}"),
        "source" | "git" => inside("source: {git: …}"),
        "base" | "python" | "build" | "build_network" => inside(&format!("{name}: …")),
        "useHostNet" => "write `network: host`".to_owned(),
        "restartInt" => "write `restart: {delay: …}`".to_owned(),
        "environments" => "it stands at the top of the manifest, beside `services:`".to_owned(),
        "entity" => "write `secrets: [NAME]`".to_owned(),
        _ => return None,
    })
}

fn environment(reader: &mut Reader, node: &Node) -> Option<EnvironmentDraft> {
    const EXPECTED: &str = "the name of one of `environments`, or a recipe";
    let draft = match &node.value {
        Value::Text(text) => EnvironmentDraft::Named(text.clone(), node.span),
        Value::Map(_) => {
            let mut locals = Vec::new();
            let environment = recipe(reader, node, None, &mut locals);
            EnvironmentDraft::Inline(Box::new(environment), node.span, locals)
        }
        other => {
            // As other systems write variables, whose values are not repeated.
            let problem = Problem::new(node.span, other.describe_kind(), EXPECTED);
            let is_list = matches!(other, Value::List(_));
            let hint = is_list.then(|| "variables go into `env`".to_owned());
            reader.report(problem.hint_maybe(hint));
            EnvironmentDraft::Wrong
        }
    };
    Some(draft)
}

fn user(reader: &mut Reader, node: &Node) -> Option<User> {
    let expected = format!("a user id such as 1000, or 1000:1000, up to {USER_ID_MAX}");
    let (Value::Text(text) | Value::Number(text)) = &node.value else {
        return reader.wrong(node, &expected);
    };
    let id = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|id| is_number && *id <= USER_ID_MAX)
    };
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    if let (Some(uid), Some(gid)) = (id(uid), id(gid)) {
        return Some(User { uid, gid });
    }
    let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let hint = is_name.then(|| "write the number that the environment has for it".to_owned());
    reader.report(Problem::new(node.span, node.describe(), expected).hint_maybe(hint));
    None
}

#[derive(Default)]
struct VolumeDraft {
    name: Option<Name>,
    path: Option<String>,
    exclusive: bool,
    read_only: bool,
}

const VOLUME_FIELDS: &[Field<VolumeDraft>] = &[
    Field {
        name: "name",
        doc: "The volume's name, unique in the cluster.",
        schema: || schema::text_like("data"),
        read: |reader, node, draft| draft.name = name(reader, node, "data"),
    },
    Field {
        name: "path",
        doc: "Where it is seen, as an absolute path. Default /srv/NAME.",
        schema: || schema::text_like("/srv/data"),
        read: |reader, node, draft| draft.path = target_path(reader, node),
    },
    Field {
        name: "exclusive",
        doc: "Whether only one instance at a time may use it. Default false.",
        schema: schema::boolean,
        read: |reader, node, draft| draft.exclusive = reader.boolean(node).unwrap_or_default(),
    },
    Field {
        name: "read_only",
        doc: "Whether it cannot be written. Default false.",
        schema: schema::boolean,
        read: |reader, node, draft| draft.read_only = reader.boolean(node).unwrap_or_default(),
    },
];

fn volumes(reader: &mut Reader, node: &Node, draft: &mut SurroundingsDraft) {
    let items = reader.items(node, "volumes", "[data]", SURROUNDINGS_MAX);
    for (index, item) in items.into_iter().flatten().enumerate() {
        reader.within_item(index, |reader| {
            let mut volume = VolumeDraft::default();
            match &item.value {
                Value::Map(_) => {
                    let is_right = reader.fields(item, &[VOLUME_FIELDS], |_| None, &mut volume);
                    if volume.name.is_none() && is_right {
                        let problem = Problem::new(item.span, "no `name`", "the volume's `name`");
                        reader.report(problem);
                    }
                }
                Value::Text(text) if text.contains([':', '/']) => {
                    let expected = "a volume's name such as data, or a map";
                    let problem = Problem::new(item.span, item.describe(), expected);
                    reader.report(problem.hint(
                        "write {name: data, path: /srv/data}; folders of the node are `mounts`",
                    ));
                }
                _ => volume.name = name(reader, item, "data"),
            }
            let Some(name) = volume.name else {
                return;
            };
            if draft.volumes.iter().any(|other| other.name == name) {
                let found = format!("the volume `{name}` is given twice");
                reader.report(Problem::new(item.span, found, "each volume once"));
                return;
            }
            let path = volume.path.unwrap_or_else(|| format!("/srv/{name}"));
            let field = reader.field();
            draft.targets.push(Target { path: path.clone(), field, span: item.span });
            let VolumeDraft { exclusive, read_only, .. } = volume;
            draft.volumes.push(VolumeMount { name, path, exclusive, read_only });
        });
    }
}

fn name(reader: &mut Reader, node: &Node, example: &str) -> Option<Name> {
    let text = reader.text(node, &format!("a name such as {example}"))?;
    checked_name(reader, node.span, text)
}

#[derive(Default)]
struct SecretDraft {
    name: Option<Name>,
    variable: Option<String>,
}

const SECRET_FIELDS: &[Field<SecretDraft>] = &[
    Field {
        name: "name",
        doc: "The secret's name.",
        schema: || schema::text_like("password"),
        read: |reader, node, draft| draft.name = secret_name(reader, node),
    },
    Field {
        name: "variable",
        doc: "The environment variable that holds it. Without, it is the file /run/secrets/NAME.",
        schema: || schema::text_like("PASSWORD"),
        read: |reader, node, draft| draft.variable = variable(reader, node),
    },
];

fn secrets(reader: &mut Reader, node: &Node, draft: &mut SurroundingsDraft) {
    let items = reader.items(node, "secrets", "[password]", SURROUNDINGS_MAX);
    for (index, item) in items.into_iter().flatten().enumerate() {
        reader.within_item(index, |reader| {
            let mut secret = SecretDraft::default();
            match &item.value {
                Value::Map(_) => {
                    let is_right = reader.fields(item, &[SECRET_FIELDS], secret_mend, &mut secret);
                    if secret.name.is_none() && is_right {
                        let problem = Problem::new(item.span, "no `name`", "the secret's `name`");
                        reader.report(problem);
                    }
                }
                _ => secret.name = secret_name(reader, item),
            }
            let SecretDraft { name: Some(name), variable } = secret else {
                return;
            };
            let mut others = draft.secrets.iter().map(|(other, _)| other);
            let found = match &variable {
                Some(variable) if others.any(|other| other.variable.as_ref() == Some(variable)) => {
                    Some(format!("the variable `{variable}` is given twice"))
                }
                None if others.any(|other| other.name == name && other.variable.is_none()) => {
                    Some(format!("the secret `{name}` is given twice"))
                }
                _ => None,
            };
            if let Some(found) = found {
                reader.report(Problem::new(item.span, found, "each once"));
            }
            draft.secrets.push((SecretUse { name, variable }, item.span));
        });
    }
}

fn secret_mend(name: &str) -> Option<String> {
    match name {
        "value" | "content" => {
            Some("keep the value by `spawnery secret set NAME`, not in a manifest".to_owned())
        }
        "env" => Some("did you mean `variable`?".to_owned()),
        _ => None,
    }
}

/// Reads a secret's name. What stands there by mistake may be the secret, so it is not repeated.
fn secret_name(reader: &mut Reader, node: &Node) -> Option<Name> {
    crate::base::credentials(reader, node)
}

/// Reads the name of a variable that every shell can use (POSIX, section 8.1).
fn variable(reader: &mut Reader, node: &Node) -> Option<String> {
    let expected = "the name of a variable, such as PASSWORD";
    let Value::Text(text) = &node.value else {
        return reader.wrong(node, expected);
    };
    let is_right = text.len() <= 255
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_right {
        return Some(text.clone());
    }
    let problem = Problem::new(node.span, "text that is not the name of a variable", expected);
    reader.report(problem.hint("a name has letters, digits and `_`"));
    None
}

fn devices(reader: &mut Reader, node: &Node) -> Vec<String> {
    let items = reader.items(node, "device nodes", "[/dev/kvm]", SURROUNDINGS_MAX);
    let mut devices = Vec::new();
    for (index, item) in items.into_iter().flatten().enumerate() {
        reader.within_item(index, |reader| {
            let expected = "a device node below /dev, such as /dev/kvm";
            let Some(text) = reader.text(item, expected) else {
                return;
            };
            let is_pair = text.contains(":/");
            if !placed::is_below(text, "/dev") || absolute_path(text).is_err() || is_pair {
                let hint = text
                    .split_once(":/")
                    .map(|(device, _)| format!("write {device}; it has the same name inside"));
                let found = format!("{} is no device node", quoted(text));
                reader.report(Problem::new(item.span, found, expected).hint_maybe(hint));
            } else if devices.iter().any(|other| other == text) {
                let found = format!("{} is given twice", quoted(text));
                reader.report(Problem::new(item.span, found, "each device once"));
            }
            devices.push(text.to_owned());
        });
    }
    devices
}

#[derive(Default)]
struct MountDraft {
    from: Option<String>,
    to: Option<String>,
    read_only: bool,
}

const MOUNT_FIELDS: &[Field<MountDraft>] = &[
    Field {
        name: "from",
        doc: "The folder on the node, as an absolute path.",
        schema: || schema::text_like("/mnt/models"),
        read: |reader, node, draft| {
            let text = reader.text(node, "an absolute path such as /mnt/models");
            draft.from = text.and_then(|text| match absolute_path(text) {
                Ok(()) => Some(text.to_owned()),
                Err(problem) => {
                    reader.report(problem.at(node.span));
                    None
                }
            });
        },
    },
    Field {
        name: "to",
        doc: "Where it is seen, as an absolute path.",
        schema: || schema::text_like("/srv/models"),
        read: |reader, node, draft| draft.to = target_path(reader, node),
    },
    Field {
        name: "read_only",
        doc: "Whether it cannot be written. Default false.",
        schema: schema::boolean,
        read: |reader, node, draft| draft.read_only = reader.boolean(node).unwrap_or_default(),
    },
];

fn mounts(reader: &mut Reader, node: &Node, draft: &mut SurroundingsDraft) {
    let example = "[{from: /mnt/models, to: /srv/models}]";
    let items = reader.items(node, "folders of the node", example, SURROUNDINGS_MAX);
    for (index, item) in items.into_iter().flatten().enumerate() {
        reader.within_item(index, |reader| {
            let mut mount = MountDraft::default();
            let is_right = reader.fields(item, &[MOUNT_FIELDS], |_| None, &mut mount);
            let (Some(from), Some(to)) = (mount.from, mount.to) else {
                if is_right {
                    let found = "a mount without `from` or without `to`";
                    reader.report(Problem::new(item.span, found, "both `from` and `to`"));
                }
                return;
            };
            let field = reader.field();
            draft.targets.push(Target { path: to.clone(), field, span: item.span });
            draft.mounts.push(HostMount { from, to, read_only: mount.read_only });
        });
    }
}
