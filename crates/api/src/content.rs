//! Content by digest: what environments take from beside their manifests.

use crate::app::App;
use crate::body::Change;
use crate::failure::{Answer, Failure, code};
use crate::limits::CONTENT_BYTES_MAX;
use crate::parameters::invalid;
use crate::rejections::unfinished;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt;
use spawnery_environment::ContentError;
use spawnery_model::ContentDigest;
use spawnery_wire::api::{MissingReply, MissingRequest};
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Pieces of a body that wait to be written. When it is full, reading waits.
const PIECES_MAX: usize = 16;

/// Says which content is not here. What is here stays for a while, until the rest has come.
#[utoipa::path(
    post, path = "/v1/content/missing", tag = "environments",
    request_body = MissingRequest,
    responses((status = 200, description = "What is missing", body = MissingReply)),
)]
pub(crate) async fn missing_content(
    State(app): State<App>,
    change: Change,
) -> Answer<Json<MissingReply>> {
    let request: MissingRequest = change.json()?;
    let content = app.controller.content().clone();
    let asked = move || content.missing(&request.digests);
    let missing = tokio::task::spawn_blocking(asked).await;
    let missing = missing.map_err(|_| unfinished("looking for the content"))?;
    Ok(Json(MissingReply { missing }))
}

/// Takes content in. What does not have the digest that is announced is refused, and not kept.
///
/// A file or folder beside a manifest is sent as its files, each by its own digest, and as the
/// listing of its tree, whose digest goes into the manifest.
#[utoipa::path(
    put, path = "/v1/content/{sha256}", tag = "environments",
    params(("sha256" = String, Path, description = "The SHA-256 of the body: 64 hexadecimal digits")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "It flows: at most 64 GiB"),
    responses((status = 204, description = "It is there")),
)]
pub(crate) async fn put_content(
    State(app): State<App>,
    Path(sha256): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let _permit = app.stream_permit()?;
    let digest: ContentDigest = sha256.parse().map_err(|error| invalid(format!("{error}")))?;
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > CONTENT_BYTES_MAX) {
        return Err(too_large());
    }
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let content = app.controller.content().clone();
    let stored = tokio::task::spawn_blocking(move || {
        content.put(Some(&digest), &mut Pieces { receiver, piece: Bytes::new() })
    });
    let sent = send(body, sender).await;
    let stored = stored.await.map_err(|_| unfinished("storing the content"))?;
    match (sent, stored) {
        // What came was cut off, which is the cause of the other error.
        (Err(failure), _) => Err(failure),
        (Ok(()), Err(error)) => Err(refused(error)),
        (Ok(()), Ok(_)) => Ok(StatusCode::NO_CONTENT),
    }
}

/// Passes a body on, piece by piece.
async fn send(body: Body, sender: mpsc::Sender<io::Result<Bytes>>) -> Answer<()> {
    let mut pieces = body.into_data_stream();
    let mut bytes_left = CONTENT_BYTES_MAX;
    while let Some(piece) = pieces.next().await {
        let failure = match piece {
            Ok(piece) if piece.len() as u64 > bytes_left => too_large(),
            Ok(piece) => {
                bytes_left -= piece.len() as u64;
                if sender.send(Ok(piece)).await.is_err() {
                    // Whoever writes has failed, and says why.
                    return Ok(());
                }
                continue;
            }
            Err(_) => Failure::new(code::BODY, "the body ended before it was complete"),
        };
        let _ = sender.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
        return Err(failure);
    }
    Ok(())
}

fn too_large() -> Failure {
    let detail = format!("the content has more than {CONTENT_BYTES_MAX} bytes");
    Failure::new(code::BODY_TOO_LARGE, detail)
}

fn refused(error: ContentError) -> Failure {
    let detail = error.to_string();
    match &error {
        ContentError::WrongDigest { .. } => Failure::new(code::CONTENT_DIGEST, detail)
            .hint("see that the file does not change while it is sent"),
        error if error.is_full() => {
            Failure::new(code::DISK_FULL, detail).hint("free some space on the server's disk")
        }
        _ => Failure::new(code::INTERNAL, detail),
    }
}

/// The pieces of a body, for a thread that reads.
struct Pieces {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
