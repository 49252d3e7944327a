//! Processes in an instance: further ones, signals and standard input.

use crate::app::App;
use crate::asker::Asker;
use crate::body::Change;
use crate::failure::{Answer, Failure, code};
use crate::limits::{EXEC_TIMEOUT_MS_MAX, USER_BYTES_MAX};
use crate::parameters::Parameters;
use crate::{find, views};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use futures::StreamExt;
use serde::Deserialize;
use spawnery_controller::{EventItem, EventStart, SubmitError};
use spawnery_model::limits::{RUN_AND_ENV_BYTES_MAX, RUN_WORDS_MAX};
use spawnery_model::{DurationMs, InstanceId, Phase};
use spawnery_wire::api::{ExecReply, ExecRequest, InstanceProcessView, SignalRequest};
use spawnery_wire::link::{ProcessEntry, StreamReply, StreamRequest};
use tokio::io::AsyncWriteExt;
use utoipa::IntoParams;

/// The signals that Linux has (`signal(7)`).
pub(crate) const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// Starts a further process in a session. Its output: `GET …/logs?process=N`.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/exec", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, or its first four characters or more")),
    request_body = ExecRequest,
    responses((status = 201, description = "The process was started", body = ExecReply)),
)]
pub(crate) async fn exec_in_session(
    State(app): State<App>,
    Path(id): Path<String>,
    change: Change,
) -> Answer<(StatusCode, Json<ExecReply>)> {
    exec(&app, session(&app, id, &change.asker).await?, change).await
}

/// Starts a further process in an instance. Its output: `GET …/logs?process=N`.
#[utoipa::path(
    post, path = "/v1/instances/{id}/exec", tag = "instances",
    params(("id" = String, Path, description = "The instance's id, or its first four characters or more")),
    request_body = ExecRequest,
    responses((status = 201, description = "The process was started", body = ExecReply)),
)]
pub(crate) async fn exec_in_instance(
    State(app): State<App>,
    Path(id): Path<String>,
    change: Change,
) -> Answer<(StatusCode, Json<ExecReply>)> {
    exec(&app, instance(&app, id, &change.asker).await?, change).await
}

async fn exec(
    app: &App,
    instance: InstanceId,
    change: Change,
) -> Answer<(StatusCode, Json<ExecReply>)> {
    if change.key.is_some() {
        let detail = "starting a process in an instance cannot be repeated by a key";
        return Err(Failure::new(code::PARAMETER, detail).hint("leave Idempotency-Key out"));
    }
    let request = checked(change.json()?)?;
    until_started(app, instance).await?;
    let request = StreamRequest::Exec {
        instance,
        run: request.run,
        env: request.env,
        working_directory: request.working_directory,
        stdin: request.stdin,
        user: request.user,
        terminal: request.terminal,
        timeout: request.timeout_ms.map(DurationMs),
    };
    match app.controller.open(instance, request).await? {
        (StreamReply::Started { process }, _) => {
            Ok((StatusCode::CREATED, Json(ExecReply { process })))
        }
        _ => Err(Failure::new(code::INTERNAL, "the node did not say what it started")),
    }
}

/// Waits for an instance that is on its way to running, so that whoever has just created it need
/// not ask when. One that has to wait for room itself is not waited for.
pub(crate) async fn until_started(app: &App, instance: InstanceId) -> Answer<()> {
    // Before the state is looked at, so that no news in between is missed.
    let mut events = app.controller.events(EventStart::Now);
    let starts = move |state: &spawnery_cluster::State| {
        let found = state.instance(instance);
        found.is_some_and(|found| found.phase < Phase::Running && found.waits_for.is_none())
    };
    while app.query(starts).await? {
        loop {
            match events.next().await {
                Some(EventItem::Event(_, event)) if event.instance != Some(instance) => {}
                Some(_) => break,
                None => return Err(SubmitError::Stopped.into()),
            }
        }
    }
    Ok(())
}

