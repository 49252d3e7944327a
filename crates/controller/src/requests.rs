//! What agents ask for on streams of their own: content, secrets, environments of other nodes.

use crate::broker::{Answer, Ticket};
use crate::handle::Controller;
use spawnery_agent::link::{LinkError, Session, Stream, read_frame, write_frame};
use spawnery_model::{ContentDigest, NodeId};
use spawnery_wire::link::{
    AgentReply, AgentRequest, BuildOutcome, EnvironmentMade, SecretValue, StreamReply,
    StreamRequest,
};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long an agent may take to say what its stream is for.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// How long a node may take to say whether it has an environment.
const ASKED_WITHIN: Duration = Duration::from_secs(5);

/// Bytes on their way from one node to another.
const RELAY_BUFFER_BYTES: usize = 64 * 1024;

impl Controller {
    /// Serves the streams that an agent opens, each in a task that ends with the link.
    pub(crate) async fn serve_requests(&self, node: NodeId, mut incoming: mpsc::Receiver<Stream>) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                stream = incoming.recv() => match stream {
                    Some(stream) => {
                        let controller = self.clone();
                        tasks.spawn(async move { controller.serve_request(node, stream).await });
                    }
                    None => return,
                },
                Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Err(error) = done {
                        tracing::error!(%error, "a stream's task failed");
                    }
                }
            }
        }
    }

    async fn serve_request(&self, node: NodeId, mut stream: Stream) {
        let request = tokio::time::timeout(REQUEST_WITHIN, read_frame(&mut stream)).await;
        let Ok(Ok(request)) = request else {
            return;
        };
        let served = match request {
            AgentRequest::Content { digest } => self.give_content(digest, &mut stream).await,
            AgentRequest::InstanceSecrets { instance } => {
                let secrets = self.secrets_of_instance(node, instance).await;
                give_secrets(secrets.map_err(|error| error.to_string()), &mut stream).await
            }
            AgentRequest::WorkloadSecrets { workload } => {
                let secrets = self.secrets_of_workload(node, workload).await;
                give_secrets(secrets.map_err(|error| error.to_string()), &mut stream).await
            }
            AgentRequest::Environment { wanted } => {
                self.give_environment(node, wanted, &mut stream).await
            }
            AgentRequest::Layer { from, key } => self.relay_layer(from, key, &mut stream).await,
        };
        if let Err(error) = served {
            return tracing::debug!(%node, %error, "a stream of an agent ended early");
        }
        // The other side may have closed it first.
        let _ = stream.shutdown().await;
    }

    async fn give_content(
        &self,
        digest: ContentDigest,
        stream: &mut Stream,
    ) -> Result<(), LinkError> {
        let content = self.content().clone();
        let opened = tokio::task::spawn_blocking(move || {
            let file = content.get(&digest).map_err(|error| error.to_string())?;
            let size_bytes = file.metadata().map_err(|error| error.to_string())?.len();
            Ok::<_, String>((file, size_bytes))
        });
        let opened = opened.await.unwrap_or_else(|error| Err(error.to_string()));
        let (file, size_bytes) = match opened {
            Ok(opened) => opened,
            Err(reason) => return write_frame(stream, &AgentReply::Refused { reason }).await,
        };
        write_frame(stream, &AgentReply::Content { size_bytes }).await?;
        tokio::io::copy(&mut tokio::fs::File::from_std(file), stream).await?;
        Ok(())
    }

    /// Lets a node build an environment, or tells it who has it.
    async fn give_environment(
        &self,
        node: NodeId,
        wanted: ContentDigest,
        stream: &mut Stream,
    ) -> Result<(), LinkError> {
        if let Some((from, made)) = self.environment_elsewhere(node, &wanted).await {
            return write_frame(stream, &AgentReply::Fetch { from, made }).await;
        }
        let mut waiting = self.broker().ask(&wanted, node);
        loop {
            match waiting.next().await {
                Answer::Progress(text) => {
                    write_frame(stream, &AgentReply::Progress { text }).await?;
                }
                Answer::Made { by, made } => {
                    return write_frame(stream, &AgentReply::Fetch { from: by, made }).await;
                }
                Answer::Failed(reason) => {
                    return write_frame(stream, &AgentReply::Refused { reason }).await;
                }
                Answer::Build(ticket) => return let_build(ticket, stream).await,
            }
        }
    }

    /// Asks the other nodes for an environment.
    async fn environment_elsewhere(
        &self,
        node: NodeId,
        wanted: &ContentDigest,
    ) -> Option<(NodeId, EnvironmentMade)> {
        let mut asked = JoinSet::new();
        for (other, session) in self.links().sessions() {
            if other != node {
                let request = StreamRequest::Made { wanted: wanted.clone() };
                asked.spawn(async move {
                    let answer = tokio::time::timeout(ASKED_WITHIN, ask_made(session, request));
                    Some((other, answer.await.ok()??))
                });
            }
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok(Some(found)) = answer {
                return Some(found);
            }
        }
        None
    }

    async fn relay_layer(
        &self,
        from: NodeId,
        key: ContentDigest,
        stream: &mut Stream,
    ) -> Result<(), LinkError> {
        match self.open_on(from, StreamRequest::Layer { key }).await {
            Err(error) => {
                let reason = error.to_string();
                write_frame(stream, &AgentReply::Refused { reason }).await
            }
            Ok((_, mut source)) => {
                write_frame(stream, &AgentReply::Accepted).await?;
                let size = RELAY_BUFFER_BYTES;
                tokio::io::copy_bidirectional_with_sizes(&mut source, stream, size, size).await?;
                Ok(())
            }
        }
    }
}

/// What a node says that an environment is made of, if it has it.
async fn ask_made(session: Session, request: StreamRequest) -> Option<EnvironmentMade> {
    let mut stream = session.open().await.ok()?;
    write_frame(&mut stream, &request).await.ok()?;
    match read_frame::<StreamReply, _>(&mut stream).await.ok()? {
        StreamReply::Accepted => read_frame(&mut stream).await.ok(),
        StreamReply::Started { .. } | StreamReply::Refused { .. } => None,
    }
}

/// Follows a node that builds. If its stream ends before it says what came of it, another node
/// that waits gets its turn.
async fn let_build(ticket: Ticket, stream: &mut Stream) -> Result<(), LinkError> {
    write_frame(stream, &AgentReply::Build).await?;
    loop {
        match read_frame(stream).await? {
            BuildOutcome::Progress { text } => ticket.progress(text),
            BuildOutcome::Made(made) => {
                ticket.made(made);
                return Ok(());
            }
            BuildOutcome::Failed { message } => {
                ticket.failed(message);
                return Ok(());
            }
        }
    }
}

async fn give_secrets(
    secrets: Result<Option<Vec<SecretValue>>, String>,
    stream: &mut Stream,
) -> Result<(), LinkError> {
    let reply = match secrets {
        Ok(Some(secrets)) => AgentReply::Secrets { secrets },
        Ok(None) => AgentReply::Refused { reason: "it is not placed on this node".to_owned() },
        Err(reason) => AgentReply::Refused { reason },
    };
    write_frame(stream, &reply).await
}
