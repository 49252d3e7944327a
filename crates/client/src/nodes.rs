//! Nodes and how they join.

use crate::client::Client;
use crate::error::ClientError;
use crate::query::Target;
use hyper::Method;
use spawnery_wire::api::{DrainRequest, JoinTokenReply, JoinTokenRequest, NodeView};
use std::time::Duration;

impl Client {
    /// All nodes.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, ClientError> {
        self.list(&Target::new("/v1/nodes")).await
    }

    /// Starts or stops to empty a node, which is given by its id or name.
    pub async fn drain(
        &self,
        node: &str,
        draining: bool,
        deadline: Option<Duration>,
    ) -> Result<(), ClientError> {
        let target = Target::new("/v1/nodes").segment(node);
        let target = Target::new(&format!("{}/drain", target.as_str()));
        let deadline_ms = deadline.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self.tell(Method::POST, &target, &DrainRequest { draining, deadline_ms }).await
    }

    /// Forgets a node that is lost.
    pub async fn remove_node(&self, node: &str) -> Result<(), ClientError> {
        let target = Target::new("/v1/nodes").segment(node);
        self.call(Method::DELETE, &target).await
    }

    /// Makes a token by which one machine can join, within `life` (an hour if not given).
    pub async fn join_token(&self, life: Option<Duration>) -> Result<JoinTokenReply, ClientError> {
        let life_ms = life.map(|life| u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
        let request = JoinTokenRequest { life_ms };
        self.create(&Target::new("/v1/join-tokens"), &request).await
    }
}
