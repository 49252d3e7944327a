//! Manifests, services, jobs, runs and session templates.

use crate::client::Client;
use crate::error::ClientError;
use crate::query::Target;
use hyper::Method;
use spawnery_model::Name;
use spawnery_wire::api::{
    JobView, ManifestReply, RemoveReply, RemoveRequest, RunCreated, RunView, ServiceView,
    SessionTemplateView,
};

const JSON: &str = "application/json";

impl Client {
    /// Declares what a manifest holds, which is given as JSON (`Manifest::to_json`). What is new
    /// is added, what is different is changed, what is equal stays.
    pub async fn apply(&self, manifest_json: String) -> Result<ManifestReply, ClientError> {
        let target = Target::new("/v1/manifest");
        self.send_text(Method::PUT, &target, JSON, manifest_json).await
    }

    /// What applying would change.
    pub async fn diff(&self, manifest_json: String) -> Result<ManifestReply, ClientError> {
        let target = Target::new("/v1/manifest/diff");
        self.send_text(Method::POST, &target, JSON, manifest_json).await
    }

    /// Removes workloads, all or none, and ends their instances.
    pub async fn remove(&self, names: Vec<Name>) -> Result<RemoveReply, ClientError> {
        let target = Target::new("/v1/workloads/remove");
        let request = RemoveRequest { names };
        self.send(Method::POST, &target, &request).await
    }

    /// All services, by name.
    pub async fn services(&self) -> Result<Vec<ServiceView>, ClientError> {
        self.list(&Target::new("/v1/services")).await
    }

    /// One service.
    pub async fn service(&self, name: &str) -> Result<ServiceView, ClientError> {
        self.get(&Target::new("/v1/services").segment(name)).await
    }

    /// All jobs, by name.
    pub async fn jobs(&self) -> Result<Vec<JobView>, ClientError> {
        self.list(&Target::new("/v1/jobs")).await
    }

    /// One job.
    pub async fn job(&self, name: &str) -> Result<JobView, ClientError> {
        self.get(&Target::new("/v1/jobs").segment(name)).await
    }

    /// Runs a job now.
    pub async fn run_job(&self, name: &str) -> Result<RunCreated, ClientError> {
        let target = Target::new("/v1/jobs").segment(name);
        let target = Target::new(&format!("{}/runs", target.as_str()));
        self.create(&target, &serde_json::json!({})).await
    }

    /// The runs that are remembered, of one job or of all.
    pub async fn runs(&self, job: Option<&str>) -> Result<Vec<RunView>, ClientError> {
        self.list(&Target::new("/v1/runs").query("job", job)).await
    }

    /// One run, by its id or the beginning of it.
    pub async fn run(&self, id: &str) -> Result<RunView, ClientError> {
        self.get(&Target::new("/v1/runs").segment(id)).await
    }

    /// All session templates, by name.
    pub async fn templates(&self) -> Result<Vec<SessionTemplateView>, ClientError> {
        self.list(&Target::new("/v1/templates")).await
    }
}
