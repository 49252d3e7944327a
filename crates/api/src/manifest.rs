//! Manifests: applying them and seeing what that would change.

use crate::app::App;
use crate::body::Change;
use crate::failure::{Answer, Failure, code};
use crate::limits::BODY_BYTES_INLINE_MAX;
use crate::rejections::{field_problem, manifest_failure, other_answer};
use crate::views;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use spawnery_cluster::{Command, Difference, Reply, diff};
use spawnery_manifest::{Format, Manifest};
use spawnery_model::{Environment, Name, Workload};
use spawnery_wire::api::{FieldProblem, ManifestReply};

/// Declares workloads: new ones are added, changed ones replaced, equal ones left alone.
///
/// The body is a manifest as JSON, YAML or TOML; workloads that it does not name stay as they are.
#[utoipa::path(
    put, path = "/v1/manifest", tag = "manifest",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless")),
    request_body(content(
        (Object = "application/json",
            example = json!({"services": {"web": {"run": ["python3", "-m", "http.server"], "ports": [8000]}}})),
        (String = "application/yaml", example = "jobs:\n  tick:\n    run: date\n    schedule: '* * * * *'\n"),
        (String = "application/toml", example = "[sessions.shell]\nrun = [\"bash\"]\nstdin = true\n"),
    )),
    responses((status = 200, description = "What changed", body = ManifestReply)),
)]
pub(crate) async fn apply_manifest(
    State(app): State<App>,
    change: Change,
) -> Answer<Json<ManifestReply>> {
    let workloads = workloads(&app, &change).await?;
    let by = change.by();
    let command = Command::Apply { workloads, by };
    match app.controller.submit(command, change.key).await? {
        Reply::Applied(differences) => Ok(reply(differences)),
        _ => Err(other_answer()),
    }
}

/// What applying a manifest would change. Changes nothing.
#[utoipa::path(
    post, path = "/v1/manifest/diff", tag = "manifest",
    request_body(content((Object = "application/json"), (String = "application/yaml"), (String = "application/toml"))),
    responses((status = 200, description = "What would change", body = ManifestReply)),
)]
pub(crate) async fn diff_manifest(
    State(app): State<App>,
    change: Change,
) -> Answer<Json<ManifestReply>> {
    let workloads = workloads(&app, &change).await?;
    let differences = app.query(move |state| diff(state, &workloads));
    Ok(reply(differences.await?))
}

fn reply(differences: Vec<Difference>) -> Json<ManifestReply> {
    let differences = differences.into_iter().map(views::difference).collect();
    Json(ManifestReply { differences })
}

async fn workloads(app: &App, change: &Change) -> Answer<Vec<Workload>> {
    let mut workloads = read(change).await?;
    for workload in &mut workloads {
        app.config.session_defaults.fill(workload);
    }
    Ok(workloads)
}

async fn read(change: &Change) -> Answer<Vec<Workload>> {
    let format = format(change.media_type.as_deref())?;
    let body = change.body.clone();
    if body.len() <= BODY_BYTES_INLINE_MAX {
        return parse(&body, format);
    }
    let parsed = tokio::task::spawn_blocking(move || parse(&body, format)).await;
    parsed.map_err(|_| Failure::new(code::INTERNAL, "reading the manifest was interrupted"))?
}

fn parse(body: &Bytes, format: Format) -> Answer<Vec<Workload>> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let detail = format!("the manifest is not UTF-8 at byte {}", error.valid_up_to());
        Failure::new(code::BODY, detail).hint("save it as UTF-8")
    })?;
    Ok(complete(spawnery_manifest::parse(text, format)?)?.workloads)
}

/// The manifest, if it needs no file from beside it: a server has no such place.
fn complete(manifest: Manifest) -> Result<Manifest, spawnery_manifest::ManifestErrors> {
    let manifest = manifest.with_files(|_| {
        Err("a server reads no files; send what is in it as `content`".to_owned())
    })?;
    manifest.with_trees(|_| {
        Err("a server reads no files; send them by their digests, as the command line does"
            .to_owned())
    })
}

