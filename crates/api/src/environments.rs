//! Environments: building them, showing what nodes have, removing and exporting them.

use crate::app::App;
use crate::body::{Change, malformed};
use crate::failure::{Answer, Failure, code};
use crate::limits::ID_PREFIX_LENGTH_MIN;
use crate::parameters::{Parameters, invalid};
use crate::{find, manifest, sse};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::value::RawValue;
use spawnery_controller::{BuildStream, NodeEnvironment, StreamError};
use spawnery_model::Name;
use spawnery_wire::api::{
    BuildOutputView, BuildProgressView, BuildRequest, EnvironmentView, EnvironmentsReply,
    PruneReply, PruneRequest, PrunedView, build_event,
};
use spawnery_wire::link::{BuildFrame, EnvironmentInfo};
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;

/// [`BuildRequest`], as it is read: the recipe stays text, for the manifest's own reader.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestText<'a> {
    name: Option<Name>,
    #[serde(borrow)]
    recipe: &'a RawValue,
    node: Option<String>,
    #[serde(default)]
    resolve: bool,
}

/// Builds an environment, or finds it built, and tells how far it is.
///
/// The answer is a stream of Server-Sent Events: `progress`, `output`, and at the end `done` or
/// `problem`. What the recipe takes from beside its manifest is sent before, by its content.
#[utoipa::path(
    post, path = "/v1/environments/build", tag = "environments",
    request_body = BuildRequest,
    responses((status = 200, description = "The news of the build", content(
        (BuildProgressView = "text/event-stream"),
    ))),
)]
pub(crate) async fn build_environment(State(app): State<App>, change: Change) -> Answer<Response> {
    let text = std::str::from_utf8(&change.body)
        .map_err(|_| Failure::new(code::BODY, "the body is not UTF-8"))?;
    let request: RequestText<'_> = serde_json::from_str(text).map_err(malformed)?;
    let recipe = manifest::recipe(request.name, request.recipe.get(), text)?;
    let resolve = request.resolve;
    let node = match request.node {
        Some(node) => {
            let found = app.query(move |state| find::node(state, &node).map(|it| it.node.id));
            Some(found.await??)
        }
        None => None,
    };
    let build = app.controller.build_environment(recipe, node, resolve).await?;
    sse::respond(&app, None, news(build))
}

/// The news of a build as events.
fn news(build: BuildStream) -> impl Stream<Item = Event> + Send {
    stream::unfold(Some(build), |build| async move {
        let mut build = build?;
        let frame = build.next().await?;
        Some(match frame {
            Ok(BuildFrame::Progress { text }) => {
                let view = BuildProgressView { text };
                (sse::event(build_event::PROGRESS, None, &view), Some(build))
            }
            Ok(BuildFrame::Output { bytes }) => {
                let view = BuildOutputView::new(bytes);
                (sse::event(build_event::OUTPUT, None, &view), Some(build))
            }
            Ok(BuildFrame::Done { environment }) => {
                let view = EnvironmentView { output: None, ..view(None, *environment) };
                (sse::event(build_event::DONE, None, &view), None)
            }
            Ok(BuildFrame::Failed { message }) => (failed(message), None),
            Err(error) => (failed(error.to_string()), None),
        })
    })
}

fn failed(message: String) -> Event {
    let failure = Failure::new(code::BUILD_FAILED, message);
    sse::event(build_event::PROBLEM, None, &failure.into_problem("/v1/environments/build"))
}

fn view(node: Option<Name>, info: EnvironmentInfo) -> EnvironmentView {
    EnvironmentView {
        digest: info.digest,
        name: info.name,
        node,
        size_bytes: info.size_bytes,
        used_at_ms: info.used_at_ms,
        users: info.users,
        steps: info.steps,
        layers: info.layers,
        lock: info.lock,
        output: info.output,
    }
}

/// Lists the environments of all nodes, without their locks and what their builds wrote.
#[utoipa::path(
    get, path = "/v1/environments", tag = "environments",
    responses((status = 200, description = "The environments", body = EnvironmentsReply)),
)]
pub(crate) async fn list_environments(State(app): State<App>) -> Answer<Json<EnvironmentsReply>> {
    let (found, silent_nodes) = app.controller.environments().await?;
    let mut environments: Vec<EnvironmentView> = found
        .into_iter()
        .map(|found| view(Some(found.node), found.environment))
        .map(|found| EnvironmentView { lock: None, output: None, ..found })
        .collect();
    environments.sort_by(|a, b| (&a.name, &a.digest, &a.node).cmp(&(&b.name, &b.digest, &b.node)));
    Ok(Json(EnvironmentsReply { environments, silent_nodes }))
}

/// Shows an environment with its lock and what its build wrote.
#[utoipa::path(
    get, path = "/v1/environments/{environment}", tag = "environments",
    params(("environment" = String, Path, description = "The environment's name (the one that was used last), digest, or the digest's first four characters or more")),
    responses((status = 200, description = "The environment", body = EnvironmentView)),
)]
pub(crate) async fn get_environment(
    State(app): State<App>,
    Path(environment): Path<String>,
) -> Answer<Json<EnvironmentView>> {
    let found = find(&app, &environment).await?;
    Ok(Json(view(Some(found.node), found.environment)))
}

/// The environment that `text` means: a digest, the beginning of one, or a name.
async fn find(app: &App, text: &str) -> Answer<NodeEnvironment> {
    let (found, _) = app.controller.environments().await?;
    chosen(found, text)
}

