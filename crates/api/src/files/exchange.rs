//! One request to the file server of an instance.

use crate::failure::{Answer, Failure, code};
use axum::body::{Body, Bytes};
use futures::StreamExt;
use minicbor::Decode;
use spawnery_controller::FileStream;
use spawnery_sandbox::files::protocol::{
    FILE_CHUNK_BYTES_MAX, FileErrorKind, FileInfo, FileReply, FileRequest, decode_file_frame,
    encode_file_frame, file_frame_length,
};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The way to the file server.
pub(super) struct Exchange(FileStream);

impl Exchange {
    /// Sends the request.
    pub(super) async fn begin(mut stream: FileStream, request: &FileRequest) -> Answer<Exchange> {
        stream.write_all(&encode_file_frame(request)).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        Ok(Exchange(stream))
    }

    /// The next answer. What cannot be done is an error.
    pub(super) async fn reply(&mut self) -> Answer<FileReply> {
        match self.frame().await.map_err(broken)? {
            FileReply::Failed { kind, reason } => Err(refused(kind, reason)),
            reply => Ok(reply),
        }
    }

    /// The only answer, which is what is there.
    pub(super) async fn info(mut self) -> Answer<FileInfo> {
        match self.reply().await? {
            FileReply::Info(info) => Ok(info),
            _ => Err(unexpected()),
        }
    }

    /// Sends a body in chunks; then as [`Exchange::info`].
    pub(super) async fn send(mut self, body: Body) -> Answer<FileInfo> {
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            // Dropped without an end, what came so far is thrown away.
            let ended = |_| Failure::new(code::BODY, "the body ended before it was complete");
            let piece = piece.map_err(ended)?;
            for chunk in piece.chunks(FILE_CHUNK_BYTES_MAX) {
                self.put(chunk).await.map_err(broken)?;
            }
        }
        self.put(&[]).await.map_err(broken)?;
        self.info().await
    }

    async fn put(&mut self, chunk: &[u8]) -> io::Result<()> {
        let length = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        self.0.write_all(&length.to_le_bytes()).await?;
        self.0.write_all(chunk).await?;
        self.0.flush().await
    }

    /// The next chunk; none after the last, if all went well.
    pub(super) async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let length = self.0.read_u32_le().await? as usize;
        if length > FILE_CHUNK_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if length == 0 {
            return match self.frame().await? {
                FileReply::Failed { reason, .. } => Err(io::Error::other(reason)),
                _ => Ok(None),
            };
        }
        let mut chunk = vec![0; length];
        self.0.read_exact(&mut chunk).await?;
        Ok(Some(chunk.into()))
    }

    /// What follows an answer as it is.
    pub(super) fn into_stream(self) -> FileStream {
        self.0
    }

    async fn frame<M: for<'b> Decode<'b, ()>>(&mut self) -> io::Result<M> {
        let mut head = [0; 4];
        self.0.read_exact(&mut head).await?;
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let mut body = vec![0; file_frame_length(head).ok_or_else(malformed)?];
        self.0.read_exact(&mut body).await?;
        decode_file_frame(&body).ok_or_else(malformed)
    }
}

fn refused(kind: FileErrorKind, reason: String) -> Failure {
    let code = match kind {
        FileErrorKind::NotFound => code::FILE_UNKNOWN,
        FileErrorKind::IsFolder | FileErrorKind::NotFolder | FileErrorKind::Special => {
            code::FILE_KIND
        }
        FileErrorKind::Exists => code::FILE_EXISTS,
        FileErrorKind::NotEmpty => code::FOLDER_NOT_EMPTY,
        FileErrorKind::Denied => code::FILE_DENIED,
        FileErrorKind::NoSpace => code::DISK_FULL,
        FileErrorKind::Range => code::RANGE,
        FileErrorKind::Invalid => code::PARAMETER,
        FileErrorKind::Other => code::PROCESS_FAILED,
    };
    let hint = match kind {
        FileErrorKind::IsFolder => {
            Some("list it: GET …/folders, or fetch it: GET …/folders/archive")
        }
        FileErrorKind::Exists => Some("with `replace` it is replaced"),
        FileErrorKind::NotEmpty => Some("with `recursive` it is removed with all that is in it"),
        FileErrorKind::Denied => Some("a command as another user may: POST …/exec with `user`"),
        _ => None,
    };
    let failure = Failure::new(code, reason);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn broken(error: io::Error) -> Failure {
    let detail = format!("the files of the instance are out of reach: {error}");
    Failure::new(code::NOT_RUNNING, detail).hint("it may just have ended, or be out of memory")
}

/// The file server says what does not belong here.
pub(super) fn unexpected() -> Failure {
    Failure::new(code::INTERNAL, "the node gave an answer that is not understood")
}
