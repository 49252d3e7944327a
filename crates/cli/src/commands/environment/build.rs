//! Building environments, and pinning them.

use super::short;
use crate::commands::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::manifest_file::ManifestFile;
use crate::output::note;
use crate::progress::Progress;
use crate::words::bytes;
use serde_json::json;
use spawnery_client::api::{BuildRequest, EnvironmentView};
use spawnery_client::{BuildItem, Client};
use spawnery_manifest::LockFile;
use spawnery_model::Name;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Builds environments of a manifest.
pub(super) async fn build(
    context: &Context,
    file: &Path,
    names: &[String],
    node: Option<&str>,
) -> Outcome {
    let file = ManifestFile::read(file)?;
    let names = chosen(&file, names)?;
    let client = context.client()?;
    file.send(&client).await?;
    for name in &names {
        let built = build_one(context, &client, &file, name, node, false).await?;
        if !context.output.is_json {
            let size = bytes(built.size_bytes);
            context.output.line(format!("built {name}: {} ({size})", short(&built.digest)))?;
        }
    }
    Ok(ExitCode::OK)
}

/// Builds environments of a manifest anew from what is there now, and writes what pins them.
pub(super) async fn lock(
    context: &Context,
    path: &Path,
    names: &[String],
    node: Option<&str>,
) -> Outcome {
    let file = ManifestFile::read_unlocked(path)?;
    let lock_path = ManifestFile::lock_path(path);
    let known: Vec<Name> = file.manifest.recipes().into_keys().cloned().collect();
    let is_part = !names.is_empty();
    let names = chosen(&file, names)?;
    let client = context.client()?;
    file.send(&client).await?;
    // What is not asked for stays, unless the manifest has it no more.
    let mut locks = match is_part {
        true => ManifestFile::read_lock(path)?.unwrap_or_default().environments,
        false => BTreeMap::new(),
    };
    locks.retain(|name, _| known.contains(name));
    for name in names {
        let built = build_one(context, &client, &file, &name, node, true).await?;
        let Some(lock) = built.lock else {
            let message = format!("the server did not say what pins the environment {name}");
            return Err(CliError::failed(message));
        };
        locks.insert(name, lock);
    }
    let count = locks.len();
    write(&lock_path, &LockFile { environments: locks }.to_toml())?;
    let shown = lock_path.display();
    let words = format!("wrote {shown} ({})", crate::words::count(count, "environment"));
    context.output.said(&json!({ "lock": shown.to_string(), "environments": count }), &words)?;
    Ok(ExitCode::OK)
}

/// The environments of the manifest that are meant.
fn chosen(file: &ManifestFile, names: &[String]) -> Result<Vec<Name>, CliError> {
    let known: Vec<Name> = file.manifest.recipes().into_keys().cloned().collect();
    let path = file.path.display();
    if known.is_empty() {
        let message = format!("{path} has no environments");
        return Err(CliError::usage(message).hint("add `environments:` or `environment:` to it"));
    }
    for name in names {
        if !known.iter().any(|known| known.as_str() == name) {
            let known: Vec<&str> = known.iter().map(Name::as_str).collect();
            let message = format!("{path} has no environment called `{name}`");
            return Err(CliError::usage(message).hint(format!("it has {}", known.join(", "))));
        }
    }
    let is_meant =
        |name: &Name| names.is_empty() || names.iter().any(|other| other == name.as_str());
    Ok(known.into_iter().filter(is_meant).collect())
}

async fn build_one(
    context: &Context,
    client: &Client,
    file: &ManifestFile,
    name: &Name,
    node: Option<&str>,
    resolve: bool,
) -> Result<EnvironmentView, CliError> {
    let unreadable = |error| CliError::failed(format!("the recipe cannot be sent: {error}"));
    let recipe = file.manifest.recipe_json(name).unwrap_or_default();
    let request = BuildRequest {
        name: Some(name.clone()),
        recipe: serde_json::from_str(&recipe).map_err(unreadable)?,
        node: node.map(str::to_owned),
        resolve,
    };
    let mut news = client.build_environment(&request).await?;
    let mut progress = Progress::new();
    loop {
        let item = tokio::select! {
            item = news.next() => item?,
            _ = tokio::signal::ctrl_c() => {
                return Err(CliError::silent(ExitCode::of_signal(2)));
            }
        };
        match item {
            BuildItem::Progress(text) if context.output.is_json => {
                context.output.json_line(&json!({ "environment": name, "progress": text }))?;
            }
            BuildItem::Output(bytes) if context.output.is_json => {
                let text = String::from_utf8_lossy(&bytes);
                context.output.json_line(&json!({ "environment": name, "output": text }))?;
            }
            BuildItem::Progress(text) => {
                progress.hidden(|| note(format!("{name}: {text}")));
                progress.say(format!("{name}: {text}"));
            }
            BuildItem::Output(bytes) => progress.hidden(|| {
                // What a build writes is beside the data, which is the digest.
                let mut error = std::io::stderr().lock();
                let _ = error.write_all(&bytes).and_then(|()| error.flush());
            }),
            BuildItem::Done(environment) => {
                if context.output.is_json && !resolve {
                    context
                        .output
                        .json_line(&json!({ "environment": name, "built": environment }))?;
                }
                return Ok(*environment);
            }
        }
    }
}

/// Writes a file so that a reader sees all of it or what was there before.
fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let written =
        tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            // As other files beside it: a temporary file is for its owner alone.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            file.as_file().set_permissions(mode)?;
            file.persist(path).map(drop).map_err(|error| error.error)
        });
    written.map_err(|error| {
        CliError::failed(format!("cannot write {}: {error}", path.display()))
            .hint("see that you may write to the folder of the manifest")
    })
}
