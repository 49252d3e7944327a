//! Content by digest: what an environment takes from beside its manifest, and what it is exported
//! to.

use crate::client::Client;
use crate::error::ClientError;
use crate::query::Target;
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::{Bytes, Frame};
use spawnery_model::ContentDigest;
use spawnery_wire::api::{MissingReply, MissingRequest};
use std::io;

/// Digests that are asked for at once: as many as fit into a request with room to spare.
const DIGESTS_AT_ONCE: usize = 10_000;

/// How an environment is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// An archive of the root filesystem (`tar(5)`).
    Tar,
    /// An archive of an OCI image layout.
    Oci,
}

impl ExportFormat {
    fn word(self) -> &'static str {
        match self {
            ExportFormat::Tar => "tar",
            ExportFormat::Oci => "oci",
        }
    }
}

impl Client {
    /// Which of `digests` the server does not have.
    pub async fn missing_content(
        &self,
        digests: &[ContentDigest],
    ) -> Result<Vec<ContentDigest>, ClientError> {
        let target = Target::new("/v1/content/missing");
        let mut missing = Vec::new();
        for digests in digests.chunks(DIGESTS_AT_ONCE) {
            let request = MissingRequest { digests: digests.to_vec() };
            let reply: MissingReply = self.send(Method::POST, &target, &request).await?;
            missing.extend(reply.missing);
        }
        Ok(missing)
    }

    /// Sends the content that has this digest, for as long as it takes.
    pub async fn put_content(
        &self,
        digest: &ContentDigest,
        content: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), ClientError> {
        let target = Target::new("/v1/content").segment(digest.as_str());
        let body = StreamBody::new(content.map(|piece| piece.map(Frame::data)));
        self.upload(Method::PUT, &target, body.boxed_unsync()).await
    }

    /// An environment as one archive, piece by piece. `environment` is its digest, the beginning
    /// of it, or its name.
    pub async fn export(
        &self,
        environment: &str,
        format: ExportFormat,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + Send + use<>, ClientError> {
        let target = Target::new("/v1/environments").segment(environment);
        let target = Target::new(&format!("{}/export", target.as_str()));
        let body = self.open_bytes(&target.query("format", Some(format.word()))).await?;
        let client = self.clone();
        let pieces = body.into_data_stream();
        Ok(pieces.map(move |piece| piece.map_err(|error| client.broken(&error))))
    }
}
