//! The step of one build command.

use spawnery_sandbox::spec::Network;

use super::capture::capture;
use super::failure::Failure;
use super::sandboxed::{Work, how_it_ended};
use crate::layer::{Layer, LayerDraft};

/// Runs one command by the shell, over all layers, and makes a layer of what it writes.
pub(super) fn run(
    work: &Work<'_>,
    draft: LayerDraft,
    number: usize,
    command: &str,
    network: bool,
    working_directory: &str,
    env: &[(String, String)],
) -> Result<Layer, Failure> {
    let mut spec = work.spec(["/bin/sh", "-c", command]);
    spec.working_directory = Some(working_directory.to_owned());
    spec.network = if network { work.settings.network } else { Network::None };
    spec.env.extend(env.iter().cloned());
    let ended = work.run(spec)?;
    let output = work.output.finish();
    if let Some(how) = how_it_ended(&ended) {
        return Err(work.failed(format!("command {number}, `{command}`, {how}")));
    }
    let kept = ended.layer.clone().ok_or_else(|| Failure::new("the sandbox kept no layer"))?;
    capture(draft, &kept, &[], &output)
}
