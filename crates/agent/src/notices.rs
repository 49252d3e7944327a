//! Warnings for the programs inside instances: a signal, a file, or both.

use jiff::Timestamp as Moment;
use serde_json::json;
use spawnery_model::{InstanceId, Notice};
use spawnery_node::Noted;
use spawnery_runtime::{OperationError, Runtime};
use std::time::Duration;

/// The main process of an instance.
const MAIN: u32 = 0;

/// Time until another try while the launcher cannot be reached.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Gives warnings, in their order. What is to be remembered is remembered first: a signal that is
/// lost with this agent is a lesser evil than one that comes twice.
pub(crate) async fn give(
    runtime: &dyn Runtime,
    instance: InstanceId,
    notices: Vec<Notice>,
    noted: Noted,
) {
    if !remember(runtime, instance, noted).await {
        return;
    }
    for notice in notices {
        if let Some(signal) = notice.signal {
            match runtime.signal(instance, MAIN, signal).await {
                Ok(()) => tracing::debug!(%instance, signal, cause = ?notice.cause, "warned"),
                Err(error) => tracing::warn!(%instance, %error, "its program was not warned"),
            }
        }
        if let Some(path) = &notice.file
            && let Err(error) = runtime.write_line(instance, path, &line(&notice)).await
        {
            tracing::warn!(%instance, path, %error, "cannot write its warning");
        }
    }
}

/// Has the launcher remember something. False, if there is nobody to warn any more.
pub(crate) async fn remember(runtime: &dyn Runtime, instance: InstanceId, noted: Noted) -> bool {
    loop {
        match runtime.note(instance, noted.clone()).await {
            Ok(()) => return true,
            Err(OperationError::Unknown | OperationError::NotRunning) => return false,
            Err(OperationError::Unavailable { .. }) => {}
            Err(error @ OperationError::Failed { .. }) => {
                tracing::warn!(%instance, %error, "its warnings may be repeated by the next agent");
                return true;
            }
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// What is written into the file.
fn line(notice: &Notice) -> String {
    let ends_at_ms = notice.ends_at.0;
    // Beyond the year 9999 there is only the number.
    let moment = i64::try_from(ends_at_ms).ok().and_then(|ms| Moment::from_millisecond(ms).ok());
    let ends_at = moment.map(|moment| format!("{moment:.3}"));
    json!({ "cause": notice.cause, "ends_at": ends_at, "ends_at_ms": ends_at_ms }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::{Timestamp, WarningCause};

    #[test]
    fn the_file_says_why_and_when_in_one_line() {
        let notice = |cause, ends_at| Notice {
            cause,
            ends_at: Timestamp(ends_at),
            signal: None,
            file: Some("/tmp/end".to_owned()),
        };
        let check = |notice: &Notice, expected: &str| assert_eq!(line(notice), expected);
        check(
            &notice(WarningCause::Idle, 1_795_273_200_005),
            r#"{"cause":"idle","ends_at":"2026-11-21T15:00:00.005Z","ends_at_ms":1795273200005}"#,
        );
        check(
            &notice(WarningCause::Drain, u64::MAX),
            r#"{"cause":"drain","ends_at":null,"ends_at_ms":18446744073709551615}"#,
        );
    }
}