fn format(media_type: Option<&str>) -> Answer<Format> {
    match media_type {
        None | Some("application/json" | "text/json") => Ok(Format::Json),
        Some("application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml") => {
            Ok(Format::Yaml)
        }
        Some("application/toml" | "text/toml") => Ok(Format::Toml),
        Some(_) => Err(Failure::new(code::CONTENT_TYPE, "the body's type is not of a manifest")
            .hint("send Content-Type: application/json, application/yaml or application/toml")),
    }
}

/// Reads the definition of one session from `definition`, JSON that stands in `body`.
pub(crate) fn session(name: &Name, definition: &str, body: &str) -> Answer<Workload> {
    let before = format!("{{\"sessions\":{{\"{name}\":");
    let text = format!("{before}{definition}}}}}");
    let parsed = spawnery_manifest::parse(&text, Format::Json).and_then(complete);
    let mut manifest = parsed.map_err(|errors| {
        let place = Place::of(definition, body);
        let prefix = format!("sessions.{name}");
        let errors = errors.errors().iter().map(|error| {
            let error = field_problem(error);
            place.moved(error, before.chars().count(), &prefix)
        });
        manifest_failure("the session", errors.collect())
    })?;
    let only = manifest.workloads.pop();
    only.ok_or_else(|| Failure::new(code::INTERNAL, "the session was lost on its way"))
}

/// Reads a recipe from `definition`, JSON that stands in `body`.
pub(crate) fn recipe(name: Option<Name>, definition: &str, body: &str) -> Answer<Environment> {
    // A manifest names each of its recipes.
    let key = name.as_ref().map_or("recipe", Name::as_str);
    let before = format!("{{\"environments\":{{\"{key}\":");
    let text = format!("{before}{definition}}}}}");
    let parsed = spawnery_manifest::parse(&text, Format::Json).and_then(complete);
    let mut manifest = parsed.map_err(|errors| {
        let place = Place::of(definition, body);
        let prefix = format!("environments.{key}");
        let errors = errors.errors().iter().map(|error| {
            let error = field_problem(error);
            place.moved(error, before.chars().count(), &prefix)
        });
        manifest_failure("the recipe", errors.collect())
    })?;
    let only = manifest.environments.pop();
    let lost = || Failure::new(code::INTERNAL, "the recipe was lost on its way");
    Ok(Environment { name, ..only.ok_or_else(lost)? })
}

/// Where a part of a body begins, from 1.
struct Place {
    line: usize,
    column: usize,
}

impl Place {
    /// The place of `part`, a slice of `body`.
    fn of(part: &str, body: &str) -> Place {
        let offset = (part.as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
        let before = body.get(..offset).unwrap_or_default();
        Place {
            line: 1 + before.matches('\n').count(),
            column: 1 + before.chars().rev().take_while(|c| *c != '\n').count(),
        }
    }

    /// `error` of a manifest of one line that ends with the part, as an error of the body.
    fn moved(&self, error: FieldProblem, columns_before: usize, prefix: &str) -> FieldProblem {
        let field = error.field.strip_prefix(prefix).unwrap_or(&error.field);
        FieldProblem {
            column: match error.line {
                1 => self.column + error.column.saturating_sub(columns_before + 1),
                _ => error.column,
            },
            line: self.line + error.line - 1,
            field: field.trim_start_matches('.').to_owned(),
            ..error
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_a_session_names_its_place_in_the_body() {
        let check = |body: &str, part: &str, line: usize, column: usize, field: &str| {
            let at = body.find(part).unwrap();
            let definition = &body[at..at + part.len()];
            let name = Name::new("one").unwrap();
            let failure = session(&name, definition, body).unwrap_err();
            let problem = failure.into_problem("/");
            let error = &problem.errors[0];
            assert_eq!((error.line, error.column, error.field.as_str()), (line, column, field));
        };
        let part = r#"{"run": ["a"], "memory": "64X"}"#;
        check(&format!(r#"{{"session":{part}}}"#), part, 1, 37, "memory");
        check(&format!("{{\n \"session\": {part}}}"), part, 2, 38, "memory");
        let part = "{\"run\": [\"a\"],\n\"memory\": \"64X\"}";
        check(&format!(r#"{{"session":{part}}}"#), part, 2, 11, "memory");
    }
}
