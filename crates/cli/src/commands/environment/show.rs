//! Showing one environment.

use crate::commands::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::words::{age, bytes};
use spawnery_client::api::EnvironmentView;
use spawnery_model::{EnvironmentLock, Name};

/// Shows an environment.
pub(super) async fn show(context: &Context, environment: &str) -> Outcome {
    let found = context.client()?.environment(environment).await?;
    match context.output.is_json {
        true => context.output.json(&found)?,
        false => print(context, &found)?,
    }
    Ok(ExitCode::OK)
}

fn print(context: &Context, found: &EnvironmentView) -> Result<(), CliError> {
    let name = found.name.as_ref().map_or("-", Name::as_str);
    let node = found.node.as_ref().map_or("-", Name::as_str);
    let facts = [
        ("environment", name.to_owned()),
        ("digest", found.digest.to_string()),
        ("node", node.to_owned()),
        ("size", bytes(found.size_bytes)),
        ("last used", format!("{} ago", age(found.used_at_ms))),
        ("users", found.users.to_string()),
    ];
    for (fact, text) in facts {
        context.output.line(format!("{fact:<11}  {text}"))?;
    }
    context.output.line("\nSteps:")?;
    for (index, step) in found.steps.iter().enumerate() {
        context.output.line(format!("  {}. {step}", index + 1))?;
    }
    if !found.layers.is_empty() {
        context.output.line("\nLayers:")?;
    }
    for layer in &found.layers {
        context.output.line(format!("  {layer}"))?;
    }
    if let Some(lock) = &found.lock {
        context.output.line("\nLock:")?;
        for line in lock_lines(lock) {
            context.output.line(format!("  {line}"))?;
        }
    }
    if let Some(output) = found.output.as_ref().filter(|output| !output.is_empty()) {
        context.output.line("\nOutput of the build:")?;
        context.output.line(output.trim_end())?;
    }
    Ok(())
}

/// What a lock pins, a line each.
fn lock_lines(lock: &EnvironmentLock) -> Vec<String> {
    let mut lines = Vec::new();
    let single = [("image", &lock.image), ("python", &lock.python), ("commit", &lock.commit)];
    for (what, text) in single {
        lines.extend(text.iter().map(|text| format!("{what} {text}")));
    }
    let apt = lock.apt.iter().map(|package| format!("apt {} {}", package.name, package.version));
    lines.extend(apt);
    // The hashes are in the lock file.
    let names = lock.requirements.iter();
    let names = names.filter_map(|line| line.split_whitespace().next());
    lines.extend(names.map(|name| format!("python package {name}")));
    if lines.is_empty() {
        lines.push("nothing is left open".to_owned());
    }
    lines
}
