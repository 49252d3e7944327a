//! Writing a line into a file inside an instance.
//!
//! A process inside does it, as the instance's user: so no path leads anywhere where the program
//! inside could not write itself.

use super::ProcessRuntime;
use crate::runtime::{ExecOrder, OperationError, Runtime};
use spawnery_model::{Exit, InstanceId};
use std::collections::BTreeMap;
use std::time::Duration;

/// The shell that writes. `$1` is the line, `$2` the file. A link in its place is replaced, not
/// followed, and a reader sees the old file or the new one.
const SCRIPT: &str = r#"
[ ! -d "$2" ] || { echo "$2 is a folder" >&2; exit 1; }
new=${2%/*}/.spawnery-line
rm -f "$new" && printf '%s\n' "$1" > "$new" && chmod 644 "$new" && mv -f "$new" "$2"
"#;

/// Time to write a line. A file system that takes longer is stuck.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

const SIGKILL: i32 = 9;

impl ProcessRuntime {
    pub(super) async fn write_line_inside(
        &self,
        instance: InstanceId,
        path: &str,
        line: &str,
    ) -> Result<(), OperationError> {
        let words = ["/bin/sh", "-c", SCRIPT, "sh", line, path];
        let order = ExecOrder {
            run: words.map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            working_directory: Some("/".to_owned()),
            stdin: false,
            user: None,
            terminal: None,
            timeout: None,
        };
        let process = self.exec_process(instance, order).await?;
        let failed = |reason: &str| OperationError::Failed { reason: reason.to_owned() };
        let Ok(exit) = tokio::time::timeout(WRITE_WITHIN, self.end_of(instance, process)).await
        else {
            self.signal(instance, process, SIGKILL).await?;
            return Err(failed("the file system inside does not answer"));
        };
        if exit?.code == Some(0) {
            return Ok(());
        }
        let said = self.log(instance, process)?;
        let said = tokio::task::spawn_blocking(move || said.files.tail_lines(1)).await;
        let said = said.ok().and_then(Result::ok).unwrap_or_default();
        let said: Vec<u8> = said.into_iter().flat_map(|record| record.bytes).collect();
        Err(failed(String::from_utf8_lossy(&said).trim()))
    }

    async fn end_of(&self, instance: InstanceId, process: u32) -> Result<Exit, OperationError> {
        let mut log = self.log(instance, process)?;
        loop {
            if let Some(exit) = log.progress().exit {
                return Ok(exit);
            }
            if !log.changed().await {
                return Err(OperationError::NotRunning);
            }
        }
    }
}
