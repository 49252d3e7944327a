//! Nodes, and the tokens by which they join.

use crate::app::App;
use crate::body::Change;
use crate::failure::{Answer, Failure, code};
use crate::list::{self, PageParameters};
use crate::parameters::Parameters;
use crate::rejections::other_answer;
use crate::{find, views};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use spawnery_cluster::{Command, Reply};
use spawnery_controller::{Secret, hash_secret};
use spawnery_model::limits::{DURATION_MAX, JOIN_TOKEN_LIFE_DEFAULT};
use spawnery_model::{DurationMs, NodeId};
use spawnery_wire::api::{DrainRequest, JoinTokenReply, JoinTokenRequest, NodeView, Page};

/// Lists nodes, by id.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "nodes",
    params(PageParameters),
    responses((status = 200, description = "A page of nodes", body = Page<NodeView>)),
)]
pub(crate) async fn list_nodes(
    State(app): State<App>,
    Parameters(page): Parameters<PageParameters>,
) -> Answer<Json<Page<NodeView>>> {
    let (limit, after) = page.checked()?;
    let listed = app.query(move |state| {
        let after = after.unwrap_or_default();
        let nodes = state.nodes();
        let nodes = nodes.filter(|entry| after.is_empty() || entry.node.id.to_string() > after);
        let key = |node: &NodeView| node.id.to_string();
        list::page(nodes, limit, |entry| views::node(state, entry), key)
    });
    Ok(Json(listed.await?))
}

/// Shows a node.
#[utoipa::path(
    get, path = "/v1/nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "The node's name, id, or the id's first four characters or more")),
    responses((status = 200, description = "The node", body = NodeView)),
)]
pub(crate) async fn get_node(
    State(app): State<App>,
    Path(node): Path<String>,
) -> Answer<Json<NodeView>> {
    let found = app.query(move |state| {
        let entry = find::node(state, &node)?;
        Ok::<_, Failure>(views::node(state, entry))
    });
    Ok(Json(found.await??))
}

/// Starts or stops to empty a node: nothing new is placed on it, and what it has goes elsewhere.
#[utoipa::path(
    post, path = "/v1/nodes/{node}/drain", tag = "nodes",
    params(("node" = String, Path, description = "The node's name, id, or the id's first four characters or more")),
    request_body = DrainRequest,
    responses((status = 200, description = "It is done", body = NodeView)),
)]
pub(crate) async fn drain_node(
    State(app): State<App>,
    Path(node): Path<String>,
    change: Change,
) -> Answer<Json<NodeView>> {
    let DrainRequest { draining, deadline_ms } = change.json()?;
    let node = node_id(&app, node).await?;
    let by = change.by();
    let command =
        Command::SetDraining { node, draining, deadline: deadline_ms.map(DurationMs), by };
    app.controller.submit(command, change.key).await?;
    get_node(State(app), Path(node.to_string())).await
}

/// Forgets a node that is lost.
#[utoipa::path(
    delete, path = "/v1/nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "The node's name, id, or the id's first four characters or more")),
    responses((status = 204, description = "It is forgotten")),
)]
pub(crate) async fn remove_node(
    State(app): State<App>,
    Path(node): Path<String>,
    change: Change,
) -> Answer<StatusCode> {
    let node = node_id(&app, node).await?;
    let by = change.by();
    app.controller.submit(Command::RemoveNode { node, by }, change.key).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn node_id(app: &App, text: String) -> Answer<NodeId> {
    app.query(move |state| find::node(state, &text).map(|entry| entry.node.id)).await?
}

/// Makes a token by which one machine can join, within a time.
#[utoipa::path(
    post, path = "/v1/join-tokens", tag = "nodes",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition harmless")),
    request_body = JoinTokenRequest,
    responses((status = 201, description = "The token; shown this once", body = JoinTokenReply)),
)]
pub(crate) async fn create_join_token(
    State(app): State<App>,
    change: Change,
) -> Answer<(StatusCode, Json<JoinTokenReply>)> {
    let Some(fingerprint) = &app.config.authority_fingerprint else {
        let detail = "this server takes no agents from other machines";
        let hint = "start it with an address for agents";
        return Err(Failure::new(code::JOINING_OFF, detail).hint(hint));
    };
    let request: JoinTokenRequest = change.json_or_default()?;
    let life = request.life_ms.map_or(JOIN_TOKEN_LIFE_DEFAULT, DurationMs);
    if life == DurationMs(0) || life > DURATION_MAX {
        let detail = format!("`life_ms` is a number from 1 to {}", DURATION_MAX.0);
        return Err(Failure::new(code::BODY, detail));
    }
    // A repeated request must get the same token, which nobody keeps: so it follows from the key.
    let secret = match &change.key {
        Some(key) => app.verifier.derive(&format!("join token\0{}\0{}", key.key, key.fingerprint)),
        None => Secret::generate().reveal().to_owned(),
    };
    let command = Command::CreateJoinToken { hash: hash_secret(&secret), life, by: change.by() };
    match app.controller.submit(command, change.key).await? {
        Reply::JoinToken { expires_at } => {
            let token = format!("{secret}.{fingerprint}");
            let expires_at_ms = expires_at.0;
            Ok((StatusCode::CREATED, Json(JoinTokenReply { token, expires_at_ms })))
        }
        _ => Err(other_answer()),
    }
}
