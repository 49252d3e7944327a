//! Standard input of a process, from a stream.

use crate::link::{LinkError, Stream, write_frame};
use crate::streams::refused;
use spawnery_model::InstanceId;
use spawnery_runtime::{OperationError, Runtime, StdinTaken};
use spawnery_wire::link::StreamReply;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Bytes handed to the launcher at once.
const PIECE_BYTES: usize = 16 * 1024;

/// Time before the second try to write to a process that does not read; doubled each time.
const RETRY_DELAY: Duration = Duration::from_millis(2);

/// The longest that it grows to.
const RETRY_DELAY_MAX: Duration = Duration::from_millis(100);

/// Writes what comes on the stream. An end in order closes the standard input; a stream that
/// breaks leaves it open for the next one.
pub(super) async fn serve(
    runtime: &dyn Runtime,
    instance: InstanceId,
    process: u32,
    stream: &mut Stream,
) -> Result<(), LinkError> {
    // Writing nothing finds out whether there is something to write to.
    if let Err(error) = runtime.write_stdin(instance, process, Vec::new(), false).await {
        return write_frame(stream, &refused(&error)).await;
    }
    write_frame(stream, &StreamReply::Accepted).await?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = stream.read(&mut piece).await?;
        let written = write(runtime, instance, process, &piece[..read], read == 0).await;
        if let Err(error) = written {
            tracing::debug!(%instance, process, %error, "its standard input is closed");
            return Ok(());
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// Writes all of `bytes`, waiting while the process does not read.
pub(super) async fn write(
    runtime: &dyn Runtime,
    instance: InstanceId,
    process: u32,
    mut bytes: &[u8],
    close: bool,
) -> Result<(), OperationError> {
    let mut delay = RETRY_DELAY;
    loop {
        let StdinTaken { bytes: taken } =
            runtime.write_stdin(instance, process, bytes.to_vec(), close).await?;
        bytes = bytes.get(taken..).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        delay = if taken > 0 { RETRY_DELAY } else { (delay * 2).min(RETRY_DELAY_MAX) };
        tokio::time::sleep(delay).await;
    }
}