fn chosen(found: Vec<NodeEnvironment>, text: &str) -> Answer<NodeEnvironment> {
    let shown: String = text.chars().take(80).collect();
    let is_called = |it: &&NodeEnvironment| {
        it.environment.name.as_ref().is_some_and(|name| name.as_str() == text)
    };
    // Of several builds by one name, the one that is in use lately is meant.
    let by_name = found.iter().filter(is_called).max_by_key(|it| it.environment.used_at_ms);
    if let Some(by_name) = by_name {
        return Ok(by_name.clone());
    }
    let is_prefix = text.len() >= ID_PREFIX_LENGTH_MIN;
    let mut matching =
        found.iter().filter(|it| is_prefix && it.environment.digest.as_str().starts_with(text));
    let Some(first) = matching.next() else {
        let detail = format!("no node has an environment called {shown}");
        return Err(Failure::new(code::ENVIRONMENT_UNKNOWN, detail)
            .hint("list what there is: GET /v1/environments"));
    };
    match matching.any(|other| other.environment.digest != first.environment.digest) {
        true => Err(Failure::new(
            code::ID_AMBIGUOUS,
            format!("more than one environment's digest begins with {shown}"),
        )
        .hint("give more characters")),
        false => Ok(first.clone()),
    }
}

/// Removes environments that nothing uses, the least recently used first.
#[utoipa::path(
    post, path = "/v1/environments/prune", tag = "environments",
    request_body = PruneRequest,
    responses((status = 200, description = "What was removed, by node", body = PruneReply)),
)]
pub(crate) async fn prune_environments(
    State(app): State<App>,
    change: Change,
) -> Answer<Json<PruneReply>> {
    let request: PruneRequest = change.json_or_default()?;
    let limit_bytes = match (request.limit_bytes, request.unused) {
        (Some(_), true) => {
            let detail = "`limit_bytes` beside `unused`";
            return Err(Failure::new(code::BODY, detail).hint("leave one of the two out"));
        }
        (None, true) => Some(0),
        (limit_bytes, false) => limit_bytes,
    };
    let pruned = app.controller.prune(limit_bytes).await?;
    let nodes = pruned.into_iter().map(|node| {
        let (pruned, error) = match node.result {
            Ok(pruned) => (pruned, None),
            Err(reason) => (Default::default(), Some(reason)),
        };
        PrunedView {
            node: node.node,
            environments: pruned.environments,
            freed_bytes: pruned.freed_bytes,
            left_bytes: pruned.left_bytes,
            error,
        }
    });
    Ok(Json(PruneReply { nodes: nodes.collect() }))
}

/// How an environment is exported.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportParameters {
    /// `tar`, the root filesystem, when it is left out; or `oci`, an image.
    format: Option<String>,
}

/// Sends an environment as one archive.
#[utoipa::path(
    get, path = "/v1/environments/{environment}/export", tag = "environments",
    params(
        ("environment" = String, Path, description = "The environment's name (the one that was used last), digest, or the digest's first four characters or more"),
        ExportParameters,
    ),
    responses((status = 200, description = "The archive; it flows", content_type = "application/x-tar", body = Vec<u8>)),
)]
pub(crate) async fn export_environment(
    State(app): State<App>,
    Path(environment): Path<String>,
    Parameters(parameters): Parameters<ExportParameters>,
) -> Answer<Response> {
    let is_oci = match parameters.format.as_deref() {
        None | Some("tar") => false,
        Some("oci") => true,
        Some(_) => return Err(invalid("`format` is `tar` or `oci`")),
    };
    let permit = app.stream_permit()?;
    let found = find(&app, &environment).await?;
    let digest = found.environment.digest;
    let stream = app.controller.export(digest, is_oci).await.map_err(|error| match error {
        StreamError::Unknown(detail) => Failure::new(code::ENVIRONMENT_UNKNOWN, detail),
        error => error.into(),
    })?;
    let pieces = ReaderStream::new(stream).map(move |piece| {
        // The right to the stream is given back when the stream is dropped.
        let _ = &permit;
        piece
    });
    let mut response = Body::from_stream(pieces).into_response();
    let media_type = HeaderValue::from_static("application/x-tar");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spawnery_model::ContentDigest;

    fn found(name: Option<&str>, first: u8, used_at_ms: u64) -> NodeEnvironment {
        let mut digest = [0xaa; 32];
        digest[2] = first;
        NodeEnvironment {
            node: Name::new("one").unwrap(),
            environment: EnvironmentInfo {
                digest: ContentDigest::from_bytes(digest),
                name: name.map(|name| Name::new(name).unwrap()),
                steps: Vec::new(),
                layers: Vec::new(),
                size_bytes: 0,
                used_at_ms,
                users: 0,
                lock: None,
                output: None,
            },
        }
    }

    #[test]
    fn an_environment_is_found_by_its_name_or_the_beginning_of_its_digest() {
        let all = [
            found(Some("tools"), 1, 5),
            found(Some("tools"), 2, 9),
            found(None, 3, 7),
            found(None, 3, 8),
        ];
        let check = |text: &str, expected: Result<u64, &str>| {
            let chosen = chosen(all.to_vec(), text);
            let chosen = chosen.map(|it| it.environment.used_at_ms);
            assert_eq!(chosen.map_err(|failure| failure.code().word), expected, "{text}");
        };
        check("tools", Ok(9));
        check("aaaa01", Ok(5));
        check("aaaa03", Ok(7));
        check("aaaa", Err("id-ambiguous"));
        check("aaa", Err("environment-unknown"));
        check("aaaa04", Err("environment-unknown"));
        check("", Err("environment-unknown"));
    }
}
