//! What this node asks its controller for, on streams of its own.

use crate::link::{LinkError, Session, Stream, read_frame, write_frame};
use spawnery_model::{ContentDigest, InstanceId, Name, NodeId};
use spawnery_wire::link::{AgentReply, AgentRequest, SecretValue};
use std::time::Duration;
use tokio::sync::watch;

/// How long to wait for a link before giving up: a controller that restarts is back by then.
const LINK_WITHIN: Duration = Duration::from_secs(60);

/// How long the controller may take to answer what it can answer at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The way to the controller. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    session: watch::Receiver<Option<Session>>,
}

/// Something could not be had from the controller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It refuses.
    #[error("{0}")]
    Refused(String),
    /// It cannot be reached.
    #[error("the controller cannot be reached: {0}")]
    Away(String),
}

impl From<LinkError> for AskError {
    fn from(error: LinkError) -> AskError {
        AskError::Away(error.to_string())
    }
}

impl Upstream {
    /// `session` is the present link, as long as there is one.
    pub(crate) fn new(session: watch::Receiver<Option<Session>>) -> Upstream {
        Upstream { session }
    }

    /// Opens a stream and sends a request on it.
    pub(crate) async fn open(&self, request: &AgentRequest) -> Result<Stream, AskError> {
        let linked = tokio::time::timeout(LINK_WITHIN, self.linked()).await;
        let session = linked.map_err(|_| AskError::Away("there is no link".to_owned()))?;
        let session = session.ok_or_else(|| AskError::Away("the agent is ending".to_owned()))?;
        let mut stream = session.open().await?;
        write_frame(&mut stream, request).await?;
        Ok(stream)
    }

    /// The present link, or the next one.
    async fn linked(&self) -> Option<Session> {
        let mut watched = self.session.clone();
        let session = watched.wait_for(Option::is_some).await.ok()?;
        session.clone()
    }

    /// Some content that a client sent: its size and a stream of it.
    pub(crate) async fn content(&self, digest: &ContentDigest) -> Result<(u64, Stream), AskError> {
        let mut stream = self.open(&AgentRequest::Content { digest: digest.clone() }).await?;
        match reply(&mut stream).await? {
            AgentReply::Content { size_bytes } => Ok((size_bytes, stream)),
            other => Err(unexpected(other)),
        }
    }

    /// A layer of an environment that another node has.
    pub(crate) async fn layer(
        &self,
        from: NodeId,
        key: &ContentDigest,
    ) -> Result<Stream, AskError> {
        let mut stream = self.open(&AgentRequest::Layer { from, key: key.clone() }).await?;
        match reply(&mut stream).await? {
            AgentReply::Accepted => Ok(stream),
            other => Err(unexpected(other)),
        }
    }

    /// The secrets of an instance that is placed here.
    pub(crate) async fn instance_secrets(
        &self,
        instance: InstanceId,
    ) -> Result<Vec<SecretValue>, AskError> {
        self.secrets(&AgentRequest::InstanceSecrets { instance }).await
    }

    /// The secrets of a workload that sandboxes are kept ready for here.
    pub(crate) async fn workload_secrets(
        &self,
        workload: &Name,
    ) -> Result<Vec<SecretValue>, AskError> {
        self.secrets(&AgentRequest::WorkloadSecrets { workload: workload.clone() }).await
    }

    async fn secrets(&self, request: &AgentRequest) -> Result<Vec<SecretValue>, AskError> {
        let mut stream = self.open(request).await?;
        match reply(&mut stream).await? {
            AgentReply::Secrets { secrets } => Ok(secrets),
            other => Err(unexpected(other)),
        }
    }
}

async fn reply(stream: &mut Stream) -> Result<AgentReply, AskError> {
    let read = tokio::time::timeout(ANSWER_WITHIN, read_frame(stream)).await;
    Ok(read.map_err(|_| AskError::Away("no answer in time".to_owned()))??)
}

/// An answer to another question. Its content is not shown: it may be a secret.
pub(crate) fn unexpected(reply: AgentReply) -> AskError {
    match reply {
        AgentReply::Refused { reason } => AskError::Refused(reason),
        _ => AskError::Refused("the controller answers another question".to_owned()),
    }
}
