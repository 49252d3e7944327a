//! Writing an environment as one archive.

use crate::commands::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::progress::Progress;
use crate::words::bytes;
use futures::StreamExt;
use spawnery_client::ExportFormat;
use std::io::{IsTerminal, Write};
use std::path::Path;

/// Writes an environment to `output`; `-` is standard output.
pub(super) async fn export(
    context: &Context,
    environment: &str,
    output: &Path,
    format: ExportFormat,
) -> Outcome {
    let to_stdout = output == Path::new("-");
    if to_stdout && std::io::stdout().is_terminal() {
        let message = "an archive is nothing for a terminal";
        return Err(CliError::usage(message).hint("write it to a file with --output FILE"));
    }
    let pieces = context.client()?.export(environment, format).await?;
    let mut pieces = std::pin::pin!(pieces);
    let failed = |error: std::io::Error| {
        CliError::failed(format!("cannot write {}: {error}", output.display()))
    };
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
    // A file is there whole or not at all.
    let mut file = match to_stdout {
        true => None,
        false => {
            let made = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
            Some(made.map_err(failed)?)
        }
    };
    let mut progress = Progress::new();
    let mut written = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        written += piece.len() as u64;
        match &mut file {
            Some(file) => file.write_all(&piece).map_err(failed)?,
            None => context.output.bytes(&piece)?,
        }
        progress.say(format!("exporting: {}", bytes(written)));
    }
    if written == 0 {
        let message = format!("the server sent nothing of {environment}");
        return Err(CliError::failed(message).hint("the log of the node's agent says why"));
    }
    let Some(file) = file else {
        return Ok(ExitCode::OK);
    };
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(failed)?;
    file.persist(output).map_err(|error| failed(error.error))?;
    let shown = output.display().to_string();
    let data = serde_json::json!({ "written": shown, "size_bytes": written });
    context.output.said(&data, &format!("wrote {shown} ({})", bytes(written)))?;
    Ok(ExitCode::OK)
}
