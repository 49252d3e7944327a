//! Files of instances. A path is a parameter, because it may hold anything.

mod exchange;
pub(crate) mod instances;
mod range;
pub(crate) mod sessions;

use crate::app::App;
use crate::body::Change;
use crate::failure::{Answer, Failure, code};
use crate::limits::PAGE_ITEMS_DEFAULT;
use crate::parameters::invalid;
use crate::{processes, sse};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use exchange::Exchange;
use futures::{StreamExt, stream};
use serde::Deserialize;
use spawnery_model::InstanceId;
use spawnery_sandbox::files::protocol::{
    FILE_ENTRIES_MAX, FileEvent, FileEventKind, FileInfo, FileKind, FileReply, FileRequest,
};
use spawnery_wire::api::{FileChangeRequest, FileEntryView, FileEventView, Page, file_event};
use std::io;
use std::time::{Duration, UNIX_EPOCH};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;

/// Tells the permissions of a file whose content is sent.
const MODE: HeaderName = HeaderName::from_static("spawnery-mode");

/// Which file.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FileParameters {
    /// An absolute path inside.
    path: String,
}

/// Which file is written, and how.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WriteParameters {
    /// An absolute path inside.
    path: String,
    /// Where in the file to write; without, all of it is replaced.
    offset: Option<u64>,
    /// Its permissions, in octal, such as 0755; those that it has, or 0644, when left out.
    mode: Option<String>,
}

/// What is removed.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RemoveParameters {
    /// An absolute path inside.
    path: String,
    /// A folder with all that is in it.
    #[serde(default)]
    recursive: bool,
}

/// Which part of which folder.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParameters {
    /// An absolute path inside.
    path: String,
    /// How many entries at most: 100 when it is left out, 1000 at most.
    limit: Option<u32>,
    /// Only what comes after this name.
    after: Option<String>,
}

/// Which folder is made.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FolderParameters {
    /// An absolute path inside.
    path: String,
    /// Its permissions, in octal.
    mode: Option<String>,
}

/// What is watched.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WatchParameters {
    /// An absolute path inside.
    path: String,
    /// Of a folder: all below it too.
    #[serde(default)]
    recursive: bool,
}

/// Sends a request, once the instance runs.
async fn open(app: &App, instance: InstanceId, request: &FileRequest) -> Answer<Exchange> {
    processes::until_started(app, instance).await?;
    let stream = app.controller.files(instance).await?;
    Exchange::begin(stream, request).await
}

/// A request that is answered by what is there then.
async fn asked(
    app: &App,
    instance: InstanceId,
    request: FileRequest,
) -> Answer<Json<FileEntryView>> {
    open(app, instance, &request).await?.info().await.map(|info| Json(view(info)))
}

