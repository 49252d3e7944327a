//! Environments and volumes.

use crate::build::BuildStream;
use crate::client::Client;
use crate::error::ClientError;
use crate::query::Target;
use hyper::Method;
use spawnery_wire::api::{
    BuildRequest, EnvironmentView, EnvironmentsReply, PruneReply, PruneRequest, VolumeView,
};

impl Client {
    /// Builds an environment, or finds it built.
    pub async fn build_environment(
        &self,
        request: &BuildRequest,
    ) -> Result<BuildStream, ClientError> {
        let target = Target::new("/v1/environments/build");
        let body = self.open_with(Method::POST, &target, request).await?;
        Ok(BuildStream::new(self.clone(), body))
    }

    /// The environments of all nodes.
    pub async fn environments(&self) -> Result<EnvironmentsReply, ClientError> {
        self.get(&Target::new("/v1/environments")).await
    }

    /// One environment with its lock and what its build wrote, by its digest, the beginning of it,
    /// or its name.
    pub async fn environment(&self, environment: &str) -> Result<EnvironmentView, ClientError> {
        self.get(&Target::new("/v1/environments").segment(environment)).await
    }

    /// Removes environments that nothing uses.
    pub async fn prune(&self, request: &PruneRequest) -> Result<PruneReply, ClientError> {
        self.send(Method::POST, &Target::new("/v1/environments/prune"), request).await
    }

    /// All volumes, by name.
    pub async fn volumes(&self) -> Result<Vec<VolumeView>, ClientError> {
        self.list(&Target::new("/v1/volumes")).await
    }

    /// Removes a volume that no live instance uses, with all that is in it.
    pub async fn remove_volume(&self, name: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, &Target::new("/v1/volumes").segment(name)).await
    }
}
