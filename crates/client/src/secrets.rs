//! Secrets, whose values go to the server and never come back.

use crate::client::Client;
use crate::error::ClientError;
use crate::query::Target;
use hyper::Method;
use spawnery_wire::api::SecretView;

impl Client {
    /// Gives a secret a value. Instances that run keep the old one.
    pub async fn set_secret(&self, name: &str, value: Vec<u8>) -> Result<SecretView, ClientError> {
        let target = Target::new("/v1/secrets").segment(name);
        self.send_bytes(Method::PUT, &target, value).await
    }

    /// All secrets, by name, without their values.
    pub async fn secrets(&self) -> Result<Vec<SecretView>, ClientError> {
        self.list(&Target::new("/v1/secrets")).await
    }

    /// Forgets a secret that no workload uses.
    pub async fn remove_secret(&self, name: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, &Target::new("/v1/secrets").segment(name)).await
    }
}
