//! How the controller is.

use crate::app::App;
use crate::failure::Answer;
use axum::Json;
use axum::extract::State;
use spawnery_cluster::State as ClusterState;
use spawnery_model::{Kind, NodeStatus};
use spawnery_wire::api::{JournalView, NodeCounts, StatusView, WorkloadCounts};

/// Shows how the controller is.
#[utoipa::path(
    get, path = "/v1/status", tag = "server",
    responses((status = 200, description = "How the controller is", body = StatusView)),
)]
pub(crate) async fn get_status(State(app): State<App>) -> Answer<Json<StatusView>> {
    let counted = app.query(|state| {
        let live = state.instances_live();
        (nodes(state), workloads(state), live, state.reign(), state.position())
    });
    let (nodes, workloads, instances_live, reign, position) = counted.await?;
    let statistics = app.controller.statistics();
    Ok(Json(StatusView {
        version: app.config.version.clone(),
        reign,
        position,
        uptime_ms: app.started.elapsed().as_millis() as u64,
        instances_live,
        nodes,
        workloads,
        journal: JournalView { full: statistics.journal_full },
    }))
}

/// The nodes, counted.
pub(crate) fn nodes(state: &ClusterState) -> NodeCounts {
    let mut counts = NodeCounts::default();
    for entry in state.nodes() {
        match entry.node.status {
            NodeStatus::Up => counts.up += 1,
            NodeStatus::Stopping => counts.stopping += 1,
            NodeStatus::Lost => counts.lost += 1,
        }
        counts.draining += u64::from(entry.node.draining);
    }
    counts
}

/// The workloads, counted.
pub(crate) fn workloads(state: &ClusterState) -> WorkloadCounts {
    let mut counts = WorkloadCounts::default();
    for entry in state.workloads() {
        match entry.workload.kind {
            Kind::Service(_) => counts.services += 1,
            Kind::Job(_) => counts.jobs += 1,
            Kind::Session(_) => counts.session_templates += 1,
        }
    }
    counts
}
