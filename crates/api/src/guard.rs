//! What every request passes: host, token, role, limits on the way in; problems and counts on the way
//! out.

use crate::app::App;
use crate::asker::{Asker, denied};
use crate::failure::{Failure, code};
use crate::host;
use crate::limits::REQUESTS_MAX;
use crate::{revoked, rules};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use spawnery_controller::access::Denied;
use std::time::Instant;

/// Paths that need no token: they tell nothing about what runs.
const OPEN_PATHS: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];

/// The end of a path whose request flows for as long as a process runs.
pub(crate) const STDIN_PATH_END: &str = "/stdin";

/// The ends of the paths to which files of instances are put, for as long as it takes to send.
const FILE_PATH_ENDS: [&str; 2] = ["/files", "/folders/archive"];

/// The beginning of the paths to which content is put, for as long as it takes to send.
const CONTENT_PATH: &str = "/v1/content/";

/// Checks a request, has it done, and writes what went wrong.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let uri = request.uri().clone();
    let response = match pass(&app, request, next).await {
        Ok(response) => written(response, uri.path()),
        Err(failure) => failure.respond(uri.path()),
    };
    app.metrics.count(response.status(), began.elapsed());
    response
}

async fn pass(app: &App, mut request: Request, next: Next) -> Result<Response, Failure> {
    check_host(app, &request)?;
    let path = request.uri().path().to_owned();
    if OPEN_PATHS.contains(&path.as_str()) {
        return within_time(app, request, next).await;
    }
    let asker = authenticate(app, request.headers()).await?;
    if let Some(declared) = request.extensions().get::<MatchedPath>() {
        let class = rules::class(request.method(), declared.as_str());
        rules::check(class, &asker).inspect_err(|_| app.metrics.count_forbidden())?;
    }
    request.extensions_mut().insert(asker.clone());
    let is_content = path.starts_with(CONTENT_PATH) && request.method() == Method::PUT;
    let is_file =
        request.method() == Method::PUT && FILE_PATH_ENDS.iter().any(|end| path.ends_with(end));
    let response = if path.ends_with(STDIN_PATH_END) || is_content || is_file {
        // It has a limit of its own, on streams, and takes as long as its client types.
        tokio::select! {
            biased;
            reason = app.revoked(&asker) => return Err(denied(&reason)),
            response = next.run(request) => response,
        }
    } else {
        within_time(app, request, next).await?
    };
    Ok(revoked::until(app.revoked(&asker), response, &path))
}

async fn within_time(app: &App, request: Request, next: Next) -> Result<Response, Failure> {
    let permit = app.requests.try_acquire();
    let _permit = permit.map_err(|_| {
        let detail = format!("{REQUESTS_MAX} requests are under way, which is the limit");
        Failure::new(code::BUSY, detail).retry_after_secs(1)
    })?;
    let answered = tokio::time::timeout(app.request_time_max, next.run(request)).await;
    answered.map_err(|_| {
        let detail = format!("no answer within {} seconds", app.request_time_max.as_secs());
        Failure::new(code::TIME, detail)
            .hint("whether it is done is unknown; with an Idempotency-Key it may be repeated")
    })
}

fn check_host(app: &App, request: &Request) -> Result<(), Failure> {
    let Some(names) = &app.config.host_names else {
        return Ok(());
    };
    match host::of(request) {
        Some(host) if host::is_known(host, names) => Ok(()),
        _ => Err(Failure::new(code::HOST, "the Host header names no name of this server")
            .hint("use its address or `localhost`, or start it with this name configured")),
    }
}

async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Asker, Failure> {
    let refused = |reason: Denied| {
        app.verifier.count(&reason);
        denied(&reason)
    };
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| refused(Denied::Missing))?;
    let value = value.to_str().unwrap_or_default();
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused(Denied::Scheme));
    }
    let caller = app.verifier.verify(token.trim()).await;
    caller.map(Asker::new).map_err(|reason| denied(&reason))
}

/// The response with its problem in it, if it is one. Also of what axum itself refuses.
fn written(mut response: Response, path: &str) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        return failure.respond(path);
    }
    let (code, detail) = match status {
        StatusCode::NOT_FOUND => (code::ROUTE, format!("there is nothing at {path}")),
        StatusCode::METHOD_NOT_ALLOWED => {
            (code::METHOD, "see the Allow header for what it takes".to_owned())
        }
        StatusCode::PAYLOAD_TOO_LARGE => (code::BODY_TOO_LARGE, "the body is too large".to_owned()),
        status if status.is_client_error() => {
            (code::REQUEST, "the request is malformed".to_owned())
        }
        _ => (code::INTERNAL, "the server could not answer".to_owned()),
    };
    let failure = Failure::new(code, detail).hint("GET /openapi.json describes all paths");
    let mut problem = failure.respond(path);
    if let Some(allow) = response.headers_mut().remove(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow);
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::router::router_of;
    use axum::body::{Body, Bytes};
    use spawnery_controller::Controller;
    use spawnery_controller::access::{Config as AccessConfig, Verifier};
    use std::convert::Infallible;
    use std::time::Duration;
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_request_beyond_its_time_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let journal = spawnery_controller::Config::in_folder(folder.path());
        let controller = Controller::start(journal).await.unwrap();
        let access = AccessConfig::of_admin("token");
        let verifier = Verifier::start(&controller, access).await.unwrap();
        let limit = Duration::from_millis(1);
        let app = App::with_time_max(controller, verifier, Config::default(), limit);
        let pieces = futures::stream::pending::<Result<Bytes, Infallible>>();
        let request = Request::builder()
            .method("POST")
            .uri("/v1/sessions")
            .header("authorization", "Bearer token")
            .body(Body::from_stream(pieces))
            .unwrap();
        let response = router_of(app).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 504);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}
