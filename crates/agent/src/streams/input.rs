//! What somebody does who is attached to a process.

use crate::link::{LinkError, Stream, read_frame, write_frame};
use crate::streams::{stdin, window_size};
use spawnery_model::InstanceId;
use spawnery_runtime::Runtime;
use spawnery_wire::link::{InputFrame, RefusalKind, StreamReply};

/// Carries out what comes on the stream, in its order, until it ends. What cannot be done is told
/// by a refusal, after which nothing more is taken.
pub(super) async fn serve(
    runtime: &dyn Runtime,
    instance: InstanceId,
    process: u32,
    stream: &mut Stream,
) -> Result<(), LinkError> {
    write_frame(stream, &StreamReply::Accepted).await?;
    loop {
        let done = match read_frame::<InputFrame, _>(stream).await? {
            InputFrame::Bytes(bytes) => {
                stdin::write(runtime, instance, process, &bytes, false).await
            }
            InputFrame::End => stdin::write(runtime, instance, process, &[], true).await,
            InputFrame::Resize(size) => {
                // A process without a terminal has no size, which matters to nobody.
                let _ = runtime.resize(instance, process, window_size(size)).await;
                Ok(())
            }
        };
        if let Err(error) = done {
            let (kind, reason) = (RefusalKind::NotRunning, error.to_string());
            return write_frame(stream, &StreamReply::Refused { kind, reason }).await;
        }
    }
}
