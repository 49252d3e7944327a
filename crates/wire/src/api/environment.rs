//! Content, environments, secrets and volumes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use spawnery_model::{ContentDigest, EnvironmentLock, InstanceId, Name};
use utoipa::ToSchema;

/// Ask which content the server does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MissingRequest {
    /// SHA-256 digests, each 64 hexadecimal digits.
    #[schema(value_type = Vec<String>)]
    pub digests: Vec<ContentDigest>,
}

/// What the server does not have. What it has stays for a while, so that the rest can be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissingReply {
    /// The digests that are not there, in the order of the request.
    #[schema(value_type = Vec<String>)]
    pub missing: Vec<ContentDigest>,
}

/// Build an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildRequest {
    /// What to call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub name: Option<Name>,
    /// The recipe, as in a manifest, with what it takes from beside it sent before.
    #[schema(value_type = Object)]
    pub recipe: serde_json::Value,
    /// The node to build it on, by its name or id; without, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether what the lock pins is looked up again.
    #[serde(default)]
    pub resolve: bool,
}

/// The event types of the stream of a build.
pub mod build_event {
    /// A [`BuildProgressView`](super::BuildProgressView).
    pub const PROGRESS: &str = "progress";
    /// A [`BuildOutputView`](super::BuildOutputView).
    pub const OUTPUT: &str = "output";
    /// An [`EnvironmentView`](super::EnvironmentView): it is built. The last one of its stream.
    pub const DONE: &str = "done";
    /// A [`Problem`](crate::api::Problem): it could not be built. The last one of its stream.
    pub const PROBLEM: &str = "problem";
}

/// A step of a build began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildProgressView {
    /// Which one, in words.
    #[schema(example = "step 3 of 5: python packages")]
    pub text: String,
}

/// What a step of a build wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildOutputView {
    /// What was written, if that is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What was written, in base 64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl BuildOutputView {
    /// A view of `bytes`: as text where that is possible.
    pub fn new(bytes: Vec<u8>) -> BuildOutputView {
        match String::from_utf8(bytes) {
            Ok(text) => BuildOutputView { text: Some(text), base64: None },
            Err(error) => {
                BuildOutputView { text: None, base64: Some(STANDARD.encode(error.as_bytes())) }
            }
        }
    }

    /// The bytes that were written; none if the view holds neither text nor valid base 64.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self.text {
            Some(text) => Some(text.into_bytes()),
            None => STANDARD.decode(self.base64?).ok(),
        }
    }
}

/// An environment that a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentView {
    /// Its digest. Paths take it, its first four characters or more, or its name.
    #[schema(value_type = String)]
    pub digest: ContentDigest,
    /// What people call it.
    #[schema(value_type = Option<String>)]
    pub name: Option<Name>,
    /// The node that has it, where it is known.
    #[schema(value_type = Option<String>)]
    pub node: Option<Name>,
    /// What it takes on disk there, layers that it shares included.
    pub size_bytes: u64,
    /// When an instance last used it, by the node's clock.
    pub used_at_ms: u64,
    /// How many live instances use it there.
    pub users: u32,
    /// The steps that made it, in words, the first one first.
    pub steps: Vec<String>,
    /// The digests of what is in its layers, in the order of the steps.
    #[schema(value_type = Vec<String>)]
    pub layers: Vec<ContentDigest>,
    /// What pins it. Only where one environment is asked for, or built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub lock: Option<EnvironmentLock>,
    /// What its build wrote, as far as it is kept. Only where one environment is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// The environments of all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentsReply {
    /// Once for each node that has it.
    pub environments: Vec<EnvironmentView>,
    /// Nodes that did not answer.
    #[schema(value_type = Vec<String>)]
    pub silent_nodes: Vec<Name>,
}

/// Remove environments that nothing uses, the least recently used first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneRequest {
    /// What may stay on each node; without, each node's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// Instead: all that nothing uses.
    #[serde(default)]
    pub unused: bool,
}

/// What pruning removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PruneReply {
    /// For each node that is up.
    pub nodes: Vec<PrunedView>,
}

/// What pruning removed from a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedView {
    /// The node.
    #[schema(value_type = String)]
    pub node: Name,
    /// How many environments are gone.
    pub environments: u32,
    /// How much became free.
    pub freed_bytes: u64,
    /// How much is left.
    pub left_bytes: u64,
    /// Why nothing was removed, if it could not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// Grows with each value.
    pub version: u64,
    /// When it got its value.
    pub changed_at_ms: u64,
    /// Who set it.
    pub by: String,
    /// The workloads that use it.
    #[schema(value_type = Vec<String>)]
    pub used_by: Vec<Name>,
}

/// A folder that is kept between instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// The nodes that have it.
    pub nodes: Vec<VolumeOnNode>,
    /// The live instances that use it.
    #[schema(value_type = Vec<String>)]
    pub used_by: Vec<InstanceId>,
}

/// A volume on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeOnNode {
    /// The node.
    #[schema(value_type = String)]
    pub node: Name,
    /// What it takes on disk there; none if the node did not answer.
    pub size_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn build_output_of_any_bytes_survives_the_json(bytes: Vec<u8>) {
            let json = serde_json::to_string(&BuildOutputView::new(bytes.clone())).unwrap();
            let read: BuildOutputView = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read.into_bytes(), Some(bytes));
        }
    }
}
