//! The API's description, made from the handlers themselves.

use crate::failure::{Code, Failure, code};
use crate::router::routes;
use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use std::sync::LazyLock;
use utoipa::OpenApi;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

/// The frame of the description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Spawnery",
        description = "Spawns sessions, services and jobs on one machine or on many.\n\n\
            Every request but those for health and for this description shows a token: \
            `Authorization: Bearer TOKEN`. What a token allows follows from its roles; what belongs \
            to others and may not be seen does not exist for it. Every error is a problem document (RFC 9457) whose \
            `type` stays the same over releases. An id in a path may be shortened to its first \
            four characters or more, if no other id begins so. Repeat a creating request with the \
            same `Idempotency-Key` and it is done once. Times are milliseconds since 1970.",
        license(name = "MIT OR Apache-2.0"),
    ),
    security(("token" = [])),
    tags(
        (name = "manifest", description = "Declaring what runs"),
        (name = "services", description = "What is kept running"),
        (name = "jobs", description = "What runs to an end, on a schedule or on demand"),
        (name = "sessions", description = "What is started for somebody"),
        (name = "instances", description = "Executions of all of these"),
        (name = "environments", description = "Root filesystems, built once and used by many"),
        (name = "secrets", description = "Values that only instances see"),
        (name = "volumes", description = "Folders that are kept between instances"),
        (name = "nodes", description = "The machines"),
        (name = "tokens", description = "Who may call"),
        (name = "events", description = "What happens"),
        (name = "server", description = "The server itself"),
    ),
    components(schemas(
        spawnery_wire::api::Problem,
        spawnery_wire::api::AttachInput,
        spawnery_wire::api::GapView,
        spawnery_wire::api::EventGapView,
        spawnery_wire::api::ExitedView,
        spawnery_wire::api::BuildOutputView,
    )),
)]
struct Frame;

/// The frame, to which the routes add themselves.
pub(crate) fn frame() -> utoipa::openapi::OpenApi {
    Frame::openapi()
}

/// The description of the API (OpenAPI 3.1).
pub fn description() -> utoipa::openapi::OpenApi {
    let (_, mut description) = routes().split_for_parts();
    description.info.version = "1".to_owned();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = description.components.get_or_insert_default();
    components.add_security_scheme("token", scheme);
    components.responses.insert("Problem".to_owned(), RefOr::T(problem()));
    for item in description.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let problem = RefOr::Ref(Ref::from_response_name("Problem"));
            let responses = &mut operation.responses.responses;
            responses.insert("default".to_owned(), problem);
        }
    }
    description
}

/// What every operation may answer, with an example of each kind.
fn problem() -> Response {
    let problems = code::ALL.iter().map(|code| {
        let example = ExampleBuilder::new().value(Some(example(*code)));
        (code.word, example)
    });
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .examples_from_iter(problems);
    ResponseBuilder::new()
        .description("A problem: why the request was not done")
        .content("application/problem+json", content.build())
        .build()
}

fn example(code: Code) -> serde_json::Value {
    let problem = Failure::new(code, "what happened, in words").into_problem("/v1/…");
    serde_json::to_value(problem).expect("a problem has text and numbers only")
}

/// Describes the API (OpenAPI 3.1).
#[utoipa::path(
    get, path = "/openapi.json", tag = "server", security(()),
    responses((status = 200, description = "This description", body = Object)),
)]
pub(crate) async fn get_description() -> impl IntoResponse {
    static JSON: LazyLock<Bytes> = LazyLock::new(|| {
        let json = serde_json::to_vec(&description());
        json.expect("a description has text and numbers only").into()
    });
    ([(header::CONTENT_TYPE, "application/json")], JSON.clone())
}