async fn read(
    app: &App,
    instance: InstanceId,
    parameters: FileParameters,
    headers: &HeaderMap,
) -> Answer<Response> {
    let permit = app.stream_permit()?;
    let range = range::wanted(headers);
    let request = FileRequest::Read { path: parameters.path, range };
    let mut exchange = open(app, instance, &request).await?;
    let (info, offset, length) = match exchange.reply().await? {
        FileReply::Content { info, offset, length } => (info, offset, length),
        _ => return Err(exchange::unexpected()),
    };
    // A file that became shorter meanwhile breaks the answer off, because its length was told.
    let pieces = ReaderStream::new(exchange.into_stream().take(length)).map(move |piece| {
        // The right to the stream is given back when the stream is dropped.
        let _ = &permit;
        piece
    });
    let mut response = Body::from_stream(pieces).into_response();
    let out = response.headers_mut();
    let size = info.size_bytes;
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    out.insert(header::CONTENT_LENGTH, length.into());
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let mut text = |name: HeaderName, value: String| {
        out.insert(name, HeaderValue::from_str(&value).expect("digits and a few signs"));
    };
    text(header::ETAG, format!("\"{size:x}-{:x}\"", info.modified_ms));
    text(MODE, octal(info.mode));
    if range.is_some() {
        let last = (offset + length).saturating_sub(1);
        text(header::CONTENT_RANGE, format!("bytes {offset}-{last}/{size}"));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

async fn write(
    app: &App,
    instance: InstanceId,
    parameters: WriteParameters,
    headers: &HeaderMap,
    body: Body,
) -> Answer<Json<FileEntryView>> {
    let _permit = app.stream_permit()?;
    let offset = match (parameters.offset, range::written(headers)?) {
        (Some(_), Some(_)) => return Err(invalid("give one of `offset` and Content-Range")),
        (one, other) => one.or(other),
    };
    let mode = mode(parameters.mode.as_deref())?;
    let request = FileRequest::Write { path: parameters.path, offset, mode };
    let exchange = open(app, instance, &request).await?;
    exchange.send(body).await.map(|info| Json(view(info)))
}

async fn remove(
    app: &App,
    instance: InstanceId,
    parameters: RemoveParameters,
) -> Answer<StatusCode> {
    let RemoveParameters { path, recursive } = parameters;
    let request = FileRequest::Remove { path, recursive };
    match open(app, instance, &request).await?.reply().await? {
        FileReply::Done => Ok(StatusCode::NO_CONTENT),
        _ => Err(exchange::unexpected()),
    }
}

async fn info(
    app: &App,
    instance: InstanceId,
    parameters: FileParameters,
) -> Answer<Json<FileEntryView>> {
    asked(app, instance, FileRequest::Stat { path: parameters.path }).await
}

async fn change(
    app: &App,
    instance: InstanceId,
    parameters: FileParameters,
    change: Change,
) -> Answer<Json<FileEntryView>> {
    let FileChangeRequest { move_to, replace, mode: text } = change.json()?;
    let mode = mode(text.as_deref())?;
    let mut path = parameters.path;
    let mut changed = None;
    // First the permissions, which are those of a file wherever it is.
    if let Some(mode) = mode {
        let request = FileRequest::SetMode { path: path.clone(), mode };
        changed = Some(asked(app, instance, request).await?);
    }
    if let Some(to) = move_to {
        let request = FileRequest::Move { path, to: to.clone(), replace };
        changed = Some(asked(app, instance, request).await?);
        path = to;
    }
    let nothing = || Failure::new(code::BODY, format!("there is nothing to change at {path}"));
    changed.ok_or_else(|| nothing().hint("give `move_to`, `mode` or both"))
}

async fn list(
    app: &App,
    instance: InstanceId,
    parameters: ListParameters,
) -> Answer<Json<Page<FileEntryView>>> {
    let limit = parameters.limit.unwrap_or(PAGE_ITEMS_DEFAULT as u32);
    if !(1..=FILE_ENTRIES_MAX).contains(&limit) {
        return Err(invalid(format!("`limit` is a number from 1 to {FILE_ENTRIES_MAX}")));
    }
    let ListParameters { path, after, .. } = parameters;
    let request = FileRequest::List { path, after, limit };
    match open(app, instance, &request).await?.reply().await? {
        FileReply::Entries { entries, more } => {
            let next = entries.last().filter(|_| more).map(|last| last.name.clone());
            Ok(Json(Page { items: entries.into_iter().map(view).collect(), next }))
        }
        _ => Err(exchange::unexpected()),
    }
}

async fn make_folder(
    app: &App,
    instance: InstanceId,
    parameters: FolderParameters,
) -> Answer<Json<FileEntryView>> {
    let mode = mode(parameters.mode.as_deref())?;
    asked(app, instance, FileRequest::MakeFolder { path: parameters.path, mode }).await
}

async fn pack(app: &App, instance: InstanceId, parameters: FileParameters) -> Answer<Response> {
    let permit = app.stream_permit()?;
    let request = FileRequest::Pack { path: parameters.path };
    let mut exchange = open(app, instance, &request).await?;
    match exchange.reply().await? {
        FileReply::Info(_) => {}
        _ => return Err(exchange::unexpected()),
    }
    let pieces = stream::try_unfold(exchange, |mut exchange| async move {
        let piece: Option<Bytes> = exchange.chunk().await?;
        Ok::<_, io::Error>(piece.map(|piece| (piece, exchange)))
    });
    let pieces = pieces.map(move |piece| {
        let _ = &permit;
        piece
    });
    let mut response = Body::from_stream(pieces).into_response();
    let media_type = HeaderValue::from_static("application/x-tar");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}

async fn unpack(
    app: &App,
    instance: InstanceId,
    parameters: FileParameters,
    body: Body,
) -> Answer<Json<FileEntryView>> {
    let _permit = app.stream_permit()?;
    let request = FileRequest::Unpack { path: parameters.path };
    let exchange = open(app, instance, &request).await?;
    exchange.send(body).await.map(|info| Json(view(info)))
}

async fn watch(app: &App, instance: InstanceId, parameters: WatchParameters) -> Answer<Response> {
    let WatchParameters { path, recursive } = parameters;
    let request = FileRequest::Watch { path, recursive };
    let mut exchange = open(app, instance, &request).await?;
    match exchange.reply().await? {
        FileReply::Done => {}
        _ => return Err(exchange::unexpected()),
    }
    let nothing = serde_json::Map::new;
    let ready = sse::event(file_event::READY, None, &nothing());
    let news = stream::unfold(Some(exchange), move |exchange| async move {
        let mut exchange = exchange?;
        match exchange.reply().await {
            Ok(FileReply::Event(event)) => {
                Some((sse::event(file_event::FILE, None, &event_view(event)), Some(exchange)))
            }
            _ => Some((sse::event(file_event::END, None, &nothing()), None)),
        }
    });
    sse::respond(app, None, stream::once(async { ready }).chain(news))
}

fn view(info: FileInfo) -> FileEntryView {
    let kind = match info.kind {
        FileKind::File => "file",
        FileKind::Folder => "folder",
        FileKind::Link => "link",
        FileKind::Special => "special",
    };
    let modified = UNIX_EPOCH + Duration::from_millis(info.modified_ms);
    let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    FileEntryView {
        name: info.name,
        kind: kind.to_owned(),
        size_bytes: info.size_bytes,
        mode: octal(info.mode),
        uid: info.uid,
        gid: info.gid,
        modified_at_ms: u64::try_from(modified.as_millis()).unwrap_or(u64::MAX),
        target: info.target,
    }
}

fn event_view(event: FileEvent) -> FileEventView {
    let kind = match event.kind {
        FileEventKind::Created => "created",
        FileEventKind::Modified => "modified",
        FileEventKind::Attributes => "attributes",
        FileEventKind::Removed => "removed",
        FileEventKind::Moved => "moved",
        FileEventKind::Missed => "missed",
    };
    FileEventView { kind: kind.to_owned(), path: event.path, from: event.from }
}

fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

/// Permissions as they are written.
fn mode(text: Option<&str>) -> Answer<Option<u32>> {
    let Some(text) = text else {
        return Ok(None);
    };
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Some(mode))
        }
        _ => Err(invalid(format!("`mode` is an octal number such as 0644, not {text:.20?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_octal() {
        let check = |text: &str, expected: Option<u32>| {
            assert_eq!(mode(Some(text)).ok().flatten(), expected, "{text}");
        };
        check("644", Some(0o644));
        check("0755", Some(0o755));
        check("4755", Some(0o4755));
        check("888", None);
        check("+644", None);
        check("10000", None);
        check("", None);
        assert_eq!(mode(None).ok(), Some(None));
        assert_eq!(octal(0o64), "0064");
    }
}