/// Refuses what no kernel could start.
fn checked(request: ExecRequest) -> Answer<ExecRequest> {
    let refused = |detail: String| Err(Failure::new(code::BODY, detail));
    let words = request.run.iter();
    let env = request.env.iter();
    let bytes = words.clone().map(|word| word.len() + 1).sum::<usize>()
        + env.clone().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
    if request.run.first().is_none_or(String::is_empty) {
        return refused("`run` names no program".to_owned());
    }
    if request.run.len() > RUN_WORDS_MAX {
        return refused(format!("`run` has more than {RUN_WORDS_MAX} words"));
    }
    if bytes > RUN_AND_ENV_BYTES_MAX {
        return refused(format!("`run` and `env` have more than {RUN_AND_ENV_BYTES_MAX} bytes"));
    }
    let has_nul = |text: &String| text.contains('\0');
    let folder = request.working_directory.as_ref();
    if words.clone().any(has_nul) || env.clone().any(|(_, value)| has_nul(value)) {
        return refused("a NUL character cannot be passed to a process".to_owned());
    }
    if env.clone().any(|(name, _)| name.is_empty() || name.contains(['=', '\0'])) {
        return refused("the name of an environment variable is empty or has `=` in it".to_owned());
    }
    if request.user.as_ref().is_some_and(|user| !is_user(user)) {
        return refused("`user` is neither a name nor a number, alone or as USER:GROUP".to_owned());
    }
    if request.terminal.is_some_and(|size| size.columns == 0 || size.rows == 0) {
        return refused("a terminal has at least one column and one row".to_owned());
    }
    if request.timeout_ms.is_some_and(|ms| ms == 0 || ms > EXEC_TIMEOUT_MS_MAX) {
        return refused(format!("`timeout_ms` is a number from 1 to {EXEC_TIMEOUT_MS_MAX}"));
    }
    if folder.is_some_and(|folder| !folder.starts_with('/') || has_nul(folder)) {
        return refused("`working_directory` is not an absolute path".to_owned());
    }
    Ok(request)
}

/// Whether it may be a user, alone or with a group: no name has what would end it in
/// `/etc/passwd`.
fn is_user(text: &str) -> bool {
    !text.is_empty() && text.len() <= USER_BYTES_MAX && !text.contains(['\0', '\n', '/'])
}

/// Lists the processes of a session: the main one, and those that were started by `exec`.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/processes", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, or its first four characters or more")),
    responses((status = 200, description = "By number; the latest 1000", body = Vec<InstanceProcessView>)),
)]
pub(crate) async fn list_session_processes(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
) -> Answer<Json<Vec<InstanceProcessView>>> {
    let session = app.query(move |state| find::session(state, &id, &asker).map(|found| found.id));
    list(&app, session.await??).await
}

/// Lists the processes of an instance: the main one, and those that were started by `exec`.
#[utoipa::path(
    get, path = "/v1/instances/{id}/processes", tag = "instances",
    params(("id" = String, Path, description = "The instance's id, or its first four characters or more")),
    responses((status = 200, description = "By number; the latest 1000", body = Vec<InstanceProcessView>)),
)]
pub(crate) async fn list_instance_processes(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
) -> Answer<Json<Vec<InstanceProcessView>>> {
    let instance = app.query(move |state| find::instance(state, &id, &asker).map(|found| found.id));
    list(&app, instance.await??).await
}

async fn list(app: &App, instance: InstanceId) -> Answer<Json<Vec<InstanceProcessView>>> {
    let view = |found: ProcessEntry| InstanceProcessView {
        process: found.process,
        run: found.run,
        state: if found.exit.is_some() { "ended" } else { "running" }.to_owned(),
        terminal: found.terminal,
        started_at_ms: found.started_at.0,
        exit: found.exit.as_ref().map(views::exit),
    };
    let found = app.controller.processes(instance).await?;
    Ok(Json(found.into_iter().map(view).collect()))
}

/// Sends a signal to a process of a session.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/signal", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, or its first four characters or more")),
    request_body = SignalRequest,
    responses((status = 204, description = "The signal was sent")),
)]
pub(crate) async fn signal_session(
    State(app): State<App>,
    Path(id): Path<String>,
    change: Change,
) -> Answer<StatusCode> {
    signal(&app, session(&app, id, &change.asker).await?, change).await
}

/// Sends a signal to a process of an instance.
#[utoipa::path(
    post, path = "/v1/instances/{id}/signal", tag = "instances",
    params(("id" = String, Path, description = "The instance's id, or its first four characters or more")),
    request_body = SignalRequest,
    responses((status = 204, description = "The signal was sent")),
)]
pub(crate) async fn signal_instance(
    State(app): State<App>,
    Path(id): Path<String>,
    change: Change,
) -> Answer<StatusCode> {
    signal(&app, instance(&app, id, &change.asker).await?, change).await
}

async fn signal(app: &App, instance: InstanceId, change: Change) -> Answer<StatusCode> {
    let SignalRequest { process, signal } = change.json()?;
    if !SIGNALS.contains(&signal) {
        return Err(Failure::new(code::BODY, "`signal` is a number from 1 to 64"));
    }
    until_started(app, instance).await?;
    let request = StreamRequest::Signal { instance, process, signal };
    app.controller.open(instance, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which process.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProcessParameters {
    /// Which process: 0, the main one, when it is left out.
    #[serde(default)]
    process: u32,
}

/// Writes the body to the standard input of a process of a session, and closes it at its end.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/stdin", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id, or its first four characters or more"),
        ProcessParameters,
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "It flows: send as it comes"),
    responses((status = 204, description = "All was written, and the input is closed")),
)]
pub(crate) async fn write_session_stdin(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
    Parameters(parameters): Parameters<ProcessParameters>,
    body: Body,
) -> Answer<StatusCode> {
    stdin(&app, session(&app, id, &asker).await?, parameters, body).await
}

