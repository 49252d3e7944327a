//! The routes of the files of sessions.

use super::{
    FileParameters, FolderParameters, ListParameters, RemoveParameters, WatchParameters,
    WriteParameters,
};
use crate::app::App;
use crate::asker::Asker;
use crate::body::Change;
use crate::failure::Answer;
use crate::parameters::Parameters;
use crate::processes;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use spawnery_wire::api::{FileChangeRequest, FileEntryView, FileEventView, Page};

/// Reads a file of a session, or a part of it: `Range` with one range of bytes is understood.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/files", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        FileParameters,
    ),
    responses((status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "The part that `Range` names", body = Vec<u8>, content_type = "application/octet-stream")),
)]
pub(crate) async fn read_session_file(
    State(app): State<App>,
    Path(id): Path<String>,
    asker: Asker,
    Parameters(parameters): Parameters<FileParameters>,
    headers: HeaderMap,
) -> Answer<Response> {
    let instance = processes::session(&app, id, &asker).await?;
    super::read(&app, instance, parameters, &headers).await
}

/// Writes a file of a session, of any size: it is replaced when all has come, and until then the
/// old one stays. With an offset, or a `Content-Range`, a part of it is written where it is.
/// Missing folders are made.
#[utoipa::path(
    put, path = "/v1/sessions/{id}/files", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        WriteParameters,
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "It flows: send as it comes"),
    responses((status = 200, description = "The file as it is now", body = FileEntryView)),
)]
pub(crate) async fn write_session_file(
    State(app): State<App>,
    Path(id): Path<String>,
    asker: Asker,
    Parameters(parameters): Parameters<WriteParameters>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<FileEntryView>> {
    let instance = processes::session(&app, id, &asker).await?;
    super::write(&app, instance, parameters, &headers, body).await
}

/// Removes a file or a folder of a session.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}/files", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        RemoveParameters,
    ),
    responses((status = 204, description = "It is removed")),
)]
pub(crate) async fn remove_session_file(
    State(app): State<App>,
    Path(id): Path<String>,
    asker: Asker,
    Parameters(parameters): Parameters<RemoveParameters>,
) -> Answer<StatusCode> {
    let instance = processes::session(&app, id, &asker).await?;
    super::remove(&app, instance, parameters).await
}

/// Shows what is at a path of a session. A link is not followed.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/files/info", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        FileParameters,
    ),
    responses((status = 200, description = "What is there", body = FileEntryView)),
)]
pub(crate) async fn get_session_file_info(
    State(app): State<App>,
    Path(id): Path<String>,
    asker: Asker,
    Parameters(parameters): Parameters<FileParameters>,
) -> Answer<Json<FileEntryView>> {
    let instance = processes::session(&app, id, &asker).await?;
    super::info(&app, instance, parameters).await
}

/// Moves a file or a folder of a session, or changes its permissions, or both.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/files/info", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        FileParameters,
    ),
    request_body = FileChangeRequest,
    responses((status = 200, description = "As it is now", body = FileEntryView)),
)]
pub(crate) async fn change_session_file(
    State(app): State<App>,
    Path(id): Path<String>,
    asker: Asker,
    Parameters(parameters): Parameters<FileParameters>,
    change: Change,
) -> Answer<Json<FileEntryView>> {
    let instance = processes::session(&app, id, &asker).await?;
    super::change(&app, instance, parameters, change).await
}

/// Lists what is in a folder of a session, by name.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/folders", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        ListParameters,
    ),
    responses((status = 200, description = "A page of it", body = Page<FileEntryView>)),
)]
pub(crate) async fn list_session_folder(
    State(app): State<App>,
    Path(id): Path<String>,
    asker: Asker,
    Parameters(parameters): Parameters<ListParameters>,
) -> Answer<Json<Page<FileEntryView>>> {
    let instance = processes::session(&app, id, &asker).await?;
    super::list(&app, instance, parameters).await
}

/// Makes a folder of a session, with those above it. One that is there will do.
#[utoipa::path(
    put, path = "/v1/sessions/{id}/folders", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        FolderParameters,
    ),
    responses((status = 200, description = "The folder", body = FileEntryView)),
)]
pub(crate) async fn make_session_folder(
    State(app): State<App>,
    Path(id): Path<String>,
    asker: Asker,
    Parameters(parameters): Parameters<FolderParameters>,
) -> Answer<Json<FileEntryView>> {
    let instance = processes::session(&app, id, &asker).await?;
    super::make_folder(&app, instance, parameters).await
}

/// Sends a folder of a session as a tar archive, with names that begin in it; or a file, by its own
/// name. If something in it cannot be read, the answer breaks off.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/folders/archive", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        FileParameters,
    ),
    responses((status = 200, description = "The archive", body = Vec<u8>, content_type = "application/x-tar")),
)]
pub(crate) async fn pack_session_folder(
    State(app): State<App>,
    Path(id): Path<String>,
    asker: Asker,
    Parameters(parameters): Parameters<FileParameters>,
) -> Answer<Response> {
    let instance = processes::session(&app, id, &asker).await?;
    super::pack(&app, instance, parameters).await
}

/// Unpacks a tar archive into a folder of a session, which is made if it is missing. Nothing of it
/// comes to lie outside of the folder. Owners are not kept; permissions, times and links are.
#[utoipa::path(
    put, path = "/v1/sessions/{id}/folders/archive", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        FileParameters,
    ),
    request_body(content = Vec<u8>, content_type = "application/x-tar", description = "It flows: send as it comes"),
    responses((status = 200, description = "The folder", body = FileEntryView)),
)]
pub(crate) async fn unpack_session_folder(
    State(app): State<App>,
    Path(id): Path<String>,
    asker: Asker,
    Parameters(parameters): Parameters<FileParameters>,
    body: Body,
) -> Answer<Json<FileEntryView>> {
    let instance = processes::session(&app, id, &asker).await?;
    super::unpack(&app, instance, parameters, body).await
}

/// Tells what happens to a file, or in a folder, of a session, as Server-Sent Events: `ready` once,
/// `file` for each thing, and `end` when what is watched is gone.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/files/watch", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        WatchParameters,
    ),
    responses((status = 200, description = "The events; the data of a `file` event is a FileEventView", body = FileEventView, content_type = "text/event-stream")),
)]
pub(crate) async fn watch_session_files(
    State(app): State<App>,
    Path(id): Path<String>,
    asker: Asker,
    Parameters(parameters): Parameters<WatchParameters>,
) -> Answer<Response> {
    let instance = processes::session(&app, id, &asker).await?;
    super::watch(&app, instance, parameters).await
}
