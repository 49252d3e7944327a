//! Waits until an instance is ready, and tells what it waits for if that takes long.

use spawnery_model::InstanceId;
use spawnery_node::Check;
use spawnery_runtime::Runtime;
use spawnery_runtime::readiness::{Gone, until_ready};
use std::time::Duration;
use tokio::sync::watch;

/// When somebody may wonder why an instance is not ready yet.
const SLOW_AFTER: Duration = Duration::from_secs(10);

/// Waits until `check` holds.
pub(crate) async fn wait(
    runtime: &dyn Runtime,
    instance: InstanceId,
    check: &Check,
) -> Result<(), Gone> {
    let (unready, why) = watch::channel(String::new());
    let ready = until_ready(runtime, instance, check, |reason| {
        tracing::debug!(%instance, reason, "not ready yet");
        unready.send_replace(reason.to_owned());
    });
    tokio::pin!(ready);
    tokio::select! {
        result = &mut ready => return result,
        () = tokio::time::sleep(SLOW_AFTER) => {}
    }
    let reason = why.borrow().clone();
    tracing::info!(%instance, reason, "still not ready");
    ready.await
}
