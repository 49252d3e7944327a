//! Writing a line into a file inside an instance.
//!
//! The instance's file server does it, as the instance's user: so no path leads anywhere where the
//! program inside could not write itself.

use super::ProcessRuntime;
use crate::runtime::{OperationError, Runtime};
use spawnery_model::InstanceId;
use spawnery_sandbox::files::protocol::{
    FileErrorKind, FileKind, FileReply, FileRequest, decode_file_frame, encode_file_frame,
    file_frame_length,
};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Permission bits of the file: whoever is inside may read it.
const MODE: u32 = 0o644;

/// Time to write a line. A file system that takes longer is stuck.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

impl ProcessRuntime {
    pub(super) async fn write_line_inside(
        &self,
        instance: InstanceId,
        path: &str,
        line: &str,
    ) -> Result<(), OperationError> {
        let written = tokio::time::timeout(WRITE_WITHIN, self.replace(instance, path, line)).await;
        written.unwrap_or_else(|_| Err(failed("the file system inside does not answer")))
    }

    /// A reader sees the old file or the new one, and a link in its place is replaced.
    async fn replace(
        &self,
        instance: InstanceId,
        path: &str,
        line: &str,
    ) -> Result<(), OperationError> {
        let folder = path.rsplit_once('/').map_or("", |(above, _)| above);
        let folder = if folder.is_empty() { "/" } else { folder };
        // Else a folder that is missing would be made.
        done(self.answer(instance, &stat(folder), None).await?)?;
        match self.answer(instance, &stat(path), None).await? {
            FileReply::Failed { kind: FileErrorKind::NotFound, .. } => {}
            FileReply::Info(info) if info.kind == FileKind::File => {}
            FileReply::Info(info) if info.kind == FileKind::Link => {
                let remove = FileRequest::Remove { path: path.to_owned(), recursive: false };
                done(self.answer(instance, &remove, None).await?)?;
            }
            FileReply::Failed { reason, .. } => return Err(failed(&reason)),
            _ => return Err(failed(&format!("{path}: it is no file"))),
        }
        let write = FileRequest::Write { path: path.to_owned(), offset: None, mode: Some(MODE) };
        done(self.answer(instance, &write, Some(&format!("{line}\n"))).await?)
    }

    async fn answer(
        &self,
        instance: InstanceId,
        request: &FileRequest,
        content: Option<&str>,
    ) -> Result<FileReply, OperationError> {
        let mut socket = self.files(instance).await?;
        let asked = async {
            socket.write_all(&encode_file_frame(request)).await?;
            if let Some(content) = content {
                let length = u32::try_from(content.len()).map_err(io::Error::other)?;
                socket.write_all(&length.to_le_bytes()).await?;
                socket.write_all(content.as_bytes()).await?;
                // An empty chunk is the end.
                socket.write_all(&0_u32.to_le_bytes()).await?;
            }
            let mut head = [0; 4];
            socket.read_exact(&mut head).await?;
            let length = file_frame_length(head).ok_or(io::ErrorKind::InvalidData)?;
            let mut body = vec![0; length];
            socket.read_exact(&mut body).await?;
            decode_file_frame(&body).ok_or_else(|| io::ErrorKind::InvalidData.into())
        };
        asked.await.map_err(|error: io::Error| failed(&format!("its files: {error}")))
    }
}

fn stat(path: &str) -> FileRequest {
    FileRequest::Stat { path: path.to_owned() }
}

fn done(reply: FileReply) -> Result<(), OperationError> {
    match reply {
        FileReply::Failed { reason, .. } => Err(failed(&reason)),
        _ => Ok(()),
    }
}

fn failed(reason: &str) -> OperationError {
    OperationError::Failed { reason: reason.to_owned() }
}
