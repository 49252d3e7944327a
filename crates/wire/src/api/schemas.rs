//! Schemas of the model's words, for the API's description.

use spawnery_model::{NodeStatus, Phase};
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

/// One of the words for a phase.
pub(crate) fn phase() -> Object {
    let phases = [
        Phase::Pending,
        Phase::Assigned,
        Phase::Starting,
        Phase::Running,
        Phase::Ready,
        Phase::Stopping,
        Phase::Ended,
    ];
    words(phases.map(Phase::word))
}

/// One of the words for a node's status.
pub(crate) fn node_status() -> Object {
    let all = [NodeStatus::Up, NodeStatus::Stopping, NodeStatus::Lost];
    words(all.map(NodeStatus::word))
}

fn words<const COUNT: usize>(words: [&'static str; COUNT]) -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .enum_values(Some(words))
        .build()
}