/// Writes the body to the standard input of a process of an instance, and closes it at its end.
#[utoipa::path(
    post, path = "/v1/instances/{id}/stdin", tag = "instances",
    params(
        ("id" = String, Path, description = "The instance's id, or its first four characters or more"),
        ProcessParameters,
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "It flows: send as it comes"),
    responses((status = 204, description = "All was written, and the input is closed")),
)]
pub(crate) async fn write_instance_stdin(
    State(app): State<App>,
    asker: Asker,
    Path(id): Path<String>,
    Parameters(parameters): Parameters<ProcessParameters>,
    body: Body,
) -> Answer<StatusCode> {
    stdin(&app, instance(&app, id, &asker).await?, parameters, body).await
}

async fn stdin(
    app: &App,
    instance: InstanceId,
    parameters: ProcessParameters,
    body: Body,
) -> Answer<StatusCode> {
    let _permit = app.stream_permit()?;
    until_started(app, instance).await?;
    let request = StreamRequest::Stdin { instance, process: parameters.process };
    let (_, mut stream) = app.controller.open(instance, request).await?;
    let closed = |_| Failure::new(code::NOT_RUNNING, "the process no longer reads its input");
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece =
            piece.map_err(|_| Failure::new(code::BODY, "the body ended before it was complete"))?;
        stream.write_all(&piece).await.map_err(closed)?;
        stream.flush().await.map_err(closed)?;
    }
    stream.shutdown().await.map_err(closed)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The instance that `id` means, which `asker` may use.
pub(crate) async fn instance(app: &App, id: String, asker: &Asker) -> Answer<InstanceId> {
    let asker = asker.clone();
    app.query(move |state| find::instance_to_use(state, &id, &asker).map(|found| found.id)).await?
}

/// The session that `id` means, which `asker` may use.
pub(crate) async fn session(app: &App, id: String, asker: &Asker) -> Answer<InstanceId> {
    let asker = asker.clone();
    app.query(move |state| find::session_to_use(state, &id, &asker).map(|found| found.id)).await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_wire::api::TerminalSize;

    #[test]
    fn what_no_kernel_could_start_is_refused() {
        let check = |request: ExecRequest, reason: Option<&str>| {
            let detail = checked(request).err().map(|failure| failure.into_problem("/").detail);
            match (detail, reason) {
                (None, None) => {}
                (Some(detail), Some(reason)) => assert!(detail.contains(reason), "{detail}"),
                (detail, _) => panic!("{detail:?} instead of {reason:?}"),
            }
        };
        let run = |words: &[&str]| ExecRequest {
            run: words.iter().map(|word| (*word).to_owned()).collect(),
            ..ExecRequest::default()
        };
        let env = |name: &str, value: &str| ExecRequest {
            env: [(name.to_owned(), value.to_owned())].into(),
            ..run(&["env"])
        };
        let folder = |folder: &str| ExecRequest {
            working_directory: Some(folder.to_owned()),
            ..run(&["pwd"])
        };
        check(run(&["ls", ""]), None);
        check(run(&[]), Some("no program"));
        check(run(&[""]), Some("no program"));
        check(run(&["a\0b"]), Some("NUL"));
        check(run(&vec!["a"; RUN_WORDS_MAX + 1]), Some("words"));
        check(run(&["a", &"b".repeat(RUN_AND_ENV_BYTES_MAX)]), Some("bytes"));
        check(env("A", "b=c"), None);
        check(env("A", "\0"), Some("NUL"));
        check(env("A=B", ""), Some("environment variable"));
        check(env("", "a"), Some("environment variable"));
        let user = |user: &str| ExecRequest { user: Some(user.to_owned()), ..run(&["id"]) };
        let terminal = |columns, rows| ExecRequest {
            terminal: Some(TerminalSize { columns, rows }),
            ..run(&["vi"])
        };
        let timeout = |ms| ExecRequest { timeout_ms: Some(ms), ..run(&["sleep"]) };
        check(user("www:web"), None);
        check(user(""), Some("`user`"));
        check(user("a\nb"), Some("`user`"));
        check(terminal(1, 1), None);
        check(terminal(0, 24), Some("one column"));
        check(timeout(1), None);
        check(timeout(0), Some("timeout_ms"));
        check(timeout(u64::MAX), Some("timeout_ms"));
        check(folder("/tmp"), None);
        check(folder("tmp"), Some("absolute"));
    }
}
