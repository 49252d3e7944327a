//! The news of a build.

use crate::client::Client;
use crate::error::ClientError;
use crate::sse::{Message, Parser};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use spawnery_wire::api::{
    BuildOutputView, BuildProgressView, EnvironmentView, Problem, build_event,
};

/// A piece of the news of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildItem {
    /// A step began.
    Progress(String),
    /// A step wrote this.
    Output(Vec<u8>),
    /// It is built. The last item.
    Done(Box<EnvironmentView>),
}

/// The news of a build, in order. Dropping it does not stop a build that others wait for.
#[derive(Debug)]
pub struct BuildStream {
    client: Client,
    body: Incoming,
    parser: Parser,
}

impl BuildStream {
    pub(crate) fn new(client: Client, body: Incoming) -> BuildStream {
        BuildStream { client, body, parser: Parser::default() }
    }

    /// The next item. A build that fails is an error, with the step and its last output.
    pub async fn next(&mut self) -> Result<BuildItem, ClientError> {
        loop {
            let message = self.message().await?;
            return Ok(match message.event.as_str() {
                build_event::PROGRESS => {
                    let progress: BuildProgressView = self.read(&message)?;
                    BuildItem::Progress(progress.text)
                }
                build_event::OUTPUT => {
                    let output: BuildOutputView = self.read(&message)?;
                    BuildItem::Output(output.into_bytes().unwrap_or_default())
                }
                build_event::DONE => BuildItem::Done(Box::new(self.read(&message)?)),
                build_event::PROBLEM => {
                    let problem: Problem = self.read(&message)?;
                    return Err(ClientError::Problem(Box::new(problem)));
                }
                // Of a later version.
                _ => continue,
            });
        }
    }

    async fn message(&mut self) -> Result<Message, ClientError> {
        loop {
            if let Some(message) = self.parser.next() {
                return Ok(message);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.parser.push(&bytes).map_err(|error| self.client.protocol(error))?;
                    }
                }
                Some(Err(error)) => return Err(self.client.broken(&error)),
                None => {
                    let ended = std::io::Error::other("the news of the build ended before it");
                    return Err(self.client.broken(&ended));
                }
            }
        }
    }

    fn read<T: DeserializeOwned>(&self, message: &Message) -> Result<T, ClientError> {
        serde_json::from_str(&message.data).map_err(|error| self.client.protocol(error))
    }
}
